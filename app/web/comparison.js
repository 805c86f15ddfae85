/** The tables of an evaluation: the means of every measure, and the queries by what one configuration gains over the other. */

import { el, newId, replace } from "./dom.js";
import { MEASURES, summed } from "./measures.js";
import { drawRankings } from "./rankings.js";

const ORDERS = { "": { by: (d) => -d, next: "lost", aria: "descending" }, lost: { by: (d) => d, next: "", aria: "ascending" },
  given: { by: () => 0, next: "", aria: null } };
const sign = (x) => (Math.abs(x) < 5e-4 ? "" : x > 0 ? "+" : "−");

/** A number, exact in its `value`; signed where it is a difference. */
const number = (x, isDifference = false) =>
  el("data", { value: String(x) }, isDifference ? `${sign(x)}${Math.abs(x).toFixed(3)}` : x.toFixed(3));

/** hands: {change(state)}. */
export function drawMeans(place, rows, names, state, { change }) {
  if (rows.length === 0) return replace(place);
  const body = Object.keys(MEASURES).map((name) => {
    const { a, b, difference, won, tied, lost } = summed(rows, name);
    const choose = el("button", { type: "button", "aria-pressed": String(name === state.measure), "data-key": name,
      on: { click: () => change({ measure: name }) } }, name);
    return el("tr", {}, el("th", { scope: "row" }, choose), el("td", {}, number(a)), el("td", {}, number(b)),
      el("td", {}, number(difference, true)), el("td", {}, `${won} · ${tied} · ${lost}`));
  });
  return replace(place, el("table", { class: "means" }, el("caption", {}, "Means over the queries, and how many of them B wins, ties and loses"),
    el("thead", {}, el("tr", {}, ["Measure", side("a", names), side("b", names), "B − A", "Won · tied · lost"]
      .map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, body)));
}

const side = (name, names) => [el("span", { class: `side-${name}` }, name.toUpperCase()), el("span", { class: "name" }, ` ${names[name]}`)];

/** The queries in the chosen order; the one that the state names is open and shows both rankings. */
export function drawQueries(place, rows, names, state, hands) {
  if (rows.length === 0) return replace(place);
  const { measure } = state;
  const order = ORDERS[state.sort] ?? ORDERS[""];
  const widest = Math.max(1e-9, ...rows.map(({ values }) => Math.abs(values[measure].difference)));
  const sorted = rows.map((row) => [order.by(row.values[measure].difference), row]).sort(([a], [b]) => a - b).map(([, row]) => row);
  const heads = [
    el("th", { scope: "col" }, sorter("Query", "given", state, hands)),
    el("th", { scope: "col" }, side("a", { a: "" })), el("th", { scope: "col" }, side("b", { b: "" })),
    el("th", { scope: "col", "aria-sort": order.aria }, sorter("B − A", order.next, state, hands, order.aria)),
  ];
  return replace(place, el("table", { class: "queries" }, el("caption", {}, `Queries by ${measure}`),
    el("thead", {}, el("tr", {}, heads)), el("tbody", {}, sorted.map((row) => rowsOf(row, widest, names, state, hands)))));
}

function sorter(text, sort, { sort: now }, { change }, aria = null) {
  const arrow = aria === "descending" ? " ↓" : aria === "ascending" ? " ↑" : "";
  const isOn = aria === null && now === sort;
  return el("button", { type: "button", class: "sorter", "data-key": `sort ${text}`, "aria-pressed": aria === null ? String(isOn) : null,
    on: { click: () => change({ sort }) } }, text, el("span", { "aria-hidden": "true" }, arrow));
}

function rowsOf(row, widest, names, state, hands) {
  const { query, values: { [state.measure]: { a, b, difference } } } = row;
  const isOpen = query.id === state.at;
  const id = newId("rankings");
  const open = el("button", { type: "button", class: "query", "aria-expanded": String(isOpen), "aria-controls": isOpen ? id : null,
    "data-key": `query ${query.id}`, on: { click: () => hands.change({ at: isOpen ? "" : query.id }) } }, query.text);
  const line = el("tr", { class: isOpen && "open" }, el("th", { scope: "row" }, open), el("td", {}, number(a)), el("td", {}, number(b)),
    el("td", { class: "gain" }, number(difference, true), gap(difference / widest)));
  if (!isOpen) return [line];
  return [line, el("tr", { class: "rankings", id }, el("td", { colspan: 4 }, drawRankings(row, names, state, hands)))];
}

/** A bar from the middle: to the right where b is ahead, to the left where a is. share in [-1, 1]. */
function gap(share) {
  const fill = el("span", { class: share < 0 ? "fill a" : "fill b" });
  fill.style.width = `${Math.abs(share) * 50}%`;
  fill.style.left = `${share < 0 ? 50 - Math.abs(share) * 50 : 50}%`;
  return el("span", { class: "gap", "aria-hidden": "true" }, fill);
}
