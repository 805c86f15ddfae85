/** What stands there before anything is asked: what the collection is, and for the built-in sample some questions. */

import { byId, el, plural, replace } from "./dom.js";
import { EMPTY, address } from "./state.js";
import { within } from "./views.js";

const SAMPLE = /^(sample|demo)(-[0-9a-f]+)?$/;
const EXAMPLES = [
  "Do readers want more surprising suggestions?",
  "What effects vanish once an intervention ends?",
  "How can animals be surveyed without catching or seeing them?",
  "Why do graph networks with many layers lose accuracy?",
  "The sunshine vitamin protects against catching a cold",
  "LiNi0.8Mn0.1Co0.1O2",
];

const INVITATION = { "": "Find it by its words, or by what it means.", ask: "Ask, and see what each sentence of the answer rests on." };

/** info: the collection, or undefined; state: its view and the collection that the address names; ask(q) searches. */
export function drawWelcome(info, { view, collection }, ask) {
  const isSample = info !== undefined && SAMPLE.test(info.name);
  byId("invitation").textContent = INVITATION[view] ?? INVITATION[""];
  byId("about").textContent = about(info, isSample);
  byId("examples").hidden = !isSample;
  const examples = EXAMPLES.filter((q) => view !== "ask" || q.endsWith("?"));
  if (isSample) replace(byId("examples").querySelector("ul"), examples.map((q) => el("li", {},
    el("a", { class: "chip", ...within(address({ ...EMPTY, q, view, collection }), () => ask(q)) }, q))));
  byId("served").textContent = info ? ` · ${info.name}, ${plural(info.n_documents, "document")}, generation ${info.generation}` : "";
}

function about(info, isSample) {
  if (info === undefined) return "";
  return isSample
    ? `${plural(info.n_documents, "short abstract")} from ten fields of science, written for this sample collection.`
    : `${plural(info.n_documents, "document")} in ${info.name}.`;
}
