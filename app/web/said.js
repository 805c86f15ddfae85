/** What an answer says: its sentences, those that nothing carries set off, its citations as buttons, and a legend. */

import { el, plural } from "./dom.js";
import { toUnits } from "./text.js";

const CITATION = /\[((?:\d+|\?)(?:, (?:\d+|\?))*)\]/g;
const KINDS = { local: "on this machine", endpoint: "on another server", tiny: "a tiny one" };

/** A text with its citations as what cite(number) makes of them; [?] names a passage that does not exist. */
export function cited(text, cite) {
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(CITATION)) {
    nodes.push(text.slice(at, found.index), found[1].split(", ").map((n) => (n === "?" ? astray() : cite(Number(n)))));
    at = found.index + found[0].length;
  }
  return [nodes, text.slice(at)];
}

/** An answer with its sentences marked by what carries them. */
export function checked({ answer, sentences }, cite) {
  const nodes = [];
  let at = 0;
  for (const { start, end, is_supported, citations, attributed } of toUnits(answer, sentences)) {
    const added = attributed === "afterwards" ? citations.map((number) => cite(number, "afterwards")) : [];
    nodes.push(answer.slice(at, start), el("span", { class: is_supported ? "supported" : "unsupported" },
      cited(answer.slice(start, end), cite), added), is_supported ? null : [" ", doubt()]);
    at = end;
  }
  return [nodes, answer.slice(at)];
}

const astray = () => el("span", { class: "astray" }, "[?]");
const doubt = () => el("span", { class: "doubt" }, "unsupported");

/** Of the marks that the answer bears, what each means. */
export function legend({ answer, sentences }) {
  const rows = [];
  const explain = (sign, text) => rows.push(el("li", {}, sign, " ", text));
  if (sentences.some((one) => !one.is_supported)) {
    explain([el("span", { class: "unsupported" }, "Dashed"), " ", doubt()],
      "The passages do not hold the words of this sentence, a number in it or a quotation.");
  }
  if (sentences.some((one) => one.attributed === "afterwards")) {
    explain(el("span", { class: "cite afterwards" }, "1"),
      "The model cited nothing here; this passage was found afterwards.");
  }
  if ([...answer.matchAll(CITATION)].some(([, numbers]) => numbers.includes("?"))) {
    explain(astray(), "The model cited a passage that does not exist.");
  }
  return rows.length ? el("ul", { class: "legend", "aria-label": "Legend" }, rows) : null;
}

export function counted({ sentences }) {
  const n = sentences.filter((one) => one.is_supported).length;
  return n === sentences.length && n > 1 ? `All ${n} sentences supported` : `${n} of ${plural(sentences.length, "sentence")} supported`;
}

/** Which model spoke, and what held for it. */
export const spoken = ({ name, kind, context, limits }) =>
  `Written by ${name}, ${KINDS[kind] ?? kind}, which reads and writes ${context.toLocaleString("en")} tokens at most; ${limits}.`;
