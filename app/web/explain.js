/** "Why?": what each source said of a hit, and which words brought it. */

import { bar, el, plural } from "./dom.js";

export const SOURCES = { lexical: "Words", dense: "Meaning" };
const MAX_TERMS = 8;

export const number = (value, digits = 3) => value.toFixed(digits).replace("-", "−");

export function why(hit, id) {
  const { sources, terms } = hit.explanation;
  return el("div", { class: "why", id, role: "group", "aria-label": "Why this hit" },
    el("h3", {}, "Sources"),
    el("p", { class: "sum" }, sumOf(hit.score, sources)),
    sources.length ? el("ul", { class: "sources" }, sourceRows(sources)) : null,
    terms.length ? [el("h3", {}, "Words"), termRows(terms)] : el("p", { class: "sum" }, wordless(sources)));
}

function sumOf(score, sources) {
  if (sources.length === 0) return `Score ${number(score)}.`;
  if (sources.length === 1) return `Score ${number(score)}, from one source.`;
  const parts = sources.map((s) => `${number(s.normalised, 2)} × ${number(s.weight, 2)}`).join(" + ");
  return `Score ${number(score)} = ${parts}`;
}

function sourceRows(sources) {
  const shares = sources.map((s) => s.weight * s.normalised);
  const widest = Math.max(...shares.map(Math.abs), 1e-9);
  return sources.map((source, n) => el("li", {},
    el("span", { class: "name" }, SOURCES[source.name] ?? source.name),
    bar(shares[n] / widest, source.name),
    el("span", { class: "value" }, number(shares[n])),
    el("span", { class: "note" }, [
      source.rank === null ? "not in its list" : `rank ${source.rank.toLocaleString("en")}`,
      source.raw === null ? null : `${source.name === "lexical" ? "BM25" : "cosine"} ${number(source.raw)}`,
      `normalised ${number(source.normalised)}`,
      `weight ${number(source.weight, 2)}`,
    ].filter((part) => part !== null).join(" · "))));
}

function termRows(terms) {
  const sorted = [...terms].sort((a, b) => b.contribution - a.contribution);
  const widest = Math.max(...sorted.map((t) => t.contribution), 1e-9);
  const rows = sorted.slice(0, MAX_TERMS).map((term) => el("li", {},
    el("code", { class: "name" }, term.term),
    bar(term.contribution / widest, "lexical"),
    el("span", { class: "value" }, number(term.contribution)),
    el("span", { class: "note" }, `${term.tf} × here · in ${plural(term.df, "document")}`)));
  const rest = sorted.slice(MAX_TERMS);
  if (rest.length) {
    const sum = rest.reduce((total, term) => total + term.contribution, 0);
    rows.push(el("li", { class: "rest" }, `and ${plural(rest.length, "more word")} for ${number(sum)}`));
  }
  return el("ul", { class: "terms" }, rows);
}

function wordless(sources) {
  return sources.some((s) => s.name === "lexical")
    ? "It shares no word with the question."
    : "Meaning compares whole texts; no single word has a share in it.";
}
