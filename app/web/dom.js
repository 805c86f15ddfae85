/** Builds elements. Data only ever becomes text nodes or attribute values, never markup. */

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`on` holds event handlers; false and null leave an attribute out) and children. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
    } else if (value != null && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  replace(node, ...children);
  return node;
}

/** Gives a node new children; lists are opened, null is left out. */
export function replace(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child != null && child !== false));
}

/** A horizontal bar; `share` in [-1, 1]. Widths are set through the object model, which the style policy allows. */
export function bar(share, kind = "") {
  const fill = el("span", { class: share < 0 ? "fill below" : "fill" });
  fill.style.width = `${Math.min(1, Math.abs(share)) * 100}%`;
  return el("span", { class: `bar ${kind}`, "aria-hidden": "true" }, fill);
}

const HUES = new Set(["background", "objective", "method", "result", "conclusion"]);

/** The class that colours a facet or a role; "" for names without a colour. */
export const hue = (name) => (HUES.has(name) ? name : "");

let n_ids = 0;
export const newId = (stem) => `${stem}-${++n_ids}`;

export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** `n_references` → `Number of references`, `open_access` → `Open access`. */
export function label(key) {
  const words = key.replace(/^n_/, "number of ").replace(/[_.]+/g, " ").trim();
  return words ? words[0].toUpperCase() + words.slice(1) : key;
}
