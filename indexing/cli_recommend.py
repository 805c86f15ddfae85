"""`facetrail index events`, `facetrail index fit` and `facetrail recommend`. Light to import."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetrail.indexing.cli_options import AsJson, Folder, parse_filter_option, print_json
from facetrail.models.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from facetrail.indexing.recommend_request import HistoryEvent, RecommendResult

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
    as_json: AsJson = False,
) -> None:
    """Fits a recommender on the collection's events; a service takes it up with its next answer."""
    from pydantic import ValidationError

    from facetrail.indexing.collection import Collection
    from facetrail.indexing.event_actions import Actions
    from facetrail.indexing.recommenders import CLOSED_FORMS, fit_closed_forms

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
        saved, manifest = fit_closed_forms(collection, actions=actions, scorers=chosen, ridge=ridge)
    if as_json:
        print_json({"recommender": str(saved), **manifest.trained_on})
        return
    learned = manifest.trained_on
    typer.echo(
        f"{'+'.join(chosen)} fitted on {learned['events']:,} events of {learned['users']:,} users with "
        f"{learned['items']:,} items: {saved}"
    )


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


def recommend(
    folder: Folder,
    user: Annotated[str | None, typer.Option(help="Whose stored events to start from.", metavar="ID")] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Events of somebody unknown, in a file as `index events` reads it.", metavar="FILE"),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="blend, ease, markov, popular, similar, or a fitted recommender.")
    ] = "blend",
    item: Annotated[str | None, typer.Option(help="Strategy similar: near to this document.", metavar="ID")] = None,
    limit: Annotated[int, typer.Option(help="Items to show, 1 to 500.")] = 10,
    offset: Annotated[int, typer.Option(help="Items to pass over.")] = 0,
    filter_: Annotated[
        str | None, typer.Option("--filter", help='For instance {"year": {"gte": 2020}}.', metavar="JSON")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Id to leave out; repeat for more.", metavar="ID")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Id that may be returned, no other; repeat for more.", metavar="ID")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Return items of the history as well.")] = False,
    explain: Annotated[bool, typer.Option(help="Show the reasons.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommends documents to a user, or to whoever has this history."""
    from pydantic import ValidationError

    from facetrail.indexing.recommend_request import RecommendRequest
    from facetrail.indexing.recommending import Recommending
    from facetrail.indexing.searcher import Searcher

    try:
        request = RecommendRequest(
            user=user,
            history=_history(history) if history is not None else None,
            strategy=strategy,
            item=item,
            limit=limit,
            offset=offset,
            filter=parse_filter_option(filter_),
            allow=allow or None,
            exclude=exclude or [],
            filter_seen=not seen,
            explain=explain,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"--{first['loc'][0]}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    with Searcher.open(folder, verify=False) as searcher:
        result = Recommending(searcher).recommend(request)
        titles = {d.id: d.title for d in searcher.collection.get_many([r.id for r in result.items]) if d is not None}
    if as_json:
        print_json(asdict(result))
    else:
        _show(result, titles)


def _history(file: Path) -> "list[str | HistoryEvent]":
    """The events of a file, all of one person; a row without an action or time is refused as anywhere."""
    from facetrail.indexing.events_corpus import read_events
    from facetrail.indexing.recommend_request import HistoryEvent

    found = [event for _, event in read_events(file, strict=True)]
    users = sorted({event.user for event in found})
    if len(users) > 1:
        raise InvalidInput(f"{file} holds events of {len(users):,} users; keep those of one, for instance {users[0]!r}")
    return [HistoryEvent(item=e.item, action=e.action, time=e.time, value=e.value) for e in found]


def _show(result: "RecommendResult", titles: dict[str, str]) -> None:
    for found in result.items:
        flags = f"  [{', '.join(found.flags)}]" if found.flags else ""
        typer.echo(f"{found.rank:3}  {found.score:9.4f}  {found.id}  {titles.get(found.id, '')}{flags}")
        for reason in found.reasons:
            typer.echo(f"{'':16} {reason.text}")
    for warning in result.warnings:
        typer.echo(warning, err=True)
