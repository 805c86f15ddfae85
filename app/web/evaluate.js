/** The evaluation: two configurations on judged queries, where each wins, and both rankings of one query. */

import { call } from "./api.js";
import { each, patiently } from "./asking.js";
import { drawMeans, drawQueries } from "./comparison.js";
import { Configurations, nameOf, searchOf, usual } from "./configurations.js";
import { el, plural, replace } from "./dom.js";
import { MEASURES, comparedOn } from "./measures.js";
import { modesOf } from "./modes.js";
import { button, nothing, warnings } from "./notices.js";

export class Evaluation {
  /** hands: {change(state), like(hit), fail(error, again), trouble, remember(pages)}. */
  constructor(place, hands) {
    Object.assign(this, { place, hands, running: null, of: null, queries: null, runs: new Map(), said: new Map() });
    this.about = el("p", { class: "about" });
    this.choice = new Configurations((sides) => this.hands.change({ ...sides, at: "" }));
    this.status = el("p", { class: "count", role: "status" });
    this.bar = el("progress", { "aria-label": "Queries answered" });
    this.stopper = button("Stop", () => (this.running ? this.stop() : this.ask()));
    this.progress = el("p", { class: "buttons", hidden: true }, this.bar, this.stopper);
    this.notes = el("div");
    this.means = el("div");
    this.table = el("div");
    replace(place, el("h2", {}, "Evaluation"), this.about, this.choice.place, this.status, this.progress, this.notes, this.means, this.table);
  }

  isAsked() {
    return true;
  }

  show(state, info) {
    Object.assign(this, { state, info });
    const name = state.collection || info?.name;
    this.place.hidden = name === undefined;
    if (name === undefined) return;
    if (this.of === name && this.queries) this.compare();
    else this.load(name);
  }

  leave() {
    this.running?.abort();
    this.running = null;
    this.place.hidden = true;
  }

  /** Reads a collection's judged queries. */
  async load(name) {
    const mine = this.begin();
    Object.assign(this, { of: name, queries: null });
    this.runs.clear();
    this.said.clear();
    this.draw("Reading the judged queries…");
    try {
      const { queries } = await call(`v1/collections/${encodeURIComponent(name)}/judgements`, { signal: mine.signal });
      this.queries = queries.map((query) => ({ ...query, relevant: new Map(Object.entries(query.relevant)) }));
      this.running = null;
      this.hands.trouble.settle();
      this.compare();
    } catch (error) {
      if (mine.signal.aborted) return;
      this.running = null;
      this.draw("");
      this.hands.fail(error, () => this.load(name));
    }
  }

  begin() {
    this.running?.abort();
    this.running = new AbortController();
    return this.running;
  }

  get isChosen() {
    return Boolean(this.state.a && this.state.b);
  }

  /** What has to be asked before every query has both its rankings. */
  get jobs() {
    const sides = this.isChosen ? [...new Set([this.state.a, this.state.b])] : [];
    return sides.flatMap((side) => this.queries.filter(({ id }) => !this.run(side).has(id)).map((query) => ({ side, query })));
  }

  /** Rankings by query id of a configuration. */
  run(side) {
    if (!this.runs.has(side)) this.runs.set(side, new Map());
    return this.runs.get(side);
  }

  compare() {
    this.choice.draw(this.info, this.isChosen ? this.state : usual(this.info));
    this.hands.remember([]);
    if (this.jobs.length) this.ask();
    else this.draw();
  }

  async ask() {
    const mine = this.begin();
    const { signal } = mine;
    const { collection } = this.state;
    this.draw();
    try {
      await each(this.jobs, async ({ side, query }) => {
        const answer = await patiently(() => call("v1/search", { body: searchOf(side, query, collection), signal }), signal);
        this.run(side).set(query.id, answer.hits.map((hit) => hit.id));
        answer.warnings.forEach((text) => this.said.set(text, side));
        this.drawProgress();
      });
      this.running = null;
      this.hands.trouble.settle();
      this.draw();
    } catch (error) {
      if (signal.aborted) return;
      mine.abort(); // the requests beside the one that failed
      this.running = null;
      this.draw();
      this.hands.fail(error, () => this.ask());
    }
  }

  stop() {
    this.running.abort();
    this.running = null;
    this.draw();
  }

  // -- drawing

  get rows() {
    const [a, b] = this.isChosen && this.queries ? [this.run(this.state.a), this.run(this.state.b)] : [new Map(), new Map()];
    return (this.queries ?? []).filter(({ id }) => a.has(id) && b.has(id))
      .map((query) => comparedOn(query, { a: a.get(query.id), b: b.get(query.id) }));
  }

  get warned() {
    return [...this.said].filter(([, side]) => side === this.state.a || side === this.state.b).map(([text]) => text);
  }

  draw(text = null) {
    const isReady = Boolean(this.queries?.length) && modesOf(this.info).length > 1;
    this.about.textContent = isReady ? aboutOf(this.queries) : "";
    this.choice.place.hidden = !isReady;
    const rows = isReady && !this.running ? this.rows : [];
    replace(this.notes, this.queries && !isReady ? drawEmpty(this.queries, this.of) : null, warnings(this.warned));
    this.drawProgress();
    if (text !== null) this.status.textContent = text;
    const names = { a: nameOf(this.state.a), b: nameOf(this.state.b) };
    const shown = { ...this.state, measure: this.state.measure in MEASURES ? this.state.measure : Object.keys(MEASURES)[0] };
    const focused = this.place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    drawMeans(this.means, rows, names, shown, this.hands);
    drawQueries(this.table, rows, names, shown, this.hands);
    if (focused) [...this.place.querySelectorAll("[data-key]")].find((node) => node.dataset.key === focused)?.focus();
  }

  drawProgress() {
    const n_jobs = this.queries ? this.jobs.length : 0;
    this.progress.hidden = n_jobs === 0;
    this.stopper.textContent = this.running ? "Stop" : "Go on";
    if (!this.queries) return;
    const n_all = this.queries.length * new Set([this.state.a, this.state.b]).size;
    this.bar.max = n_all;
    this.bar.value = n_all - n_jobs;
    if (this.running) this.status.textContent = `Searching ${plural(this.queries.length, "query", "queries")} both ways…`;
    else if (n_jobs) this.status.textContent = `Stopped: ${this.rows.length} of ${this.queries.length} queries have both rankings.`;
    else this.status.textContent = this.isChosen && this.queries.length ? `${plural(this.queries.length, "query", "queries")} compared` : "";
  }
}

const aboutOf = (queries) => `${plural(queries.length, "judged query", "judged queries")}, searched in two ways: see where one finds `
  + "what the other misses. Whether a difference is more than chance, “facetrail eval retrieval --compare” says.";

function drawEmpty(queries, name) {
  if (queries.length) return nothing("This collection can be searched in one way only, so there is nothing to compare.", []);
  return el("div", { class: "nothing" },
    el("p", { class: "headline" }, `No queries of ${name} are judged yet.`),
    el("p", {}, "With queries and the documents that answer them, two ways to search can be compared here. Add them from the files "
      + "of a BEIR folder, while no service writes to the collection:"),
    el("pre", { class: "command", tabindex: "0" }, `facetrail index judge ${name} --queries queries.jsonl --qrels qrels/test.tsv`));
}
