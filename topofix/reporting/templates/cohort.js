// Sorting, filters, pictures on demand and plots of the page of a cohort.
"use strict";

(() => {
  const { figures, thumbnails } = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("cases");
  const rows = [...table.tBodies[0].rows]; // in the order in which the cases came
  const headings = [...table.tHead.rows[0].cells];
  const form = document.getElementById("filters");
  const boxes = [...form.querySelectorAll("[name=outcome]")];
  const contains = document.getElementById("contains");
  const sorting = { heading: null, descending: false };

  // What cannot be compared, such as the Dice of a failed case, stands last either way.
  function compare(first, second, column) {
    const [one, other] = [first, second].map((row) => row.cells[column].dataset.value);
    if (one === undefined || other === undefined) {
      return (one === undefined) - (other === undefined);
    }
    return sorting.descending ? other - one : one - other;
  }

  function sort() {
    const column = headings.indexOf(sorting.heading);
    const order = column < 0 ? rows : [...rows].sort((one, other) => compare(one, other, column));
    table.tBodies[0].append(...order);
    for (const heading of headings) {
      heading.removeAttribute("aria-sort");
    }
    sorting.heading?.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
    history.replaceState({ column, descending: sorting.descending }, ""); // for who comes back
  }

  function filter() {
    const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const text = contains.value.trim().toLowerCase();
    for (const row of rows) {
      const name = row.cells[1].textContent.toLowerCase();
      row.hidden = !chosen.has(row.dataset.outcome) || !name.includes(text);
    }
    announce();
  }

  function announce() {
    const shown = rows.filter((row) => !row.hidden).length;
    const parts = [`${shown} of ${rows.length} cases shown`];
    if (boxes.some((box) => !box.checked)) {
      const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
      parts.push(`outcome ${chosen.join(" or ") || "none"}`);
    }
    if (contains.value.trim()) {
      parts.push(`name contains “${contains.value.trim()}”`);
    }
    const column = sorting.heading?.textContent.trim();
    parts.push(
      column ? `sorted by ${column}, ${sorting.descending ? "descending" : "ascending"}` : "as they came",
    );
    document.getElementById("status").textContent = `${parts.join("; ")}.`;
  }

  for (const heading of headings) {
    heading.querySelector("button")?.addEventListener("click", () => {
      sorting.descending = sorting.heading === heading && !sorting.descending;
      sorting.heading = heading;
      sort();
      announce();
    });
  }
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    sorting.heading = null;
    sort();
    setTimeout(filter); // when the fields have been reset
  });

  // A picture becomes one when its row comes near what is seen.
  const near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) {
          near.unobserve(target);
          show(target);
        }
      }
    },
    { root: document.getElementById("scroll"), rootMargin: "300px" },
  );

  function show(cell) {
    const picture = document.createElement("img");
    picture.alt = cell.dataset.picture;
    picture.src = `data:image/png;base64,${thumbnails[rows.indexOf(cell.parentElement)]}`;
    const link = cell.parentElement.querySelector("th a");
    if (!link) {
      cell.append(picture);
      return;
    }
    const around = document.createElement("a"); // the name links there for the keyboard
    around.href = link.getAttribute("href");
    around.tabIndex = -1;
    around.append(picture);
    cell.append(around);
  }

  rows.forEach((row, index) => thumbnails[index] && near.observe(row.cells[0]));

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const [text, line, panel] = ["--text", "--line", "--panel"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: line };
    return { text, panel, axis };
  }

  function coloured(layout) {
    const { text, panel, axis } = colours();
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, family: getComputedStyle(document.body).fontFamily, size: 12 },
      hoverlabel: { bgcolor: panel, bordercolor: axis.linecolor, font: { color: text } },
      xaxis: { ...layout.xaxis, ...axis, fixedrange: true },
      yaxis: { ...layout.yaxis, ...axis, fixedrange: true },
      dragmode: false,
    };
  }

  function start() {
    const program = document.createElement("script");
    program.textContent = document.getElementById("plotly").textContent;
    document.body.append(program); // runs at once
    draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  function draw() {
    document.querySelectorAll(".plot").forEach((place, index) => {
      const { data, layout } = figures[index];
      Plotly.react(place, data, coloured(layout), { responsive: true, displayModeBar: false });
    });
  }

  // Who comes back from a case finds the table as it was: the browser has filled the form again by now.
  addEventListener("pageshow", () => {
    if (history.state) {
      sorting.heading = headings[history.state.column] ?? null;
      sorting.descending = history.state.descending;
      sort();
    }
    filter();
  });
  // Plotly takes a second to start, and the table is there before: two frames are enough to see it.
  requestAnimationFrame(() => setTimeout(start));
})();
