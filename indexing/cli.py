"""`facetrail index ...`. Light to import: the engines load inside the commands."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from facetrail.indexing.cli_annotate import annotate
from facetrail.indexing.cli_events import events, fit, forget
from facetrail.indexing.cli_judge import judge
from facetrail.indexing.cli_options import AsJson, Folder, parse_filter_option, print_json
from facetrail.models.errors import Damaged, InvalidInput, NotFound
from facetrail.models.text.locate import DEFAULT_ENCODER

index_app = typer.Typer(no_args_is_help=True, help="Build, change, check and describe a collection.")
index_app.command()(annotate)
index_app.command()(events)
index_app.command()(fit)
index_app.command()(forget)
index_app.command()(judge)


@index_app.command()
def build(
    out: Annotated[
        Path | None, typer.Option(help="Folder of the collection to make or rebuild.", metavar="DIR")
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(help="The same as --out, to rebuild in place.", metavar="DIR")
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            help="BEIR folder, JSON Lines, CSV or Parquet; left out: rebuild from the collection.", metavar="PATH"
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="unifar, base, or a folder or name of sentence-transformers or transformers.")
    ] = DEFAULT_ENCODER,
    mode_set: Annotated[
        str | None,
        typer.Option(
            help="Indexes to build, of lexical, dense and facet.  [default: lexical,dense and, if the encoder has "
            "facets, facet]",
            show_default=False,
        ),
    ] = None,
    dense_kind: Annotated[
        Literal["auto", "exact", "pq", "ivf", "hnsw"], typer.Option(help="Vector index; auto chooses by size.")
    ] = "auto",
    k1: Annotated[float, typer.Option(help="BM25: how late a repeated word stops counting; at least 0.")] = 0.9,
    b: Annotated[float, typer.Option(help="BM25: how much long documents are discounted, 0 to 1.")] = 0.4,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted build.")] = False,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad row.")] = False,
    as_json: AsJson = False,
) -> None:
    """Builds a collection from a corpus, or rebuilds the indexes of one."""
    from pydantic import ValidationError

    from facetrail.indexing.build import BuildConfig, build_collection, parse_modes
    from facetrail.indexing.dense import DenseConfig
    from facetrail.indexing.lexical import LexicalConfig
    from facetrail.indexing.progress import progress_bar

    target = out or folder
    if target is None:
        raise InvalidInput("say where the collection goes: `facetrail index build --corpus PATH --out DIR`")
    try:
        lexical = LexicalConfig(k1=k1, b=b)
    except ValidationError as error:
        raise InvalidInput(f"--{error.errors()[0]['loc'][0]}: {error.errors()[0]['msg']}") from error
    config = BuildConfig(
        encoder=encoder,
        modes=parse_modes(mode_set) if mode_set is not None else None,
        lexical=lexical,
        dense=DenseConfig(kind=dense_kind),
    )
    with progress_bar(quiet=as_json) as progress:
        report = build_collection(corpus, target, config=config, resume=resume, strict=strict, progress=progress)
    rows = report.rows
    if as_json:
        print_json(
            {
                "collection": str(target),
                "generation": report.generation,
                "n_documents": report.n_documents,
                "n_rows_read": rows.n_read,
                "n_rows_bad": rows.n_bad,
                "problems": [asdict(p) for p in rows.problems],
                "seconds": report.seconds,
            }
        )
        return
    for problem in rows.problems[:20]:
        typer.echo(f"{problem}", err=True)
    if corpus is not None:
        typer.echo(rows.summary())
    spent = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in report.seconds.items())
    typer.echo(f"{report.n_documents:,} documents in {target}, generation {report.generation} ({spent})")


@index_app.command()
def add(
    folder: Folder,
    corpus: Annotated[Path, typer.Option(help="Documents to add or replace.", metavar="PATH")],
    strict: Annotated[bool, typer.Option(help="Stop at the first bad row.")] = False,
    as_json: AsJson = False,
) -> None:
    """Adds documents, replacing those with the same id; searchable at once, folded in by the next build."""
    from itertools import islice

    from facetrail.indexing.corpus import RowReport, read_corpus
    from facetrail.indexing.searcher import Searcher

    rows = RowReport()
    created = updated = unchanged = 0
    with Searcher.open(folder, writable=True) as searcher:
        documents = read_corpus(corpus, strict=strict, report=rows)
        while batch := list(islice(documents, 1_000)):
            result = searcher.put(batch)
            created, updated, unchanged = (
                created + result.created,
                updated + result.updated,
                unchanged + result.unchanged,
            )
    if as_json:
        print_json(
            {
                "created": created,
                "updated": updated,
                "unchanged": unchanged,
                "problems": [asdict(p) for p in rows.problems],
            }
        )
        return
    for problem in rows.problems[:20]:
        typer.echo(f"{problem}", err=True)
    typer.echo(f"{created:,} created, {updated:,} updated, {unchanged:,} unchanged; {rows.summary()}")


@index_app.command()
def delete(
    folder: Folder,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Id to delete; repeat for more.")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help="Delete what this filter keeps.", metavar="JSON")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Deletes documents by id or by filter, in one transaction."""
    from facetrail.indexing.searcher import Searcher

    if bool(ids) == (filter_ is not None):
        raise InvalidInput("say what to delete: --id ID (repeatable) or --filter JSON, one of the two")
    tree = parse_filter_option(filter_)
    with Searcher.open(folder, writable=True) as searcher:
        result = searcher.delete_where(tree) if tree is not None else searcher.delete(ids or [])
    if as_json:
        print_json({"deleted": list(result.deleted), "missing": list(result.missing)})
    else:
        typer.echo(f"{len(result.deleted):,} deleted")
    if result.missing:
        raise NotFound(f"not in the collection: {', '.join(result.missing[:10])}; the others were deleted")


@index_app.command()
def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Checks every stored byte against its checksum and names what is damaged (exit 3)."""
    from facetrail.indexing.generation import verify as find_problems

    problems = find_problems(folder)
    if as_json:
        print_json({"collection": str(folder), "problems": [asdict(p) for p in problems]})
    else:
        for problem in problems:
            typer.echo(f"{problem.path}: {problem.what}; {problem.cure}")
    if problems:
        raise Damaged(f"{len(problems)} damaged or missing parts in {folder}; nothing was changed")
    if not as_json:
        typer.echo(f"{folder}: every file is as it was written")


@index_app.command()
def info(folder: Folder, as_json: AsJson = False) -> None:
    """Shows what a collection holds and how it was built."""
    from facetrail.indexing.searcher import Searcher

    with Searcher.open(folder, verify=False) as searcher:
        described = asdict(searcher.info())
    if as_json:
        print_json(described)
        return
    for key, value in described.items():
        typer.echo(f"{key:22} {', '.join(value) if isinstance(value, tuple) else value}")


@index_app.command()
def snapshot(
    folder: Folder, out: Annotated[Path, typer.Option(help="Folder to write; must not exist.", metavar="DIR")]
) -> None:
    """Copies a collection, consistent while it is being written to."""
    from facetrail.indexing.collection import Collection

    with Collection.open(folder) as collection:
        collection.backup(out)
    typer.echo(f"snapshot of {folder} in {out}")


@index_app.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A snapshot.", metavar="SNAPSHOT")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.", metavar="DIR")],
) -> None:
    """Makes a collection out of a snapshot, after checking every byte of it."""
    from facetrail.indexing.collection import restore as restore_snapshot

    restore_snapshot(source, out)
    typer.echo(f"{source} restored to {out}")
