// Workers as lanes with their partitions; a partition that moves glides to its new lane.

import { h, setText } from "./dom.js";
import { number, seconds, trend } from "./format.js";

const GLIDE_MS = 700;
const NOBODY = "";
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class PartitionMap {
  constructor(root) {
    this.root = root;
    this.lanes = new Map();
    this.chips = new Map();
    this.sinks = h("div", { class: "sinks" });
    this.workers = h("div", { class: "lanes" });
    root.append(this.workers, this.sinks);
  }

  show({ workers, partitions, sinks }) {
    const owners = partitions.map((each) => each.worker).join();
    const before = owners === this.owners ? new Map() : new Map([...this.chips].map(([id, chip]) => [id, chip.getBoundingClientRect()]));
    this.owners = owners;
    const orphans = partitions.filter((each) => !workers.some((worker) => worker.name === each.worker));
    const wanted = [...workers.map((worker) => worker.name), ...(orphans.length ? [NOBODY] : [])];
    for (const [name, lane] of this.lanes) {
      if (!wanted.includes(name)) {
        lane.remove();
        this.lanes.delete(name);
      }
    }
    for (const worker of workers) this.showWorker(worker);
    if (orphans.length) this.lane(NOBODY, "nobody");
    this.workers.append(...wanted.map((name) => this.lanes.get(name)).filter((lane, n) => this.workers.children[n] !== lane));
    for (const each of partitions) this.place(each, before.get(each.partition));
    this.drop(partitions.length);
    this.showSinks(sinks);
  }

  lane(name, kind) {
    if (!this.lanes.has(name)) {
      const title = name === NOBODY ? "nobody yet" : name;
      this.lanes.set(name, h("section", { class: `lane ${kind}`, "aria-label": name === NOBODY ? "Partitions without a worker" : `Worker ${name}` },
        h("h4", {}, title), h("p", { class: "model" }), h("ul", { class: "chips" })));
      this.workers.append(this.lanes.get(name));
    }
    return this.lanes.get(name);
  }

  showWorker(worker) {
    const lane = this.lane(worker.name, "worker");
    const isWell = worker.state === "ready" || worker.state === "member";
    lane.classList.toggle("waits", !isWell || worker.silent > 0);
    const words = [worker.model, ...(worker.models ?? []).filter((model) => model !== worker.model)].filter(Boolean);
    if (worker.loading) words.push(`loads ${worker.loading}`);
    if (worker.state === "ended") words.push("has ended; its partitions move when the broker's session with it is over");
    else if (!worker.is_here) words.push("on another machine");
    else if (!isWell) words.push(worker.reason ? `${worker.state}: ${worker.reason}` : worker.state);
    if (worker.silent > 0) words.push(`silent for ${seconds(worker.silent)}`);
    setText(lane.querySelector(".model"), words.join(" · "));
  }

  place(each, before) {
    let chip = this.chips.get(each.partition);
    if (chip === undefined) {
      chip = h("li", { class: "chip" }, h("b", {}, String(each.partition)), h("span"));
      this.chips.set(each.partition, chip);
    }
    const lane = this.lanes.get(each.worker ?? NOBODY) ?? this.lanes.get(NOBODY);
    const list = lane.querySelector(".chips");
    if (chip.parentNode !== list) insert(list, chip, each.partition);
    const parts = [each.lag === null ? "lag unknown" : `${number(each.lag)} wait`];
    if (each.lag > 0) parts.push(seconds(each.seconds, each.is_at_least));
    if (each.seconds >= 1 && each.trend) parts.push(trend(each.trend));
    setText(chip.lastChild, parts.join(" · "));
    chip.classList.toggle("late", each.seconds >= 1);
    chip.classList.toggle("growing", each.seconds >= 1 && each.trend === "growing");
    if (before !== undefined) glide(chip, before);
  }

  drop(count) {
    for (const [partition, chip] of this.chips) {
      if (partition >= count) {
        chip.remove();
        this.chips.delete(partition);
      }
    }
  }

  showSinks(sinks) {
    const shown = JSON.stringify(sinks.map((sink) => [sink.name, sink.state, sink.reason, number(sink.lag), seconds(sink.seconds)]));
    if (this.sinks.dataset.shown === shown) return;
    this.sinks.dataset.shown = shown;
    this.sinks.replaceChildren(...(sinks.length ? sinks.map(sinkCard) : [h("section", { class: "lane nobody", "aria-label": "Sink" },
      h("h4", {}, "no sink on this machine"), h("p", { class: "model" }, "results are not stored here: petal sink"))]));
  }
}

function sinkCard(sink) {
  const isWell = sink.state === "ready";
  return h("section", { class: `lane sink${isWell ? "" : " waits"}`, "aria-label": `Sink ${sink.name}` },
    h("h4", {}, "sink ", h("small", {}, sink.name)),
    h("p", { class: "model" }, isWell ? "stores results" : [sink.state, sink.reason].filter(Boolean).join(": "), ` · ${number(sink.lag)} wait`,
      sink.lag > 0 ? ` · ${seconds(sink.seconds)}` : ""));
}

function insert(list, chip, partition) {
  const after = [...list.children].find((other) => Number(other.firstChild.textContent) > partition);
  list.insertBefore(chip, after ?? null);
}

/** Show the chip where it was, and let it move to where it is. */
function glide(chip, before) {
  if (calm.matches) return;
  const after = chip.getBoundingClientRect();
  const [dx, dy] = [before.left - after.left, before.top - after.top];
  if (Math.abs(dx) < 2 && Math.abs(dy) < 2) return;
  if (chip.getAnimations().length) return;
  chip.animate([{ transform: `translate(${dx}px, ${dy}px)` }, { transform: "none" }], { duration: GLIDE_MS, easing: "ease-in-out" });
}
