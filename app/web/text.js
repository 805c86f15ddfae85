/** Offsets, highlights, sentences and snippets. Spans are {start, end} in UTF-16 code units unless said otherwise. */

import { el, hue, label } from "./dom.js";

const SNIPPET = 280;
const LONGEST = 420;

/** Spans that count characters (code points), as the API gives them → spans of JavaScript's code units. */
export function toUnits(text, spans) {
  if (!/[\ud800-\udbff]/.test(text)) return spans;
  const units = [];
  let unit = 0;
  for (const character of text) {
    units.push(unit);
    unit += character.length;
  }
  units.push(unit);
  return spans.map((span) => ({ ...span, start: units[span.start] ?? unit, end: units[span.end] ?? unit }));
}

/** Text [from, to) as nodes, with the words of `spans` marked. */
export function marked(text, spans, from = 0, to = text.length) {
  const nodes = [];
  let at = from;
  for (const { start, end } of spans) {
    if (start < at || end > to) continue;
    if (start > at) nodes.push(text.slice(at, start));
    nodes.push(el("mark", {}, text.slice(start, end)));
    at = end;
  }
  if (at < to) nodes.push(text.slice(at, to));
  return nodes;
}

/** The same, with the sentence that answers, {start, end, role} or null, set off where [from, to) holds some of it. */
export function passage(text, spans, from, to, answer) {
  const start = Math.max(from, answer?.start ?? to);
  const end = Math.min(to, answer?.end ?? to);
  if (answer === null || start >= end) return marked(text, spans, from, to);
  const badge = answer.role ? el("span", { class: `role ${hue(answer.role)}` }, label(answer.role)) : null;
  return [
    marked(text, spans, from, start),
    el("span", { class: `answer ${hue(answer.role)}` }, badge, badge ? " " : null, marked(text, spans, start, end)),
    marked(text, spans, end, to),
  ];
}

/** The sentences of a document's text, in order, each with its section's name ("" outside of sections). */
export function sentencesOf(text, sections) {
  const parts = [];
  let at = 0;
  for (const section of sections) {
    const start = section.text ? text.indexOf(section.text, at) : -1;
    if (start < 0) continue;
    if (text.slice(at, start).trim()) parts.push({ start: at, end: start, role: "" });
    at = start + section.text.length;
    parts.push({ start, end: at, role: section.name });
  }
  if (text.slice(at).trim()) parts.push({ start: at, end: text.length, role: "" });
  return parts.flatMap((part) => split(text, part));
}

function split(text, { start, end, role }) {
  const sentences = [];
  let from = start;
  for (const stop of text.slice(start, end).matchAll(/[.!?。！？]["'”’)\]]*(\s+)(?=[\p{Lu}\p{N}"'“‘([])/gu)) {
    const to = start + stop.index + stop[0].length - stop[1].length;
    sentences.push({ start: from, end: to, role });
    from = to + stop[1].length;
  }
  sentences.push({ start: from, end, role });
  return sentences;
}

/** Neighbouring sentences become one run where their role is the same. */
export function runsOf(sentences) {
  const runs = [];
  for (const sentence of sentences) {
    const last = runs.at(-1);
    if (last && last.role === sentence.role) last.end = sentence.end;
    else runs.push({ ...sentence });
  }
  return runs;
}

/** The sentences that show most of the marked words in little space; the first ones where nothing is marked. */
export function snippetOf(text, sentences, spans) {
  let best = null;
  for (let first = 0; first < sentences.length; first++) {
    const start = sentences[first].start;
    let last = first;
    while (last + 1 < sentences.length && sentences[last + 1].end - start <= SNIPPET) last++;
    const inside = spans.filter((span) => span.start >= start && span.end <= sentences[last].end);
    const words = new Set(inside.map((span) => text.slice(span.start, span.end).toLowerCase().slice(0, 5)));
    const worth = words.size * 3 + inside.length;
    if (best === null || worth > best.worth) best = { first, last, worth };
    if (spans.length === 0) break;
  }
  if (best === null) return [];
  const chosen = sentences.slice(best.first, best.last + 1);
  return chosen.length === 1 ? [shorten(text, chosen[0], spans)] : chosen;
}

function shorten(text, sentence, spans) {
  if (sentence.end - sentence.start <= LONGEST) return sentence;
  const mark = spans.find((span) => span.start >= sentence.start && span.end <= sentence.end);
  let start = mark ? Math.max(sentence.start, mark.start - 80) : sentence.start;
  if (start > sentence.start) start = Math.min(mark.start, text.indexOf(" ", start) + 1 || mark.start);
  let end = Math.min(sentence.end, start + SNIPPET);
  if (end < sentence.end) end = Math.max(mark ? mark.end : start + 1, text.lastIndexOf(" ", end), start + 1);
  return { ...sentence, start: whole(text, start), end: whole(text, end) };
}

/** Moves a cut out of the middle of a surrogate pair. */
const whole = (text, at) => (/[\udc00-\udfff]/.test(text[at] ?? "") ? at + 1 : at);
