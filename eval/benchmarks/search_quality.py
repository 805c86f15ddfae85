"""Search quality on judged collections: does the fusion of words and meaning beat each of them, and which fusion?

python -m facetrail.eval.benchmarks.search_quality --data DATA --scifact DIR --cacm DIR --acm DIR

DATA holds the BEIR folders scifact, cacm and acm_cr; the other three are collections built from them (cacm or acm may
be left out, and so are its sets). The weight is chosen on SciFact's train queries and carried unchanged everywhere. The
family of comparisons, declared beforehand, is z against BM25, against the dense ranker and against reciprocal rank
fusion, on every set, Holm over all of it.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrail.eval.benchmarks.quality_arms import RememberingEncoder, bm25_run, naive_sum, random_run
from facetrail.eval.datasets import RetrievalDataset, load_beir
from facetrail.eval.evidence import Arm, ComparisonRow, DataSource, write_result
from facetrail.eval.retrieval import Comparison, Report, compare_declared, score_run, search_run
from facetrail.eval.runs import RankedRun
from facetrail.eval.tuning import Method, TunedWeight, fuse_runs, fusion_of, tune_weight, weight_curve
from facetrail.indexing.request import FusionConfig, Mode
from facetrail.indexing.searcher import Searcher
from facetrail.models.text.encoder import TextEncoder, load_encoder

MEASURES = ("nDCG@10", "R@10", "R@100", "AP", "RR")
SEEDS = (0, 1, 2)
ORACLE_GRID = tuple(round(0.05 * step, 2) for step in range(21))
RANDOM = "control: random partner"
DESCRIPTIONS = {
    "bm25": "BM25 through the collection, k1 .9, b .4, Porter, 33 stop words",
    "bm25-1.5-.75": "BM25 with k1 1.5, b .75",
    "bm25-unstemmed": "BM25 k1 .9, b .4 without stemming",
    "dense": "all-MiniLM-L6-v2 through the collection",
    "z": "per-query z-normalised sum, equal weights, through the collection (the default)",
    "z-tuned": "the same sum with the weight chosen on SciFact train",
    "minmax": "through the collection: per-query min-max normalised sum, equal weights",
    "rrf": "through the collection: reciprocal rank fusion, k = 60",
    "dbsf": "through the collection: distribution-based sum, not clamped",
    "control: clamped dbsf": "negative control: clamped to 0..1 at 3 standard deviations",
    "control: raw sum": "negative control: sum of raw scores",
    RANDOM: "negative control: z of BM25 and a random ranking of the corpus, three seeds",
    "oracle: best z weight": "upper bound, chosen on the reported judgements: not a result",
}


@dataclass(frozen=True)
class Task:
    """One judged set and the collection it is searched in."""

    data: RetrievalDataset
    folder: Path
    primary: str
    exclude_self: bool = False


def tasks(data: Path, scifact: Path, cacm: Path | None, acm: Path | None) -> list[Task]:
    """The four sets; ACM-CR is asked by citing paragraphs and by citing papers."""
    found = [Task(load_beir(data / "scifact"), scifact, "nDCG@10")]
    if cacm is not None:
        found.append(Task(load_beir(data / "cacm"), cacm, "nDCG@10"))
    if acm is not None:
        folder = data / "acm_cr"
        queries, qrels = folder / "queries_papers.jsonl", folder / "qrels" / "test_papers.tsv"
        found.append(Task(load_beir(folder), acm, "R@10"))
        found.append(Task(load_beir(folder, queries=queries, qrels=qrels), acm, "R@10", exclude_self=True))
    return found


def evaluate_task(task: Task, tuned: TunedWeight, encoder: TextEncoder) -> dict[str, list[Report]]:
    """Every arm on one set; one report, or one per seed."""
    runs: dict[str, RankedRun] = {}
    with Searcher.open(task.folder, encoder=encoder) as searcher:

        def ask(mode: Mode, fusion: FusionConfig | None = None) -> RankedRun:
            return search_run(searcher, task.data, mode=mode, fusion=fusion)[0]

        runs["bm25"], runs["dense"] = ask("lexical"), ask("dense")
        runs["z"], runs["z-tuned"] = ask("hybrid"), ask("hybrid", tuned.fusion)
        methods: tuple[Method, ...] = ("minmax", "rrf", "dbsf")
        runs |= {method: ask("hybrid", fusion_of(0.5, method)) for method in methods}
        curve = weight_curve(searcher, task.data, ORACLE_GRID, measure=task.primary, exclude_self=task.exclude_self)
        runs["oracle: best z weight"] = ask("hybrid", fusion_of(max(curve, key=lambda weight: curve[weight])))
    both = {"lexical": runs["bm25"], "dense": runs["dense"]}
    runs["bm25-1.5-.75"] = bm25_run(task.data, k1=1.5, b=0.75)
    runs["bm25-unstemmed"] = bm25_run(task.data, stemmer="none")
    runs["control: clamped dbsf"] = naive_sum(both, clamp=True)
    runs["control: raw sum"] = naive_sum(both, clamp=False)
    noise = [random_run(task.data, seed=seed) for seed in SEEDS]
    partnered = [fuse_runs({"lexical": runs["bm25"], "dense": n}, fusion_of(0.5)) for n in noise]
    reports = {name: [_report(run, task, name)] for name, run in runs.items()}
    return reports | {RANDOM: [_report(run, task, RANDOM) for run in partnered]}


def _report(run: RankedRun, task: Task, name: str) -> Report:
    if task.exclude_self:
        run = {query_id: [pair for pair in ranking if pair[0] != query_id] for query_id, ranking in run.items()}
    return score_run(run, task.data, mode=name, measures=MEASURES)


def demands(found: dict[str, dict[str, list[Report]]]) -> list[ComparisonRow]:
    """The figures that issue and specification ask for."""

    def mean(task: str, arm: str, measure: str) -> float:
        return float(np.mean([report.scores.mean(measure) for report in found[task][arm]]))

    hybrids = ("z", "z-tuned", "minmax", "rrf", "dbsf")
    best = max(hybrids, key=lambda arm: mean("cacm/test", arm, "nDCG@10")) if "cacm/test" in found else "z"
    asked = [
        ("bm25", "scifact/test", "nDCG@10", "within .003 of", 0.677),
        ("dense", "scifact/test", "nDCG@10", "within .003 of", 0.645),
        ("z", "scifact/test", "nDCG@10", ">=", 0.733),
        ("bm25", "cacm/test", "nDCG@10", "within .003 of", 0.459),
        ("dense", "cacm/test", "nDCG@10", "within .003 of", 0.410),
        (best, "cacm/test", "nDCG@10", ">=", 0.55),
        ("bm25", "acm_cr/test", "R@10", ">=", 0.336),
    ]
    rows = []
    for arm, task, measure, kind, figure in asked:
        if task in found:
            value = mean(task, arm, measure)
            met = value >= figure if kind == ">=" else abs(value - figure) <= 0.003
            rows.append(ComparisonRow(a=arm, measure=f"{task} {measure}", demand=f"{kind} {figure:g}", met=met))
    for partner in ("bm25", "dense") if "acm_cr/test" in found else ():
        gain = mean("acm_cr/test", "z", "R@10") - mean("acm_cr/test", partner, "R@10")
        rows.append(
            ComparisonRow(a="z", b=partner, measure="acm_cr/test R@10", difference=gain, demand="> 0", met=gain > 0)
        )
    for task in found:
        difference = mean(task, RANDOM, "nDCG@10") - mean(task, "bm25", "nDCG@10")
        rows.append(
            ComparisonRow(
                a=RANDOM,
                b="bm25",
                measure=f"{task} nDCG@10",
                difference=difference,
                demand="a random partner does not help: <= 0",
                met=difference <= 0,
            )
        )
    return rows


def family_rows(family: Sequence[Comparison]) -> list[ComparisonRow]:
    """The declared comparisons; on SciFact z must be significantly above both single rankers."""
    rows = []
    for c in family:
        demanded = c.dataset == "scifact/test" and c.b in ("bm25", "dense")
        rows.append(
            ComparisonRow(
                a=c.a,
                b=c.b,
                measure=f"{c.dataset} {c.measure}",
                difference=c.paired.difference,
                interval=c.paired.interval,
                p=c.paired.p,
                p_holm=c.p_holm,
                demand="> 0 and p < .05" if demanded else "",
                met=(c.paired.difference > 0 and c.p_holm < 0.05) if demanded else None,
            )
        )
    return rows


def notes(found: dict[str, dict[str, list[Report]]], tuned: TunedWeight, family: Sequence[Comparison]) -> str:
    """The chosen weight with its curve, the power of each comparison, and the sets on which fusion does not pay."""
    curve = ", ".join(f"{weight:g}: {value:.4f}" for weight, value in tuned.curve.items())
    said = [
        f"Weight of the dense ranker chosen on {tuned.dataset} ({tuned.n_queries} queries): {tuned.weight:g} ({curve})."
    ]
    losing = [c for c in family if c.b in ("bm25", "dense") and c.paired.difference <= 0]
    said += [f"On {c.dataset} z does not beat {c.b} in {c.measure}: {c.paired.difference:+.4f}." for c in losing]
    said += [
        f"{c.dataset}, {c.a} against {c.b}: {c.paired.n_wins} won, {c.paired.n_ties} tied, {c.paired.n_losses} lost; "
        f"differences from {c.paired.smallest_visible:.3f} are visible with 80 % power."
        for c in family
    ]
    return " ".join(said)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs every arm on every set and writes eval/results/search-quality.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "scifact", "cacm", "acm"):
        parser.add_argument(f"--{name}", type=Path, required=name in ("data", "scifact"))
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; default: the checkout's")
    args = parser.parse_args(argv)
    sets = tasks(args.data, args.scifact, args.cacm, args.acm)
    encoder = RememberingEncoder(load_encoder("base"))
    with Searcher.open(args.scifact, encoder=encoder) as searcher:
        tuned = tune_weight(searcher, load_beir(args.data / "scifact", "train"), reporting=sets[0].data)
    found: dict[str, dict[str, list[Report]]] = {}
    for task in sets:
        tuned.refuse_leak(task.data)
        found[task.data.label] = evaluate_task(task, tuned, encoder)
        for name, reports in found[task.data.label].items():
            means = ", ".join(f"{m} {np.mean([r.scores.mean(m) for r in reports]):.4f}" for m in MEASURES)
            print(f"{task.data.label:20} {name:26} {means}", flush=True)
    pairs = [(found[t.data.label]["z"][0], found[t.data.label][other][0], t.primary)
             for t in sets for other in ("bm25", "dense", "rrf")]  # fmt: skip
    family = compare_declared(pairs, rng=np.random.default_rng(0))
    arms = {
        name: Arm(
            description=text,
            measures={
                f"{label} {measure}": [report.scores.mean(measure) for report in found[label][name]]
                for label in found
                for measure in MEASURES
            },
            meters={"queries": sum(reports[name][0].n_queries for reports in found.values()), "depth": 1_000},
        )
        for name, text in DESCRIPTIONS.items()
    }
    path = write_result(
        "search-quality",
        claim="The z-normalised sum of BM25 and a small dense encoder beats both of them and reciprocal rank fusion.",
        data=[
            DataSource(name=f"{t.data.label} {part}", sha256=value)
            for t in sets
            for part, value in t.data.sha256.items()
        ],
        arms=arms,
        comparisons=[*family_rows(family), *demands(found)],
        seeds=SEEDS,
        meter={"name": "queries, run depth, text fields and encoder", "equal_within": 0},
        command=shlex.join(["python", "-m", "facetrail.eval.benchmarks.search_quality", *(argv or sys.argv[1:])]),
        notes=notes(found, tuned, family),
        folder=args.out,
    )
    print(f"written: {path.name}")
    for row in demands(found):
        print(f"{'met ' if row.met else 'MISSED'} {row.a} {row.measure}: {row.demand}")


if __name__ == "__main__":
    main()
