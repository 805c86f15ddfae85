"""Recommends documents of a collection: what the command line, the service and notebooks call.

An item is a document. Only documents that live, that their `available_from` and `available_to` (metadata, RFC 3339 or
milliseconds since 1970) place at this moment, and that pass the request's filter and lists are ever scored for an
answer; so limit items come back whenever so many are allowed. A user's stored events are read with every request.
"""

import time
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import Filter, Group, HasId, Range
from facetrail.indexing.recommend_request import (
    IMPRESSION,
    MAX_DEPTH,
    HistoryEvent,
    RecommendRequest,
    RecommendResult,
)
from facetrail.indexing.recommending_diversity import POOL, diversified
from facetrail.indexing.recommending_models import OpenRecommenders
from facetrail.indexing.recommending_pages import Page, read_page, write_cursor
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.records import Event, Reason, Recommendation, Source

SIMILAR = "similar"


@dataclass(frozen=True)
class _Ranked:
    """The best items by score, and what ranked them."""

    items: Sequence[Recommendation]
    model: str
    fallback: bool
    warnings: Sequence[str]


class Recommending:
    """Thread-safe."""

    def __init__(self, searcher: Searcher, *, events: Events | None = None) -> None:
        """events: the collection's; None: with the default number of impressions kept."""
        self._searcher = searcher
        self._events = events or Events(searcher.collection)
        self._recommenders = OpenRecommenders(searcher)

    def recommend(self, request: RecommendRequest, *, now: int | None = None) -> RecommendResult:
        """One page of recommendations. now: milliseconds in UTC, by default the clock's.

        Raises NotFound (a user without events where no history is sent, an item), Conflict (nothing was fitted yet),
        Gone (a cursor whose recommender or generation was replaced) and InvalidInput.
        """
        _require_user(request)
        page = read_page(request, _clock() if now is None else now)
        stored = self._stored(request, page)
        wanted = page.start + request.limit + 1  # one more than is returned says whether there is a next page
        k = wanted if request.diversity is None else max(wanted, POOL)
        rank = self._similar if request.strategy == SIMILAR else self._scored
        ranked = rank(request, stored, page, k)
        generation = self._searcher.generation
        ranked_by = f"{ranked.model}, generation {generation}"
        page.require_same(ranked_by)
        items = self._varied(request, ranked.items, wanted)
        has_more = len(items) >= wanted and wanted + request.limit <= MAX_DEPTH
        first = replace(page, moment=max([page.moment, *(event.time for event in stored)]))
        return RecommendResult(
            items[page.start : page.start + request.limit],
            uuid.uuid4().hex,
            ranked.model,
            generation,
            ranked.fallback,
            ranked.warnings,
            write_cursor(request, first, ranked_by) if has_more else None,
        )

    def log_impression(self, request: RecommendRequest, result: RecommendResult, *, now: int | None = None) -> None:
        """Writes what was shown to the request's user as events `impression`; needs a writable collection."""
        assert request.user is not None  # `recommend` refused it
        time_shown = _clock() if now is None else now
        shown = [Event(request.user, i.id, IMPRESSION, time_shown, None, result.request_id) for i in result.items]
        self._events.put(shown)

    # -- ranking -----------------------------------------------------------------------------------------------------

    def _scored(self, request: RecommendRequest, stored: Sequence[Event], page: Page, k: int) -> _Ranked:
        if request.item is not None:
            raise InvalidInput(
                "`item` belongs to the strategy 'similar'; leave it out or ask for that", pointer="/item"
            )
        if request.user is None and request.history is None:
            raise InvalidInput("say for whom: a `user`, a `history`, or both", pointer="/user")
        chosen = self._recommenders.of(request.strategy, request.hints)
        kept = [event for event in stored if event.action != IMPRESSION and chosen.actions.keeps(event)]
        history = kept + _sent(request, chosen.actions)
        candidates = self._searcher.ids_where(self._condition(request, page.moment))
        found = chosen.recommender.recommend(
            [replace(event, time=place) for place, event in enumerate(history)],
            k=k,
            candidates=candidates,
            exclude=self._excluded(request, stored, page),
            explain=request.explain,
        )
        fallback = any("fallback" in item.flags for item in found)
        return _Ranked(found, chosen.version, fallback, _warnings(candidates, found))

    def _similar(self, request: RecommendRequest, stored: Sequence[Event], page: Page, k: int) -> _Ranked:
        if request.item is None:
            raise InvalidInput("the strategy 'similar' needs the id of an `item` to be near to", pointer="/item")
        excluded = self._excluded(request, stored, page)
        condition = Group(must=(self._condition(request, page.moment),), must_not=(HasId(frozenset(excluded)),))
        hits = self._searcher.neighbours(request.item, k, condition)
        found = [
            Recommendation(
                id=hit.id,
                score=hit.score,
                rank=rank,
                sources=(Source("dense", rank, hit.score),),
                reasons=(
                    Reason("because_you", (request.item,), hit.score, f"its text is near to that of {request.item}"),
                )
                if request.explain
                else (),
            )
            for rank, hit in enumerate(hits, start=1)
        ]
        return _Ranked(found, "dense", False, _warnings(found, found))

    def _varied(self, request: RecommendRequest, found: Sequence[Recommendation], n: int) -> Sequence[Recommendation]:
        if request.diversity is None:
            return found
        pool = HasId(frozenset(item.id for item in found[:POOL]))

        def similarities(item: str) -> Mapping[str, float]:
            return {hit.id: hit.score for hit in self._searcher.neighbours(item, POOL, pool)}

        try:
            return diversified(found, request.diversity.lambda_, n, similarities)
        except InvalidInput as error:
            raise InvalidInput(
                "`diversity` compares documents by their vectors, and this collection has none; leave it out",
                pointer="/diversity",
            ) from error

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _stored(self, request: RecommendRequest, page: Page) -> list[Event]:
        """The user's events. Raises NotFound where there is none and nothing was sent instead."""
        if request.user is None:
            return []
        stored = self._events.history(request.user)
        if not stored and request.history is None and request.strategy != SIMILAR:
            raise NotFound(
                f"user {request.user!r} has no events here; check the id, send a `history` along, or send an empty one "
                "for what is popular"
            )
        return stored if page.ranked_by is None else [event for event in stored if event.time <= page.moment]

    def _excluded(self, request: RecommendRequest, stored: Sequence[Event], page: Page) -> set[str]:
        excluded = set(request.exclude)
        if request.filter_seen:
            excluded.update(event.item for event in stored if event.action != IMPRESSION)
            excluded.update(_item(event) for event in request.history or ())
        if request.exclude_shown is not None:
            since = page.moment - request.exclude_shown.window
            shown = Counter(event.item for event in stored if event.action == IMPRESSION and event.time > since)
            excluded.update(item for item, n_shown in shown.items() if n_shown >= request.exclude_shown.max)
        return excluded

    # -- what may be returned ----------------------------------------------------------------------------------------

    def _condition(self, request: RecommendRequest, moment: int) -> Filter:
        parts: list[Filter] = [available_at(moment)]
        if request.filter is not None:
            parts.append(parse_filter(request.filter))
        if request.allow is not None:
            parts.append(HasId(frozenset(request.allow)))
        return Group(must=tuple(parts))


def _clock() -> int:
    return time.time_ns() // 1_000_000


def _require_user(request: RecommendRequest) -> None:
    for name, is_asked in (
        ("log_impression", request.log_impression),
        ("exclude_shown", request.exclude_shown is not None),
    ):
        if is_asked and request.user is None:
            raise InvalidInput(f"`{name}` is about what a user was shown; name the `user`", pointer=f"/{name}")


def _warnings(candidates: Collection[object], found: Collection[object]) -> list[str]:
    if not candidates:
        return ["no document passes the filter, the lists and its dates of availability"]
    if not found:
        return [
            f"{len(candidates):,} documents are allowed, but each was seen, shown, excluded, or had no event when the "
            "recommender was fitted; fit it again when they have some"
        ]
    return []


def available_at(now: int) -> Filter:
    """Documents that are available at a moment, in milliseconds in UTC: from `available_from` on, until `available_to`.

    A date that cannot be read forbids nothing.
    """
    starts_later = (Range("available_from", gt=now), Range("available_from", gt=now * 1_000, is_date=True))
    has_ended = (Range("available_to", lte=now), Range("available_to", lte=now * 1_000, is_date=True))
    return Group(must_not=(*starts_later, *has_ended))


def _sent(request: RecommendRequest, actions: Actions) -> list[Event]:
    """The history that came with the request, oldest first; only what counts."""
    events = [e for e in request.history or () if isinstance(e, HistoryEvent)]
    actions.require_known(event.action for event in events if event.action is not None)
    given = [_as_event(event, request.user or "") for event in request.history or ()]
    given.sort(key=lambda pair: pair[0].time)
    return [event for event, counts in given if counts or actions.keeps(event)]


def _as_event(given: str | HistoryEvent, user: str) -> tuple[Event, bool]:
    """The event, and whether it counts whatever its action."""
    if isinstance(given, str):
        return Event(user, given, "", 0), True
    return Event(user, given.item, given.action or "", given.time, given.value), given.action is None


def _item(given: str | HistoryEvent) -> str:
    return given if isinstance(given, str) else given.item
