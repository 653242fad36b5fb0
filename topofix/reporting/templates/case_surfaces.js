// Surfaces before and after, which turn together; built when they first come into sight, as they take a while.

// A little below the middle, for the axes are labelled there; from farther away where there is less room for them.
function startingCamera() {
  const far = viewer.clientWidth < 400 ? 2 : 1.6;
  return { eye: { x: far, y: far, z: 0.7 * far }, center: { x: 0, y: 0, z: -0.15 } };
}

let seen = false;
let turning = null; // {from} while surfaces follow that side, or the keys
let wanted = null; // the camera that they are to follow next

function prepareSurfaces() {
  const section = one("#surfaces");
  if (!section) return;
  new IntersectionObserver((entries) => {
    if (seen || !entries.some((entry) => entry.isIntersecting)) return;
    seen = true;
    showSurfaces();
  }).observe(section);
  section.addEventListener("toggle", showSurfaces);
  one("#see-through").addEventListener("change", showSurfaces);
}

function showSurfaces() {
  if (!window.Plotly || !seen || !one("#surfaces").open) return;
  const { surfaces } = frame();
  one("#coarse").hidden = ![...surfaces.before, ...surfaces.after].some((part) => part.coarse);
  one("#surface-legend").replaceChildren(...data.labels.map((label) => legendEntry(label.name, label.colour)));
  for (const side of ["before", "after"]) {
    const plot = one(`#surface-${side} .plot`);
    const named = surfaces[side].map(({ label }) => data.labels.find(({ value }) => value === label).name);
    const box = one(`#surface-${side}`);
    box.hidden = !named.length;
    box.previousElementSibling.hidden = Boolean(named.length);
    if (!named.length) continue; // and there is nothing to turn
    plot.setAttribute("aria-label", `Surface ${side}: ${named.join(", ")}`);
    Plotly.react(plot, surfaceTraces(surfaces[side]), surfaceLayout(surfaces.extent, cameraOf(side)), {
      displayModeBar: false,
      responsive: true,
    });
    if (!plot.dataset.listening) {
      plot.dataset.listening = "true";
      const follow = () => {
        if (!turning || turning.from === side) turn(cameraOf(side), side);
      };
      plot.on("plotly_relayouting", follow);
      plot.on("plotly_relayout", follow);
      plot.addEventListener("wheel", () => setTimeout(follow, 50)); // Plotly zooms a little later
      box.addEventListener("keydown", onSurfaceKey);
    }
  }
}

function surfaceTraces(parts) {
  const meshes = parts.map(({ label, x, y, z, i, j, k }) => ({
    type: "mesh3d", x, y, z, i, j, k,
    color: data.labels.find(({ value }) => value === label).colour,
    opacity: one("#see-through").checked ? 0.5 : 1,
    flatshading: false,
    lighting: { ambient: 0.45, diffuse: 0.7, specular: 0.15, roughness: 0.6 },
    hoverinfo: "skip",
  }));
  const rows = data.changes.filter((row) => row.frame === state.frame);
  return [...meshes, {
    type: "scatter3d", mode: "markers",
    x: rows.map(({ mm }) => mm[0]), y: rows.map(({ mm }) => mm[1]), z: rows.map(({ mm }) => mm[2]),
    marker: { symbol: "diamond", size: 5, color: data.colours.relabelled },
    text: rows.map(({ voxel }) => `${cell()} ${voxel.join(" ")}`),
    hovertemplate: "%{text}<extra></extra>",
  }];
}

function surfaceLayout(extent, camera) {
  const [text, grid] = [colour("--text"), colour("--line")];
  const axis = (title, k) => ({
    title: { text: title }, range: extent[k], gridcolor: grid, color: text, showbackground: false, nticks: 5,
  });
  return {
    margin: { l: 0, r: 0, t: 0, b: 0 },
    showlegend: false,
    paper_bgcolor: "rgba(0, 0, 0, 0)",
    font: { color: text, family: "system-ui, sans-serif", size: 11 },
    scene: {
      aspectmode: "data",
      xaxis: axis("R (mm)", 0),
      yaxis: axis("A (mm)", 1),
      zaxis: axis("S (mm)", 2),
      camera,
      dragmode: "orbit",
    },
  };
}

// Where a side is looked at from; Plotly's layout lags behind.
const cameraOf = (side) => one(`#surface-${side} .plot`)._fullLayout?.scene._scene.getCamera() ?? startingCamera();

const drawn = (side) => !one(`#surface-${side}`).hidden;

// Sets the camera of both sides, or of the side that is not turned by hand; of many in a row the last counts.
async function turn(camera, from) {
  wanted = camera;
  if (turning) return;
  turning = { from };
  while (wanted) {
    const next = { "scene.camera": wanted };
    wanted = null;
    for (const side of ["before", "after"]) {
      if (side !== from && drawn(side)) await Plotly.relayout(one(`#surface-${side} .plot`), next);
    }
  }
  turning = null;
}

function onSurfaceKey(event) {
  const turns = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, 0.2], ArrowDown: [0, -0.2] };
  if (!(event.key in turns)) return;
  event.preventDefault();
  const { eye, center } = cameraOf(drawn("before") ? "before" : "after");
  const { x, y, z } = eye;
  const [far, around] = [Math.hypot(x, y, z), Math.atan2(y, x) + turns[event.key][0]];
  const up = clamp(Math.asin(z / far) + turns[event.key][1], -1.5, 1.5);
  turn({
    eye: {
      x: far * Math.cos(up) * Math.cos(around),
      y: far * Math.cos(up) * Math.sin(around),
      z: far * Math.sin(up),
    },
    center,
    up: { x: 0, y: 0, z: 1 },
  });
}
