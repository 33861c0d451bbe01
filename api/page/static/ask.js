// A form from the model's card, sent through the stage that the visitor picks.

import { byId, h, setText } from "./dom.js";
import { label, milliseconds, number } from "./format.js";
import { showStory } from "./lookup.js";
import { call, ServiceError } from "./service.js";

const WAIT_SECONDS = 15;
const POLL_MS = 150;
const MAX_BARS = 20;

let forms = [];

export async function startAsk() {
  byId("ask-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  byId("any-row").addEventListener("click", () => fillAnyRow(chosen()));
  byId("model").addEventListener("change", () => showFields(chosen()));
  for (;;) {
    try {
      forms = (await call("GET", "forms")).body;
      break;
    } catch (error) {
      setText(byId("sent"), error.message);
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  setText(byId("sent"), "");
  byId("model").replaceChildren(...forms.map((form, n) => h("option", { value: n }, form.id)));
  byId("model-row").hidden = forms.length < 2;
  showFields(chosen());
  byId("send").disabled = byId("any-row").disabled = false;
}

const chosen = () => forms[Number(byId("model").value || 0)];

function showFields(form) {
  byId("fields").replaceChildren(...form.fields.map((field, n) => {
    const id = `field-${n}`;
    const hint = [field.hint, field.nullable ? "may be empty" : ""].filter(Boolean).join("; ");
    return h("p", {}, h("label", { for: id }, field.name), input(field, id, n),
      hint ? h("small", { id: `${id}-hint` }, hint.length > 90 ? `${hint.slice(0, 90)}…` : hint) : null);
  }));
  const row = form.fields.map((field) => shellWord(field.example)).join(" ");
  if (form.fields.length <= 8) setText(byId("stage-1-command"), `petal predict ${row}`);
}

const shellWord = (value) => (/^[\w.:/+-]+$/.test(text(value)) ? text(value) : `'${text(value).replaceAll("'", "'\\''")}'`);
const text = (value) => (value === null ? "" : String(value));

function input(field, id, n) {
  const common = { id, name: `x${n}`, "aria-describedby": field.hint ? `${id}-hint` : null };
  const options = field.type === "boolean" ? [true, false] : field.options;
  if (options.length) {
    const select = h("select", common, field.nullable ? h("option", { value: "" }, "") : null,
      options.map((option, index) => h("option", { value: index }, String(option))));
    select.value = String(options.findIndex((option) => option === field.example));
    return select;
  }
  const isNumber = field.type === "number" || field.type === "integer";
  if (isNumber) return h("input", { ...common, type: "number", step: field.type === "integer" ? 1 : "any", value: text(field.example), required: !field.nullable });
  if (field.suggestions.length === 0) return h("input", { ...common, type: "text", value: text(field.example), autocomplete: "off" });
  const list = h("datalist", { id: `${id}-list` }, field.suggestions.slice(0, 200).map((value) => h("option", { value })));
  return h("span", {}, h("input", { ...common, type: "text", value: text(field.example), list: `${id}-list`, autocomplete: "off" }), list);
}

function valueOf(field, n) {
  const given = byId(`field-${n}`).value;
  const options = field.type === "boolean" ? [true, false] : field.options;
  if (options.length) return given === "" ? null : options[Number(given)];
  if (given === "" && field.nullable) return null;
  return field.type === "number" || field.type === "integer" ? Number(given) : given;
}

/** A row from anywhere in what the card allows. */
function fillAnyRow(form) {
  form.fields.forEach((field, n) => {
    const element = byId(`field-${n}`);
    if (element.tagName === "SELECT") {
      element.selectedIndex = Math.floor(Math.random() * element.options.length);
    } else if (field.suggestions.length) {
      element.value = field.suggestions[Math.floor(Math.random() * field.suggestions.length)];
    } else if (field.minimum !== null && field.maximum !== null) {
      const value = field.minimum + Math.random() * (field.maximum - field.minimum);
      element.value = field.type === "integer" ? Math.round(value) : Number(value.toPrecision(3));
    }
  });
}

async function send() {
  const form = chosen();
  const via = new FormData(byId("ask-form")).get("via");
  const row = form.fields.map(valueOf);
  const button = byId("send");
  button.disabled = true;
  setText(byId("sent"), "sent…");
  try {
    await SENDERS[via](form, row);
    setText(byId("sent"), "");
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    setText(byId("sent"), "");
    byId("answer").replaceChildren(h("p", { class: "bad" }, error.message));
  } finally {
    button.disabled = false;
  }
}

const SENDERS = { rest: byRest, topic: byTopic, queue: byQueue };

async function byRest(form, row) {
  const path = `v2/models/${encodeURIComponent(form.name)}`;
  const { inputs } = (await call("GET", path)).body;
  const tensors = inputs.length === 1 && inputs[0].shape.length === 2
    ? [{ name: inputs[0].name, shape: [1, row.length], datatype: inputs[0].datatype, data: row }]
    : inputs.map(({ name, datatype }, n) => ({ name, shape: [1], datatype, data: [row[n]] }));
  const { body, ms } = await call("POST", `${path}/infer`, { inputs: tensors });
  const output = Object.fromEntries(body.outputs.map((tensor) => [tensor.name, tensor.data]));
  showAnswer(form, {
    label: output.predict[0], proba: output.predict_proba, score: output.score?.[0],
    warnings: body.parameters?.warnings ?? [],
  }, [["browser", milliseconds(ms), "there and back"], ["REST service", form.id, "predicts in its own process, no queue"]]);
}

function task(form, row) {
  return forms[0] === form ? { X: [row] } : { X: [row], model: form.name };
}

async function byQueue(form, row) {
  const { status, body, ms } = await call("POST", "tasks", task(form, row), { Prefer: `wait=${WAIT_SECONDS}` });
  if (status === 202) {
    byId("answer").replaceChildren(h("p", {}, `No worker answered within ${WAIT_SECONDS} s. The log keeps the task: `, storyButton(body.id)));
    return;
  }
  showResult(form, body, [["browser", milliseconds(ms), "there and back, waiting"]]);
}

async function byTopic(form, row) {
  const { body: accepted, ms } = await call("POST", "tasks", task(form, row));
  const begun = performance.now();
  byId("answer").replaceChildren(h("p", {}, `The log has the task after ${milliseconds(ms)}, in tasks, partition ${accepted.partition}, offset ${accepted.offset}. Nobody waits; the page looks for the result…`));
  while (performance.now() - begun < WAIT_SECONDS * 1000) {
    const { status, body } = await call("GET", `tasks/${accepted.id}`);
    if (status === 200) {
      showResult(form, body, [["browser", milliseconds(ms), "until the log had it"]], ["store", milliseconds(performance.now() - begun), "until the sink had stored it"]);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  byId("answer").replaceChildren(h("p", {}, `Accepted in tasks, partition ${accepted.partition}, offset ${accepted.offset}. There is no result yet; the log keeps the task. `, storyButton(accepted.id)));
}

function storyButton(id) {
  return h("button", { type: "button", class: "plain", onclick: () => showStory(id) }, "Its whole story");
}

function showResult(form, result, before, after) {
  const way = [...before,
    ["tasks", `partition ${result.task.partition}`, `offset ${result.task.offset}, ${milliseconds(result.ms.queue)} until a worker had it`],
    ["worker", result.worker, `${milliseconds(result.ms.infer)} in ${result.model}`],
    ...(after ? [after] : [["results", `partition ${result.task.partition}`, "read by this service as it was written"]])];
  if (result.error) {
    byId("answer").replaceChildren(h("p", { class: "bad" }, `${result.error.code}: ${result.error.message}`), wayOf(way), storyButton(result.id));
    return;
  }
  showAnswer(form, { label: result.y[0], proba: result.proba?.[0], score: result.score?.[0], warnings: result.warnings ?? [] }, way, storyButton(result.id));
}

function showAnswer(form, { label: answer, proba, score, warnings }, way, more) {
  byId("answer").replaceChildren(...[
    h("p", { class: "label" }, h("small", {}, form.kind === "classifier" ? "answer" : form.kind === "regressor" ? "number" : "outlier?"), h("strong", {}, label(answer))),
    proba ? bars(form.classes, proba) : null,
    score === undefined ? null : h("p", {}, `score ${number(score)}; below 0 is an outlier`),
    warnings.length ? h("ul", { class: "warnings" }, warnings.map((warning) => h("li", {}, warning.message))) : null,
    wayOf(way),
    more ?? null,
  ].filter(Boolean));
}

function bars(classes, proba) {
  const order = proba.map((share, n) => [share, classes[n]]).sort((a, b) => b[0] - a[0]);
  const more = order.length - MAX_BARS;
  return h("div", { class: "bars" }, order.slice(0, MAX_BARS).map(([share, name]) => {
    const percent = `${(share * 100).toFixed(1)} %`;
    const bar = h("span", { class: "bar-fill" });
    bar.style.width = `${share * 100}%`;
    return h("div", { class: "bar-row" }, h("span", { class: "bar-name" }, label(name)), h("span", { class: "bar-track", "aria-hidden": "true" }, bar), h("span", { class: "bar-share" }, percent));
  }), more > 0 ? h("p", { class: "about" }, `and ${more} more classes`) : null);
}

function wayOf(way) {
  return h("ol", { class: "way", "aria-label": "Where it has been" }, way.map(([where, what, about]) =>
    h("li", {}, h("small", {}, where), h("b", {}, what), h("span", {}, about))));
}
