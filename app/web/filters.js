/** The filter panel, made from the fields that the collection has. */

import { el, label, newId, plural, replace } from "./dom.js";
import { choicesOf, filterOf } from "./state.js";

const FIRST = ["topic", "subject", "category", "year", "date", "venue", "journal", "authors", "author", "keywords", "open_access"];
const SHOWN = 6;
const OPEN = 3;
const HIDDEN = new Set(["url", "link", "doi"]);

/** Draws the panel into `form`. fields: GET /v1/collections/{name}/fields; change(filter) gets the new filter. */
export function drawFilters(form, fields, filter, change) {
  const choices = choicesOf(filter);
  if (choices === null) {
    replace(form, el("p", { class: "note" }, "A filter from the address is set:"), el("pre", {}, filter), clear(change));
    return 1;
  }
  const choose = (key, choice) => change(filterOf(new Map([...choices, [key, choice]])));
  const drawn = [...form.querySelectorAll("details")];
  const open = new Set(drawn.filter((d) => d.open).map((d) => d.dataset.key));
  const whole = new Set(drawn.filter((d) => d.dataset.whole).map((d) => d.dataset.key));
  const isNew = form.childElementCount === 0;
  const groups = Object.values(fields).filter(isUseful).sort(byPlace).map((field, n) => {
    const choice = choices.get(field.key);
    const isRange = field.kinds.every((kind) => kind === "number") && !choice?.any;
    const control = isRange ? range(field, choice ?? {}, choose) : boxes(field, choice?.any ?? [], choose, whole.has(field.key));
    return el("details", { "data-key": field.key, "data-whole": whole.has(field.key), open: choice || (isNew ? n < OPEN : open.has(field.key)) ? true : null },
      el("summary", {}, label(field.key), choice ? el("span", { class: "set" }, el("span", { class: "unseen" }, "set")) : null),
      el("div", { role: "group", "aria-label": label(field.key), class: isRange ? "range" : "boxes" }, control));
  });
  const n_set = choices.size;
  replace(form, el("div", { class: "head" }, el("h2", {}, "Filters"), n_set ? clear(change) : null), groups);
  return n_set;
}

const clear = (change) => el("button", { type: "button", class: "quiet", on: { click: () => change("") } }, "Clear filters");

function isUseful(field) {
  if (HIDDEN.has(field.key) || field.n_values < 2) return false;
  return field.kinds.every((kind) => kind === "number") || (field.values[0]?.n_documents ?? 0) > 1;
}

const place = (key) => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
const byPlace = (a, b) => place(a.key) - place(b.key) || (a.key < b.key ? -1 : 1);

/** The panel is drawn anew after each change. Returns a function that gives the control in use its focus back. */
export function keepFocus(form) {
  const at = document.activeElement;
  const key = form.contains(at) ? at.closest("details")?.dataset.key : undefined;
  if (key === undefined) return () => {};
  const [name, value] = at.dataset.value !== undefined ? ["data-value", at.dataset.value] : ["data-bound", at.dataset.bound];
  return () => {
    const group = [...form.querySelectorAll("details")].find((details) => details.dataset.key === key);
    [...(group?.querySelectorAll("input") ?? [])].find((one) => one.getAttribute(name) === value)?.focus();
  };
}

function boxes(field, chosen, choose, isWhole) {
  const listed = field.values.map((v) => v.value);
  const unlisted = chosen.filter((value) => !listed.includes(value)).map((value) => ({ value, n_documents: null }));
  const rows = [...unlisted, ...field.values].map((row) => box(field.key, row, chosen, choose));
  const list = el("ul", { id: newId("values") }, rows);
  const n_rest = field.n_values - field.values.length;
  const note = n_rest > 0 ? el("p", { class: "note" }, `${plural(n_rest, "rarer value")} not listed`) : null;
  if (isWhole || rows.length <= SHOWN + 1) return [list, note];
  rows.forEach((row, n) => { row.hidden = n >= SHOWN && !row.querySelector("input").checked; });
  const button = el("button", { type: "button", class: "quiet", "aria-expanded": "false", "aria-controls": list.id },
    `${rows.filter((row) => row.hidden).length} more`);
  button.addEventListener("click", () => {
    const next = rows.find((row) => row.hidden);
    rows.forEach((row) => { row.hidden = false; });
    list.closest("details").dataset.whole = "true";
    next?.querySelector("input").focus();
    button.remove();
  });
  return [list, button, note];
}

function box(key, { value, n_documents }, chosen, choose) {
  const input = el("input", { type: "checkbox", "data-value": JSON.stringify(value), checked: chosen.includes(value) });
  input.addEventListener("change", () =>
    choose(key, { any: input.checked ? [...chosen, value] : chosen.filter((other) => other !== value) }));
  const text = typeof value === "boolean" ? (value ? "Yes" : "No") : String(value);
  return el("li", {}, el("label", {}, input, el("span", { class: "value" }, text),
    n_documents === null ? null : el("span", { class: "n" }, n_documents.toLocaleString("en"))));
}

function range(field, bounds, choose) {
  const numbers = field.values.map((v) => v.value).filter((v) => typeof v === "number");
  const isWhole = field.n_values <= numbers.length;
  const inputs = [["gte", "From", Math.min(...numbers)], ["lte", "To", Math.max(...numbers)]].map(([bound, text, end]) =>
    el("label", {}, text, el("input", { type: "number", step: "any", "data-bound": bound, value: bounds[bound] ?? null,
      placeholder: isWhole ? String(end) : null })));
  for (const input of inputs) {
    input.addEventListener("change", () => choose(field.key, Object.fromEntries(inputs
      .map((row) => row.querySelector("input"))
      .filter((one) => one.value !== "" && Number.isFinite(one.valueAsNumber))
      .map((one) => [one.dataset.bound, one.valueAsNumber]))));
  }
  return inputs;
}
