/** "Similar to …": the document that hits are compared with, by which facet, and the way back. */

import { call } from "./api.js";
import { el, hue, label } from "./dom.js";
import { button } from "./notices.js";

/** Draws the bar of a state into `target`. hands: {back(), by(facet), named(title)}. */
export async function drawSimilar(target, { like, q, by, collection }, facets, hands) {
  const known = target.dataset.like === like ? target.querySelector("strong[data-found]")?.textContent : null;
  const focused = target.contains(document.activeElement) ? document.activeElement.dataset.by : undefined;
  target.replaceChildren();
  target.dataset.like = like;
  if (!like) return;
  const title = el("strong", { "data-found": Boolean(known) }, known || like);
  const back = q ? `Back to “${q.length > 60 ? `${q.slice(0, 60)}…` : q}”` : "Back to the start";
  target.append(el("div", { class: "similar" }, el("p", {}, el("span", {}, "Similar to"), title),
    button(back, hands.back, "back"), facets.length ? choices(facets, by, hands.by) : null));
  if (focused !== undefined) [...target.querySelectorAll("[data-by]")].find((b) => b.dataset.by === focused)?.focus();
  if (known) {
    hands.named(known);
    return;
  }
  try {
    const named = collection ? `?collection=${encodeURIComponent(collection)}` : "";
    const found = await call(`v1/documents/${encodeURIComponent(like)}${named}`);
    if (target.dataset.like !== like || found.id !== like || !found.title) return;
    title.textContent = found.title;
    title.dataset.found = "";
    hands.named(found.title);
  } catch { /* its id stands there, and the search itself says what is wrong */ }
}

function choices(facets, by, choose) {
  return el("div", { class: "by", role: "group", "aria-label": "Similar by" }, el("span", { "aria-hidden": "true" }, "by"),
    ["", ...facets].map((facet) => el("button", { type: "button", class: hue(facet), "data-by": facet,
      "aria-pressed": String(facet === by), on: { click: () => choose(facet) } }, facet ? label(facet) : "All")));
}
