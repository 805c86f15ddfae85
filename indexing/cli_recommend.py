"""`facetrail recommend`. Light to import."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facetrail.indexing.cli_options import AsJson, Folder, parse_filter_option, print_json
from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from facetrail.indexing.recommend_request import HistoryEvent, RecommendRequest, RecommendResult

DAY_MS = 86_400_000

HintsMode = Annotated[
    Literal["discovery", "lm", "blend"],
    typer.Option(help="Strategy hints: who decides; lm, and blend where one is attached, ask a language model."),
]
HintsMax = Annotated[int | None, typer.Option(help="Strategy hints: hints of each side, at most.")]
HintsSides = Annotated[
    Literal["item", "user", "both"], typer.Option(help="Strategy hints: of the item, of the user, or both.")
]
HintsPolarity = Annotated[
    Literal["likes", "dislikes", "both"], typer.Option(help="Strategy hints: what speaks for, against, or both.")
]
HintsAllow = Annotated[
    list[str] | None,
    typer.Option(help="Strategy hints: look at this relation and no other; repeat for more.", metavar="RELATION"),
]
HintsSaid = Annotated[
    list[str] | None,
    typer.Option(
        help="Strategy hints: what the user likes, dislikes, or wants left alone, as hints show it; repeat for more.",
        metavar="'likes|dislikes|mute RELATION: VALUE'",
    ),
]
HintsDeny = Annotated[
    list[str] | None,
    typer.Option(help="Strategy hints: never look at this relation; repeat for more.", metavar="RELATION"),
]


def recommend(
    folder: Folder,
    user: Annotated[str | None, typer.Option(help="Whose stored events to start from.", metavar="ID")] = None,
    history: Annotated[
        Path | None,
        typer.Option(help="Events of somebody unknown, in a file as `index events` reads it.", metavar="FILE"),
    ] = None,
    strategy: Annotated[
        str, typer.Option(help="blend, ease, markov, popular, similar, hints, or a fitted recommender.")
    ] = "blend",
    hints_mode: HintsMode = "discovery",
    hints_max: HintsMax = None,
    hints_sides: HintsSides = "both",
    hints_polarity: HintsPolarity = "both",
    hints_allow: HintsAllow = None,
    hints_deny: HintsDeny = None,
    hints_feedback: HintsSaid = None,
    item: Annotated[str | None, typer.Option(help="Strategy similar: near to this document.", metavar="ID")] = None,
    limit: Annotated[int, typer.Option(help="Items to show, 1 to 500.")] = 10,
    offset: Annotated[int, typer.Option(help="Items to pass over.")] = 0,
    cursor: Annotated[
        str | None, typer.Option(help="Of the page before, to go on behind it.", metavar="CURSOR")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help='For instance {"year": {"gte": 2020}}.', metavar="JSON")
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Id to leave out; repeat for more.", metavar="ID")] = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="Id that may be returned, no other; repeat for more.", metavar="ID")
    ] = None,
    seen: Annotated[bool, typer.Option("--seen", help="Return items of the history as well.")] = False,
    exclude_shown: Annotated[
        str | None,
        typer.Option(
            help="Leave out what the user was shown within so many days, or so many times: 7, or 7:3.",
            metavar="DAYS[:TIMES]",
        ),
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(help="How much the list shall vary, 0 to 1.", metavar="SHARE")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Show the reasons.")] = False,
    as_json: AsJson = False,
) -> None:
    """Recommends documents to a user, or to whoever has this history."""
    from facetrail.indexing.recommending import Recommending
    from facetrail.indexing.searcher import Searcher

    request = _request(
        {
            "user": user,
            "history": _history(history) if history is not None else None,
            "strategy": strategy,
            "hints": {
                "mode": hints_mode,
                "max": hints_max,
                "sides": hints_sides,
                "polarity": hints_polarity,
                "relations_allow": hints_allow or [],
                "relations_deny": hints_deny or [],
                "feedback": [_verdict(text) for text in hints_feedback or []],
            },
            "item": item,
            "limit": limit,
            "offset": offset,
            "cursor": cursor,
            "filter": parse_filter_option(filter_),
            "allow": allow or None,
            "exclude": exclude or [],
            "filter_seen": not seen,
            "exclude_shown": _shown_often(exclude_shown) if exclude_shown is not None else None,
            "diversity": {"lambda": diversity} if diversity is not None else None,
            "explain": explain,
        }
    )
    with Searcher.open(folder, verify=False) as searcher:
        result = Recommending(searcher).recommend(request)
        titles = {d.id: d.title for d in searcher.collection.get_many([r.id for r in result.items]) if d is not None}
    if as_json:
        print_json(asdict(result))
    else:
        _show(result, titles)


def _request(values: dict[str, Any]) -> "RecommendRequest":
    """Raises InvalidInput that names the option."""
    from pydantic import ValidationError

    from facetrail.indexing.recommend_request import RecommendRequest

    try:
        return RecommendRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = "hints-max" if first["loc"][:2] == ("hints", "max") else str(first["loc"][0]).replace("_", "-")
        raise InvalidInput(f"--{option}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def _verdict(text: str) -> dict[str, str]:
    """`dislikes genre: Horror` → its parts; a value may hold a colon."""
    verdict, _, attribute = text.partition(" ")
    relation, colon, value = attribute.partition(":")
    if verdict not in ("likes", "dislikes", "mute") or not colon or not relation.strip() or not value.strip():
        raise InvalidInput(
            f"--hints-feedback {text!r} is not 'likes|dislikes|mute RELATION: VALUE'; try 'mute genre: War'"
        )
    return {"relation": relation.strip(), "value": value.strip(), "verdict": verdict}


def _history(file: Path) -> "list[str | HistoryEvent]":
    """The events of a file, all of one person; a row without an action or time is refused as anywhere."""
    from facetrail.indexing.events_corpus import read_events
    from facetrail.indexing.recommend_request import HistoryEvent

    found = [event for _, event in read_events(file, strict=True)]
    users = sorted({event.user for event in found})
    if len(users) > 1:
        raise InvalidInput(f"{file} holds events of {len(users):,} users; keep those of one, for instance {users[0]!r}")
    return [HistoryEvent(item=e.item, action=e.action, time=e.time, value=e.value) for e in found]


def _shown_often(text: str) -> dict[str, int]:
    """`7:3` → three times within seven days."""
    days, _, times = text.partition(":")
    try:
        return {"window": round(float(days) * DAY_MS), "max": int(times or 1)}
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"--exclude-shown {text!r} is not DAYS or DAYS:TIMES; try 7, or 7:3") from error


def _show(result: "RecommendResult", titles: dict[str, str]) -> None:
    for found in result.items:
        flags = f"  [{', '.join(found.flags)}]" if found.flags else ""
        typer.echo(f"{found.rank:3}  {found.score:9.4f}  {found.id}  {titles.get(found.id, '')}{flags}")
        for reason in found.reasons:
            typer.echo(f"{'':16} {reason.text}")
    for warning in result.warnings:
        typer.echo(warning, err=True)
    if result.next_cursor is not None:
        typer.echo(f"more with --cursor {result.next_cursor}", err=True)
