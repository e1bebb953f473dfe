// Renews the live page: figures every second, charts every few, less often where drawing is slow or nobody looks.
"use strict";
const STATUS_MS = 1000, CHARTS_MS = 3000;
const byId = (id) => document.getElementById(id);
const percent = (value) => value === null || value === undefined ? "–" : (100 * value).toFixed(2) + " %";
const points = (value) => value === null || value === undefined ? "–" : (value > 0 ? "+" : "") + (100 * value).toFixed(2);
const made = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
let drawn = "", due = 0;

function fill(id, rows) {
  const table = byId(id);
  table.hidden = rows.length === 0;
  table.tBodies[0].replaceChildren(...rows.map(([kind, ...cells]) => {
    const row = document.createElement("tr");
    row.append(...cells.map((text) => made("td", text)));
    row.firstChild.className = kind;
    return row;
  }));
}

const json = async (path) => (await fetch(path, { cache: "no-store" })).json();

function tell(status) {
  byId("experiment").textContent = document.title = status.experiment;
  byId("answer").replaceChildren(...status.answer.map((line) => made("p", line)));
  byId("state").textContent = `${status.samples.toLocaleString()} samples taken in, ` +
    `${Math.round(status.samples_per_second).toLocaleString()} a second, ${status.state}` + (status.broker_away ? ", the broker does not answer" : "") +
    (status.lag === null ? "" : `, lag ${status.lag} records`) + (status.rejected ? `, ${status.rejected} rejected` : "") +
    (status.unlabelled ? `, ${status.unlabelled} without a label` : "") + (status.segment ? `, segment ${status.segment}` : "");
  byId("inputs").textContent = !status.inputs ? "" : `${status.inputs} inputs` +
    (status.features.length ? `: ${status.features.join(", ")}` + (status.features.length < 100 ? "" : ", …") : "");
  fill("arms", status.arms.map((arm) => [arm.family === "il" ? "il" : "other", arm.arm, arm.batch_size, arm.members,
    percent(arm.best.accuracy), percent(arm.median.accuracy), percent(arm.worst.accuracy), percent(arm.best.windowed),
    arm.samples.toLocaleString(), arm.diverged || "–"]));
  const row = (one, what) => ["", `${one.challenger} against ${one.baseline}`, what + one.verdict,
    points(one.mean_difference), `${points(one.lower)} … ${points(one.upper)}`, one.verdict !== "challenger leads" || one.speedup === null ? "–" : `${one.speedup.toFixed(1)} ×`,
    one.samples.toLocaleString()];
  fill("comparisons", [...status.comparisons.map((one) => row(one, "")), ...status.controls.map((one) => row(one, "A/A control: "))]);
}

async function update() {
  try {
    const status = await json("status.json");
    tell(status);
    const state = `${status.samples} ${status.state}`;
    if (!document.hidden && state !== drawn && performance.now() >= due && status.arms.some((arm) => arm.samples)) {
      const begin = performance.now();
      streamilCharts.draw(await json("pictures.json"), status.comparisons);
      drawn = state;
      due = performance.now() + Math.max(CHARTS_MS, 10 * (performance.now() - begin));
    }
  } catch (error) {
    byId("state").textContent = "the process does not answer; its last numbers stand here";
  }
  setTimeout(update, STATUS_MS);
}
update();
