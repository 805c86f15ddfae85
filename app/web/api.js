/** Talks to the service. Every failure becomes a `Problem` whose message can be shown. */

const STORE = "facetrail-key";
let key = null;

try {
  key = sessionStorage.getItem(STORE);
} catch { /* storage is blocked: the key lives as long as this page */ }

export class Problem extends Error {
  constructor(status, detail, { title = "", retryAfter = 0, pointer = "" } = {}) {
    super(detail);
    Object.assign(this, { status, title, retryAfter, pointer });
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

/** The JSON answer of a route. Throws Problem, or AbortError when `signal` was raised. */
export async function call(path, { body, signal } = {}) {
  const headers = { accept: "application/json" };
  if (key !== null) headers["x-api-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  let answer = null;
  try {
    const options = { method: body === undefined ? "GET" : "POST", headers, signal, credentials: "same-origin" };
    response = await fetch(path, { ...options, body: body === undefined ? undefined : JSON.stringify(body) });
    answer = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (response === undefined) throw unreachable();
  }
  if (response.ok && answer !== null) return answer;
  throw new Problem(response.status, answer?.detail || `The service answered ${response.status} without a reason.`, {
    title: answer?.title || response.statusText,
    retryAfter: Number.parseFloat(response.headers.get("retry-after")) || 0,
    pointer: answer?.pointer || "",
  });
}

function unreachable() {
  return navigator.onLine
    ? new Problem(0, "Nobody answers at this address. Is the service still running?", { title: "No answer" })
    : new Problem(0, "This device is offline. The search continues when the connection is back.", { title: "Offline" });
}
