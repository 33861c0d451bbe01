// Results with filters, one task's story, dead letters. Reading only.

import { byId, h, pairs, setText, table } from "./dom.js";
import { dateAndTime, label, milliseconds, number } from "./format.js";
import { call } from "./service.js";

const MAX_CELLS = 40;

export function startLookUp() {
  onSubmit("filter-form", showResults);
  onSubmit("id-form", () => showStory(byId("task-id").value.trim()));
  byId("filter-form").addEventListener("reset", () => setTimeout(showResults));
  byId("letters-button").addEventListener("click", showLetters);
}

function onSubmit(id, run) {
  byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

function filters() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(byId("filter-form"))) {
    if (value === "") continue;
    const isTime = name === "since" || name === "until";
    query.set(name, isTime ? String(new Date(value).getTime() / 1000) : value);
  }
  return query;
}

async function into(root, load) {
  root.setAttribute("aria-busy", "true");
  try {
    root.replaceChildren(...(await load()));
  } catch (error) {
    root.replaceChildren(h("p", { class: "bad" }, error.message));
  }
  root.removeAttribute("aria-busy");
}

function showResults() {
  return into(byId("results"), async () => {
    const { results, left } = (await call("GET", `results/latest?${filters()}`)).body;
    const note = left ? h("p", { class: "about" }, `${number(left)} stored results cannot be searched yet; the sink adds them.`) : null;
    if (results.length === 0) return [h("p", { class: "about" }, "No stored result has these properties."), note].filter(Boolean);
    return [table(`${results.length} results, the newest first`, ["time", "answer", "model", "worker", "partition : offset", "waited", "in the model", "task"], results.map(resultRow)), note].filter(Boolean);
  });
}

function resultRow(result) {
  return [dateAndTime(result.at), answerOf(result), result.model, result.worker, `${result.task.partition} : ${result.task.offset}`,
    milliseconds(result.queue_ms), milliseconds(result.infer_ms),
    h("button", { type: "button", class: "link", onclick: () => showStory(result.id), "aria-label": `Story of task ${result.id}` }, `${result.id.slice(0, 8)}…`)];
}

function answerOf({ labels, rows, error }) {
  if (error) return h("span", { class: "bad" }, error);
  const shown = labels.slice(0, 3).map(label).join(", ");
  return rows > 3 ? `${shown} … (${number(rows)} rows)` : shown;
}

/** All that is known of one task. */
export async function showStory(id) {
  const root = byId("story");
  byId("task-id").value = id;
  await into(root, async () => {
    const { body } = await call("GET", `tasks/${encodeURIComponent(id)}/story`);
    return [h("h3", {}, "The story of a task"), times(body), facts(body), rowsOf(body)].filter(Boolean);
  });
  root.scrollIntoView({ block: "nearest" });
  root.focus({ preventScroll: true });
}

function times({ result, answer, answered_at: answeredAt, asked }) {
  const step = (at, what, about) => h("li", {}, h("time", {}, at === null ? "" : dateAndTime(at)), h("b", {}, what), h("span", {}, about));
  const place = `partition ${result.task.partition}, offset ${result.task.offset}`;
  return h("ol", { class: "story" }, [
    asked ? step(asked.created_at, "created", "by its client's clock") : null,
    step(asked?.logged_at ?? null, "in tasks", place),
    step(asked ? asked.created_at + result.ms.queue / 1000 : null, `worker ${result.worker}`, `after waiting ${milliseconds(result.ms.queue)}`),
    step(null, "predicted", `${milliseconds(result.ms.infer)} in ${result.model}, with the other tasks of its chunk`),
    step(answeredAt, "in results", `partition ${answer.partition}, offset ${answer.offset}, and stored here`),
  ].filter(Boolean));
}

function facts({ result, missing, repeats }) {
  const list = (values) => values?.slice(0, MAX_CELLS).map(label).join(", ");
  return pairs([
    ["task", result.id],
    ["answer", result.error ? `${result.error.code}: ${result.error.message}` : list(result.y)],
    ["probabilities", list(result.proba?.map((row) => row.map((share) => Number(share.toPrecision(4)))))],
    ["score", list(result.score)],
    ["warnings", result.warnings?.map((warning) => warning.message).join("; ")],
    ["the task itself", missing],
    ["further results", repeats.length ? repeats.map((each) => `partition ${each.partition}, offset ${each.offset}${each.error ? ` (${each.error})` : ""}`).join("; ") : null],
  ]);
}

function rowsOf({ asked }) {
  if (!asked) return null;
  const shown = asked.X.slice(0, MAX_CELLS);
  const pre = h("pre", { tabindex: "0", "aria-label": "Rows of the task" }, shown.map((row) => JSON.stringify(row)).join("\n"));
  return h("div", {}, h("h4", {}, asked.X.length > shown.length ? `The first ${shown.length} of ${asked.X.length} rows` : "Its rows"), pre);
}

async function showLetters() {
  const state = byId("letters-state");
  setText(state, "reading…");
  await into(byId("letters"), async () => {
    const letters = (await call("GET", "dead-letters?limit=50")).body;
    if (letters.length === 0) return [h("p", { class: "about" }, "There is none: every record could be read.")];
    return [table("The newest dead letters", ["offset", "reason", "from tasks", "time", "bytes", "its beginning"], letters.map((letter) => [
      String(letter.offset), [letter.reason, letter.detail].filter(Boolean).join(": "),
      letter.task ? `${letter.task.partition} : ${letter.task.offset}` : "unknown", dateAndTime(letter.at), letter.bytes === null ? "none" : number(letter.bytes),
      h("code", {}, letter.text.slice(0, 200))]))];
  });
  setText(state, "");
}
