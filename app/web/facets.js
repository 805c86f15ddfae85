/** The facet panel: one slider a facet. Untouched, the sliders show the weights that the
 *  question itself gave in a search by facets, and nothing in the other modes, which then leave facets out. */

import { el, hue, label, newId, replace } from "./dom.js";
import { facetsOf, isWeighed, modeOf } from "./modes.js";
import { textOf, weightsOf } from "./weights.js";

const PAUSE = 250; // milliseconds without a movement before a search
const NOTES = {
  ready: "Automatic: the question decides which facets count.",
  auto: "Automatic: these weights are the question's own.",
  mine: "Your weights; only their proportions count.",
  one: "Similar by one facet.",
  rest: "Facets take no part yet. Move one to count it in.",
  idle: "This mode does not use facets. Moving one searches by facets.",
  zero: "At least one facet has to count.",
};

const isOff = (kind) => kind === "rest" || kind === "idle";

export class FacetPanel {
  /** place: the section, with something of class `filters` in it; change(text) gets the weights that were set, as `weightsOf` reads them, "" for none. */
  constructor(place, change) {
    this.place = place;
    this.change = change;
    this.names = "";
    this.timer = null;
    this.sliders = new Map();
    this.reset = el("button", { type: "button", class: "quiet", on: { click: () => this.clear() } }, "Reset");
    this.note = el("p", { class: "note", id: newId("weights") });
  }

  /** Shows a state of the page, before its search has answered. */
  draw(info, state, isAsking) {
    clearTimeout(this.timer);
    this.timer = null;
    const names = facetsOf(info);
    this.place.hidden = isAsking || names.length === 0;
    if (this.names !== JSON.stringify(names)) this.build(names);
    const mode = modeOf(state, info);
    const given = state.like && state.by ? { [state.by]: 1 } : weightsOf(state.facets);
    if (!isWeighed(mode)) this.show("idle", {});
    else if (given === null && mode !== "facet") this.show("rest", {});
    else if (given === null) this.tell("ready");
    else this.show(state.like && state.by ? "one" : "mine", given);
  }

  /** Shows the weights that a search has used, where nobody set any. */
  answer(weights) {
    if (weights && this.timer === null && (this.kind === "ready" || this.kind === "auto")) this.show("auto", weights);
  }

  build(names) {
    this.names = JSON.stringify(names);
    this.sliders = new Map(names.map((name) => [name, this.slider(name)]));
    replace(this.place.querySelector(".filters"),
      el("div", { class: "head" }, el("h2", {}, "Facets"), this.reset), this.note,
      [...this.sliders.values()].map((slider) => slider.row));
    this.tell("ready");
  }

  slider(name) {
    const id = newId("facet");
    const value = el("span", { class: "n", "aria-hidden": "true" });
    const input = el("input", { id, type: "range", min: 0, max: 1, step: 0.05, value: 0, "data-facet": name,
      "aria-describedby": this.note.id, on: { input: () => this.moved() } });
    return { input, value, row: el("div", { class: `slider ${hue(name)}` }, el("label", { for: id }, label(name)), value, input) };
  }

  show(kind, weights) {
    for (const [name, { input }] of this.sliders) {
      const weight = Number.isFinite(weights[name]) ? weights[name] : 0;
      input.value = String(weight);
      this.read(name, weight, kind);
    }
    this.tell(kind);
  }

  read(name, weight, kind) {
    const { input, value } = this.sliders.get(name);
    value.textContent = isOff(kind) ? "–" : weight.toFixed(2);
    input.setAttribute("aria-valuetext", kind === "auto" ? `${weight.toFixed(2)}, automatic` : value.textContent);
  }

  /** Says whose weights these are. Before the first answer to a question they are nobody's. */
  tell(kind) {
    this.kind = kind;
    const isOurs = isOff(kind) || kind === "ready" || kind === "auto";
    this.place.classList.toggle("ghost", isOurs);
    this.note.textContent = NOTES[kind];
    this.reset.hidden = isOurs;
  }

  moved() {
    const weights = Object.fromEntries([...this.sliders].map(([name, { input }]) => [name, input.valueAsNumber]));
    for (const [name, weight] of Object.entries(weights)) this.read(name, weight, "mine");
    const text = textOf(weights);
    this.tell(text ? "mine" : "zero");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      if (text) this.change(text);
    }, PAUSE);
  }

  clear() {
    this.change("");
    this.sliders.values().next().value?.input.focus(); // the button that had the focus is gone
  }
}
