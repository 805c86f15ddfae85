/** Both rankings of one judged query beside each other: what is relevant in them, and what each of them misses. */

import { configurationOf } from "./configurations.js";
import { el, plural } from "./dom.js";
import { EMPTY, address } from "./state.js";
import { named } from "./titles.js";
import { within } from "./views.js";

/** row: as `comparedOn` makes it; names: of both configurations; hands: {change(state), like(hit)}. */
export function drawRankings({ query, ranked }, names, state, hands) {
  const found = plural(query.relevant.size, "relevant document");
  return el("div", { class: "both" }, el("p", { class: "note" }, `${found} in the judgements.`),
    ["a", "b"].map((side) => oneRanking(side, query, ranked, names, state, hands)));
}

function oneRanking(side, query, ranked, names, state, hands) {
  const other = side === "a" ? "b" : "a";
  const list = ranked[side].map((id) => el("li", { class: query.relevant.has(id) && "relevant", "data-id": id },
    named("a", id, state, hands.like), marks(id, query, other, ranked)));
  const missed = [...query.relevant.keys()].filter((id) => !ranked[side].includes(id));
  const { mode, facets } = configurationOf(state[side]);
  const search = { ...EMPTY, q: query.text, mode, facets, collection: state.collection };
  return el("section", { "aria-label": `Ranking of ${side.toUpperCase()}` },
    el("h3", {}, el("span", { class: `side-${side}` }, side.toUpperCase()), ` ${names[side]}`),
    list.length ? el("ol", {}, list) : el("p", { class: "note" }, "No hits."),
    missed.length ? [el("h4", {}, `Misses ${missed.length}`), el("ul", { class: "missed" }, missed.map((id) =>
      el("li", { "data-id": id }, named("a", id, state, hands.like), where(id, other, ranked))))]
      : el("p", { class: "note" }, "Misses nothing relevant."),
    el("p", {}, el("a", within(address(search), () => hands.change(search)), "Search this way")));
}

/** What is said of a document in a ranking: whether it is relevant, and where the other ranking has it. */
function marks(id, { relevant }, other, ranked) {
  const grade = relevant.get(id);
  return [grade ? el("span", { class: "grade" }, grade > 1 ? `relevant, grade ${grade}` : "relevant") : null, where(id, other, ranked)];
}

function where(id, other, ranked) {
  const at = ranked[other].indexOf(id);
  return el("span", { class: "where" }, at < 0 ? `not in ${other.toUpperCase()}` : `${other.toUpperCase()} #${at + 1}`);
}
