/** The collections of the service: what each holds, how well it is, and a build that folds in what was written since. */

import { call } from "./api.js";
import { el, label, plural, replace } from "./dom.js";
import { NAMES } from "./modes.js";
import { button, nothing } from "./notices.js";
import { EMPTY, address } from "./state.js";
import { within } from "./views.js";

const PAUSE = 1000; // milliseconds between two looks at a running build
const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

export class Shelf {
  /** hands: {change(state), fail(error, again), trouble, serve(answer)}. */
  constructor(place, hands) {
    Object.assign(this, { place, hands, running: null, timer: null });
    this.status = el("p", { class: "count", role: "status" });
    this.list = el("ul", { class: "cards" });
    replace(place, el("h2", {}, "Collections"), this.status, this.list);
  }

  isAsked() {
    return true;
  }

  show() {
    this.place.hidden = false;
    this.load();
  }

  leave() {
    this.running?.abort();
    clearTimeout(this.timer);
    this.place.hidden = true;
  }

  /** Looks at all collections; again, as long as one is being built. */
  async load() {
    this.running?.abort();
    clearTimeout(this.timer);
    const mine = this.running = new AbortController();
    if (this.list.childElementCount === 0) this.status.textContent = "Looking…";
    try {
      const answer = await call("v1/collections", { signal: mine.signal });
      this.hands.trouble.settle();
      this.hands.serve(answer);
      this.draw(answer);
      if (answer.collections.some(isBuilding)) this.timer = setTimeout(() => this.load(), PAUSE);
    } catch (error) {
      if (mine.signal.aborted) return;
      this.status.textContent = "";
      this.hands.fail(error, () => this.load());
    }
  }

  async build({ name }) {
    try {
      await call(`v1/collections/${encodeURIComponent(name)}/build`, { method: "POST" });
    } catch (error) {
      this.hands.fail(error, () => this.load());
      return;
    }
    this.load();
  }

  draw({ collections, default: first }) {
    const building = collections.filter(isBuilding).map(({ name }) => name);
    const text = `${plural(collections.length, "collection")}${building.length ? `; building ${building.join(", ")}` : ""}`;
    if (this.status.textContent !== text) this.status.textContent = text; // said once, not with every look
    const focused = this.list.contains(document.activeElement) ? document.activeElement.dataset.build : undefined;
    replace(this.list, collections.map((info) => this.card(info, info.name === first)));
    if (collections.length === 0) replace(this.list, el("li", {}, nothing("This service has no collections.", [])));
    [...this.list.querySelectorAll("[data-build]")].find((node) => node.dataset.build === focused)?.focus();
  }

  card(info, isFirst) {
    const health = healthOf(info);
    const place = { ...EMPTY, collection: isFirst ? "" : info.name };
    const to = (text, state) => el("a", within(address(state), () => this.hands.change(state)), text);
    return el("li", {}, el("article", { class: "card", "aria-label": info.name },
      el("h3", {}, info.name, isFirst ? el("span", { class: "flag" }, "used unless another is named") : null),
      el("p", { class: `health ${health.kind}` }, health.text),
      el("dl", {}, factsOf(info).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
      el("p", { class: "buttons" }, this.builder(info), to("Search", place), to("Evaluate", { ...place, view: "evaluate" })),
      buildOf(info) && el("p", { class: info.build.status === "failed" ? "note bad" : "note" }, buildOf(info))));
  }

  builder(info) {
    if (!info.writable) return el("span", { class: "note" }, "Served read-only: “facetrail index build” builds it.");
    const node = button(isBuilding(info) ? "Building…" : "Build", () => { if (!isBuilding(info)) this.build(info); });
    node.dataset.build = info.name;
    node.setAttribute("aria-label", `Build ${info.name}`);
    if (isBuilding(info)) node.setAttribute("aria-disabled", "true");
    return node;
  }
}

const isBuilding = ({ build }) => build.status === "running";

/** What should be done about a collection, in words; kind: good or wait. */
function healthOf({ n_documents, n_written_since, n_without_vector }) {
  const texts = [];
  if (n_without_vector) texts.push(`${plural(n_without_vector, "document has", "documents have")} no vector and cannot be found by meaning`);
  if (n_written_since) texts.push(`${plural(n_written_since, "write is", "writes are")} not folded in yet; searches find everything, and a build keeps them fast`);
  if (n_documents === 0) texts.push("it holds no documents");
  return texts.length ? { kind: "wait", text: `${texts.join("; ")}.` } : { kind: "good", text: "Everything is indexed." };
}

function factsOf(info) {
  const modes = info.modes.map((mode) => NAMES[mode] ?? mode).join(", ");
  const facts = [
    ["Documents", info.n_documents.toLocaleString("en")],
    ["Not folded in", info.n_written_since.toLocaleString("en")],
    ["Generation", info.generation.toLocaleString("en")],
    ["Indexes", info.dense_kind ? `${modes} (${info.dense_kind})` : modes],
    ["Encoder", info.encoder ? `${info.encoder}, ${plural(info.dim, "dimension")}` : "none"],
    ["Facets", info.facets.map(label).join(", ")],
    ["Events", info.n_events ? info.n_events.toLocaleString("en") : "none"],
    ["Recommender", info.recommenders.join(", ") || "none fitted"],
    ["On disk", sized(info.bytes_on_disk)],
  ];
  return facts.filter(([, text]) => text !== "");
}

function sized(n_bytes) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, n_bytes)) / 3));
  const n = n_bytes / 1000 ** power;
  return `${n.toFixed(power && n < 100 ? 1 : 0)} ${UNITS[power]}`;
}

function buildOf({ build: { status, started, finished, generation, error } }) {
  if (status === "running") return `A build has been running for ${Math.max(0, Math.round(Date.now() / 1000 - started))} s; searches go on.`;
  if (status === "done") return `Generation ${generation} was built in ${(finished - started).toFixed(1)} s.`;
  if (status === "failed") return `The last build failed: ${error}`;
  return "";
}
