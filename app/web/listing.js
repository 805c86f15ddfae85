/** The list of hits or of recommendations: asks for its pages, draws them, and says what may help where nothing was found. */

import { call } from "./api.js";
import { byId, plural, replace } from "./dom.js";
import { tasteWith } from "./hints.js";
import { hitCard } from "./hits.js";
import { button, nothing, warnings } from "./notices.js";
import { bodyOf, drawEmpty, isAsked as isAskedFor, itemCard, pageOf } from "./recommend.js";
import { EMPTY, historyOf, requestOf } from "./state.js";

const PAGE = 10;
const isRecommending = (state) => state.view === "recommend";

export class Listing {
  /** hands: {change(state), like(hit), fail(error, again), trouble, remember(pages), seen(), weighed(facets)}. */
  constructor(hands) {
    Object.assign(this, { hands, running: null, results: byId("results"), list: byId("hits") });
    byId("more").addEventListener("click", () => this.ask(hands.seen() ?? []));
  }

  isAsked(state) {
    return isRecommending(state) ? isAskedFor(state) : Boolean(state.q.trim() || state.like);
  }

  /** Shows a state: the pages that were seen before, or new ones. */
  show(state, info, seen) {
    this.running?.abort();
    Object.assign(this, { state, info });
    if (this.list.dataset.view !== state.view) this.list.replaceChildren(); // no hit stays among recommendations
    this.list.dataset.view = state.view;
    if (seen) this.draw(seen);
    else this.ask();
  }

  leave() {
    this.running?.abort();
    this.draw([]);
  }

  /** Asks for the first page of hits, or for the next one behind those that are shown. */
  async ask(before = []) {
    this.running?.abort();
    const mine = this.running = new AbortController();
    this.results.setAttribute("aria-busy", "true");
    this.hands.trouble.clear();
    if (before.length === 0 && this.list.childElementCount === 0) byId("count").textContent = "Looking…";
    const started = performance.now();
    try {
      const isSearch = !isRecommending(this.state);
      const body = isSearch ? requestOf(this.state, PAGE, this.info) : bodyOf(this.state, PAGE);
      if (before.length) body.cursor = before.at(-1).next_cursor;
      const answer = await call(isSearch ? "v1/search" : "v1/recommend", { body, signal: mine.signal });
      const page = isSearch ? answer : pageOf(answer);
      const pages = [...before, { ...page, took: performance.now() - started }];
      this.hands.remember(pages);
      this.hands.trouble.settle();
      this.draw(pages, before.length);
    } catch (error) {
      if (mine.signal.aborted) return;
      if (before.length === 0) this.draw([]);
      this.hands.fail(error, () => this.ask(before));
    } finally {
      if (this.running === mine) this.results.removeAttribute("aria-busy");
    }
  }

  /** Draws pages from `first` on; the ones before are there. */
  draw(pages, first = 0) {
    this.hands.weighed(pages[0]?.facets);
    if (first === 0) this.list.replaceChildren();
    this.results.removeAttribute("aria-busy");
    const n_before = pages.slice(0, first).reduce((n, page) => n + page.hits.length, 0);
    const cards = pages.slice(first).flatMap((page) => page.hits).map((hit, n) => this.card(hit, n_before + n + 1));
    this.list.append(...cards);
    if (first > 0) cards[0]?.querySelector("article").focus();
    const last = pages.at(-1);
    const n_shown = n_before + cards.length;
    const isAll = !last?.next_cursor || last.hits.length === 0;
    byId("more").hidden = isAll;
    byId("end").hidden = !isAll || n_shown <= PAGE;
    byId("end").textContent = isAll && last ? `That is all: ${plural(n_shown, this.noun)}.` : "";
    byId("count").textContent = last ? `${this.counted(n_shown, isAll)} · ${Math.max(1, Math.round(last.took))} ms` : "";
    const notes = [...new Set(pages.flatMap((page) => page.warnings))];
    replace(byId("notices"), warnings(notes), last && n_shown === 0 ? this.drawNothing() : null);
  }

  get noun() {
    return isRecommending(this.state) ? "document" : "hit";
  }

  card(hit, rank) {
    const { like } = this.hands;
    if (isRecommending(this.state)) return itemCard(hit, rank, this.state, { like, add: (id) => this.addLiked(id),
      tell: (hint, verdict) => this.tell(hint, verdict) });
    const recommend = this.info?.n_events ? (found) => this.recommendFrom(found) : null;
    return hitCard(hit, rank, { isLike: Boolean(this.state.like), like, recommend });
  }

  counted(n, isAll) {
    if (n === 0) return isRecommending(this.state) ? "Nothing" : "No hits";
    return n === 1 && isAll ? `1 ${this.noun}` : `${isAll ? "All" : "First"} ${plural(n, this.noun)}`;
  }

  drawNothing() {
    const { state, hands: { change } } = this;
    if (isRecommending(state)) return drawEmpty(state, change);
    const buttons = [];
    if (state.filter) buttons.push(button("Remove the filters", () => change({ filter: "" })));
    if (state.mode === "lexical" && this.info?.modes.includes("dense")) {
      buttons.push(button("Search by meaning", () => change({ mode: "dense" })));
    }
    return nothing(state.like ? "Nothing is similar to this document." : `Nothing found for “${state.q}”.`, buttons);
  }

  // -- recommendations

  recommendFrom(hit) {
    this.recommendTo({ ...EMPTY, view: "recommend", collection: this.state.collection }, [hit.id]);
  }

  addLiked(id) {
    this.recommendTo({}, [...historyOf(this.state.history).filter((other) => other !== id), id]);
  }

  tell(hint, verdict) {
    this.hands.change({ taste: tasteWith(this.state.taste, hint, verdict) });
    window.scrollTo(0, 0);
    this.results.focus();
  }

  recommendTo(changes, liked) {
    this.hands.change({ ...changes, history: JSON.stringify(liked) });
    window.scrollTo(0, 0);
    this.results.focus();
  }
}
