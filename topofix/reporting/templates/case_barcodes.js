// The barcodes of the slice, or of the image, and the marks of a bar's birth and death on it.

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const betti = (side) => side.betti || "unknown";
const region = () => one("#region").value;

// The barcode of the chosen region that is of the slice on the screen, or of the whole image.
function barcodeShown() {
  const own = frame().barcodes.filter((code) => code.region === region());
  return own.find((code) => code.slice === null || code.slice === state.slice);
}

// A voxel of the image by its number in the array that a barcode is of.
function voxelOf(flat, { shape, slice }) {
  const voxel = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    voxel[axis] = flat % shape[axis];
    flat = Math.floor(flat / shape[axis]);
  }
  if (!planar() && shape.length === 2) voxel.splice(frame().view.slices, 0, slice);
  return voxel;
}

const feature = (code, dimension) => data.features[code.shape.length][dimension].replace(/s$/, "");

const counted = (code, dimension, count) =>
  `${count.toLocaleString("en")} ${feature(code, dimension)}${count === 1 ? "" : "s"}`;

let waiting = 0;

function showBarcodesSoon() { // many slices may go by while a key is held
  clearTimeout(waiting);
  waiting = setTimeout(showBarcodes, 60);
}

function showBarcodes() {
  clearTimeout(waiting);
  if (!window.Plotly) return; // this is called again once it is there
  const code = barcodeShown();
  one("#barcodes").hidden = !code;
  one("#no-barcode").hidden = Boolean(code);
  const where = planar() ? "this image" : `slice ${state.slice}`;
  one("#no-barcode").textContent = `There is no barcode of ${region() || "a region"} in ${where}: nothing was asked of it.`;
  one("#legend").hidden = !code;
  if (!code) return;
  showLegend(code);
  for (const side of ["before", "after"]) {
    const rows = slots(code[side], code.shape.length);
    const { met, leftOut } = code[side];
    const title = one(`#${side}-title`);
    const asked = code.requested === null ? "" : `, ${met ? "as asked" : `asked for ${code.requested}`}`;
    const place = code.slice === null ? "" : `, slice ${code.slice}`;
    title.textContent = `${side === "before" ? "Before" : "After"}${place}: Betti numbers ${betti(code[side])}${asked}`;
    const plot = one(`#${side} .plot`);
    plot.setAttribute("aria-label", inWords(code, side));
    Plotly.react(plot, traces(code, side, rows), layout(code, side, rows), {
      displayModeBar: false,
      responsive: true,
    });
    if (!plot.dataset.listening) listen(plot, side);
    const few = leftOut.some((count) => count) ? leftOut : null;
    let note = one(`#${side} .left-out`);
    if (!note) {
      note = document.createElement("p");
      note.className = "left-out muted";
      one(`#${side}`).append(note);
    }
    const nothing = code[side].dimension.length ? "" : "There is no bar to draw. ";
    const counts = few?.map((count, k) => counted(code, k, count));
    note.textContent = nothing + (few ? `Not drawn, as shorter: ${counts.join(", ")}.` : "");
    note.hidden = !few && !nothing;
  }
}

function inWords(code, side) {
  const bars = code[side];
  const counts = data.features[code.shape.length].map((name, dimension) => {
    const own = barsOf(bars, dimension);
    if (!own.length) return `no ${name}`;
    const longest = own[0];
    return `${counted(code, dimension, own.length)}, the longest from ${bars.birth[longest]} to ${bars.death[longest]}`;
  });
  return `Barcode ${side}, filtration value from 1 to 0: ${counts.join("; ")}`;
}

function showLegend(code) {
  const entries = data.features[code.shape.length].map((name, k) => [`${k}: ${name}`, data.colours.dimensions[k]]);
  const swatches = entries.map(([text, shade]) => legendEntry(text, shade));
  one("#legend").replaceChildren(...swatches, plain("thick: asked for"), plain("dashed: Betti numbers are counted here"));
}

function legendEntry(text, shade) {
  const entry = document.createElement("span");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = shade;
  entry.append(swatch, text);
  return entry;
}

function plain(text) {
  const entry = document.createElement("span");
  entry.textContent = text;
  return entry;
}

// At which line each dimension begins, and how many lines there are.
function slots(bars, dimensions) {
  const starts = [];
  let next = 0;
  for (let dimension = 0; dimension < dimensions; dimension++) {
    starts.push(next);
    next += Math.max(barsOf(bars, dimension).length, 1) + 1;
  }
  return { starts, total: next };
}

const barsOf = (bars, dimension) => bars.dimension.flatMap((value, k) => (value === dimension ? [k] : []));

function traces(code, side, rows) {
  const bars = code[side];
  return data.features[code.shape.length].map((name, dimension) => {
    const own = barsOf(bars, dimension);
    return {
      type: "bar",
      orientation: "h",
      name,
      base: own.map((k) => bars.death[k]),
      x: own.map((k) => bars.birth[k] - bars.death[k]),
      y: own.map((_, k) => rows.starts[dimension] + k),
      width: own.map((k) => (bars.asked[k] ? 0.85 : 0.45)),
      customdata: own,
      marker: {
        color: data.colours.dimensions[dimension],
        opacity: own.map((k) => (bars.asked[k] ? 1 : 0.75)),
        line: { width: 0 },
      },
      text: own.map((k) => barText(code, side, k)),
      textposition: "none",
      hovertemplate: "%{text}<extra></extra>",
    };
  });
}

function barText(code, side, k) {
  const bars = code[side];
  const name = feature(code, bars.dimension[k]);
  const end = bars.diesAt[k] === null ? "never dies" : `dies at ${bars.death[k].toFixed(3)}`;
  return `${name}: born at ${bars.birth[k].toFixed(3)}, ${end}`;
}

function layout(code, side, rows) {
  const [text, grid] = [colour("--text"), colour("--line")];
  const ticks = rows.starts.map((start, k) => (start + (rows.starts[k + 1] ?? rows.total) - 2) / 2);
  return {
    height: clamp(84 + 10 * rows.total, 150, 560),
    margin: { l: 52, r: 12, t: 8, b: 48 },
    barmode: "overlay",
    bargap: 0,
    showlegend: false,
    dragmode: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: grid, font: { color: text } },
    paper_bgcolor: "rgba(0, 0, 0, 0)",
    plot_bgcolor: "rgba(0, 0, 0, 0)",
    font: { color: text, family: "system-ui, sans-serif", size: 12 },
    xaxis: {
      title: { text: "filtration value (probability)", standoff: 6 },
      range: [1.01, -0.01],
      fixedrange: true,
      tickvals: [1, 0.75, 0.5, 0.25, 0],
      gridcolor: grid,
      zeroline: false,
    },
    yaxis: {
      title: { text: "dimension" },
      range: [rows.total - 1, -1],
      fixedrange: true,
      tickvals: ticks,
      ticktext: ticks.map((_, k) => String(k)),
      showgrid: false,
      zeroline: false,
    },
    shapes: [
      {
        type: "line", x0: 0.5, x1: 0.5, yref: "paper", y0: 0, y1: 1,
        line: { color: data.colours.threshold, width: 1.5, dash: "dash" },
      },
      ...highlighted(code, side, rows),
    ],
  };
}

// The marked bar of a barcode; it may be another one's.
const marked = (code, side) => (state.bar?.code === code && state.bar.side === side ? state.bar.index : null);

// A frame around the bar that is marked.
function highlighted(code, side, rows) {
  const index = marked(code, side);
  if (index === null) return [];
  const bars = code[side];
  const own = barsOf(bars, bars.dimension[index]);
  const y = rows.starts[bars.dimension[index]] + own.indexOf(index);
  return [{
    type: "rect", x0: bars.birth[index], x1: bars.death[index], y0: y - 0.5, y1: y + 0.5,
    line: { color: colour("--text"), width: 2 },
  }];
}

// Draws the frame only, so that what hovers stays.
function highlight() {
  const code = barcodeShown();
  if (!code || !window.Plotly) return;
  for (const side of ["before", "after"]) {
    const rows = slots(code[side], code.shape.length);
    Plotly.relayout(one(`#${side} .plot`), { shapes: layout(code, side, rows).shapes });
  }
}

// The bar under a point of the plot, or the one whose line it is on: short bars are hard to hit.
function barAt(plot, side, event) {
  const { xaxis, yaxis } = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  const [left, top] = [event.clientX - box.left - xaxis._offset, event.clientY - box.top - yaxis._offset];
  if (left < 0 || top < 0 || left > xaxis._length || top > yaxis._length) return null;
  const code = barcodeShown();
  if (!code) return null; // of this slice there is none, and that of the last one is about to go
  const line = Math.round(yaxis.p2d(top));
  const { starts } = slots(code[side], code.shape.length);
  const dimension = starts.findLastIndex((start) => start <= line);
  if (dimension < 0) return null;
  const own = barsOf(code[side], dimension);
  return own[line - starts[dimension]] ?? null;
}

function listen(plot, side) {
  plot.dataset.listening = "true";
  const point = (event) => {
    const index = barAt(plot, side, event);
    if (index !== null && !state.held) markBar(side, index);
    return index;
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("click", (event) => {
    state.held = false;
    state.held = point(event) !== null;
    describeMarks();
  });
  const wrapper = one(`#${side}`);
  wrapper.addEventListener("focus", () => {
    const length = barcodeShown()?.[side].dimension.length;
    if (length && state.bar === null && wrapper.matches(":focus-visible")) markBar(side, 0);
  });
  wrapper.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    const code = barcodeShown();
    const length = code?.[side].dimension.length;
    if (!(event.key in steps) || !length) return;
    event.preventDefault();
    const from = marked(code, side) ?? -1;
    state.held = true;
    markBar(side, clamp(from + steps[event.key], 0, length - 1));
  });
}

function markBar(side, index) {
  const code = barcodeShown();
  if (marked(code, side) === index) return;
  const bars = code[side];
  state.bar = { code, side, index };
  const marks = [{ voxel: voxelOf(bars.bornAt[index], code), shape: "circle" }];
  if (bars.diesAt[index] !== null) marks.push({ voxel: voxelOf(bars.diesAt[index], code), shape: "cross" });
  state.marks = marks;
  state.marksText = barText(code, side, index);
  goTo(marks[0].voxel);
  highlight();
  describeMarks();
}

function markChange(row) {
  setFrame(row.frame);
  selectRegion(row.region);
  state.marks = [{ voxel: row.voxel, shape: "square" }];
  state.bar = null;
  state.held = false;
  const place = planar() ? "" : `, slice ${spotOf(row.voxel).slice}`;
  state.marksText = `Corrected feature at ${cell()} ${row.voxel.join(" ")}${place} (square)`;
  goTo(row.voxel);
  showBarcodes();
  describeMarks();
}

function goTo(voxel) {
  centreOn(voxel);
  const { slice } = spotOf(voxel);
  if (slice === state.slice) draw();
  else setSlice(slice);
}

function clearMarks() {
  Object.assign(state, { marks: [], bar: null, held: false });
  all("tr.chosen").forEach((row) => row.classList.remove("chosen"));
  draw();
  highlight();
  describeMarks();
}

function describeMarks() {
  const [birth, death] = state.marks;
  const text = one("#marks-text");
  if (!birth) {
    text.textContent = "Point at a bar to see on the image where it is born and dies.";
  } else if (state.bar) {
    const at = (voxel) => `${cell()} ${voxel.join(" ")}${planar() ? "" : `, slice ${spotOf(voxel).slice}`}`;
    const end = death ? `; dies at ${at(death.voxel)} (cross)` : "";
    const held = state.held ? " Held." : "";
    text.textContent = `${state.marksText}. Born at ${at(birth.voxel)} (circle)${end}.${held}`;
  } else {
    text.textContent = `${state.marksText}.`;
  }
  one("#to-birth").hidden = !state.bar;
  one("#to-death").hidden = !state.bar || !death;
  one("#clear").hidden = !birth;
}

function selectRegion(name) {
  if ([...one("#region").options].some((option) => option.value === name)) one("#region").value = name;
}

function prepareBarcodes() {
  const names = [...new Set(data.frames.flatMap((some) => some.barcodes.map((code) => code.region)))];
  names.forEach((name) => one("#region").add(new Option(name, name)));
  const here = data.changes.filter((row) => row.frame === 0 && spotOf(row.voxel).slice === state.slice);
  const telling = here.find((row) => row.dimension !== null) ?? here[0];
  if (telling) selectRegion(telling.region);
  one("#region").addEventListener("change", () => {
    clearMarks();
    showBarcodes();
  });
  ["#to-birth", "#to-death"].forEach((button, k) => one(button).addEventListener("click", () => {
    state.held = true;
    goTo(state.marks[k].voxel);
    viewer.scrollIntoView({ block: "nearest" });
    describeMarks();
  }));
  one("#clear").addEventListener("click", clearMarks);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") clearMarks();
  });
}
