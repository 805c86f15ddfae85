/** What stands there before anything is asked: what the collection is, and for the built-in sample some questions. */

import { byId, el, plural, replace } from "./dom.js";
import { EMPTY, address } from "./state.js";

const SAMPLE = /^(sample|demo)(-[0-9a-f]+)?$/;
const EXAMPLES = [
  "Do readers want more surprising suggestions?",
  "What effects vanish once an intervention ends?",
  "How can animals be surveyed without catching or seeing them?",
  "Why do graph networks with many layers lose accuracy?",
  "The sunshine vitamin protects against catching a cold",
  "LiNi0.8Mn0.1Co0.1O2",
];

/** info: the collection, or undefined; named: its name in the address; ask(q) searches. */
export function drawWelcome(info, named, ask) {
  const isSample = info !== undefined && SAMPLE.test(info.name);
  byId("about").textContent = about(info, isSample);
  byId("examples").hidden = !isSample;
  if (isSample) replace(byId("examples").querySelector("ul"), EXAMPLES.map((q) => el("li", {}, chip(q, named, ask))));
  byId("served").textContent = info ? ` · ${info.name}, ${plural(info.n_documents, "document")}, generation ${info.generation}` : "";
}

function about(info, isSample) {
  if (info === undefined) return "";
  return isSample
    ? `${plural(info.n_documents, "short abstract")} from ten fields of science, written for this sample collection.`
    : `${plural(info.n_documents, "document")} in ${info.name}.`;
}

function chip(q, named, ask) {
  const click = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab, as for any link
    event.preventDefault();
    ask(q);
  };
  return el("a", { class: "chip", href: address({ ...EMPTY, q, collection: named }), on: { click } }, q);
}
