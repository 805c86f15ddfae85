"""`facetrail index annotate`. Light to import."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facetrail.indexing.cli_options import AsJson, Folder, print_json


def annotate(
    folder: Folder,
    labels: Annotated[
        Path,
        typer.Option(
            help="Rows of id, label and, if there, confidence and run: JSON Lines, CSV or Parquet.", metavar="FILE"
        ),
    ],
    field: Annotated[str, typer.Option(help="Metadata field that takes the label.", metavar="NAME")] = "topic",
    min_confidence: Annotated[
        float, typer.Option(help="Below it a document stays without a label; 0 to 1.", metavar="SHARE")
    ] = 0.0,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad row.")] = False,
    as_json: AsJson = False,
) -> None:
    """Makes labels a filter: writes them, with their confidence, into the documents' metadata.

    What an earlier annotation of the field said is replaced whole.
    """
    from facetrail.indexing.annotate import annotate as write_labels
    from facetrail.indexing.annotate import read_labels
    from facetrail.indexing.collection import Collection
    from facetrail.indexing.corpus_report import RowReport

    rows = RowReport()
    found = read_labels(labels, strict=strict, report=rows)
    with Collection.open(folder, writable=True) as collection:
        result = write_labels(collection, found, field=field, min_confidence=min_confidence)
    if as_json:
        print_json({**asdict(result), "problems": [asdict(problem) for problem in rows.problems]})
        return
    for problem in rows.problems[:20]:
        typer.echo(f"{problem}", err=True)
    typer.echo(
        f"{result.n_labelled:,} documents carry {field!r}, {result.n_cleared:,} lost theirs, {result.n_below:,} labels "
        f"were below the confidence; {rows.summary()}"
    )
    if result.unknown:
        shown = ", ".join(result.unknown[:5])
        typer.echo(f"{len(result.unknown):,} labels are of no document here ({shown}); they were passed over")
