/** The page: reads its address, searches, shows hits, and keeps the address true. */

import { Problem, call, hasKey, setKey } from "./api.js";
import { byId, el, plural, replace } from "./dom.js";
import { drawFilters } from "./filters.js";
import { hitCard } from "./hits.js";
import { Trouble, button, nothing, warnings } from "./notices.js";
import { EMPTY, address, readState, requestOf } from "./state.js";

const PAGE = 10;
const REMEMBERED = 30;
const MODES = { hybrid: ["Hybrid", "by words and by meaning"], lexical: ["Words", "by the words themselves"], dense: ["Meaning", "by what the text means"] };
const SAMPLE = /^(sample|demo)(-[0-9a-f]+)?$/;
const EXAMPLES = [
  "Do readers want more surprising suggestions?",
  "What effects vanish once an intervention ends?",
  "How can animals be surveyed without catching or seeing them?",
  "Why do graph networks with many layers lose accuracy?",
  "The sunshine vitamin protects against catching a cold",
  "LiNi0.8Mn0.1Co0.1O2",
];

const input = byId("q");
const trouble = new Trouble(byId("trouble"));
const visited = new Map();
let state = readState(location.search);
let place = "";
let served = { collections: [], default: null };
let fields = {};
let fieldsOf = null;
let running = null;

// -- where we are -----------------------------------------------------------------------------------------------------

const newPlace = () => `${performance.timeOrigin}-${visited.size}-${performance.now()}`;

function remember(seen) {
  visited.delete(place);
  visited.set(place, seen);
  if (visited.size > REMEMBERED) visited.delete(visited.keys().next().value);
}

/** Goes to a changed state; the address follows, so that back, reload and sharing work. */
function go(changes) {
  const next = { ...state, ...changes };
  const isSame = address(next) === address(state);
  if (visited.has(place)) visited.get(place).scroll = window.scrollY;
  state = next;
  if (!isSame) {
    place = newPlace();
    history.pushState({ place }, "", address(state));
  }
  show();
}

window.addEventListener("popstate", (event) => {
  if (visited.has(place)) visited.get(place).scroll = window.scrollY;
  place = event.state?.place ?? "";
  state = readState(location.search);
  const seen = visited.get(place);
  show(seen);
  if (seen) window.scrollTo(0, seen.scroll ?? 0);
});

// -- what is shown ----------------------------------------------------------------------------------------------------

function show(seen = null) {
  const hasQuestion = Boolean(state.q.trim() || state.like);
  input.value = state.q;
  document.body.dataset.view = hasQuestion ? "results" : "welcome";
  byId("welcome").hidden = hasQuestion;
  byId("results").hidden = !hasQuestion;
  const subject = state.like ? `Similar to ${state.like}` : state.q;
  document.title = hasQuestion ? `${subject} · facetrail` : "facetrail";
  byId("heading").textContent = `Hits: ${subject}`;
  drawChoices();
  loadFields();
  running?.abort();
  trouble.clear();
  if (!hasQuestion) return;
  drawSimilar();
  if (seen) drawPages(seen);
  else search();
}

const collection = () => served.collections.find((c) => c.name === (state.collection || served.default));

function drawChoices() {
  const modes = collection()?.modes ?? [];
  const offered = modes.length > 1 ? ["hybrid", ...modes] : [];
  const chosen = state.mode || "hybrid";
  const focused = document.activeElement?.name === "mode" ? document.activeElement.value : null;
  byId("modes").hidden = offered.length === 0;
  replace(byId("modes"), byId("modes").firstElementChild, offered.map((mode) => el("label", { title: `Search ${MODES[mode]?.[1] ?? mode}` },
    el("input", { type: "radio", name: "mode", value: mode, checked: mode === chosen }), el("span", {}, MODES[mode]?.[0] ?? mode))));
  if (focused) byId("modes").querySelector(`[value="${focused}"]`)?.focus();
  byId("chooser").hidden = served.collections.length < 2;
  replace(byId("collection"), served.collections.map(({ name }) =>
    el("option", { value: name, selected: name === (state.collection || served.default) }, name)));
}

function drawWelcome() {
  const info = collection();
  const isSample = info !== undefined && SAMPLE.test(info.name);
  byId("about").textContent = info === undefined ? "" : isSample
    ? `${plural(info.n_documents, "short abstract")} from ten fields of science, written for this sample collection.`
    : `${plural(info.n_documents, "document")} in ${info.name}.`;
  byId("examples").hidden = !isSample;
  const chips = EXAMPLES.map((q) => el("li", {}, el("a", { class: "chip", href: address({ ...EMPTY, q, collection: state.collection }), on: {
    click: (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go({ q, like: "" });
    },
  } }, q)));
  replace(byId("examples").querySelector("ul"), chips);
  byId("served").textContent = info ? ` · ${info.name}, ${plural(info.n_documents, "document")}, generation ${info.generation}` : "";
  byId("forget").hidden = !hasKey();
}

async function loadFields() {
  const name = collection()?.name;
  if (name === undefined) return;
  if (fieldsOf !== name) {
    fieldsOf = name;
    fields = {};
    byId("filters").replaceChildren();
    try {
      const answer = await call(`v1/collections/${encodeURIComponent(name)}/fields`);
      if (fieldsOf !== name) return;
      fields = answer.fields;
    } catch {
      fieldsOf = null; // searching works without the panel; the next search asks again
    }
  }
  drawPanel();
}

function drawPanel() {
  const focused = focusMark();
  const n_set = drawFilters(byId("filters"), fields, state.filter, (filter) => go({ filter }));
  byId("panel").hidden = document.body.dataset.view === "welcome" || (Object.keys(fields).length === 0 && n_set === 0);
  byId("fold").textContent = n_set ? `Filters (${n_set})` : "Filters";
  focused?.();
}

/** The panel is drawn anew after each change: the control in use keeps the focus. */
function focusMark() {
  const at = document.activeElement;
  const key = at?.closest?.("#filters details")?.dataset.key;
  if (key === undefined) return null;
  const mark = at.dataset.value !== undefined ? ["data-value", at.dataset.value] : ["data-bound", at.dataset.bound];
  return () => {
    const group = [...byId("filters").querySelectorAll("details")].find((d) => d.dataset.key === key);
    [...(group?.querySelectorAll("input") ?? [])].find((i) => i.getAttribute(mark[0]) === mark[1])?.focus();
  };
}

// -- searching --------------------------------------------------------------------------------------------------------

async function search(cursor = null) {
  running?.abort();
  const mine = running = new AbortController();
  const results = byId("results");
  results.setAttribute("aria-busy", "true");
  trouble.clear();
  if (cursor === null) replace(byId("notices"));
  const started = performance.now();
  try {
    const body = requestOf(state, PAGE);
    if (cursor !== null) body.cursor = cursor;
    const page = await call("v1/search", { body, signal: mine.signal });
    page.took = performance.now() - started;
    const seen = cursor === null ? { pages: [page] } : { pages: [...(visited.get(place)?.pages ?? []), page] };
    remember(seen);
    trouble.settle();
    drawPages(seen, cursor === null ? 0 : seen.pages.length - 1);
  } catch (error) {
    if (mine.signal.aborted) return;
    if (cursor === null) empty();
    fail(error, () => search(cursor));
  } finally {
    if (running === mine) results.removeAttribute("aria-busy");
  }
}

function empty() {
  replace(byId("hits"));
  byId("count").textContent = "";
  byId("more").hidden = byId("end").hidden = true;
}

/** Draws pages from `first` on; the ones before are there. */
function drawPages({ pages }, first = 0) {
  const list = byId("hits");
  if (first === 0) list.replaceChildren();
  byId("results").removeAttribute("aria-busy");
  const options = { isLike: Boolean(state.like), like: (hit) => { go({ like: hit.id }); window.scrollTo(0, 0); byId("results").focus(); } };
  const n_before = pages.slice(0, first).reduce((n, page) => n + page.hits.length, 0);
  const cards = pages.slice(first).flatMap((page) => page.hits).map((hit, n) => hitCard(hit, n_before + n + 1, options));
  list.append(...cards);
  if (first > 0) cards[0]?.querySelector("article").focus();
  const last = pages.at(-1);
  const n_shown = n_before + cards.length;
  const isAll = last.next_cursor === null || last.hits.length === 0;
  byId("more").hidden = isAll;
  byId("end").hidden = !isAll || n_shown <= PAGE;
  byId("end").textContent = `That is all: ${plural(n_shown, "hit")}.`;
  const milliseconds = Math.max(1, Math.round(last.took));
  byId("count").textContent = n_shown === 0 ? "No hits" : `${isAll ? (n_shown > 1 ? "All " : "") : "First "}${plural(n_shown, "hit")} · ${milliseconds} ms`;
  list.start = 1;
  replace(byId("notices"), warnings([...new Set(pages.flatMap((page) => page.warnings))]), n_shown === 0 ? drawNothing() : null);
}

function drawNothing() {
  const buttons = [];
  if (state.filter) buttons.push(button("Remove the filters", () => go({ filter: "" })));
  if (state.mode === "lexical" && collection()?.modes.includes("dense")) buttons.push(button("Search by meaning", () => go({ mode: "dense" })));
  return nothing(state.like ? "Nothing is similar to this document." : `Nothing found for “${state.q}”.`, buttons);
}

async function drawSimilar() {
  const target = byId("similar");
  if (!state.like) {
    target.replaceChildren();
    return;
  }
  const { like } = state;
  const title = el("strong", {}, like);
  replace(target, el("div", { class: "similar" },
    el("p", {}, el("span", {}, "Similar to"), title),
    button(state.q ? `Back to “${state.q.length > 60 ? `${state.q.slice(0, 60)}…` : state.q}”` : "Back to the start", () => {
      go({ like: "" });
      if (state.q) byId("results").focus(); else input.focus();
    }, "back")));
  try {
    const named = state.collection ? `?collection=${encodeURIComponent(state.collection)}` : "";
    const found = await call(`v1/documents/${encodeURIComponent(like)}${named}`);
    if (state.like !== like || found.id !== like || !found.title) return;
    title.textContent = found.title;
    byId("heading").textContent = `Similar to ${found.title}`;
    document.title = `Similar to ${found.title} · facetrail`;
  } catch { /* its id stands there, and the search itself says what is wrong */ }
}

// -- trouble ----------------------------------------------------------------------------------------------------------

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
  if (error.status === 410) buttons.push(button("Search again", () => search()));
  trouble.show(error, again, buttons);
}

// -- hands ------------------------------------------------------------------------------------------------------------

byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const q = input.value.trim();
  if (q) go({ q, like: "" });
  else input.focus();
});
byId("modes").addEventListener("change", (event) => go({ mode: event.target.value === "hybrid" ? "" : event.target.value }));
byId("collection").addEventListener("change", (event) => {
  go({ collection: event.target.value === served.default ? "" : event.target.value, filter: "", like: "", mode: "" });
  drawWelcome();
});
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("more").addEventListener("click", () => {
  const cursor = visited.get(place)?.pages.at(-1)?.next_cursor;
  if (cursor) search(cursor);
});
byId("fold").addEventListener("click", () => {
  const open = byId("fold").getAttribute("aria-expanded") !== "true";
  byId("fold").setAttribute("aria-expanded", String(open));
});
byId("forget").addEventListener("click", () => { setKey(null); location.reload(); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    input.focus();
    input.select();
  } else if (event.key === "Escape" && event.target === input) {
    event.preventDefault();
    input.value = "";
  } else if ((event.key === "j" || event.key === "k") && event.target.closest("#results") && !isTyping) {
    step(event.key === "j" ? 1 : -1);
  }
});

/** From hit to hit. Listens inside the results alone, so that no letter is taken from anything else. */
function step(by) {
  const hits = [...document.querySelectorAll("article.hit")];
  const at = hits.indexOf(document.activeElement?.closest("article.hit"));
  hits[Math.min(hits.length - 1, Math.max(0, at + by))]?.focus();
}

// -- start ------------------------------------------------------------------------------------------------------------

async function start() {
  trouble.clear();
  try {
    served = await call("v1/collections");
  } catch (error) {
    fail(error, start);
    return;
  }
  drawWelcome();
  show();
}

history.scrollRestoration = "manual";
place = history.state?.place ?? newPlace();
history.replaceState({ place }, "");
start();
