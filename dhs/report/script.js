"use strict";

// Plotly draws each chart from the JSON next to it.
const CONFIG = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]],
};
const charts = [];

for (const source of document.querySelectorAll("script[data-chart]")) {
  const drawn = JSON.parse(source.textContent);
  Plotly.newPlot(source.dataset.chart, drawn.data, drawn.layout, CONFIG);
  charts.push(source.dataset.chart);
}

// The slider updates its map, the text and the table.
for (const map of document.querySelectorAll("[data-map]")) {
  const levels = JSON.parse(map.querySelector("script[data-levels]").textContent);
  const slider = map.querySelector("input[type=range]");
  const cells = [...map.querySelectorAll("table tbody tr")].map((row) => row.querySelectorAll("td"));
  const counts = levels.tried.map((row, i) => row.map((tried, j) =>
    tried.toLocaleString("en") + levels.marks[i][j]));

  const show = () => {
    const step = levels.steps[Number(slider.value)];
    const shares = levels.tried.map((row, i) => row.map((tried, j) =>
      tried < levels.fewest ? null : step.found[i][j] / tried));
    const write = (between, otherwise) => shares.map((row, i) => row.map((share, j) =>
      share === null ? otherwise : share.toFixed(2) + between + counts[i][j]));

    Plotly.restyle(map.dataset.map, { z: [shares], text: [write("<br>", "")] }, [1]);
    write(" of ", "n/a").forEach((row, i) => row.forEach((text, j) => {
      cells[i][j].textContent = text;
    }));
    for (const place of map.querySelectorAll("[data-say]")) {
      place.textContent = step[place.dataset.say];
    }
    slider.setAttribute("aria-valuetext", step.said);
  };

  slider.addEventListener("input", show);
  // A browser may keep the slider's position when the page is reloaded.
  show();
}

// Content wider than its box can be scrolled with keys too.
const reach = () => {
  for (const box of document.querySelectorAll(".scroll, pre")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
reach();
window.addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);

// Paper is narrower than most screens, and printing opens folded details.
const PAPER_WIDTH = 640;
let folded = [];

window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((item) => { item.open = true; });
  charts.forEach((chart) => Plotly.relayout(chart, { width: PAPER_WIDTH }));
});
window.addEventListener("afterprint", () => {
  folded.forEach((item) => { item.open = false; });
  charts.forEach((chart) => Plotly.relayout(chart, { width: null, autosize: true }));
});
