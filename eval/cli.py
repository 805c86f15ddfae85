"""`facetrail eval ...`. Light to import: everything heavy loads inside the commands."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facetrail.eval.data_cli import AsJson, data_app, print_json
from facetrail.eval.recommend_cli import recommend
from facetrail.models.errors import InvalidInput
from facetrail.models.text.locate import DEFAULT_ENCODER

if TYPE_CHECKING:
    from facetrail.eval.arms import ModeArm
    from facetrail.eval.datasets import RetrievalDataset
    from facetrail.eval.retrieval import Comparison, Report
    from facetrail.eval.tuning import TunedWeight
    from facetrail.indexing.searcher import Searcher

__all__ = ["data_app", "eval_app"]

eval_app = typer.Typer(no_args_is_help=True, help="Measure search and recommendation.")
eval_app.command()(recommend)


@eval_app.callback()
def _evaluate_what() -> None:
    """Measure search and recommendation."""


@eval_app.command()
def retrieval(
    data: Annotated[Path, typer.Option(help="BEIR folder: corpus.jsonl, queries.jsonl, qrels/.", metavar="BEIR_DIR")],
    split: Annotated[str, typer.Option(help="Judgements to report on: qrels/SPLIT.tsv.")] = "test",
    queries: Annotated[Path | None, typer.Option(help="Queries instead of the folder's own.", metavar="FILE")] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements instead of the folder's own.", metavar="FILE")] = None,
    index: Annotated[
        Path | None, typer.Option(help="A built collection; left out: built once into the cache.", metavar="DIR")
    ] = None,
    mode: Annotated[str, typer.Option(help="lexical, dense, hybrid, or hybrid:z|minmax|rrf|dbsf.")] = "hybrid",
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="Drop the document whose id is the query's.")
    ] = False,
    compare: Annotated[
        str | None, typer.Option(help="Modes to compare MODE with, by paired tests.", metavar="MODE,MODE")
    ] = None,
    measures: Annotated[str, typer.Option(help="ir-measures names; the first is compared.")] = "nDCG@10,R@100,AP,RR",
    encoder: Annotated[
        str, typer.Option(help="unifar, base, or a folder or name of sentence-transformers or transformers.")
    ] = DEFAULT_ENCODER,
    weights: Annotated[
        str | None, typer.Option(help="Hybrid: the dense share, as in 0.6, or lexical=0.4,dense=0.6.")
    ] = None,
    tune_on: Annotated[
        str | None, typer.Option(help="Choose the hybrid weight on this split first.", metavar="SPLIT")
    ] = None,
    allow_same: Annotated[
        bool, typer.Option("--allow-same", help="Allow tuning on the reported split; printed.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seeds the tests and intervals.")] = 0,
    run_out: Annotated[
        Path | None, typer.Option(help="Write MODE's run: TREC form, or CSV for .csv.", metavar="FILE")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML report.", metavar="FILE.html")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Searches every judged query and measures the answers; compares modes with paired tests."""
    import numpy as np

    from facetrail.eval import arms as arms_module
    from facetrail.eval.datasets import load_beir
    from facetrail.eval.metrics import parse_measures
    from facetrail.eval.retrieval import compare_family
    from facetrail.eval.runs import write_run

    if weights is not None and tune_on is not None:
        raise InvalidInput("--weights fixes what --tune-on would choose; give one of the two")
    arms = arms_module.parse_arms(mode, compare, arms_module.parse_weights(weights))
    names = [name.strip() for name in measures.split(",") if name.strip()]
    parse_measures(names)
    dataset = load_beir(data, split, queries=queries, qrels=qrels)
    dev = load_beir(data, tune_on, queries=queries) if tune_on is not None else None
    rng = np.random.default_rng(seed)
    with_dense = dev is not None or any(arm.mode != "lexical" for arm in arms)
    with arms_module.open_or_build(
        dataset, index=index, encoder=encoder, with_dense=with_dense, quiet=as_json
    ) as searcher:
        tuned = _tune(searcher, dev, dataset, exclude_self, allow_same, names[0]) if dev is not None else None
        reports = [_evaluate(searcher, dataset, arm, tuned, exclude_self, names, as_json) for arm in arms]
    compared = compare_family([(reports[0], other) for other in reports[1:]], rng=rng)
    if run_out is not None:
        write_run(run_out, reports[0].run, tag=f"facetrail-{arms[0].label.replace(':', '-')}")
    if report is not None:
        from facetrail.eval.report import write_html

        write_html(report, reports, compared, rng=rng, tuned=tuned, command=_command())
    if as_json:
        print_json(_as_object(reports, compared, tuned))
        return
    from facetrail.eval.show import show_evaluation

    show_evaluation(reports, compared, rng=rng, tuned=tuned, stream=sys.stdout)


def _tune(
    searcher: "Searcher",
    dev: "RetrievalDataset",
    dataset: "RetrievalDataset",
    exclude_self: bool,
    allow_same: bool,
    measure: str,
) -> "TunedWeight":
    from facetrail.eval.tuning import tune_weight

    return tune_weight(
        searcher, dev, reporting=dataset, exclude_self=exclude_self, allow_same=allow_same, measure=measure
    )


def _evaluate(
    searcher: "Searcher",
    dataset: "RetrievalDataset",
    arm: "ModeArm",
    tuned: "TunedWeight | None",
    exclude_self: bool,
    measures: list[str],
    quiet: bool,
) -> "Report":
    from facetrail.eval.retrieval import evaluate
    from facetrail.indexing.progress import progress_bar

    # The weight was tuned for the z-normalised sum; another fusion keeps the weights it was given.
    fits = tuned is not None and arm.mode == "hybrid" and arm.fusion.method == tuned.fusion.method
    done = 0
    with progress_bar(quiet=quiet) as show:

        def progress(n: int) -> None:
            nonlocal done
            done += n
            show(arm.label, done, len(dataset.queries))

        return evaluate(
            searcher,
            dataset,
            mode=arm.mode,
            fusion=arm.fusion,
            tuned=tuned if fits else None,
            exclude_self=exclude_self,
            measures=measures,
            label=arm.label,
            progress=progress,
        )


def _as_object(reports: "list[Report]", compared: "list[Comparison]", tuned: "TunedWeight | None") -> dict[str, Any]:
    printed = reports[0].summary()
    if len(reports) > 1:
        printed["comparisons"] = [comparison.as_row() for comparison in compared]
        printed["modes"] = {report.mode: report.scores.means() for report in reports}
    if tuned is not None:
        curve = {f"{weight:g}": value for weight, value in tuned.curve.items()}
        printed["tuned"] = {"weight": tuned.weight, "on": tuned.dataset, "measure": tuned.measure, "curve": curve}
    warnings = list(dict.fromkeys(warning for report in reports for warning in report.warnings))
    if warnings:
        printed["warnings"] = warnings
    return printed


def _command() -> str:
    return shlex.join(["facetrail", *sys.argv[1:]])
