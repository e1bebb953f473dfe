// Draws what streamil/pictures.py describes, with plotly: accuracy of each arm, advantage of a challenger with its
// interval, verdicts over time, advantage against the mini-batch size.
"use strict";
const streamilCharts = (() => {
  const COLOURS = ["#1b9e77", "#d95f02", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#5f8dd3"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const VERDICTS = { "challenger leads": "#1b9e77", "open": "#9a9a9a", "baseline leads": "#d95f02" };
  const CONFIG = { displayModeBar: false, responsive: true };
  let chosen = null;

  // plotly reads a few tags in texts; names of arms have none
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const name = (one) => `${one.challenger} against ${one.baseline}`;
  const hundred = (values) => values.map((value) => value === null ? null : 100 * value);
  const family = (arm) => arm.split("@")[0];

  function looks(arms) {  // one colour for arms that differ in the mini-batch size alone, a dash for each size
    const families = [...new Set(arms.map((arm) => family(arm.arm)))], seen = {};
    return Object.fromEntries(arms.map((arm) => {
      const place = seen[family(arm.arm)] = (seen[family(arm.arm)] ?? -1) + 1;
      return [arm.arm, { color: COLOURS[families.indexOf(family(arm.arm)) % COLOURS.length], dash: DASHES[place % DASHES.length], width: 1.8 }];
    }));
  }

  function layout(more, marks) {
    const style = getComputedStyle(document.documentElement);
    const line = style.getPropertyValue("--line").trim(), text = style.getPropertyValue("--text").trim();
    const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, family: "inherit", size: 12 },
      margin: { l: 48, r: 10, t: 8, b: 44 }, hovermode: "closest", legend: { orientation: "h", traceorder: "normal", font: { size: 11 } },
      ...more,
      xaxis: { ...axis, ...more.xaxis }, yaxis: { ...axis, ...more.yaxis },
      shapes: [...(more.shapes ?? []), ...(marks ?? []).map(([at]) => (
        { type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line: { color: text, width: 1, dash: "dot" }, opacity: 0.45 }))],
    };
  }

  // room for a legend below the axis, whatever the width
  function below(id, names) {
    const width = Math.max(120, 50 + 7 * Math.max(...names.map((one) => one.length)));
    const rows = Math.ceil(names.length / Math.max(1, Math.floor((document.getElementById(id).clientWidth - 58) / width)));
    return { height: 300 + 20 * rows, margin: { l: 48, r: 10, t: 8, b: 48 + 20 * rows },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, traceorder: "normal", entrywidth: width - 45, font: { size: 11 } } };
  }

  const band = (x, low, high, colour, opacity) => [
    { x, y: low, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false },
    { x, y: high, mode: "lines", line: { width: 0 }, fill: "tonexty", fillcolor: colour + opacity, hoverinfo: "skip", showlegend: false }];

  function accuracy(data) {
    const look = looks(data.arms), traces = [];
    for (const arm of data.arms) {
      if (arm.low.length) traces.push(...band(arm.samples, hundred(arm.low), hundred(arm.high), look[arm.arm].color, "18"));
    }
    for (const arm of data.arms) {
      const label = plain(arm.arm) + (arm.members > 1 ? ` (best of ${arm.members})` : "");
      traces.push({ x: arm.samples, y: hundred(arm.best), mode: "lines", name: label, line: look[arm.arm], opacity: arm.control ? 0.5 : 1,
        hovertemplate: `%{y:.2f} %<br>%{x:,} samples<extra>${label}</extra>` });
    }
    const names = traces.filter((one) => one.name).map((one) => one.name);
    Plotly.react("accuracy", traces, layout({ ...below("accuracy", names), xaxis: { title: { text: "samples" } },
      yaxis: { title: { text: `accuracy in the last ${data.window.toLocaleString()} samples, %` } } }, data.marks), CONFIG);
  }

  function leader(data) {  // as in the answer: the challenger that stands best against all its opponents, with the nearest of them
    const low = (one) => one.lower.at(-1) ?? -Infinity, nearest = {};
    for (const one of data.comparisons.filter((one) => !one.control)) {
      if (!nearest[one.challenger] || low(one) < low(nearest[one.challenger])) nearest[one.challenger] = one;
    }
    return Object.values(nearest).reduce((best, one) => best === null || low(one) > low(best) ? one : best, null) ?? data.comparisons[0];
  }

  function choose(data) {
    const select = document.getElementById("pair"), names = data.comparisons.map(name);
    if ([...select.options].slice(1).map((option) => option.value).join("\n") !== names.join("\n")) {
      select.replaceChildren(new Option("the best challenger, its nearest opponent", ""), ...names.map((text) => new Option(text, text)));
      select.onchange = () => { chosen = select.value || null; draw(...last); };
    }
    return data.comparisons.find((one) => name(one) === chosen) ?? leader(data);
  }

  function advantage(data) {
    const one = choose(data), colour = COLOURS[0];
    document.getElementById("compared").textContent = name(one) + (one.control ? " (A/A control)" : "");
    const wide = one.samples.length ? Math.max(...one.samples.map((at, place) => at < one.samples.at(-1) / 20 ? 0 : 100 * Math.max(Math.abs(one.lower[place]), Math.abs(one.upper[place])))) : 1;
    Plotly.react("advantage", [...band(one.samples, hundred(one.lower), hundred(one.upper), colour, "40"),
      { x: one.samples, y: hundred(one.mean), mode: "lines", line: { color: colour, width: 2 }, showlegend: false,
        hovertemplate: "%{y:+.2f} points<br>%{x:,} samples<extra></extra>" }],
    layout({ xaxis: { title: { text: "samples" } },
      yaxis: { title: { text: "advantage, points of accuracy" }, range: [-1.1 * wide, 1.1 * wide], zeroline: true, zerolinewidth: 2 } }, data.marks), CONFIG);
  }

  function verdicts(data) {
    const last = data.comparisons.length - 1, traces = [];
    const room = Math.max(18, Math.floor(document.getElementById("verdicts").clientWidth / 16));
    const labels = data.comparisons.map((one) => plain(name(one).length > room ? name(one).slice(0, room - 1) + "…" : name(one)));
    for (const [verdict, color] of Object.entries(VERDICTS)) {
      const x = [], y = [], text = [];
      data.comparisons.forEach((one, row) => one.verdicts.forEach(([from, found], place) => {
        if (found !== verdict) return;
        const to = one.verdicts[place + 1]?.[0] ?? one.samples.at(-1);
        const told = `${plain(name(one))}: ${verdict}`;
        x.push(from, to, null); y.push(last - row, last - row, null); text.push(told, told, null);
      }));
      traces.push({ x, y, text, mode: "lines", name: verdict, line: { color, width: 9 }, hovertemplate: "%{text}, %{x:,} samples<extra></extra>" });
    }
    const height = 90 + 24 * labels.length;
    document.getElementById("verdicts").style.height = `${height}px`;
    Plotly.react("verdicts", traces, layout({ height, margin: { l: 48, r: 10, t: 8, b: 60 }, xaxis: { title: { text: "samples" } },
      yaxis: { tickvals: labels.map((_, row) => last - row), ticktext: labels, range: [-0.6, last + 0.6], zeroline: false },
      legend: { orientation: "h", y: 1, yanchor: "bottom", font: { size: 11 } } }, data.marks), CONFIG);
  }

  function sizes(data, rows) {
    const size = Object.fromEntries(data.arms.map((arm) => [arm.arm, arm.batch_size])), pairs = {};
    for (const one of rows) {
      if (one.mean_difference === null || size[one.challenger] !== size[one.baseline]) continue;
      (pairs[`${family(one.challenger)} against ${family(one.baseline)}`] ??= []).push({ ...one, size: size[one.challenger] });
    }
    const all = [...new Set(Object.values(pairs).flat().map((one) => one.size))].sort((a, b) => a - b);
    document.getElementById("by-size").hidden = all.length < 2;
    if (all.length < 2) return;
    const names = Object.keys(pairs), traces = names.map((pair, place) => {
      const own = pairs[pair].sort((a, b) => a.size - b.size), mean = own.map((one) => 100 * one.mean_difference);
      return { x: own.map((one) => all.indexOf(one.size) + 0.1 * (place - (names.length - 1) / 2)), y: mean, mode: "lines+markers", name: plain(pair),
        line: { color: COLOURS[place % COLOURS.length], width: 1.2 }, marker: { size: 7 },
        error_y: { type: "data", symmetric: false, array: own.map((one, at) => 100 * one.upper - mean[at]), arrayminus: own.map((one, at) => mean[at] - 100 * one.lower), thickness: 1.4 },
        text: own.map((one) => `${one.verdict}, ${one.samples.toLocaleString()} samples`), hovertemplate: "%{y:+.2f} points, %{text}<extra></extra>" };
    });
    Plotly.react("sizes", traces, layout({ ...below("sizes", names), xaxis: { title: { text: "mini-batch size" }, tickvals: all.map((_, place) => place), ticktext: all.map(String), range: [-0.6, all.length - 0.4] },
      yaxis: { title: { text: "advantage, points of accuracy" }, zeroline: true, zerolinewidth: 2 } }), CONFIG);
  }

  let last = null;
  function draw(data, rows) {
    last = [data, rows];
    const begin = performance.now();
    document.getElementById("charts").hidden = false;
    accuracy(data);
    for (const part of document.querySelectorAll(".compares")) part.hidden = !data.comparisons.length;
    if (data.comparisons.length) { advantage(data); verdicts(data); }
    sizes(data, rows);
    document.getElementById("left-out").textContent = data.comparisons_left_out ? `${data.comparisons_left_out} more comparisons are in the table alone.` : "";
    document.body.dataset.drawn = (performance.now() - begin).toFixed(0);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => last && draw(...last));
  return { draw, layout, plain, COLOURS, CONFIG };
})();
