/** Preference hints: what somebody answers to them, and how the address and the service are told. */

import { el } from "./dom.js";

/** Verdict → its button, and what it says of the attribute. */
const VERDICTS = { likes: ["More", "More of"], dislikes: ["Less", "Less of"], mute: ["Leave out", "Leave out"] };

/** The answers of an address, [{relation, value, verdict}]; none where it holds no list of them. */
export function tasteOf(text) {
  try {
    const told = JSON.parse(text || "[]");
    return Array.isArray(told) ? told.filter((one) => isText(one?.relation) && isText(one?.value) && one?.verdict in VERDICTS) : [];
  } catch {
    return [];
  }
}

const isText = (value) => typeof value === "string" && value !== "";

/** The address's text with one answer more; of one attribute the last one stays. */
export function tasteWith(text, { relation, value }, verdict) {
  const others = tasteOf(text).filter((one) => one.relation !== relation || one.value !== value);
  return JSON.stringify([...others, { relation, value, verdict }]);
}

/** The address's text without the answer at `place`. */
export function tasteWithout(text, place) {
  const left = tasteOf(text).filter((_, n) => n !== place);
  return left.length ? JSON.stringify(left) : "";
}

const named = ({ relation, value }) => `${relation}: ${value}`;

/** The answers to a hint, folded away: an item may have ten hints. tell(hint, verdict). */
export function answersTo(hint, tell) {
  const answers = Object.entries(VERDICTS).map(([verdict, [text, said]]) => el("button", { type: "button", class: "quiet",
    "aria-label": `${said} ${named(hint)}`, on: { click: () => tell(hint, verdict) } }, text));
  return el("details", { class: "tell" }, el("summary", { "aria-label": `Change ${named(hint)}` }, "Change"), el("span", {}, answers));
}

/** What was answered, each with a way to take it back; takeBack(place). */
export function answersGiven(text, takeBack) {
  return tasteOf(text).map((one, place) => el("span", { class: "chip" }, `${VERDICTS[one.verdict][1]} ${named(one)}`,
    el("button", { type: "button", class: "quiet", "aria-label": `Take back: ${VERDICTS[one.verdict][1]} ${named(one)}`,
      on: { click: () => takeBack(place) } }, "×")));
}
