/** The two configurations of a comparison: as the address says them, as a search, and as a choice. */

import { el, label, newId, replace } from "./dom.js";
import { FacetPanel } from "./facets.js";
import { DEPTH } from "./measures.js";
import { NAMES, modesOf } from "./modes.js";
import { weightsOf } from "./weights.js";

/** `facet;method:0.8,result:0.2` → {mode, facets}. Without weights the question decides. */
export function configurationOf(text) {
  const [mode, facets = ""] = text.split(/;(.*)/s);
  return { mode, facets };
}

const textOf = ({ mode, facets }) => (mode === "facet" && facets ? `${mode};${facets}` : mode);

/** Words against both, where a collection has them. */
export function usual(info) {
  const modes = modesOf(info);
  return { a: modes.includes("lexical") ? "lexical" : modes.at(-1) ?? "", b: modes[0] ?? "" };
}

export function nameOf(text) {
  const { mode, facets } = configurationOf(text);
  const weights = Object.entries(weightsOf(facets) ?? {}).map(([name, weight]) => `${label(name)} ${weight}`);
  return `${NAMES[mode] ?? mode}${weights.length ? ` (${weights.join(", ")})` : ""}`;
}

/** The body of POST /v1/search. */
export function searchOf(text, query, collection) {
  const { mode, facets } = configurationOf(text);
  const body = { query: query.text, mode, limit: DEPTH, with_payload: false };
  if (facets) body.facets = weightsOf(facets);
  if (collection) body.collection = collection;
  return body;
}

/** Two choices and the button that takes them. */
export class Configurations {
  /** compare({a, b}) gets both as text. */
  constructor(compare) {
    this.sides = { a: new Side("A, the baseline"), b: new Side("B") };
    this.place = el("div", { class: "versus" }, this.sides.a.place, this.sides.b.place,
      el("button", { type: "button", class: "go", on: { click: () => compare({ a: this.sides.a.text, b: this.sides.b.text }) } }, "Compare"));
  }

  draw(info, { a, b }) {
    this.sides.a.draw(info, a);
    this.sides.b.draw(info, b);
  }
}

class Side {
  constructor(name) {
    this.select = el("select", { id: newId("mode"), on: { change: () => this.draw(this.info, this.select.value) } });
    const panel = el("section", { class: "panel", "aria-label": `Facets of ${name}` }, el("div", { class: "filters" }));
    this.weights = new FacetPanel(panel, (facets) => this.draw(this.info, textOf({ mode: "facet", facets })));
    this.place = el("div", { class: "one" }, el("label", { for: this.select.id }, name), this.select, panel);
  }

  get text() {
    return textOf(this);
  }

  draw(info, text) {
    Object.assign(this, { info, ...configurationOf(text) });
    const offered = modesOf(info);
    const modes = offered.includes(this.mode) ? offered : [...offered, this.mode];
    replace(this.select, modes.map((mode) => el("option", { value: mode, selected: mode === this.mode }, NAMES[mode] ?? mode)));
    this.weights.draw(info, { mode: this.mode, facets: this.facets, like: "", by: "" }, this.mode !== "facet");
  }
}
