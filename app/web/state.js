/** What the page shows, as its address says it; and filters as the API's tree or as the panel's choices. */

import { isWeighed, modeOf } from "./modes.js";
import { weightsOf } from "./weights.js";

/** view: "" for searching, "ask" for an answer to q, "recommend", "evaluate", "collections"; by: the one facet that
 *  `like` compares; facets: weights, see weights.js. Of recommendations: user, strategy, history, the ids of liked
 *  documents as a JSON list ("[]" asks for what is popular), and taste, see hints.js. Of an evaluation: the configurations a and b, see
 *  configurations.js, the measure and the order that queries are shown by, and the id of the query in view, `at`. */
export const EMPTY = { q: "", mode: "", like: "", by: "", facets: "", filter: "", collection: "",
  view: "", user: "", strategy: "", history: "", taste: "", a: "", b: "", measure: "", sort: "", at: "" };

export function readState(query) {
  const given = new URLSearchParams(query);
  return Object.fromEntries(Object.keys(EMPTY).map((name) => [name, given.get(name) ?? ""]));
}

/** The address of a state, relative to the page. */
export function address(state) {
  const given = new URLSearchParams();
  for (const name of Object.keys(EMPTY)) if (state[name]) given.set(name, state[name]);
  const query = given.toString();
  return query ? `?${query}` : "./";
}

/** The search of a state, as the body of POST /v1/search. Throws SyntaxError for a filter that is no JSON. */
export function requestOf(state, limit, info) {
  const request = { limit, explain: true };
  if (state.like) request.like = state.like;
  else request.query = state.q;
  const mode = modeOf(state, info);
  if (state.mode || mode === "facet") request.mode = mode;
  if (state.like && state.by) request.facets = { [state.by]: 1 };
  else if (isWeighed(mode) && state.facets) request.facets = weightsOf(state.facets);
  if (state.filter) request.filter = JSON.parse(state.filter);
  if (state.collection) request.collection = state.collection;
  return request;
}

/** The liked documents of an address; none where it holds no list of ids. */
export function historyOf(text) {
  try {
    const ids = JSON.parse(text || "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  } catch {
    return [];
  }
}

/** Choices {key: {any: [values]} or {gte, lte}} → the API's tree as JSON, or "" without choices. */
export function filterOf(choices) {
  const must = [];
  for (const [key, choice] of choices) {
    if (choice.any) {
      if (choice.any.length) must.push({ key, match: { any: choice.any } });
    } else {
      const bounds = Object.fromEntries(["gte", "lte"].filter((b) => b in choice).map((b) => [b, choice[b]]));
      if (Object.keys(bounds).length) must.push({ key, range: bounds });
    }
  }
  return must.length ? JSON.stringify({ must }) : "";
}

/** The reverse: a Map of choices, or null for a filter that the panel cannot show. */
export function choicesOf(filter) {
  const choices = new Map();
  if (!filter) return choices;
  let tree;
  try {
    tree = JSON.parse(filter);
  } catch {
    return null;
  }
  if (!onlyHas(tree, ["must"]) || !Array.isArray(tree.must)) return null;
  for (const clause of tree.must) {
    const choice = choiceOf(clause);
    if (choice === null || choices.has(clause.key)) return null;
    choices.set(clause.key, choice);
  }
  return choices;
}

function choiceOf(clause) {
  if (typeof clause?.key !== "string") return null;
  if (onlyHas(clause, ["key", "match"])) {
    const match = clause.match;
    if (onlyHas(match, ["any"]) && Array.isArray(match.any) && match.any.every(isScalar)) return { any: match.any };
    return onlyHas(match, ["value"]) && isScalar(match.value) ? { any: [match.value] } : null;
  }
  if (!onlyHas(clause, ["key", "range"]) || !onlyHas(clause.range, ["gte", "lte"])) return null;
  const bounds = Object.values(clause.range);
  return bounds.length && bounds.every((bound) => typeof bound === "number") ? clause.range : null;
}

const isScalar = (value) => ["string", "number", "boolean"].includes(typeof value);

function onlyHas(value, names) {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    && Object.keys(value).every((name) => names.includes(name));
}
