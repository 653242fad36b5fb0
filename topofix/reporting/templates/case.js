// The page of a case: its data, what of it is on the screen, and where a voxel lies.
//
// A voxel is an array's index, as in the Record; a spot is its place on the screen: slice, row and column, which
// may run the other way round (`view`). Text from files is only ever set as textContent.

const data = JSON.parse(document.getElementById("data").textContent);
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const state = {
  frame: 0,
  slice: data.frames[0].start,
  mode: "after",
  wipe: 0.5, // of the canvas's width
  zoom: 1, // of the scale at which the whole slice is seen
  centre: null, // row and column in the middle of the canvas; null for the slice's own middle
  marks: [], // {voxel, shape}
  bar: null, // {code, side, index} of the bar that is marked
  held: false, // whether a click holds it
};

const frame = () => data.frames[state.frame];
const planar = () => frame().view.slices === null;
const cell = () => (planar() ? "pixel" : "voxel");

function spotOf(voxel) {
  const { view, size } = frame();
  const place = [view.rows, view.columns].map((axis, k) =>
    view.flipped[k] ? size[k + 1] - 1 - voxel[axis] : voxel[axis]
  );
  return { slice: planar() ? 0 : voxel[view.slices], row: place[0], column: place[1] };
}

function voxelAt(row, column) {
  const { view, size } = frame();
  const voxel = [];
  if (!planar()) voxel[view.slices] = state.slice;
  voxel[view.rows] = view.flipped[0] ? size[1] - 1 - row : row;
  voxel[view.columns] = view.flipped[1] ? size[2] - 1 - column : column;
  return voxel;
}

function millimetres(voxel) {
  return frame().affine.slice(0, 3).map((row) =>
    voxel.reduce((sum, index, axis) => sum + row[axis] * index, row[3])
  );
}

const inMillimetres = (voxel) =>
  `${millimetres(voxel).map((mm) => mm.toFixed(1)).join(", ")} mm${frame().world ? " (RAS)" : ""}`;
