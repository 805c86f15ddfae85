/** The ways to search that a collection offers, and the one that a state stands for. */

import { el, replace } from "./dom.js";

export const NAMES = { hybrid: "Hybrid", lexical: "Words", dense: "Meaning", facet: "Facets" };
const WEIGHED = new Set(["hybrid", "facet"]);

export const facetsOf = (info) => info?.facets ?? [];

/** A collection's modes, its usual one first. info: the collection, or undefined. */
export function modesOf(info) {
  const sources = (info?.modes ?? []).filter((mode) => mode !== "facet");
  return [...(sources.length > 1 ? ["hybrid"] : []), ...sources, ...(facetsOf(info).length ? ["facet"] : [])];
}

/** The mode of a state: similar by one facet is always a search by facets. */
export const modeOf = (state, info) => (state.like && state.by ? "facet" : state.mode || modesOf(info)[0] || "");

/** Whether facets have a part in a mode. */
export const isWeighed = (mode) => WEIGHED.has(mode);

/** Draws the choice into `place`, whose first child is its legend. */
export function drawModes(place, info, state) {
  const offered = modesOf(info);
  const focused = document.activeElement?.name === "mode" ? document.activeElement.value : null;
  place.hidden = offered.length < 2;
  replace(place, place.firstElementChild, offered.length < 2 ? null : offered.map((mode) => el("label", {},
    el("input", { type: "radio", name: "mode", value: mode, checked: mode === modeOf(state, info) }),
    el("span", {}, NAMES[mode] ?? mode))));
  if (focused) place.querySelector(`[value="${focused}"]`)?.focus();
}
