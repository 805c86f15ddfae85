/** The page: reads its address, searches, asks or recommends, shows what comes, and keeps the address true. */

import { Ask } from "./ask.js";
import { Problem, call, hasKey, setKey } from "./api.js";
import { byId, el, plural, replace } from "./dom.js";
import { FacetPanel } from "./facets.js";
import { hitCard } from "./hits.js";
import { listen } from "./keys.js";
import { drawModes, facetsOf, isWeighed, modeOf, modesOf } from "./modes.js";
import { Trouble, button, nothing, warnings } from "./notices.js";
import { FilterPanel } from "./panel.js";
import { Whom, bodyOf, drawEmpty, isAsked, itemCard, pageOf } from "./recommend.js";
import { drawSimilar } from "./similar.js";
import { EMPTY, address, historyOf, readState, requestOf } from "./state.js";
import { drawViews, listenTo } from "./views.js";
import { Visits } from "./visits.js";
import { drawWelcome } from "./welcome.js";

const PAGE = 10;

const input = byId("q");
const trouble = new Trouble(byId("trouble"));
const visits = new Visits();
const weights = new FacetPanel(byId("facets"), weigh);
const panel = new FilterPanel((filter) => go({ filter }));
const whom = new Whom(byId("whom"), go);
const asking = new Ask(byId("answer"), { change: go, like: showLike, fail, trouble, remember: (talk) => visits.remember([talk]) });
let state = readState(location.search);
let served = { collections: [], default: null };
let running = null;

// -- where we are

/** Goes to a changed state; the address follows, so that back, reload and sharing work. */
function go(changes) {
  const next = { ...state, ...changes };
  visits.leave();
  if (address(next) !== address(state)) visits.push(address(next));
  state = next;
  show();
}

window.addEventListener("popstate", (event) => {
  visits.leave();
  const seen = visits.arrive(event);
  state = readState(location.search);
  show(seen);
  if (seen) window.scrollTo(0, seen.scroll);
});

const isRecommending = () => state.view === "recommend";
const isAnswering = () => state.view === "ask";
const collection = () => served.collections.find((c) => c.name === (state.collection || served.default));

/** Draws the state; `seen` holds hits that need no new search. */
function show(seen = null) {
  const isSearch = !isRecommending() && !isAnswering();
  const hasQuestion = isAnswering() ? Boolean(state.q.trim()) : isSearch ? Boolean(state.q.trim() || state.like) : isAsked(state);
  const isAsking = !isRecommending() && !hasQuestion;
  running?.abort();
  asking.leave();
  trouble.clear();
  input.value = state.q;
  document.body.classList.toggle("asking", isAsking);
  byId("welcome").hidden = !isAsking;
  byId("results").hidden = isAsking;
  name(isRecommending() ? `Recommendations${state.user && ` for ${state.user}`}` : isSearch && state.like ? `Similar to ${state.like}` : state.q);
  drawWelcome(collection(), state, (q) => go({ q, like: "", by: "" }));
  drawChoices();
  weights.draw(collection(), state, isAsking || isRecommending());
  whom.draw(collection(), state);
  if (byId("hits").dataset.view !== state.view) byId("hits").replaceChildren(); // nothing of the other view stays
  byId("hits").dataset.view = state.view;
  panel.draw(collection(), state.filter);
  drawSimilar(byId("similar"), isSearch ? state : EMPTY, facetsOf(collection()), { back: endLike, by: (by) => go({ by }), named: nameLike });
  if (!hasQuestion || isAnswering()) drawPages([]);
  if (!hasQuestion) return;
  if (isAnswering()) asking.show(state, collection(), seen?.pages[0]);
  else if (seen) drawPages(seen.pages);
  else search();
}

function name(subject) {
  document.title = subject ? `${subject} · facetrail` : "facetrail";
  byId("heading").textContent = subject;
}

// -- choices

function drawChoices() {
  drawModes(byId("modes"), isRecommending() ? undefined : collection(), state);
  drawViews(byId("nav"), state);
  byId("purpose").textContent = isAnswering() ? "Ask this collection" : "Search this collection";
  byId("submit").textContent = isAnswering() ? "Ask" : "Search";
  byId("chooser").hidden = served.collections.length < 2;
  replace(byId("collection"), served.collections.map((c) =>
    el("option", { value: c.name, selected: c.name === (state.collection || served.default) }, c.name)));
  byId("forget").hidden = !hasKey();
}

/** Searches with the weights of the panel, "" for none; a mode that has no use for them gives way. */
function weigh(facets) {
  const mode = modeOf(state, collection());
  go({ facets, by: "", ...(facets && (state.by || !isWeighed(mode)) ? { mode: "facet" } : {}) });
}

// -- hits

/** Asks for the first page of hits, or for the next one behind those that are shown. */
async function search(before = []) {
  running?.abort();
  const mine = running = new AbortController();
  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  trouble.clear();
  if (before.length === 0 && byId("hits").childElementCount === 0) byId("count").textContent = "Looking…";
  const started = performance.now();
  try {
    const isSearch = !isRecommending();
    const body = isSearch ? requestOf(state, PAGE, collection()) : bodyOf(state, PAGE);
    if (before.length) body.cursor = before.at(-1).next_cursor;
    const answer = await call(isSearch ? "v1/search" : "v1/recommend", { body, signal: mine.signal });
    const page = isSearch ? answer : pageOf(answer);
    const pages = [...before, { ...page, took: performance.now() - started }];
    visits.remember(pages);
    trouble.settle();
    drawPages(pages, before.length);
  } catch (error) {
    if (mine.signal.aborted) return;
    if (before.length === 0) drawPages([]);
    fail(error, () => search(before));
  } finally {
    if (running === mine) results.removeAttribute("aria-busy");
  }
}

function card(hit, rank) {
  if (isRecommending()) return itemCard(hit, rank, state, { like: showLike, add: addLiked });
  const recommend = collection()?.n_events ? recommendFrom : null;
  return hitCard(hit, rank, { isLike: Boolean(state.like), like: showLike, recommend });
}

/** Draws pages from `first` on; the ones before are there. */
function drawPages(pages, first = 0) {
  const list = byId("hits");
  weights.answer(pages[0]?.facets);
  if (first === 0) list.replaceChildren();
  byId("results").removeAttribute("aria-busy");
  const n_before = pages.slice(0, first).reduce((n, page) => n + page.hits.length, 0);
  const cards = pages.slice(first).flatMap((page) => page.hits).map((hit, n) => card(hit, n_before + n + 1));
  list.append(...cards);
  if (first > 0) cards[0]?.querySelector("article").focus();
  const last = pages.at(-1);
  const n_shown = n_before + cards.length;
  const isAll = !last?.next_cursor || last.hits.length === 0;
  byId("more").hidden = isAll;
  byId("end").hidden = !isAll || n_shown <= PAGE;
  byId("end").textContent = `That is all: ${plural(n_shown, isRecommending() ? "document" : "hit")}.`;
  byId("count").textContent = last ? `${counted(n_shown, isAll)} · ${Math.max(1, Math.round(last.took))} ms` : "";
  const notes = [...new Set(pages.flatMap((page) => page.warnings))];
  replace(byId("notices"), warnings(notes), last && n_shown === 0 ? drawNothing() : null);
}

function counted(n, isAll) {
  if (n === 0) return isRecommending() ? "Nothing" : "No hits";
  const noun = isRecommending() ? "document" : "hit";
  return n === 1 && isAll ? `1 ${noun}` : `${isAll ? "All" : "First"} ${plural(n, noun)}`;
}

function drawNothing() {
  if (isRecommending()) return drawEmpty(state, go);
  const buttons = [];
  const hasMeaning = collection()?.modes.includes("dense");
  if (state.filter) buttons.push(button("Remove the filters", () => go({ filter: "" })));
  if (state.mode === "lexical" && hasMeaning) buttons.push(button("Search by meaning", () => go({ mode: "dense" })));
  return nothing(state.like ? "Nothing is similar to this document." : `Nothing found for “${state.q}”.`, buttons);
}

// -- more like this

function showLike(hit) {
  go(state.view ? { ...EMPTY, collection: state.collection, like: hit.id } : { like: hit.id });
  window.scrollTo(0, 0);
  byId("results").focus();
}

function endLike() {
  go({ like: "", by: "" });
  (state.q ? byId("results") : input).focus();
}

function nameLike(title) {
  if (state.like) name(`Similar to ${title}`);
}

// -- recommendations

function recommendFrom(hit) {
  recommendTo({ ...EMPTY, view: "recommend", collection: state.collection }, [hit.id]);
}

function addLiked(id) {
  recommendTo({}, [...historyOf(state.history).filter((other) => other !== id), id]);
}

function recommendTo(changes, liked) {
  go({ ...changes, history: JSON.stringify(liked) });
  window.scrollTo(0, 0);
  byId("results").focus();
}

// -- trouble

function fail(error, again) {
  if (error instanceof SyntaxError) {
    error = new Problem(422, "The filter in the address is not JSON; remove it or correct the address.", { pointer: "/filter" });
  } else if (!(error instanceof Problem)) throw error;
  if (error.status === 401) {
    const wasRefused = hasKey();
    setKey(null);
    trouble.ask(wasRefused, (key) => { setKey(key); start(); });
    return;
  }
  const buttons = [];
  if (state.filter && error.pointer.startsWith("/filter")) buttons.push(button("Remove the filter", () => go({ filter: "" })));
  if (state.mode && error.status === 422) buttons.push(button("Search in the usual mode", () => go({ mode: "" })));
  if ((state.facets || state.by) && error.status === 422) {
    buttons.push(button("Remove the weights", () => go({ facets: "", by: "" })));
  }
  if (state.collection && collection() === undefined) buttons.push(button("Use the first collection", () => go({ collection: "" })));
  if (state.user && error.status === 404) buttons.push(button("Show what is popular", () => go({ user: "", history: "[]" })));
  if (error.status === 410) buttons.push(button("Search again", () => search()));
  trouble.show(error, error.status === 410 ? null : again, buttons);
}

// -- hands

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = input.value.trim();
  if (q) go({ q, like: "", by: "", view: isAnswering() ? "ask" : "", user: "", strategy: "", history: "" });
  else input.focus();
});
byId("modes").addEventListener("change", ({ target: { value } }) =>
  go({ mode: value === modesOf(collection())[0] ? "" : value, by: "" }));
byId("collection").addEventListener("change", (event) =>
  go({ ...EMPTY, q: state.q, view: state.view, collection: event.target.value === served.default ? "" : event.target.value }));
listenTo(byId("nav"), (changes) => {
  go({ ...changes, collection: state.collection });
  if (isRecommending()) whom.user.focus();
  else input.focus();
});
for (const id of ["filters", "weights"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => search(visits.here?.pages ?? []));
for (const fold of document.querySelectorAll(".fold")) {
  fold.addEventListener("click", () => fold.setAttribute("aria-expanded", String(fold.getAttribute("aria-expanded") !== "true")));
}
byId("forget").addEventListener("click", () => {
  setKey(null);
  location.reload();
});

async function start() {
  trouble.clear();
  try {
    served = await call("v1/collections");
  } catch (error) {
    fail(error, start);
    return;
  }
  show();
}

listen(input);
start();
