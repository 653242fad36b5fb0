// Rows that lead to places, the command to copy, and the start of it all.

function choose(button, show) {
  all("tr.chosen").forEach((row) => row.classList.remove("chosen"));
  button.closest("tr").classList.add("chosen");
  show();
  viewer.scrollIntoView({ block: "nearest" }); // at last: barcodes of other heights move it
}

function prepareRows() {
  all("[data-row]").forEach((button) => button.addEventListener("click", () => {
    choose(button, () => markChange(data.changes[button.dataset.row]));
  }));
  all("[data-part]").forEach((button) => button.addEventListener("click", () => {
    const part = data.parts[button.dataset.part];
    choose(button, () => {
      setFrame(part.frame);
      selectRegion(part.region);
      setSlice(part.slice);
      showBarcodes();
    });
  }));
  one("#copy").addEventListener("click", async () => {
    const done = one("#copied");
    try {
      await navigator.clipboard.writeText(data.command);
      done.textContent = "Copied.";
    } catch { // not allowed: the reader's own keys still may
      getSelection().selectAllChildren(one("#command"));
      done.textContent = "Selected; copy it with Ctrl+C.";
    }
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    showBarcodes();
    showSurfaces();
  });
}

prepareViewer();
prepareBarcodes();
prepareRows();
prepareSurfaces();
prepareFrame();
// Plotly takes longer than all else together, so it starts when the image is on the screen.
load().then(() => requestAnimationFrame(() => setTimeout(() => {
  const script = document.createElement("script");
  script.textContent = one("#plotly").textContent;
  document.head.append(script);
  showBarcodes();
  showSurfaces();
})));
