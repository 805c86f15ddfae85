"""`facetrail train adapt`. Light to import: everything heavy loads inside the command."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Option = typer.Option
MODEL_FOLDER, PREDICTIONS_FILE = "model", "predictions.parquet"


def adapt_command(
    source: Annotated[Path, Option(help="Labelled graph file, corpus folder or collection.", metavar="S")],
    target: Annotated[Path, Option(help="The same without labels; labels in it are not read.", metavar="T")],
    out: Annotated[Path, Option(help="Folder for what it makes: recipe, curves, model, predictions.", metavar="DIR")],
    method: Annotated[str, Option(help="source-only, gcn, mmd, adversarial, adalign.")] = "source-only",
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
    resume: bool = False,
    device: str = "auto",
) -> dict[str, Any]:
    """Fits, writes `out/model` and `out/predictions.parquet`; → what the command prints.

    Raises InvalidInput (recipe, pair of graphs, a label file as target), NotFound, Damaged, Conflict (another run).
    """
    import torch

    from facetrail.training.graph.methods import DomainAdapter, method_recipe
    from facetrail.training.graph.sources import graph_sha256, open_pair
    from facetrail.training.run_folder import open_run
    from facetrail.training.tracking import Tracker

    recipe = method_recipe(method, tuple(overrides))
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
    return {
        "model": str(out / MODEL_FOLDER),
        "predictions": str(out / PREDICTIONS_FILE),
        "method": method,
        "selection": recipe.selection,
        "label_rule": graphs[0].report.label_rule or "single labels",
        "nodes": len(predictions.ids),
        "mean_confidence": round(float(predictions.confidence.mean()), 4),
        "seconds": round(adapter.fitted.seconds, 1),
    }
