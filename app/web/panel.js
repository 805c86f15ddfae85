/** The filter panel beside the hits, for the collection in view. */

import { call } from "./api.js";
import { byId } from "./dom.js";
import { drawFilters, keepFocus } from "./filters.js";

export class FilterPanel {
  /** change(filter) gets the new filter. */
  constructor(change) {
    this.change = change;
    this.fields = {};
    this.of = null;
  }

  draw(info, filter) {
    this.filter = filter;
    const form = byId("filters");
    const restore = keepFocus(form);
    const n_set = drawFilters(form, this.fields, filter, this.change);
    byId("panel").hidden = document.body.classList.contains("asking") || (Object.keys(this.fields).length === 0 && n_set === 0);
    byId("fold").textContent = n_set ? `Filters (${n_set})` : "Filters";
    restore();
    this.load(info?.name);
  }

  async load(wanted) {
    if (wanted === undefined || this.of === wanted) return;
    this.of = wanted;
    this.fields = {};
    try {
      const answer = await call(`v1/collections/${encodeURIComponent(wanted)}/fields`);
      if (this.of !== wanted) return;
      this.fields = answer.fields;
      byId("filters").replaceChildren();
      this.draw(undefined, this.filter);
    } catch {
      this.of = null; // searching works without the panel; the next search asks again
    }
  }
}
