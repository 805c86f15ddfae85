/** "Why?": what each source said of a hit, and which words brought it. */

import { bar, el, hue, label, plural } from "./dom.js";

export const SOURCES = { lexical: "Words", dense: "Meaning", facet: "Facets" };
const MAX_TERMS = 8;

export const number = (value, digits = 3) => value.toFixed(digits).replace("-", "−");

export function why(hit, id) {
  const { sources, terms, facets } = hit.explanation;
  return el("div", { class: "why", id, role: "group", "aria-label": "Why this hit" },
    el("h3", {}, "Sources"),
    el("p", { class: "sum" }, sumOf(hit.score, sources)),
    sources.length ? el("ul", { class: "sources" }, sourceRows(sources)) : null,
    facets ? facetPart(facets) : null,
    terms.length ? [el("h3", {}, "Words"), termRows(terms)] : el("p", { class: "sum" }, wordless(sources, facets)));
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

function wordless(sources, facets) {
  if (sources.some((s) => s.name === "lexical")) return "It shares no word with the question.";
  return `${facets ? "Facets compare parts of texts" : "Meaning compares whole texts"}; no single word has a share.`;
}

function facetPart({ s_1, s_k, mixing, matches, prior_query, prior_document, gate }) {
  const widest = Math.max(...matches.map((match) => Math.abs(match.weight * match.score)), 1e-9);
  const percent = (share) => `${Math.round(100 * share)} %`;
  return [
    el("h3", {}, "Facets"),
    el("p", { class: "sum" }, `${number((1 - mixing) * s_1 + mixing * s_k)} = ${number(1 - mixing, 2)} × ${number(s_1)} for the `
      + `whole text + ${number(mixing, 2)} × ${number(s_k)} for its facets`),
    el("ul", { class: "facets" }, matches.map(({ facet, weight, score, matched }) => el("li", {},
      el("span", { class: "name" }, label(facet)),
      bar((weight * score) / widest, hue(facet)),
      el("span", { class: "value" }, number(weight * score)),
      el("span", { class: "note" }, [
        `cosine ${number(score)}`, `weight ${number(weight, 2)}`,
        matched === facet ? null : `nearest to its ${matched}`,
        `about it: query ${percent(prior_query[facet] ?? 0)}, document ${percent(prior_document[facet] ?? 0)}`,
      ].filter((part) => part !== null).join(" · "))))),
    el("p", { class: "sum" }, `Its vector draws on: ${
      Object.entries(gate).map(([name, share]) => `${name} ${percent(share)}`).join(", ")}.`),
  ];
}
