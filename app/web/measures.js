/** Measures of a ranking against judgements, as trec_eval computes them, so that the page shows what `facetrail eval` does. */

export const DEPTH = 10;

/** Name → measure(ranked, relevant) in [0, 1]. ranked: ids, best first; relevant: Map id → grade ≥ 1, never empty. */
export const MEASURES = { "nDCG@10": ndcg, "RR@10": reciprocalRank, "Recall@10": recall };

/** Linear gain, discount log2(rank + 1); the ideal ranking holds every relevant document. */
function ndcg(ranked, relevant) {
  const ideal = [...relevant.values()].sort((a, b) => b - a);
  return gain(ranked.map((id) => relevant.get(id) ?? 0)) / gain(ideal);
}

const gain = (grades) => grades.slice(0, DEPTH).reduce((sum, grade, n) => sum + grade / Math.log2(n + 2), 0);

function reciprocalRank(ranked, relevant) {
  const at = ranked.slice(0, DEPTH).findIndex((id) => relevant.has(id));
  return at < 0 ? 0 : 1 / (at + 1);
}

function recall(ranked, relevant) {
  return ranked.slice(0, DEPTH).filter((id) => relevant.has(id)).length / relevant.size;
}

/** A query with both rankings: {query, ranked: {a, b}, values: {measure: {a, b, difference}}}; difference: b above a. */
export function comparedOn(query, ranked) {
  const values = Object.fromEntries(Object.entries(MEASURES).map(([name, measure]) => {
    const [a, b] = [measure(ranked.a, query.relevant), measure(ranked.b, query.relevant)];
    return [name, { a, b, difference: b - a }];
  }));
  return { query, ranked, values };
}

const LEAST = 1e-9; // below it two sums of the same numbers may differ

/** The means of a measure over compared queries, and how often b is above (won), level with and below (lost) a. */
export function summed(rows, name) {
  const mean = (side) => rows.reduce((sum, { values }) => sum + values[name][side], 0) / rows.length;
  const n = (test) => rows.filter(({ values }) => test(values[name].difference)).length;
  return { a: mean("a"), b: mean("b"), difference: mean("difference"),
    won: n((d) => d > LEAST), tied: n((d) => Math.abs(d) <= LEAST), lost: n((d) => d < -LEAST) };
}
