/** One hit: title, where it is from, a snippet, the whole abstract with its roles, why, and more like it. */

import { answersOf, facetRow, firstMatch } from "./answers.js";
import { el, hue, label, newId, replace } from "./dom.js";
import { SOURCES, why } from "./explain.js";
import { passage, runsOf, sentencesOf, snippetOf, toUnits } from "./text.js";

const LINE = ["topic", "authors", "author", "venue", "journal", "year", "date"];
const LINKS = ["url", "link", "doi"];
const MARKED_TERMS = 6;

/** rank counts from 1. like(hit), and recommend(hit) where there is something to recommend from. isLike: found by a
 *  document, whose every word counts as a query's. quote: {start, end} of the text, to be set off; home: attributes
 *  of the title's link where the document names no address of its own. */
export function hitCard(hit, rank, { isLike, like, recommend = null, quote = null, home = null }) {
  const document = hit.payload ?? { id: hit.id, title: "", text: "", sections: [], metadata: {} };
  const spans = spansOf(hit, document, isLike);
  const sentences = sentencesOf(document.text, document.sections);
  const body = el("div", { class: "body", id: newId("body") });
  const heading = el("h2", { id: newId("title") });
  const facets = hit.explanation?.facets ?? null;
  const answers = answersOf(facets, document);
  let isOpen = false;
  let inView = firstMatch(facets, answers);
  const show = (match) => {
    inView = match;
    const answer = answers.get(match?.matched) ?? (quote && { ...quote, field: "text", role: "" });
    const inside = answer?.field === "text" ? answer : null;
    const draw = isOpen ? abstract : snippet;
    replace(heading, titleOf(document, spans.title, answer?.field === "title" ? answer : null, home));
    replace(body, draw(document, sentences, spans.text, inside));
    body.classList.toggle("open", isOpen);
  };
  const row = facetRow(facets, answers, inView, show);
  show(inView);
  const whole = disclosure("Abstract", body.id, (open) => {
    isOpen = open;
    show(inView);
  });
  if (!document.text && !Object.keys(document.metadata).length) whole.hidden = true;
  return el("li", {},
    el("article", { class: "hit", tabindex: "-1", "aria-labelledby": heading.id, "data-id": hit.id },
      el("span", { class: "rank", "aria-label": `Rank ${rank}` }, String(rank)),
      heading, line(document), row, body,
      el("div", { class: "actions" }, whole, whyButton(hit),
        el("button", { type: "button", on: { click: () => like(hit) } }, "More like this"),
        recommend && el("button", { type: "button", on: { click: () => recommend(hit) } }, "Recommend from this"),
        ranks(hit))));
}

function disclosure(text, controls, onToggle) {
  const button = el("button", { type: "button", "aria-expanded": "false", "aria-controls": controls }, text);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    onToggle(open);
  });
  return button;
}

function whyButton(hit) {
  if (!hit.explanation) return null;
  const id = newId("why");
  const button = disclosure("Why?", id, (open) => {
    if (open) button.parentElement.after(why(hit, id));
    else document.getElementById(id)?.remove();
  });
  return button;
}

/** Marked words of title and text. By a document, only its weightiest words: every other one would be marked too. */
function spansOf(hit, document, isLike) {
  const found = { title: [], text: [] };
  const { highlights = [], terms = [] } = hit.explanation ?? {};
  for (const name of Object.keys(found)) {
    found[name] = toUnits(document[name], highlights.filter((h) => h.field === name));
  }
  if (!isLike) return found;
  const weighty = [...terms].sort((a, b) => b.contribution - a.contribution).slice(0, MARKED_TERMS);
  const stems = weighty.map(({ term }) => term.slice(0, Math.max(3, term.length - 1)));
  for (const name of Object.keys(found)) {
    found[name] = found[name].filter(({ start, end }) => {
      const word = document[name].slice(start, end).toLowerCase();
      return stems.some((stem) => word.startsWith(stem));
    });
  }
  return found;
}

function titleOf(document, spans, answer, home) {
  const text = document.title || document.id;
  const nodes = document.title ? passage(text, spans, 0, text.length, answer) : text;
  const href = linkOf(document.metadata);
  if (href) return el("a", { href, rel: "noopener noreferrer", target: "_blank" }, nodes);
  return home ? el("a", home, nodes) : nodes;
}

function linkOf(metadata) {
  for (const key of LINKS) {
    const value = metadata[key];
    if (typeof value !== "string") continue;
    const text = key === "doi" && value.startsWith("10.") ? `https://doi.org/${value}` : value;
    if (/^https?:\/\//i.test(text) && URL.canParse(text)) return text;
  }
  return null;
}

const shown = (value) => {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.map(shown).join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
};

function line({ metadata }) {
  const parts = [];
  for (const key of LINE) {
    const value = metadata[key];
    if (value !== undefined && value !== null && value !== "") parts.push(el("span", { class: key === "topic" && key }, people(value)));
  }
  if (metadata.open_access === true) parts.push(el("span", { class: "free" }, "open access"));
  return parts.length ? el("p", { class: "line" }, parts) : null;
}

const people = (value) => (Array.isArray(value) && value.length > 4 ? `${shown(value.slice(0, 3))} and ${value.length - 3} more` : shown(value));

const role = (name) => el("span", { class: `role ${hue(name)}` }, label(name));

function snippet(document, sentences, spans, answer) {
  const chosen = snippetOf(document.text, answer ? [answer] : sentences, spans);
  if (chosen.length === 0) return [];
  const runs = runsOf(chosen);
  const nodes = runs.map((run, n) => [n ? " " : null, passage(document.text, spans, run.start, run.end, answer)]);
  const before = document.text.slice(0, chosen[0].start).trim() ? "… " : null;
  const after = document.text.slice(chosen.at(-1).end).trim() ? " …" : null;
  return [el("p", { class: "snippet" }, before, nodes, after)];
}

function abstract(document, sentences, spans, answer) {
  const runs = runsOf(sentences);
  const hasRoles = runs.some((run) => run.role);
  const text = hasRoles
    ? el("dl", { class: "roles" }, runs.map((run) => [
      el("dt", {}, run.role ? role(run.role) : null), el("dd", {}, passage(document.text, spans, run.start, run.end, answer))]))
    : el("p", { class: "whole" }, passage(document.text, spans, 0, document.text.length, answer));
  const rest = Object.entries(document.metadata).filter(([key, value]) => value !== null && value !== "" && !LINE.includes(key));
  return [text, el("dl", { class: "facts" }, [["id", document.id], ...rest].map(([key, value]) =>
    el("div", {}, el("dt", {}, label(key)), el("dd", {}, shown(value)))))];
}

function ranks(hit) {
  const sources = hit.explanation?.sources ?? [];
  if (sources.length < 2) return null;
  return el("span", { class: "ranks" }, sources.map((source) =>
    el("span", { class: source.name }, `${SOURCES[source.name] ?? source.name} `,
      el("b", {}, source.rank === null ? "–" : `#${source.rank}`))));
}
