/** What facets say of a hit: a button a facet with its score and weight, and the sentence of the one in view. */

import { bar, el, hue, label } from "./dom.js";
import { number } from "./explain.js";
import { toUnits } from "./text.js";

/** The document's facets → {field, start, end, role} in code units, where there is a sentence. */
export function answersOf(facets, document) {
  const found = new Map();
  for (const field of ["title", "text"]) {
    const text = document[field];
    for (const one of toUnits(text, (facets?.sentences ?? []).filter((sentence) => sentence.field === field))) {
      if (one.start >= 0 && one.start < one.end && one.end <= text.length) found.set(one.facet, one);
    }
  }
  return found;
}

/** The match with the greatest share of the score, among those that a sentence answers; undefined without any. */
export function firstMatch(facets, answers) {
  return (facets?.matches ?? []).filter((match) => match.weight > 0 && answers.has(match.matched))
    .sort((a, b) => b.weight * b.score - a.weight * a.score)[0];
}

/** The buttons. show(match) draws what answers: for good after a click, until the pointer leaves otherwise. */
export function facetRow(facets, answers, first, show) {
  if (!facets?.matches.length) return null;
  let chosen = first;
  const buttons = facets.matches.map((match) => facetButton(match, answers.has(match.matched)));
  const press = () => buttons.forEach((button, n) =>
    button.setAttribute("aria-pressed", String(facets.matches[n] === chosen)));
  buttons.forEach((button, n) => {
    const match = facets.matches[n];
    button.addEventListener("click", () => {
      chosen = match;
      press();
      show(chosen);
    });
    const isPeek = () => !button.disabled && match !== chosen;
    button.addEventListener("pointerenter", () => { if (isPeek()) show(match); });
    button.addEventListener("pointerleave", () => { if (isPeek()) show(chosen); });
  });
  press();
  return el("div", { class: "answers", role: "group", "aria-label": "Facets of this hit" }, buttons);
}

function facetButton({ facet, weight, score, matched }, hasSentence) {
  const via = matched === facet ? null : el("span", { class: "via" }, `via ${matched}`);
  const says = `${label(facet)}: score ${number(score, 2)}, weight ${number(weight, 2)}`
    + (via ? `, matched by ${matched}` : "") + (hasSentence ? "" : ", no sentence");
  return el("button", { type: "button", class: `match ${hue(facet)}${weight > 0 ? "" : " mute"}`, "data-facet": facet,
    "aria-label": says, title: says, disabled: !hasSentence },
  el("span", { class: "name" }, label(facet), via),
  bar(score, hue(facet)), bar(weight, "weight"),
  el("span", { class: "n" }, `${number(score, 2)} × ${number(weight, 2)}`));
}
