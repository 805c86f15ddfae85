/** Documents by their titles, wherever only an id is known. */

import { call } from "./api.js";
import { el } from "./dom.js";
import { EMPTY, address } from "./state.js";
import { within } from "./views.js";

const SHORT = 60;
const titles = new Map();

/** An element that names a document; as a link ("a") it leads to what is like it. */
export function named(tag, id, { collection }, like) {
  const node = el(tag, tag === "a" ? within(address({ ...EMPTY, like: id, collection }), () => like({ id })) : {}, id);
  titleOf(id, collection).then((title) => { node.textContent = title; });
  return node;
}

/** A document's title, cut; its id where it has none. Asked for once. */
function titleOf(id, collection) {
  const path = `v1/documents/${encodeURIComponent(id)}${collection ? `?collection=${encodeURIComponent(collection)}` : ""}`;
  if (!titles.has(path)) {
    titles.set(path, call(path).then(
      ({ title }) => (title.length > SHORT ? `${title.slice(0, SHORT).trimEnd()}…` : title) || id,
      () => id)); // its id stands there already, and an event or a judgement may name what is no document
  }
  return titles.get(path);
}
