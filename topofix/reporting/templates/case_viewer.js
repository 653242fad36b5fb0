// The slice on the screen: scan, labels and changes, with zoom, wipe and marks.

const decoded = new Map();

function picture(uri) {
  if (!decoded.has(uri)) {
    const image = new Image();
    image.src = uri;
    decoded.set(uri, image.decode().then(() => image));
  }
  return decoded.get(uri);
}

// One slice of a mosaic on a canvas of its own size.
async function cut(mosaic, slice) {
  const { rows, columns, across, each, pictures } = mosaic;
  const image = await picture(pictures[Math.floor(slice / each)]);
  const cell = slice % each;
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [x, y] = [(cell % across) * columns, Math.floor(cell / across) * rows];
  context.drawImage(image, x, y, columns, rows, 0, 0, columns, rows);
  return canvas;
}

// The labels of a slice, counted from 1 in the order of data.labels; 0 is background.
async function labelsOf(mosaic, slice) {
  const canvas = await cut(mosaic, slice);
  const { data: pixels } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const labels = new Uint8Array(canvas.width * canvas.height);
  for (let k = 0; k < labels.length; k++) labels[k] = Math.round(pixels[4 * k] / data.levelStep);
  return labels;
}

// The sides of pixels that a label has and its neighbour has not, as lines in rows and columns; by label.
function outlines(labels, rows, columns) {
  const paths = data.labels.map(() => new Path2D());
  const at = (row, column) =>
    row < 0 || column < 0 || row >= rows || column >= columns ? 0 : labels[row * columns + column];
  const draw = (value, ...line) => {
    if (value) {
      paths[value - 1].moveTo(line[0], line[1]);
      paths[value - 1].lineTo(line[2], line[3]);
    }
  };
  for (let row = 0; row <= rows; row++) {
    for (let column = 0; column <= columns; column++) {
      const [here, above, left] = [at(row, column), at(row - 1, column), at(row, column - 1)];
      if (here !== above) {
        draw(here, column, row, column + 1, row);
        draw(above, column, row, column + 1, row);
      }
      if (here !== left) {
        draw(here, column, row, column, row + 1);
        draw(left, column, row, column, row + 1);
      }
    }
  }
  return paths;
}

// Colours of pixels on a canvas of their own; `colour` gives [red, green, blue, opacity] or nothing.
function tint(rows, columns, colour) {
  const canvas = new OffscreenCanvas(columns, rows);
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const found = colour(k);
    if (found) image.data.set(found, 4 * k);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const rgb = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));

const viewer = one("#viewer");
const canvas = one("#canvas");
const divider = one("#divider");
let shown = null; // the slice on the screen: its labels, outlines and tints

async function load() {
  const wanted = [state.frame, state.slice];
  const { pictures } = frame();
  const { rows, columns } = pictures.scan;
  const [scan, before, after] = await Promise.all([
    cut(pictures.scan, state.slice),
    labelsOf(pictures.before, state.slice),
    labelsOf(pictures.after, state.slice),
  ]);
  if (wanted[0] !== state.frame || wanted[1] !== state.slice) return; // somebody went on in the meantime
  shown = {
    rows, columns, scan, before, after,
    paths: { before: outlines(before, rows, columns), after: outlines(after, rows, columns) },
  };
  colourIn();
  draw();
}

const layerOn = (name) => one(`#layers [data-change="${name}"]`)?.checked ?? false;
const labelOn = (value) => one(`#layers [data-label="${value}"]`)?.checked ?? false;

// Tints of labels and of changes, as the boxes say.
function colourIn() {
  if (!shown) return;
  const { rows, columns, before, after } = shown;
  const fills = data.labels.map((label, k) => (labelOn(k + 1) ? [...rgb(label.colour), 46] : null));
  const fill = (labels) => tint(rows, columns, (k) => labels[k] && fills[labels[k] - 1]);
  const change = Object.fromEntries(
    ["added", "removed", "relabelled"].map((name) =>
      [name, layerOn(name) ? [...rgb(data.colours[name]), 200] : null]
    )
  );
  shown.tints = { before: fill(before), after: fill(after) };
  shown.changes = tint(rows, columns, (k) => {
    if (before[k] === after[k]) return null;
    return before[k] === 0 ? change.added : after[k] === 0 ? change.removed : change.relabelled;
  });
}

// From rows and columns of the full image to pixels of the canvas.
function geometry() {
  const { size, spacing } = frame();
  const ratio = window.devicePixelRatio || 1;
  const width = viewer.clientWidth;
  const [tall, wide] = [size[1] * spacing[0], size[2] * spacing[1]];
  const height = clamp((width * tall) / wide, 160, Math.min(620, 0.75 * Math.max(window.innerHeight, 480)));
  const fit = Math.min(width / wide, height / tall); // CSS pixels per mm
  const scale = fit * state.zoom * ratio;
  const centre = state.centre ?? { row: size[1] / 2, column: size[2] / 2 };
  const x = (column) => (width * ratio) / 2 + (column - centre.column) * spacing[1] * scale;
  const y = (row) => (height * ratio) / 2 + (row - centre.row) * spacing[0] * scale;
  const row = (at) => (at - (height * ratio) / 2) / (spacing[0] * scale) + centre.row;
  const column = (at) => (at - (width * ratio) / 2) / (spacing[1] * scale) + centre.column;
  return { ratio, width, height, scale, x, y, row, column };
}

function draw() {
  if (!shown) return;
  const g = geometry();
  const [width, height] = [Math.round(g.width * g.ratio), Math.round(g.height * g.ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.height = `${g.height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  const { step } = data;
  const box = [g.x(0), g.y(0), g.x(shown.columns * step) - g.x(0), g.y(shown.rows * step) - g.y(0)];
  context.drawImage(shown.scan, ...box);
  const toCanvas = new DOMMatrix([box[2] / shown.columns, 0, 0, box[3] / shown.rows, box[0], box[1]]);
  const side = (name, from, to) => {
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, height);
    context.clip();
    context.drawImage(shown.tints[name], ...box);
    context.lineWidth = 1.5 * g.ratio;
    data.labels.forEach((label, k) => {
      if (!labelOn(k + 1)) return;
      const path = new Path2D();
      path.addPath(shown.paths[name][k], toCanvas);
      context.strokeStyle = label.colour;
      context.stroke(path);
    });
    context.restore();
  };
  if (state.mode === "wipe") {
    side("before", 0, state.wipe * width);
    side("after", state.wipe * width, width);
  } else {
    side(state.mode, 0, width);
  }
  context.drawImage(shown.changes, ...box);
  drawMarks(context, g);
  drawScaleBar(context, g);
  describe();
}

// A circle where a bar is born, a cross where it dies, a square around a feature: white with a dark rim.
function drawMarks(context, g) {
  for (const { voxel, shape } of state.marks) {
    const spot = spotOf(voxel);
    if (spot.slice !== state.slice) continue;
    const [x, y, r] = [g.x(spot.column + 0.5), g.y(spot.row + 0.5), 8 * g.ratio];
    const path = new Path2D();
    if (shape === "circle") path.arc(x, y, r, 0, 2 * Math.PI);
    if (shape === "square") path.rect(x - 1.3 * r, y - 1.3 * r, 2.6 * r, 2.6 * r);
    if (shape === "cross") {
      path.moveTo(x - r, y - r);
      path.lineTo(x + r, y + r);
      path.moveTo(x - r, y + r);
      path.lineTo(x + r, y - r);
    }
    for (const [colour, wide] of [["#000", 5], ["#fff", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide * g.ratio;
      context.stroke(path);
    }
  }
}

function drawScaleBar(context, g) {
  const room = (0.3 * canvas.width) / g.scale; // mm
  const power = 10 ** Math.floor(Math.log10(room));
  const mm = power * [5, 2, 1].find((digit) => digit * power <= room);
  const [x, y, long] = [10 * g.ratio, canvas.height - 12 * g.ratio, mm * g.scale];
  for (const [colour, wide] of [["#000", 5], ["#fff", 2.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = wide * g.ratio;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + long, y);
    context.stroke();
  }
  context.font = `${12 * g.ratio}px system-ui, sans-serif`;
  context.lineWidth = 3 * g.ratio;
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  context.strokeText(`${mm} mm`, x, y - 6 * g.ratio);
  context.fillText(`${mm} mm`, x, y - 6 * g.ratio);
}

// Everything about the slice that is text.
function describe() {
  const { size } = frame();
  const middle = voxelAt(Math.floor(size[1] / 2), Math.floor(size[2] / 2));
  const sides = {
    before: "labels before",
    after: "labels after",
    wipe: "labels before on the left and after on the right",
  };
  const where = planar() ? "Image" : `Slice ${state.slice}`;
  const marks = state.marks.filter(({ voxel }) => spotOf(voxel).slice === state.slice).length;
  canvas.setAttribute(
    "aria-label",
    `${where}, ${sides[state.mode]}${marks ? `, ${marks} ${marks > 1 ? "marks" : "mark"}` : ""}`
  );
  one("#position").textContent = planar()
    ? `Middle at ${inMillimetres(middle)}`
    : `Slice ${state.slice} of 0 to ${size[0] - 1}; its middle at ${inMillimetres(middle)}`;
  one("#zoom").textContent = `${Math.round(100 * state.zoom)} %`;
  viewer.classList.toggle("zoomed", state.zoom > 1);
  viewer.classList.toggle("split", state.mode === "wipe" && Math.abs(state.wipe - 0.5) < 0.25);
  all("[data-mode]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.mode === state.mode));
  });
  const slider = one("#slice");
  slider.value = state.slice;
  slider.setAttribute("aria-valuetext", `slice ${state.slice} of 0 to ${size[0] - 1}`);
  divider.hidden = state.mode !== "wipe";
  const percent = Math.round(100 * state.wipe);
  divider.style.left = `${percent}%`;
  divider.setAttribute("aria-valuenow", String(percent));
  divider.setAttribute("aria-valuetext", `${percent} % of the width`);
}

function setSlice(slice) {
  const next = clamp(slice, 0, frame().size[0] - 1);
  if (next === state.slice && shown) return;
  state.slice = next;
  load();
  showBarcodesSoon();
}

function setFrame(index) {
  if (index === state.frame) return;
  state.frame = index;
  state.slice = clamp(state.slice, 0, frame().size[0] - 1);
  Object.assign(state, { marks: [], bar: null, held: false });
  prepareFrame();
  load();
  showBarcodes();
  showSurfaces();
}

function setMode(mode) {
  state.mode = mode;
  draw();
}

function setWipe(share) {
  state.wipe = clamp(share, 0, 1);
  draw();
}

// Zoom so that what lies under a point of the canvas stays there; without a point, the middle.
function setZoom(zoom, at) {
  const before = geometry();
  const [x, y] = at ?? [canvas.width / 2, canvas.height / 2];
  const fixed = { row: before.row(y), column: before.column(x) };
  state.zoom = clamp(zoom, 1, 32);
  if (state.zoom === 1) {
    state.centre = null;
  } else {
    state.centre ??= { row: frame().size[1] / 2, column: frame().size[2] / 2 };
    const after = geometry();
    move(fixed.row - after.row(y), fixed.column - after.column(x));
  }
  draw();
}

function move(rows, columns) {
  const { size } = frame();
  state.centre = {
    row: clamp(state.centre.row + rows, 0, size[1]),
    column: clamp(state.centre.column + columns, 0, size[2]),
  };
}

// A mark in the middle, where the image is zoomed.
function centreOn(voxel) {
  if (!state.centre) return;
  const spot = spotOf(voxel);
  state.centre = { row: spot.row + 0.5, column: spot.column + 0.5 };
}

function prepareFrame() {
  const { view, size } = frame();
  one("#slices").hidden = planar();
  one("#slice").max = size[0] - 1;
  ["top", "right", "bottom", "left"].forEach((side, k) => {
    one(`.side.${side}`).textContent = view.sides[k] ?? "";
  });
  const select = one("#frame");
  if (select) select.value = String(state.frame);
}

function prepareViewer() {
  all("[data-colour]").forEach((swatch) => {
    swatch.style[swatch.classList.contains("outline") ? "borderColor" : "background"] = swatch.dataset.colour;
  });
  if (data.step > 1) {
    one("#thinned").hidden = false;
    one("#thinned").textContent =
      `The image is large: of every ${data.step} rows and columns one is shown. The Record is of all of them.`;
  }
  const select = one("#frame");
  if (select) {
    data.frames.forEach((some, k) => select.add(new Option(String(some.frame), String(k))));
    select.addEventListener("change", () => setFrame(Number(select.value)));
  }
  one("#slice").addEventListener("input", (event) => setSlice(Number(event.target.value)));
  all("[data-mode]").forEach((button) => button.addEventListener("click", () => setMode(button.dataset.mode)));
  one("#zoom-in").addEventListener("click", () => setZoom(state.zoom * 1.5));
  one("#zoom-out").addEventListener("click", () => setZoom(state.zoom / 1.5));
  one("#fit").addEventListener("click", () => setZoom(1));
  one("#layers").addEventListener("change", () => {
    colourIn();
    draw();
  });
  viewer.addEventListener("keydown", onViewerKey);
  divider.addEventListener("keydown", onDividerKey);
  prepareDragging();
  new ResizeObserver(draw).observe(viewer);
}

function onViewerKey(event) {
  if (event.target === divider && event.key.startsWith("Arrow")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = 0.1 / state.zoom;
  const { size } = frame();
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (event.shiftKey && event.key in moves) {
    if (state.centre) {
      move(moves[event.key][0] * step * size[1], moves[event.key][1] * step * size[2]);
      draw();
    }
  } else {
    const actions = {
      " ": () => setMode(state.mode === "before" ? "after" : "before"),
      w: () => setMode("wipe"),
      "+": () => setZoom(state.zoom * 1.5),
      "=": () => setZoom(state.zoom * 1.5),
      "-": () => setZoom(state.zoom / 1.5),
      0: () => setZoom(1),
      ...(!planar() && {
        ArrowUp: () => setSlice(state.slice + 1),
        ArrowRight: () => setSlice(state.slice + 1),
        ArrowDown: () => setSlice(state.slice - 1),
        ArrowLeft: () => setSlice(state.slice - 1),
        Home: () => setSlice(0),
        End: () => setSlice(size[0] - 1),
      }),
    };
    const action = actions[event.key] ?? actions[event.key.toLowerCase()];
    if (!action) return;
    action();
  }
  event.preventDefault();
}

function onDividerKey(event) {
  const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, Home: -1, End: 1 };
  if (!(event.key in steps)) return;
  setWipe(state.wipe + steps[event.key]);
  event.preventDefault();
  event.stopPropagation();
}

function prepareDragging() {
  divider.addEventListener("pointerdown", (event) => {
    divider.setPointerCapture(event.pointerId);
    event.preventDefault(); // selects no text
    divider.focus();
  });
  divider.addEventListener("pointermove", (event) => {
    if (!divider.hasPointerCapture(event.pointerId)) return;
    const box = viewer.getBoundingClientRect();
    setWipe((event.clientX - box.left) / box.width);
  });
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    last = state.centre ? [event.clientX, event.clientY] : null;
    if (last) canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const g = geometry();
    if (last && canvas.hasPointerCapture(event.pointerId)) {
      const perMillimetre = g.scale / g.ratio;
      const { spacing } = frame();
      move(
        (last[1] - event.clientY) / (perMillimetre * spacing[0]),
        (last[0] - event.clientX) / (perMillimetre * spacing[1])
      );
      last = [event.clientX, event.clientY];
      draw();
    } else {
      readOut(event, g);
    }
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !viewer.matches(":focus-within")) return; // a page that scrolls goes on scrolling
    event.preventDefault();
    const { ratio } = geometry();
    setZoom(state.zoom * 1.2 ** -Math.sign(event.deltaY), [event.offsetX * ratio, event.offsetY * ratio]);
  }, { passive: false });
}

const labelName = (value) => (value ? data.labels[value - 1].name : "background");

function readOut(event, g) {
  if (!shown) return;
  const { size } = frame();
  const row = Math.floor(g.row(event.offsetY * g.ratio));
  const column = Math.floor(g.column(event.offsetX * g.ratio));
  if (row < 0 || column < 0 || row >= size[1] || column >= size[2]) return;
  const voxel = voxelAt(row, column);
  const pixel = Math.floor(row / data.step) * shown.columns + Math.floor(column / data.step);
  const [before, after] = [labelName(shown.before[pixel]), labelName(shown.after[pixel])];
  const labels = before === after ? before : `${before} before, ${after} after`;
  one("#pointer").textContent = `${planar() ? "Pixel" : "Voxel"} ${voxel.join(" ")} at ${inMillimetres(voxel)}: ${labels}`;
}
