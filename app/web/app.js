/** The page: reads its address, shows the view that it names, and keeps the address true. */

import { Ask } from "./ask.js";
import { Problem, call, hasKey, setKey } from "./api.js";
import { Shelf } from "./collections.js";
import { byId, el, replace } from "./dom.js";
import { Evaluation } from "./evaluate.js";
import { FacetPanel } from "./facets.js";
import { listen } from "./keys.js";
import { Listing } from "./listing.js";
import { drawModes, facetsOf, isWeighed, modeOf, modesOf } from "./modes.js";
import { Trouble, button, cures } from "./notices.js";
import { FilterPanel } from "./panel.js";
import { Whom } from "./recommend.js";
import { drawSimilar } from "./similar.js";
import { EMPTY, address, readState } from "./state.js";
import { WIDE, drawViews, listenTo } from "./views.js";
import { Visits } from "./visits.js";
import { drawWelcome } from "./welcome.js";

const input = byId("q");
const trouble = new Trouble(byId("trouble"));
const visits = new Visits();
const weights = new FacetPanel(byId("facets"), weigh);
const panel = new FilterPanel((filter) => go({ filter }));
const whom = new Whom(byId("whom"), go);
const hands = { change: go, like: showLike, fail, trouble, remember: (pages) => visits.remember(pages), seen: () => visits.here?.pages,
  weighed: (used) => weights.answer(used), serve: (answer) => { served = answer; } };
/** What can be shown, each with isAsked(state), show(state, collection, pages seen before) and leave(). */
const listing = new Listing(hands);
const VIEWS = { ask: new Ask(byId("answer"), hands), evaluate: new Evaluation(byId("evaluation"), hands),
  collections: new Shelf(byId("shelf"), hands) };
let state = readState(location.search);
let served = { collections: [], default: null };
let shown = listing;

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
  const view = VIEWS[state.view] ?? listing;
  const isSearch = view === listing && !isRecommending();
  const isAsked = view.isAsked(state);
  const isAsking = !isAsked && !isRecommending();
  if (shown !== view || !isAsked) shown.leave();
  shown = view;
  trouble.clear();
  input.value = state.q;
  document.body.classList.toggle("asking", isAsking);
  document.body.classList.toggle("wide", WIDE.has(state.view));
  byId("welcome").hidden = !isAsking;
  byId("results").hidden = isAsking;
  name(subjectOf(state));
  drawWelcome(collection(), state, (q) => go({ q, like: "", by: "" }));
  drawChoices(isSearch || isAnswering());
  weights.draw(collection(), state, isAsking || !(isSearch || isAnswering()));
  whom.draw(collection(), state);
  panel.draw(collection(), state.filter);
  drawSimilar(byId("similar"), isSearch ? state : EMPTY, facetsOf(collection()), { back: endLike, by: (by) => go({ by }), named: nameLike });
  if (isAsked) view.show(state, collection(), seen?.pages);
}

function subjectOf({ view, user, like, q }) {
  if (isRecommending()) return `Recommendations${user && ` for ${user}`}`;
  if (WIDE.has(view)) return WIDE.get(view);
  return like && !isAnswering() ? `Similar to ${like}` : q;
}

function name(subject) {
  document.title = subject ? `${subject} · facetrail` : "facetrail";
  byId("heading").textContent = subject;
}

// -- choices

function drawChoices(hasModes) {
  drawModes(byId("modes"), hasModes ? collection() : undefined, state);
  drawViews(byId("nav"), state);
  byId("purpose").textContent = isAnswering() ? "Ask this collection" : "Search this collection";
  byId("submit").textContent = isAnswering() ? "Ask" : "Search";
  byId("chooser").hidden = served.collections.length < 2 || state.view === "collections";
  replace(byId("collection"), served.collections.map((c) =>
    el("option", { value: c.name, selected: c.name === (state.collection || served.default) }, c.name)));
  byId("forget").hidden = !hasKey();
}

/** Searches with the weights of the panel, "" for none; a mode that has no use for them gives way. */
function weigh(facets) {
  const mode = modeOf(state, collection());
  go({ facets, by: "", ...(facets && (state.by || !isWeighed(mode)) ? { mode: "facet" } : {}) });
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
  const buttons = cures(error, state, collection()).map(([text, changes]) => button(text, () => go(changes)));
  trouble.show(error, error.status === 410 ? null : again, buttons);
}

// -- hands

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = input.value.trim();
  const { collection, mode, facets, filter } = state;
  if (q) go({ ...EMPTY, collection, mode, facets, filter, q, view: isAnswering() ? "ask" : "" });
  else input.focus();
});
byId("modes").addEventListener("change", ({ target: { value } }) =>
  go({ mode: value === modesOf(collection())[0] ? "" : value, by: "" }));
byId("collection").addEventListener("change", (event) =>
  go({ ...EMPTY, q: state.q, view: state.view, collection: event.target.value === served.default ? "" : event.target.value }));
listenTo(byId("nav"), (changes) => {
  go({ ...changes, collection: state.collection });
  if (isRecommending()) whom.user.focus();
  else (WIDE.has(state.view) ? byId("results") : input).focus();
});
for (const id of ["filters", "weights"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
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
