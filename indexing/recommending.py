"""Recommends documents of a collection: what the command line, the service and notebooks call.

An item is a document. Only documents that live, that their `available_from` and `available_to` (metadata, RFC 3339 or
milliseconds since 1970) place at this moment, and that pass the request's filter and lists are ever scored for an
answer; so limit items come back whenever so many are allowed. A user's stored events are read with every request.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace

from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.filters import parse_filter
from facetrail.indexing.filters_tree import Filter, Group, HasId, Range
from facetrail.indexing.recommend_request import HistoryEvent, RecommendRequest, RecommendResult
from facetrail.indexing.recommending_models import OpenRecommenders
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.records import Event, Reason, Recommendation, Source

SIMILAR = "similar"


class Recommending:
    """Thread-safe."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._events = Events(searcher.collection)
        self._recommenders = OpenRecommenders(searcher)

    def recommend(self, request: RecommendRequest, *, now: int | None = None) -> RecommendResult:
        """One page of recommendations. now: milliseconds in UTC, by default the clock's.

        Raises NotFound (a user without events where no history is sent, an item), Conflict (nothing was fitted yet) and
        InvalidInput.
        """
        if request.strategy == SIMILAR:
            return self._similar(request, now)
        if request.item is not None:
            raise InvalidInput(
                "`item` belongs to the strategy 'similar'; leave it out or ask for that", pointer="/item"
            )
        if request.user is None and request.history is None:
            raise InvalidInput("say for whom: a `user`, a `history`, or both", pointer="/user")
        stored = self._stored(request)
        opened, recommender = self._recommenders.of(request.strategy)
        history = [event for event in stored if opened.actions.keeps(event)] + _sent(request, opened.actions)
        candidates = self._allowed(request, now)
        found = recommender.recommend(
            [replace(event, time=place) for place, event in enumerate(history)],
            k=request.offset + request.limit,
            candidates=candidates,
            exclude=self._excluded(request, stored),
            explain=request.explain,
        )
        fallback = any("fallback" in item.flags for item in found)
        return self._result(request, found, opened.version, fallback, self._warnings(request, candidates, found))

    def _similar(self, request: RecommendRequest, now: int | None) -> RecommendResult:
        if request.item is None:
            raise InvalidInput("the strategy 'similar' needs the id of an `item` to be near to", pointer="/item")
        stored = self._stored(request) if request.user is not None else []
        excluded = self._excluded(request, stored)
        condition = Group(must=(self._condition(request, now),), must_not=(HasId(frozenset(excluded)),))
        hits = self._searcher.neighbours(request.item, request.offset + request.limit, condition)
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
        warnings = [] if found else ["no document passes the filter, the lists and its dates of availability"]
        return self._result(request, found, "dense", False, warnings)

    def _result(
        self,
        request: RecommendRequest,
        found: Sequence[Recommendation],
        model: str,
        fallback: bool,
        warnings: Sequence[str],
    ) -> RecommendResult:
        page = found[request.offset : request.offset + request.limit]
        return RecommendResult(page, uuid.uuid4().hex, model, self._searcher.generation, fallback, warnings)

    # -- who asks ----------------------------------------------------------------------------------------------------

    def _stored(self, request: RecommendRequest) -> list[Event]:
        """The user's events. Raises NotFound where there is none and nothing was sent instead."""
        if request.user is None:
            return []
        stored = self._events.history(request.user)
        if not stored and request.history is None and request.strategy != SIMILAR:
            raise NotFound(
                f"user {request.user!r} has no events here; check the id, send a `history` along, or send an empty one "
                "for what is popular"
            )
        return stored

    def _excluded(self, request: RecommendRequest, stored: Sequence[Event]) -> set[str]:
        excluded = set(request.exclude)
        if request.filter_seen:
            excluded.update(event.item for event in stored)
            excluded.update(_item(event) for event in request.history or ())
        return excluded

    # -- what may be returned ----------------------------------------------------------------------------------------

    def _condition(self, request: RecommendRequest, now: int | None) -> Filter:
        parts: list[Filter] = [available_at(time.time_ns() // 1_000_000 if now is None else now)]
        if request.filter is not None:
            parts.append(parse_filter(request.filter))
        if request.allow is not None:
            parts.append(HasId(frozenset(request.allow)))
        return Group(must=tuple(parts))

    def _allowed(self, request: RecommendRequest, now: int | None) -> list[str]:
        return self._searcher.ids_where(self._condition(request, now))

    def _warnings(
        self, request: RecommendRequest, candidates: Sequence[str], found: Sequence[Recommendation]
    ) -> list[str]:
        if not candidates:
            return ["no document passes the filter, the lists and its dates of availability"]
        if not found:
            return [
                f"{len(candidates):,} documents are allowed, but each was seen, excluded, or had no event when the "
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
