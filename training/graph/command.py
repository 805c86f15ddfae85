"""`facetrail train adapt`. Light to import: everything heavy loads inside the command."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from facetrail.eval.graph_data import LabelRule
    from facetrail.models.graph.adapted import Predictions
    from facetrail.training.graph.diffgda import Evolution

Option = typer.Option
MODEL_FOLDER, PREDICTIONS_FILE = "model", "predictions.parquet"
EVOLUTION_FILE, GRAPH_FILE, NODES_FILE = "evolution.json", "evolved.npz", "evolved-nodes.parquet"
COVERAGES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the target's nodes, the most confident first, at which the report gives the accuracy."""


def adapt_command(
    source: Annotated[Path, Option(help="Labelled graph file, corpus folder or collection.", metavar="S")],
    target: Annotated[Path, Option(help="The same without labels; labels in it only judge the outcome.", metavar="T")],
    out: Annotated[Path, Option(help="Folder for what it makes: recipe, curves, model, predictions.", metavar="DIR")],
    method: Annotated[str, Option(help="source-only, gcn, mmd, adversarial, adalign, diffgda.")] = "source-only",
    selection: Annotated[
        Literal["final", "ema", "infomax", "entropy"] | None, Option(help="Which weights; left out: the recipe's.")
    ] = None,
    labels: Annotated[
        Literal["first", "drop", "multi"], Option(help="Of nodes with several classes: the first, none, or all.")
    ] = "first",
    field: Annotated[str, Option(help="Metadata field of a source document's class.")] = "topic",
    documents: Annotated[Literal["tfidf", "encoder"], Option(help="Features of documents.")] = "tfidf",
    calibrate: Annotated[
        Literal["source"] | None, Option(help="Fit a temperature on a tenth of the source's labels.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        Option("--set", help="Change a value of the recipe; may be given again.", metavar="KEY=VALUE"),
    ] = None,
    keep_graph: Annotated[
        bool, Option("--keep-graph", help="Of diffgda: write the evolved source, and which nodes are new.")
    ] = False,
    resume: Annotated[bool, Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    seed: Annotated[int | None, Option(help="Seed; left out: the recipe's.", min=0)] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], Option(help="auto: a GPU if there is one.")] = "auto",
    as_json: Annotated[bool, Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Labels a target graph with the classes of a source graph."""
    from facetrail.training.cli import show_summary

    chosen = [
        *(overrides or []),
        *(
            f"{key}={value}"
            for key, value in (("selection", selection), ("calibrate", calibrate), ("seed", seed))
            if (value is not None)
        ),
    ]
    summary = train(
        source,
        target,
        out,
        method=method,
        labels=labels,
        field=field,
        documents=documents,
        overrides=chosen,
        keep_graph=keep_graph,
        resume=resume,
        device=device,
    )
    show_summary(summary, as_json=as_json)


def train(
    source: Path,
    target: Path,
    out: Path,
    *,
    method: str = "source-only",
    labels: Literal["first", "drop", "multi"] = "first",
    field: str = "topic",
    documents: Literal["tfidf", "encoder"] = "tfidf",
    overrides: Sequence[str] = (),
    keep_graph: bool = False,
    resume: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Fits, writes `out/model` and `out/predictions.parquet`; → what the command prints.

    Of diffgda also `out/evolution.json`. Labels in the target's file are read after the predictions are written.
    Raises InvalidInput (recipe, pair of graphs, a label file as target), NotFound, Damaged, Conflict (another run).
    """
    import torch

    from facetrail.training.graph.adalign import distance_before_and_after
    from facetrail.training.graph.methods import DomainAdapter, method_recipe
    from facetrail.training.graph.sources import graph_sha256, open_pair
    from facetrail.training.run_folder import open_run
    from facetrail.training.tracking import Tracker

    recipe = method_recipe(method, tuple(overrides))
    if keep_graph and method != "diffgda":
        raise InvalidInput(f"{method} leaves the source as it is, so there is no graph to keep; leave --keep-graph out")
    graphs = open_pair(source, target, labels=labels, field=field, documents=documents)
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    hashes = {name: graph_sha256(graph) for name, graph in zip(("source", "target"), graphs, strict=True)}
    open_run(out, recipe, hashes, resume=resume, accelerator=place)
    adapter = DomainAdapter(recipe)
    with Tracker(out, total=recipe.epochs) as tracker:
        model = adapter.fit(*graphs, folder=out, tracker=tracker, resume=resume, device=place)
    replace(model, trained_on=hashes).save(out / MODEL_FOLDER)
    predictions = model.predict(graphs[1])
    predictions.write(out / PREDICTIONS_FILE, run=out.resolve().name)
    fitted = adapter.fitted
    read = model.svd.apply(graphs[1]) if model.svd is not None else graphs[1]
    return {
        "model": str(out / MODEL_FOLDER),
        "predictions": str(out / PREDICTIONS_FILE),
        "method": method,
        "selection": recipe.selection,
        "label_rule": graphs[0].report.label_rule or "single labels",
        "nodes": len(predictions.ids),
        "mean_confidence": round(float(predictions.confidence.mean()), 4),
        "seconds": round(fitted.seconds, 1),
        **distance_before_and_after(fitted, fitted.source, read),
        **(_write_evolution(adapter.evolution, out, keep_graph=keep_graph) if adapter.evolution is not None else {}),
        **_judged(predictions, target, labels),
    }


def _write_evolution(evolution: "Evolution", out: Path, *, keep_graph: bool) -> dict[str, Any]:
    """Writes the report, and the graph with its new nodes where it is to be kept; → what the command prints."""
    import json

    from facetrail.indexing.durable import write_durably
    from facetrail.models.graph.graph_files import write_graph
    from facetrail.training.graph.diffgda import report_figures

    figures = report_figures(evolution.report)
    write_durably(out / EVOLUTION_FILE, (json.dumps(figures, indent=1) + "\n").encode())
    if keep_graph:
        import pyarrow as pa
        from pyarrow import parquet

        evolved = evolution.evolved
        write_graph(out / GRAPH_FILE, evolved.graph)
        nodes = {"id": evolved.graph.ids, "replaced": evolved.replaced, "label_confidence": evolved.label_confidence}
        parquet.write_table(pa.table(nodes), out / NODES_FILE)
    return {"evolution": figures}


def _judged(predictions: "Predictions", target: Path, labels: "LabelRule") -> dict[str, Any]:
    """Scores, calibration and coverage by the labels of the target's file; nothing where it has none."""
    from facetrail.eval.graph import coverage_curve, score_graph
    from facetrail.eval.graph_data import load_graph

    if target.suffix not in (".npz", ".mat", ".edgelist"):
        return {}
    y = load_graph(target, labels=labels).y
    if y is None or y.ndim == 2 or not (y >= 0).any():
        return {}
    scores = score_graph(predictions.probabilities, y)
    known = y >= 0
    share, accuracy = coverage_curve(predictions.confidence[known], (predictions.labels == y)[known])
    kept = {f"{part:.0%}": round(float(accuracy[(share >= part).argmax()]), 4) for part in COVERAGES}
    return {
        "micro_f1": round(scores.micro_f1, 4),
        "macro_f1": round(scores.macro_f1, 4),
        "ece": round(scores.ece, 4),
        "accuracy_at_coverage": kept,
    }
