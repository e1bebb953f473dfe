// Draws a report: the charts of the live page, confusion of an arm's best member, and the diagnostics over updates.
"use strict";
const report = JSON.parse(document.getElementById("data").textContent);
const { layout, plain, COLOURS, CONFIG } = streamilCharts;

function options(id, names, draw) {
  const select = document.getElementById(id);
  if (!select) return;
  select.replaceChildren(...names.map((text) => new Option(text, text)));
  select.onchange = () => draw(select.value);
  if (names.length) draw(names[0]);
}

function confusion(arm) {
  const size = 1 + Math.max(0, ...report.confusion[arm].counts.flatMap(([label, said]) => [label, said]));
  const names = Array.from({ length: size }, (_, place) => plain(report.labels[place] ?? "others"));
  const z = names.map(() => names.map(() => 0));
  for (const [label, said, count] of report.confusion[arm].counts) z[label][said] = count;
  const share = z.map((row) => { const all = row.reduce((sum, one) => sum + one, 0); return row.map((one) => all ? 100 * one / all : null); });
  const few = size <= 12;
  Plotly.react("confusion", [{ type: "heatmap", z: share, text: z, x: names, y: names, colorscale: [[0, "rgba(27,158,119,0)"], [1, "#1b9e77"]], zmin: 0, zmax: 100,
    xgap: 1, ygap: 1, colorbar: { title: { text: "% of the label" }, thickness: 10 }, texttemplate: few ? "%{text}" : "",
    hovertemplate: "%{y} taken for %{x}: %{text}, %{z:.1f} %<extra></extra>" }],
  layout({ height: few ? 150 + 30 * size : 520, margin: { l: 60, r: 10, t: 8, b: 50 }, xaxis: { type: "category", title: { text: "prediction" } },
    yaxis: { type: "category", autorange: "reversed", title: { text: "label" } } }), CONFIG);
}

function diagnostics(measure) {
  const traces = Object.entries(report.diagnostics).map(([arm, one], place) => ({
    x: one.samples, y: one.measures[measure]?.[report.confusion[arm].member] ?? [],
    mode: "lines", name: plain(arm), line: { color: COLOURS[place % COLOURS.length], width: 1.4 } }));
  Plotly.react("diagnostics", traces, layout({ height: 340, margin: { l: 56, r: 10, t: 8, b: 90 }, xaxis: { title: { text: "samples" } }, yaxis: { title: { text: measure } } }), CONFIG);
}

streamilCharts.draw(report.pictures, report.comparisons);
options("arm", Object.keys(report.confusion).filter((arm) => report.confusion[arm].counts.length), confusion);
options("measure", [...new Set(Object.values(report.diagnostics).flatMap((one) => Object.keys(one.measures)))], diagnostics);
