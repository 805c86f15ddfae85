/** Recommendations: for whom, each item with its reasons, and "I like this", which asks again. */

import { el, label, newId, plural, replace } from "./dom.js";
import { answersGiven, answersTo, tasteOf, tasteWithout } from "./hints.js";
import { hitCard } from "./hits.js";
import { button, nothing } from "./notices.js";
import { historyOf } from "./state.js";
import { named } from "./titles.js";

const STRATEGIES = { "": "All together", ease: "Liked together", markov: "Liked in turn", popular: "Popular" };
/** Where a model of hints is attached to the collection. */
const HINTS = { hints: "Preference hints" };
const SOURCES = { ease: "Together", markov: "In turn", "recent popularity": "Popular", neighbours: "Neighbours", dense: "Meaning" };
const FLAGS = { cold: "new here", fallback: "popular" };

export const isAsked = (state) => Boolean(state.user || state.history);

/** The body of POST /v1/recommend. Throws SyntaxError for a filter that is no JSON. */
export function bodyOf(state, limit) {
  const body = { limit, explain: true, with_payload: true };
  for (const name of ["user", "strategy", "collection"]) if (state[name]) body[name] = state[name];
  if (state.history) body.history = historyOf(state.history);
  if (state.filter) body.filter = JSON.parse(state.filter);
  if (state.strategy === "hints" && state.taste) body.hints = { feedback: tasteOf(state.taste) };
  return body;
}

/** An answer in the form of a page of hits. */
export function pageOf({ items, fallback, warnings, next_cursor }) {
  const note = fallback ? ["Nothing is known of this history here; this is what is popular now."] : [];
  return { hits: items, warnings: [...note, ...warnings], next_cursor };
}

/** hands: {like(hit), add(id), tell(hint, verdict)}. */
export function itemCard(item, rank, state, hands) {
  const row = hitCard({ ...item, explanation: null }, rank, { isLike: false, like: hands.like });
  const hints = item.hints?.shown ?? []; // a reason each, in the same order
  const reasons = item.reasons.map((reason, n) => el("li", {}, told(reason, state, hands), hints[n] && answersTo(hints[n], hands.tell)));
  const flags = item.flags.map((flag) => el("span", { class: "flag" }, FLAGS[flag] ?? label(flag)));
  const actions = row.querySelector(".actions");
  actions.before(el("div", { class: "because" }, flags,
    reasons.length ? el("ul", { "aria-label": "Reasons" }, reasons) : el("p", {}, "No single item of the history speaks for it.")));
  actions.append(button("I like this", () => hands.add(item.id)), el("span", { class: "ranks" }, item.sources.map((source) =>
    el("span", { class: source.name }, `${SOURCES[source.name] ?? label(source.name)} `, el("b", {}, `#${source.rank}`)))));
  return row;
}

/** A reason's own words, in which each item is named by its title; an attribute is no item. */
function told({ type, text, evidence }, state, hands) {
  if (type === "attribute") return [text];
  const nodes = [];
  let at = 0;
  for (const id of evidence) {
    const start = text.indexOf(id, at);
    if (start < 0) continue;
    nodes.push(text.slice(at, start), named("a", id, state, hands.like));
    at = start + id.length;
  }
  return [nodes, text.slice(at)];
}

/** Who is asked for: a user's id, a strategy, and the documents that were liked on this page. */
export class Whom {
  /** change(state) gets what was entered. */
  constructor(place, change) {
    this.place = place;
    this.change = change;
    this.user = el("input", { id: newId("user"), maxlength: 512, autocomplete: "off", placeholder: "Id of a user" });
    this.strategy = el("select", { id: newId("strategy") });
    this.about = el("p", { class: "about" });
    this.liked = el("div", { class: "liked" });
    const form = el("form", { class: "for" }, el("label", { for: this.user.id }, "For user"), this.user,
      el("span", {}, el("label", { for: this.strategy.id }, "by "), this.strategy), el("button", { type: "submit" }, "Recommend"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.strategy.addEventListener("change", () => { if (isAsked(this.state)) this.send(); });
    replace(place, el("h2", {}, "Recommendations"), this.about, form, this.liked);
  }

  send() {
    const user = this.user.value.trim();
    if (!user && !this.state.history) this.user.focus();
    else this.change({ user, strategy: this.strategy.value });
  }

  draw(info, state) {
    this.state = state;
    this.place.hidden = state.view !== "recommend";
    if (this.place.hidden) return;
    this.user.value = state.user;
    // What an address asks for stays in the list: the service says in a sentence what is missing.
    const offered = info?.recommenders.includes("hints") || state.strategy === "hints" ? { ...STRATEGIES, ...HINTS } : STRATEGIES;
    replace(this.strategy, Object.entries(offered).map(([value, text]) => el("option", { value }, text)));
    this.strategy.value = state.strategy;
    this.about.textContent = isAsked(state) || info === undefined ? "" : aboutOf(info);
    const liked = historyOf(state.history);
    const isHinted = state.strategy === "hints";
    replace(this.liked, liked.length ? el("span", { class: "note" }, state.user ? "who also likes" : "Whoever likes") : null,
      liked.map((id, place) => el("span", { class: "chip" }, named("span", id, state), el("button", { type: "button", class: "quiet",
        "aria-label": `Forget ${id}`, on: { click: () => this.forget(liked, place) } }, "×"))),
      isHinted ? answersGiven(state.taste, (place) => this.takeBack(place)) : null,
      isAsked(state) ? null : button("Begin with what is popular", () => this.change({ history: "[]" }), "start"));
  }

  takeBack(place) {
    this.change({ taste: tasteWithout(this.state.taste, place) });
    this.user.focus(); // the button that had the focus is gone
  }

  forget(liked, place) {
    const left = liked.filter((_, n) => n !== place);
    this.change({ history: left.length || !this.state.user ? JSON.stringify(left) : "" });
    this.user.focus(); // the button that had the focus is gone
  }
}

function aboutOf({ name, n_events }) {
  return n_events ? `${plural(n_events, "event")} in ${name} say who did what. Name a user, or begin with what is popular and say what you like.`
    : `${name} holds no events yet, so nobody is known here. Add some with POST /v1/events or “facetrail index events”.`;
}

export const drawEmpty = (state, change) => nothing("There is nothing left to recommend.",
  state.filter ? [button("Remove the filters", () => change({ filter: "" }))] : []);
