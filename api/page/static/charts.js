// Three charts over one time axis, from uPlot, with marks for what happened, and the same as a table.

import { h, table } from "./dom.js";
import { clock, milliseconds, number, seconds } from "./format.js";

const KEPT_SECONDS = 600;
const GAP_SECONDS = 5;
const TABLE_ROWS = 12;
const COLUMNS = ["at", "tasks", "answers", "errors", "dead_letters", "requests", "p50", "p99", "lag", "seconds"];
const CHARTS = [
  { title: "Per second", unit: number, series: [["tasks", "tasks in", 0], ["answers", "answers out", 1, [6, 4]], ["errors", "errors", 2], ["dead_letters", "dead letters", 3, [2, 3]]] },
  { title: "Seconds behind, the oldest open task", unit: seconds, series: [["seconds", "seconds behind", 0]] },
  { title: "Round trip in milliseconds", unit: milliseconds, series: [["p50", "p50", 1], ["p99", "p99", 0, [6, 4]]] },
];
const COLORS = { light: ["#4a3fbf", "#0b7a58", "#b3261e", "#8a5a00"], dark: ["#a99ff5", "#5fd3a6", "#ff9d94", "#f2c266"] };
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Charts {
  constructor(root, tableRoot) {
    this.columns = COLUMNS.map(() => []);
    this.marks = [];
    this.span = 300;
    this.tableRoot = tableRoot;
    this.figures = CHARTS.map((chart) => {
      const figure = h("figure", {}, h("figcaption", {}, chart.title, ...chart.series.map(([, name, color, dash]) => h("span", { class: `key c${color}${dash ? " dashed" : ""}` }, name))),
        h("div", { class: "plot", role: "img", "aria-label": chart.title }));
      root.append(figure);
      return figure;
    });
    this.make();
    dark.addEventListener("change", () => this.make());
    document.addEventListener("visibilitychange", () => this.draw());
    new ResizeObserver(() => this.resize()).observe(root);
    tableRoot.closest("details").addEventListener("toggle", () => this.describe(true));
    setInterval(() => this.describe(false), 5000);
  }

  make() {
    this.plots?.forEach((plot) => plot.destroy());
    this.plots = CHARTS.map((chart, n) => {
      const root = this.figures[n].querySelector(".plot");
      return new uPlot(this.options(chart, root), [[]], root);
    });
    this.draw();
  }

  options(chart, root) {
    const colors = COLORS[dark.matches ? "dark" : "light"];
    const axis = { stroke: dark.matches ? "#9fa9ba" : "#566072", font: "12px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: dark.matches ? "#2a3140" : "#e6eaf1", width: 1 } };
    return {
      width: root.clientWidth || 300,
      height: 150,
      legend: { show: false },
      cursor: { sync: { key: "live" }, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high * 1.15, 1)] } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((at) => clock(at)), space: 75, size: 28 }, { ...axis, size: 56, values: (_, ticks) => ticks.map((value) => number(value)) }],
      series: [{}, ...chart.series.map(([, , color, dash]) => ({ stroke: colors[color], width: 1.75, dash, points: { show: false }, spanGaps: false }))],
      hooks: { draw: [(plot) => this.drawMarks(plot)] },
    };
  }

  fill(history) {
    this.columns = COLUMNS.map((name) => history[name]);
    this.draw();
  }

  add(shot) {
    const known = shot.partitions.filter((each) => each.lag !== null);
    const ages = shot.partitions.map((each) => each.seconds).filter((age) => age !== null);
    const last = this.columns[0].at(-1);
    if (shot.at <= last) return;
    if (shot.at - last > GAP_SECONDS) this.push([(shot.at + last) / 2, ...Array(COLUMNS.length - 1).fill(null)]);
    const { rates, round_trip: trip } = shot;
    this.push([shot.at, rates.tasks, rates.answers, rates.errors, rates.dead_letters, rates.requests, trip?.p50 ?? null, trip?.p99 ?? null,
      known.length ? known.reduce((sum, each) => sum + each.lag, 0) : null, ages.length ? Math.max(...ages) : null]);
    while (this.columns[0][0] < shot.at - KEPT_SECONDS) this.columns.forEach((column) => column.shift());
    this.draw();
  }

  push(row) {
    row.forEach((value, n) => this.columns[n].push(value));
  }

  show(span) {
    this.span = span;
    this.draw();
  }

  mark(marks) {
    this.marks = marks;
  }

  draw() {
    if (document.hidden) return;
    const end = this.columns[0].at(-1) ?? Date.now() / 1000;
    CHARTS.forEach((chart, n) => {
      const data = [this.columns[0], ...chart.series.map(([name]) => this.columns[COLUMNS.indexOf(name)])];
      this.plots[n].batch(() => {
        this.plots[n].setData(data, false);
        this.plots[n].setScale("x", { min: end - this.span, max: end });
      });
    });
  }

  drawMarks(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = dark.matches ? "#f2c266" : "#8a5a00";
    ctx.setLineDash([3, 3]);
    ctx.lineWidth = devicePixelRatio;
    for (const mark of this.marks) {
      const x = plot.valToPos(mark.at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  resize() {
    this.plots.forEach((plot) => {
      const width = plot.root.parentNode.clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: 150 });
    });
  }

  /** The same for those who do not see the canvas. */
  describe(isOpening) {
    const count = this.columns[0].length;
    if (count === 0) return;
    CHARTS.forEach((chart, n) => {
      const said = chart.series.map(([name, title]) => `${title} ${chart.unit(this.value(name, count - 1))}`).join(", ");
      this.figures[n].querySelector(".plot").setAttribute("aria-label", `${chart.title}, now: ${said}`);
    });
    if (!this.tableRoot.closest("details").open && !isOpening) return;
    const step = Math.max(1, Math.floor(this.span * 2 / TABLE_ROWS));
    const rows = [];
    for (let n = count - 1; n >= 0 && rows.length < TABLE_ROWS; n -= step) {
      rows.push([clock(this.columns[0][n]), ...["tasks", "answers", "errors", "dead_letters"].map((name) => number(this.value(name, n))),
        seconds(this.value("seconds", n)), milliseconds(this.value("p50", n)), milliseconds(this.value("p99", n))]);
    }
    this.tableRoot.replaceChildren(table("The newest first", ["time", "tasks/s", "answers/s", "errors/s", "dead letters/s", "behind", "p50", "p99"], rows));
  }

  value(name, n) {
    return this.columns[COLUMNS.indexOf(name)][n];
  }
}
