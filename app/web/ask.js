/** Asking: the answer as it is written, the passages it was made from, and what is near where nobody knows. */

import { Problem, call, events } from "./api.js";
import { el, plural, replace } from "./dom.js";
import { hitCard } from "./hits.js";
import { button, nothing, warnings } from "./notices.js";
import { checked, cited, counted, legend, spoken } from "./said.js";
import { EMPTY, address, requestOf } from "./state.js";
import { toUnits } from "./text.js";
import { within } from "./views.js";

const NEAREST = 3;
const TALK = { state: "looking", text: "", passages: null, answer: null, nearest: [] };

export class Ask {
  /** hands: {like(hit), fail(error, again), trouble, remember(pages), change(state)}. */
  constructor(place, hands) {
    Object.assign(this, { place, hands, running: null });
    this.status = el("p", { class: "count", role: "status" });
    this.said = el("div", { class: "said", role: "group", "aria-label": "Answer", tabindex: "-1" });
    this.stopper = button("Stop", () => (this.running ? this.stop() : this.ask()));
    this.notes = el("div", { class: "notes" });
    this.heading = el("h2", { class: "read" });
    this.list = el("ol", { class: "hits" });
    replace(place, this.status, this.said, el("p", { class: "buttons" }, this.stopper), this.notes, this.heading, this.list);
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.running) return;
      event.preventDefault();
      this.stop();
    });
  }

  isAsked(state) {
    return Boolean(state.q.trim());
  }

  /** Shows the answer to a state: the one that was seen before, or a new one. */
  show(state, info, [seen] = []) {
    this.leave();
    this.state = { ...state, like: "", by: "" };
    this.info = info;
    this.place.hidden = false;
    if (seen) this.draw(this.talk = seen);
    else this.ask();
  }

  leave() {
    this.running?.abort();
    this.running = null;
    this.place.hidden = true;
  }

  stop() {
    this.running.abort();
    this.end("stopped");
  }

  async ask() {
    this.running?.abort();
    const mine = this.running = new AbortController();
    const talk = { ...TALK, documents: new Map() };
    this.hands.trouble.clear();
    this.draw(this.talk = talk);
    try {
      const search = requestOf(this.state, NEAREST, this.info);
      const { query: question, mode, facets, filter, collection } = search;
      const body = { question, mode, facets, filter, collection, stream: true };
      for await (const { name, data } of events("v1/reason", { body, signal: mine.signal })) {
        if (name === "retrieved") this.read(data.citations);
        else if (name === "token") this.write(data.text);
        else if (name === "done") talk.answer = data;
      }
      if (!talk.answer.is_answered) talk.nearest = (await call("v1/search", { body: search, signal: mine.signal })).hits;
      this.hands.trouble.settle();
      this.end("done");
    } catch (error) {
      if (mine.signal.aborted) return;
      this.end("broken");
      this.hands.fail(error, () => this.ask());
    }
  }

  end(how) {
    this.running = null;
    this.talk.state = how;
    if (how !== "broken") this.hands.remember([this.talk]);
    this.draw(this.talk);
  }

  /** The passages that the model is about to read; their documents come when they come. */
  async read(passages) {
    const talk = Object.assign(this.talk, { passages, state: "writing" });
    this.draw(talk);
    const named = this.state.collection ? `?collection=${encodeURIComponent(this.state.collection)}` : "";
    await Promise.all(passages.map(async ({ id }) => {
      try {
        talk.documents.set(id, await call(`v1/documents/${encodeURIComponent(id)}${named}`));
      } catch (error) {
        if (!(error instanceof Problem)) throw error; // deleted meanwhile: its title and what is quoted stand there
      }
    }));
    if (this.talk === talk) this.drawPassages(talk);
  }

  write(text) {
    this.talk.text += text;
    this.said.append(...cited(text, this.cite).flat(Infinity));
  }

  // -- drawing

  draw(talk) {
    const { answer } = talk;
    this.status.textContent = statusOf(talk);
    this.said.setAttribute("aria-busy", String(this.running !== null));
    replace(this.said, answer ? checked(answer, this.cite) : cited(talk.text, this.cite));
    this.stopper.hidden = this.running === null && talk.state !== "stopped";
    this.stopper.textContent = this.running ? "Stop" : "Ask again";
    replace(this.notes,
      answer?.is_answered ? legend(answer) : null,
      notesOf(talk).map((text) => el("p", { class: "note" }, text)),
      answer?.dropped.length ? warnings([`The prompt had no room for ${plural(answer.dropped.length, "more passage")}.`]) : null);
    this.drawPassages(talk);
  }

  drawPassages({ passages, answer, documents, nearest }) {
    const { like, change } = this.hands;
    const isUnknown = answer !== null && !answer.is_answered;
    const rows = isUnknown ? nearest.map((hit, n) => hitCard(hit, n + 1, { isLike: false, like, home: this.home(hit.id) }))
      : (passages ?? []).map((one) => this.passageCard(one, documents.get(one.id), answer));
    this.heading.hidden = rows.length === 0;
    this.heading.textContent = isUnknown ? "Nearest documents" : "Passages";
    replace(this.list, rows, isUnknown && rows.length === 0 ? el("li", {}, nothing("No document is near.",
      this.state.filter ? [button("Remove the filters", () => change({ filter: "" }))] : [])) : null);
  }

  /** A passage under its number, with the sentence set off that an answer quotes; what was deleted is the quote alone. */
  passageCard({ number, id, title }, found, answer) {
    const quoted = answer?.citations.find((one) => one.number === number);
    const document = found ?? { id, title, text: quoted?.quote ?? "", sections: [], metadata: {} };
    const [quote] = quoted && found ? toUnits(document.text, [{ start: quoted.start, end: quoted.end }]) : [null];
    const row = hitCard({ id, payload: document, explanation: null }, number,
      { isLike: false, like: this.hands.like, quote, home: this.home(id) });
    const article = row.firstElementChild;
    article.dataset.number = number;
    article.querySelector(".rank").setAttribute("aria-label", `Passage ${number}`);
    const actions = article.querySelector(".actions");
    if (quoted) actions.append(button("To the answer", () => this.said.querySelector(`[data-cites="${number}"]`).focus()));
    else if (answer) actions.before(el("p", { class: "note" }, "Read, and not cited."));
    return row;
  }

  home(id) {
    return within(address({ ...EMPTY, like: id, collection: this.state.collection }), () => this.hands.like({ id }));
  }

  cite = (number, kind = "") => {
    const title = this.talk.passages?.find((one) => one.number === number)?.title;
    return el("button", { type: "button", class: `cite ${kind}`, "data-cites": number, title,
      "aria-label": `Passage ${number}${title ? `: ${title}` : ""}`,
      on: { click: () => this.list.querySelector(`[data-number="${number}"]`).focus() } }, String(number));
  };
}

function statusOf({ state, text, answer, passages }) {
  if (state === "looking") return "Looking for passages…";
  if (state === "writing" && passages.length === 0) return "";
  if (state === "writing") return `${plural(passages.length, "passage")} found; the model is reading and writing…`;
  if (state === "stopped") return text ? "Stopped. What stands here was not checked." : "Stopped before a word was written.";
  if (state === "broken") return text ? "Broken off. What stands here was not checked." : "";
  return `${answer.is_answered ? counted(answer) : "No answer"} · ${(answer.took_ms / 1000).toFixed(1)} s`;
}

function notesOf({ answer, passages }) {
  if (!answer) return [];
  if (passages.length === 0) return ["Nothing here is near enough to the question to answer from it, so no model was asked."];
  return [answer.is_answered ? null : "The model did not find the answer in the passages it read.", spoken(answer.model)].filter(Boolean);
}
