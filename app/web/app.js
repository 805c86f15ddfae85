/** The page: reads its address, searches, shows hits, and keeps the address true. */

import { Problem, call, hasKey, setKey } from "./api.js";
import { byId, el, plural, replace } from "./dom.js";
import { FacetPanel } from "./facets.js";
import { drawFilters, keepFocus } from "./filters.js";
import { hitCard } from "./hits.js";
import { listen } from "./keys.js";
import { drawModes, facetsOf, isWeighed, modeOf, modesOf } from "./modes.js";
import { Trouble, button, nothing, warnings } from "./notices.js";
import { drawSimilar } from "./similar.js";
import { address, readState, requestOf } from "./state.js";
import { Visits } from "./visits.js";
import { drawWelcome } from "./welcome.js";

const PAGE = 10;

const input = byId("q");
const trouble = new Trouble(byId("trouble"));
const visits = new Visits();
const weights = new FacetPanel(byId("facets"), weigh);
let state = readState(location.search);
let served = { collections: [], default: null };
let fields = {};
let fieldsOf = null;
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

const collection = () => served.collections.find((c) => c.name === (state.collection || served.default));

/** Draws the state; `seen` holds hits that need no new search. */
function show(seen = null) {
  const hasQuestion = Boolean(state.q.trim() || state.like);
  running?.abort();
  trouble.clear();
  input.value = state.q;
  document.body.classList.toggle("asking", !hasQuestion);
  byId("welcome").hidden = hasQuestion;
  byId("results").hidden = !hasQuestion;
  name(state.like ? `Similar to ${state.like}` : state.q);
  drawWelcome(collection(), state.collection, (q) => go({ q, like: "", by: "" }));
  drawChoices();
  weights.draw(collection(), state, !hasQuestion);
  drawPanel();
  loadFields();
  if (!hasQuestion) return;
  drawSimilar(byId("similar"), state, facetsOf(collection()), { back: endLike, by: (by) => go({ by }), named: nameLike });
  if (seen) drawPages(seen.pages);
  else search();
}

function name(subject) {
  document.title = subject ? `${subject} · facetrail` : "facetrail";
  byId("heading").textContent = subject;
}

// -- choices

function drawChoices() {
  drawModes(byId("modes"), collection(), state);
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

async function loadFields() {
  const wanted = collection()?.name;
  if (wanted === undefined || fieldsOf === wanted) return;
  fieldsOf = wanted;
  fields = {};
  try {
    const answer = await call(`v1/collections/${encodeURIComponent(wanted)}/fields`);
    if (fieldsOf !== wanted) return;
    fields = answer.fields;
    byId("filters").replaceChildren();
    drawPanel();
  } catch {
    fieldsOf = null; // searching works without the panel; the next search asks again
  }
}

function drawPanel() {
  const form = byId("filters");
  const restore = keepFocus(form);
  const n_set = drawFilters(form, fields, state.filter, (filter) => go({ filter }));
  byId("panel").hidden = document.body.classList.contains("asking") || (Object.keys(fields).length === 0 && n_set === 0);
  byId("fold").textContent = n_set ? `Filters (${n_set})` : "Filters";
  restore();
}

// -- hits

/** Asks for the first page of hits, or for the next one behind those that are shown. */
async function search(before = []) {
  running?.abort();
  const mine = running = new AbortController();
  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  trouble.clear();
  const started = performance.now();
  try {
    const body = requestOf(state, PAGE, collection());
    if (before.length) body.cursor = before.at(-1).next_cursor;
    const page = await call("v1/search", { body, signal: mine.signal });
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

/** Draws pages from `first` on; the ones before are there. */
function drawPages(pages, first = 0) {
  const list = byId("hits");
  weights.answer(pages[0]?.facets);
  if (first === 0) list.replaceChildren();
  byId("results").removeAttribute("aria-busy");
  const n_before = pages.slice(0, first).reduce((n, page) => n + page.hits.length, 0);
  const options = { isLike: Boolean(state.like), like: showLike };
  const cards = pages.slice(first).flatMap((page) => page.hits).map((hit, n) => hitCard(hit, n_before + n + 1, options));
  list.append(...cards);
  if (first > 0) cards[0]?.querySelector("article").focus();
  const last = pages.at(-1);
  const n_shown = n_before + cards.length;
  const isAll = !last?.next_cursor || last.hits.length === 0;
  byId("more").hidden = isAll;
  byId("end").hidden = !isAll || n_shown <= PAGE;
  byId("end").textContent = `That is all: ${plural(n_shown, "hit")}.`;
  byId("count").textContent = last ? `${counted(n_shown, isAll)} · ${Math.max(1, Math.round(last.took))} ms` : "";
  const notes = [...new Set(pages.flatMap((page) => page.warnings))];
  replace(byId("notices"), warnings(notes), last && n_shown === 0 ? drawNothing() : null);
}

function counted(n, isAll) {
  if (n === 0) return "No hits";
  return n === 1 && isAll ? "1 hit" : `${isAll ? "All" : "First"} ${plural(n, "hit")}`;
}

function drawNothing() {
  const buttons = [];
  const hasMeaning = collection()?.modes.includes("dense");
  if (state.filter) buttons.push(button("Remove the filters", () => go({ filter: "" })));
  if (state.mode === "lexical" && hasMeaning) buttons.push(button("Search by meaning", () => go({ mode: "dense" })));
  return nothing(state.like ? "Nothing is similar to this document." : `Nothing found for “${state.q}”.`, buttons);
}

// -- more like this

function showLike(hit) {
  go({ like: hit.id });
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
  if (error.status === 410) buttons.push(button("Search again", () => search()));
  trouble.show(error, error.status === 410 ? null : again, buttons);
}

// -- hands

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = input.value.trim();
  if (q) go({ q, like: "", by: "" });
  else input.focus();
});
byId("modes").addEventListener("change", ({ target: { value } }) =>
  go({ mode: value === modesOf(collection())[0] ? "" : value, by: "" }));
byId("collection").addEventListener("change", (event) =>
  go({ collection: event.target.value === served.default ? "" : event.target.value, filter: "", like: "", by: "", facets: "", mode: "" }));
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
