/** Talks to the service. Every failure becomes a `Problem` whose message can be shown. */

const STORE = "facetrail-key";
let key = null;

try {
  key = sessionStorage.getItem(STORE);
} catch { /* storage is blocked: the key lives as long as this page */ }

export class Problem extends Error {
  constructor(status, detail, { title = "", kind = "", retryAfter = 0, pointer = "" } = {}) {
    super(detail);
    Object.assign(this, { status, title, kind, retryAfter, pointer });
  }
}

export const hasKey = () => key !== null;

/** Keeps an API key for this tab's session; null forgets it. */
export function setKey(value) {
  key = value;
  try {
    if (value === null) sessionStorage.removeItem(STORE);
    else sessionStorage.setItem(STORE, value);
  } catch { /* see above */ }
}

/** The JSON answer of a route. options: {body, method, signal}; a body is posted. Throws Problem, or AbortError when `signal` was raised. */
export async function call(path, options = {}) {
  const response = await send(path, "application/json", options);
  const answer = await documentOf(response, options);
  if (response.ok && answer !== null) return answer;
  throw problemOf(answer, response);
}

/** The events of a route that streams, {name, data}, as they come. Throws what `call` does; an `error` is a Problem. */
export async function* events(path, options) {
  const response = await send(path, "text/event-stream", options);
  if (!response.ok) throw problemOf(await documentOf(response, options), response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ;) {
    const { done, value } = await reader.read().catch((error) => {
      if (options.signal?.aborted) throw error;
      return { done: true };
    });
    if (done) throw new Problem(0, "The connection broke before the end.", { title: "Broken off" });
    const blocks = (held + value).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (!fields.event) continue; // a sign of life
      const data = JSON.parse(fields.data);
      if (fields.event === "error") throw problemOf(data, response);
      yield { name: fields.event, data };
      if (fields.event === "done") return;
    }
  }
}

async function send(path, accept, { body, method = body === undefined ? "GET" : "POST", signal }) {
  const headers = { accept };
  if (key !== null) headers["x-api-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  const options = { method, headers, signal, credentials: "same-origin" };
  try {
    return await fetch(path, { ...options, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
}

async function documentOf(response, { signal }) {
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    return null; // no JSON: the status says what there is to say
  }
}

function problemOf(answer, response) {
  const status = response.ok ? answer?.status ?? 500 : response.status;
  return new Problem(status, answer?.detail || `The service answered ${status} without a reason.`, {
    title: answer?.title || response.statusText,
    kind: (answer?.type || "").split(":").at(-1),
    retryAfter: Number.parseFloat(response.headers.get("retry-after")) || 0,
    pointer: answer?.pointer || "",
  });
}

function unreachable() {
  return navigator.onLine
    ? new Problem(0, "Nobody answers at this address. Is the service still running?", { title: "No answer" })
    : new Problem(0, "This device is offline. The search continues when the connection is back.", { title: "Offline" });
}
