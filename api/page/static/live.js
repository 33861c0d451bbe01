// The live view: figures, the map of partitions, and what happened.

import { byId, h, setText, table } from "./dom.js";
import { NONE, clock, milliseconds, number, seconds, trend } from "./format.js";
import { Charts } from "./charts.js";
import { PartitionMap } from "./map.js";
import { listen } from "./service.js";

const STALE_MS = 3000;
const FIGURES = [
  ["tasks", "Tasks in", "per second, published to the log"],
  ["answers", "Answers out", "per second, results in the log"],
  ["errors", "Errors", "per second, answers that are an error"],
  ["dead_letters", "Dead letters", "per second, records that cannot be read"],
  ["trip", "Round trip", "p50 · p99 of the last 10 s, from a task's creation to its prediction"],
  ["behind", "Behind", "the oldest open task · all that wait"],
  ["requests", "REST", "inferences per second past the queue · p99"],
];

let latest = null;
let receivedAt = 0;
let lost = "connecting…";
let charts;
let map;

export function startLive() {
  charts = new Charts(byId("charts"), byId("chart-table"));
  map = new PartitionMap(byId("map"));
  byId("span").addEventListener("change", (event) => charts.show(Number(event.target.value)));
  byId("figures").append(...FIGURES.map(([name, title, about]) =>
    h("div", { id: `figure-${name}` }, h("dt", {}, title), h("dd", { class: "value" }, NONE), h("dd", { class: "about" }, about))));
  listen("live", onEvent, (reason) => { lost = reason; });
  setInterval(showAge, 500);
}

function onEvent(name, data) {
  lost = null;
  if (name === "history") {
    charts.fill(data);
    return;
  }
  latest = data;
  receivedAt = performance.now();
  charts.add(data);
  showFigures(data);
  map.show(data);
  showPartitionTable(data);
  showStages(data);
  showBroker(data);
  showMarks(data.marks);
  charts.mark(data.marks);
  showAge();
}

function showAge() {
  const age = performance.now() - receivedAt;
  const isStale = latest === null || age > STALE_MS;
  byId("live").classList.toggle("stale", isStale);
  const connection = byId("connection");
  connection.className = `connection ${isStale ? "off" : "on"}`;
  if (latest === null) setText(connection, lost ?? "connecting…");
  else if (isStale) setText(connection, `${lost ?? "no news"}; the figures are older than ${Math.floor(age / 5000) * 5 || 3} s`);
  else setText(connection, "live");
}

function figure(name, value, isBad = false) {
  const shown = byId(`figure-${name}`).querySelector(".value");
  setText(shown, value);
  shown.classList.toggle("bad", isBad);
}

function showFigures({ rates, round_trip: trip, rest, partitions }) {
  for (const name of ["tasks", "answers"]) figure(name, number(rates[name]));
  for (const name of ["errors", "dead_letters"]) figure(name, number(rates[name]), rates[name] > 0);
  figure("trip", trip === null ? NONE : `${milliseconds(trip.p50)} · ${milliseconds(trip.p99)}`);
  const known = partitions.filter((each) => each.lag !== null);
  const oldest = partitions.reduce((most, each) => ((each.seconds ?? -1) > (most.seconds ?? -1) ? each : most), { seconds: null });
  const lag = known.reduce((sum, each) => sum + each.lag, 0);
  const behind = `${seconds(oldest.seconds, oldest.is_at_least)} · ${number(lag)}${oldest.seconds >= 1 ? ` ${trend(oldest.trend)}` : ""}`;
  figure("behind", known.length ? behind : NONE, oldest.trend === "growing" && oldest.seconds >= 1);
  figure("requests", rest === null ? number(rates.requests) : `${number(rates.requests)} · ${milliseconds(rest.p99)}`);
}

function showPartitionTable({ partitions }) {
  const details = byId("partition-table");
  if (!details.closest("details").open) return;
  details.replaceChildren(table("Partitions of tasks", ["partition", "worker", "records that wait", "oldest waits", "trend"],
    partitions.map((each) => [String(each.partition), each.worker ?? "nobody", number(each.lag),
      seconds(each.seconds, each.is_at_least), trend(each.trend)])));
}

function showStages({ broker, workers, sinks, models }) {
  const isHere = broker.state === "here";
  const ready = workers.filter((each) => each.state === "ready" || !each.is_here).length;
  const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  stage("stage-3", true, `runs here: ${models.join(", ")}`);
  stage("stage-4", isHere && sinks.length > 0, isHere ? (sinks.length ? "broker and sink run" : "no sink on this machine") : "no broker: petal up");
  stage("stage-5", isHere && ready > 0, isHere ? (ready ? `${count(ready, "worker")} ready` : "no worker is ready: petal worker") : "no broker: petal up");
}

function stage(id, isOn, text) {
  const item = byId(id);
  item.classList.toggle("on", isOn);
  setText(item.querySelector(".state"), text);
}

function showBroker({ broker, notes }) {
  const notice = byId("broker");
  const isAway = broker.state === "away" || broker.state === "refused";
  notice.hidden = !isAway;
  if (isAway) setText(notice, `The task queue is not there: ${broker.reason}. Stages 4 and 5 wait for it; REST goes on.`);
  const list = byId("notes");
  list.hidden = notes.length === 0;
  if (list.dataset.shown !== JSON.stringify(notes)) {
    list.dataset.shown = JSON.stringify(notes);
    list.replaceChildren(...notes.map((note) => h("li", {}, note)));
  }
}

function showMarks(marks) {
  const list = byId("marks");
  const newest = marks.slice(-8).reverse();
  const shown = JSON.stringify(newest);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  list.replaceChildren(...(newest.length
    ? newest.map((mark) => h("li", { class: mark.kind }, h("time", {}, clock(mark.at)), " ", mark.text))
    : [h("li", { class: "nothing" }, "Nothing since this page is open. Start or stop a worker, and its partitions move.")]));
}
