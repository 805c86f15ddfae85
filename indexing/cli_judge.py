"""`facetrail index judge`. Light to import."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facetrail.indexing.cli_options import AsJson, Folder, print_json
from facetrail.models.errors import InvalidInput


def judge(
    folder: Folder,
    queries: Annotated[
        Path | None, typer.Option(help="The queries, as BEIR's queries.jsonl.", metavar="FILE", show_default=False)
    ] = None,
    qrels: Annotated[
        Path | None,
        typer.Option(help="Their judgements, as BEIR's qrels/test.tsv or TREC's.", metavar="FILE", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A BEIR folder that holds both.", metavar="DIR", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Which judgements of --data.", metavar="NAME")] = "test",
    as_json: AsJson = False,
) -> None:
    """Keeps judged queries with a collection, in place of those it had; its page compares ways to search by them."""
    from facetrail.indexing.collection import Collection
    from facetrail.indexing.judgements import Judgements, read_judgements

    if data is not None:
        queries, qrels = queries or data / "queries.jsonl", qrels or data / "qrels" / f"{split}.tsv"
    if queries is None or qrels is None:
        raise InvalidInput("say where the judged queries are: --queries FILE and --qrels FILE, or --data FOLDER")
    read = read_judgements(queries, qrels)
    with Collection.open(folder, writable=True) as collection:
        result = Judgements(collection).replace(read.queries)
    if as_json:
        left_out = {"n_without_text": read.n_without_text, "n_without_relevant": read.n_without_relevant}
        print_json({**asdict(result), **left_out})
        return
    before = f" in the place of {result.n_replaced:,}" if result.n_replaced else ""
    typer.echo(f"{result.n_queries:,} judged queries with {result.n_judgements:,} relevant documents kept{before}")
    if read.n_without_text:
        typer.echo(f"{read.n_without_text:,} judged queries have no text in {queries.name}; left out")
    if read.n_without_relevant:
        typer.echo(f"nothing is relevant to {read.n_without_relevant:,} judged queries; left out")
    if result.unknown_documents:
        some = ", ".join(result.unknown_documents[:5])
        typer.echo(
            f"relevant documents that are not in the collection: {len(result.unknown_documents):,} ({some}); no search "
            "can find them, so add them or expect less than full recall"
        )
