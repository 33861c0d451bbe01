// Requests to this service, with the key if it needs one. The key is kept in this module's memory.

import { byId, setText } from "./dom.js";

let key = null;
let asking = null;

export class ServiceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

function headers(extra) {
  return key === null ? extra : { ...extra, Authorization: `Bearer ${key}` };
}

/** Ask for the key once, however many requests need it. */
function askForKey() {
  if (asking !== null) return asking;
  const form = byId("key-form");
  setText(byId("key-error"), key === null ? "" : "The service does not accept this key.");
  form.hidden = false;
  byId("key").focus();
  asking = new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      key = byId("key").value.trim();
      byId("key").value = "";
      form.hidden = true;
      asking = null;
      resolve();
    }, { once: true });
  });
  return asking;
}

async function withKey(send) {
  for (;;) {
    const used = key;
    const response = await send();
    if (response.status !== 401) return response;
    if (used === key) await askForKey();
  }
}

/** A request; returns {status, body, ms, headers}. Raises ServiceError with the service's sentence. */
export async function call(method, path, body, extra = {}) {
  const begun = performance.now();
  const options = { method, headers: headers(extra) };
  if (body !== undefined) {
    options.headers = { ...options.headers, "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await withKey(() => fetch(path, { ...options, headers: headers(options.headers) }));
  } catch {
    throw new ServiceError("the service does not answer", 0);
  }
  const text = await response.text();
  const ms = performance.now() - begun;
  let found = null;
  try {
    found = JSON.parse(text);
  } catch {
    // An answer of something between the browser and the service.
  }
  if (!response.ok) throw new ServiceError(found?.error ?? `${response.status} ${response.statusText}`, response.status);
  return { status: response.status, body: found, ms };
}

/** Read server-sent events for ever: EventSource could not send the key. */
export async function listen(path, onEvent, onLost) {
  let wait = 1000;
  for (;;) {
    try {
      const response = await withKey(() => fetch(path, { headers: headers({ Accept: "text/event-stream" }) }));
      if (!response.ok) throw new ServiceError((await response.json()).error, response.status);
      await read(response.body, onEvent, (ms) => { wait = ms; });
      onLost("the service ended the connection");
    } catch (error) {
      onLost(error instanceof ServiceError ? error.message : "the service does not answer");
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function read(body, onEvent, onRetry) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value.replaceAll("\r\n", "\n");
    const blocks = rest.split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) dispatch(block, onEvent, onRetry);
  }
}

function dispatch(block, onEvent, onRetry) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
    else if (line.startsWith("retry: ")) onRetry(Number(line.slice(7)));
  }
  if (data.length) onEvent(name, JSON.parse(data.join("\n")));
}
