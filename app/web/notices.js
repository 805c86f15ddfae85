/** What can stand in the way of hits: warnings, nothing found, errors with a retry, and the question for an API key. */

import { el, newId } from "./dom.js";

const WAITS = 3;

export const warnings = (texts) => texts.map((text) => el("p", { class: "warning" }, text));

export function nothing(text, buttons) {
  return el("div", { class: "nothing" }, el("p", { class: "headline" }, text), el("p", { class: "buttons" }, buttons));
}

export const button = (text, click, kind = "") => el("button", { type: "button", class: kind, on: { click } }, text);

/** An error with its cause. A busy service is asked again by itself, three times; then by hand. */
export class Trouble {
  constructor(place) {
    this.place = place;
    this.n_waits = 0;
    this.timer = null;
    window.addEventListener("online", () => this.again?.());
  }

  clear() {
    clearTimeout(this.timer);
    this.again = null;
    this.place.replaceChildren();
  }

  settle() {
    this.clear();
    this.n_waits = 0;
  }

  show(problem, again, buttons = []) {
    this.clear();
    const isBusy = problem.status === 429 || problem.status === 503;
    const note = el("p", { class: "note" });
    const box = el("div", { class: "problem", role: "alert" },
      el("p", { class: "headline" }, headline(problem, isBusy)),
      el("p", { class: "detail" }, sentence(problem.message)),
      problem.pointer ? el("p", { class: "note" }, "At ", el("code", {}, problem.pointer)) : null,
      note, el("p", { class: "buttons" }, again ? button("Try again", () => { this.n_waits = 0; again(); }) : null, buttons));
    this.place.replaceChildren(box);
    if (problem.status === 0) this.again = again;
    if (isBusy && problem.retryAfter > 0 && this.n_waits < WAITS) {
      this.n_waits++;
      const seconds = Math.min(60, problem.retryAfter) + this.n_waits - 1;
      note.textContent = `Trying again in ${seconds} s.`;
      this.timer = setTimeout(again, seconds * 1000);
    }
  }

  /** Asks for an API key; use(key) gets one that fits into a header. */
  ask(wasRefused, use) {
    this.clear();
    const id = newId("key");
    const input = el("input", { id, type: "password", autocomplete: "off", required: true, pattern: "[\\x21-\\x7e]+",
      title: "A key has no spaces and only plain ASCII characters" });
    const form = el("form", { class: "problem key" },
      el("p", { class: "headline" }, wasRefused ? "That key was not accepted." : "This service asks for a key."),
      el("label", { for: id }, "API key"), input, el("button", { type: "submit" }, "Use this key"),
      el("p", { class: "note" }, "It stays in this tab and is forgotten when you close it."));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      use(input.value);
    });
    this.place.replaceChildren(form);
    input.focus();
  }
}

/** What may help against an error: the text of a button, and what it changes in the state. info: the collection, if known. */
export function cures({ status, pointer }, state, info) {
  const found = [];
  if (state.filter && pointer.startsWith("/filter")) found.push(["Remove the filter", { filter: "" }]);
  if (state.mode && status === 422) found.push(["Search in the usual mode", { mode: "" }]);
  if ((state.facets || state.by) && status === 422) found.push(["Remove the weights", { facets: "", by: "" }]);
  if ((state.a || state.b) && status === 422) found.push(["Choose again what to compare", { a: "", b: "" }]);
  if (state.collection && info === undefined) found.push(["Use the first collection", { collection: "" }]);
  if (state.user && status === 404) found.push(["Show what is popular", { user: "", history: "[]" }]);
  if (status === 410) found.push(["Search again", {}]);
  return found;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

function headline(problem, isBusy) {
  if (problem.kind === "unavailable") return "This is not available now.";
  if (isBusy) return "The service is busy.";
  if (problem.status === 0) return problem.title;
  if (problem.status === 422 || problem.status === 400) return problem.pointer === "/question" ? "This cannot be answered." : "This search cannot be run.";
  if (problem.status === 404) return "Not found.";
  if (problem.status === 410) return "The index was rebuilt in the meantime.";
  return problem.title || "Something went wrong.";
}
