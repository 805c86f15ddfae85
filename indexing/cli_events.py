"""`facetrail index events`, `facetrail index fit` and `facetrail index forget`. Light to import."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facetrail.indexing.cli_options import AsJson, Folder, print_json
from facetrail.models.errors import InvalidInput, NotFound

_BATCH = 10_000


def events(
    folder: Folder,
    file: Annotated[Path, typer.Option("--events", help="JSON Lines, CSV, Parquet or RecBole .inter.", metavar="FILE")],
    action: Annotated[
        str | None, typer.Option(help="What the events are, where the file does not say: order, view.", metavar="NAME")
    ] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first bad row.")] = False,
    as_json: AsJson = False,
) -> None:
    """Adds events: who did what with which document, and when. Adding a file twice changes nothing."""
    from itertools import islice

    from facetrail.indexing.collection import Collection
    from facetrail.indexing.corpus_report import RowProblem, RowReport
    from facetrail.indexing.events import Events
    from facetrail.indexing.events_corpus import read_events

    rows = RowReport()
    created = known = 0
    unknown: set[str] = set()
    read = read_events(file, action=action, strict=strict, report=rows)
    with Collection.open(folder, writable=True) as collection:
        while batch := list(islice(read, _BATCH)):
            result = Events(collection).put([event for _, event in batch])
            created, known = created + result.created, known + len(result.known)
            unknown.update(result.unknown_items)
            for place in result.known:
                line = batch[place][0]
                rows.add(RowProblem(str(file), line, "known", "an event of this user, item, action and time is stored"))
    if as_json:
        problems = [asdict(p) for p in rows.problems]
        print_json({"created": created, "known": known, "unknown_items": sorted(unknown), "problems": problems})
        return
    for problem in rows.problems[:20]:
        typer.echo(f"{problem}", err=True)
    typer.echo(f"{created:,} events added, {known:,} known; {rows.summary()}")
    if unknown:
        shown = ", ".join(sorted(unknown)[:5])
        typer.echo(
            f"{len(unknown):,} of their items are no documents of the collection ({shown}); the events are kept, and "
            "the items are recommended once they are added"
        )


def fit(
    folder: Folder,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            help="Action that speaks for an item, for instance order or rating>=4; repeat for more.  [default: all]",
            metavar="RULE",
            show_default=False,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="Action that means nothing here; repeat for more.", metavar="NAME")
    ] = None,
    scorer: Annotated[
        list[str] | None,
        typer.Option(
            help="Closed form to sum, ease or markov; repeat for more.  [default: both]",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    ridge: Annotated[float, typer.Option(help="EASE: how strongly weights are drawn to zero, in users.")] = 200.0,
    hints: Annotated[
        Path | None,
        typer.Option(
            help="Run of `train hints` or `train hint-language` to attach as strategy hints; its ids are the "
            "collection's.",
            metavar="FOLDER",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fits a recommender on the collection's events; a service takes it up with its next answer."""
    from pydantic import ValidationError

    from facetrail.indexing.collection import Collection
    from facetrail.indexing.event_actions import Actions
    from facetrail.indexing.recommenders import CLOSED_FORMS, fit_closed_forms
    from facetrail.indexing.recommending_hints import attach_hints

    try:
        actions = Actions(positive=tuple(positive or ()), ignored=tuple(ignore or ()))
    except ValidationError as error:
        raise InvalidInput(f"--positive: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    if not 0 < ridge < float("inf"):
        raise InvalidInput(f"--ridge is {ridge}; give a number above 0, for instance 200")
    chosen = tuple(dict.fromkeys(scorer or CLOSED_FORMS))
    if unknown := [name for name in chosen if name not in CLOSED_FORMS]:
        raise InvalidInput(f"--scorer {unknown[0]} is none of {', '.join(CLOSED_FORMS)}; name one of these")
    with Collection.open(folder) as collection:
        attached = attach_hints(collection, hints) if hints is not None else None
        saved, manifest = fit_closed_forms(collection, actions=actions, scorers=chosen, ridge=ridge)
    if as_json:
        told = {} if attached is None else {"hints": str(attached.folder), "hinted_documents": attached.n_documents}
        print_json({"recommender": str(saved), **manifest.trained_on, **told})
        return
    learned = manifest.trained_on
    typer.echo(
        f"{'+'.join(chosen)} fitted on {learned['events']:,} events of {learned['users']:,} users with "
        f"{learned['items']:,} items: {saved}"
    )
    if attached is not None:
        typer.echo(f"hints attached, of {attached.n_documents:,} documents: {attached.folder}")


def forget(
    folder: Folder,
    user: Annotated[str, typer.Option(help="Whose events to delete.", metavar="ID")],
    as_json: AsJson = False,
) -> None:
    """Deletes every event of a user; what was learned from them goes with the next `facetrail index fit`."""
    from facetrail.indexing.collection import Collection
    from facetrail.indexing.events import Events

    with Collection.open(folder, writable=True) as collection:
        n_deleted = Events(collection).delete_user(user)
    if as_json:
        print_json({"deleted": n_deleted})
    else:
        typer.echo(f"{n_deleted:,} events of {user!r} deleted")
    if not n_deleted:
        raise NotFound(f"user {user!r} has no events in {folder}; check the id")
