"""Strategy `hints`: the best of the default strategy, ranked anew by an attached model of preference hints.

    recommenders/hints/000001/model/     the discovery, as `train hints` writes it
    recommenders/hints/000001/reasoner/  where one was tuned: the language model, as `train hint-language` writes it

The model is of other events than the collection's and stays as it is; whoever asks is known by the collection's events
alone. An item that the model does not know is no candidate.
"""

import os
import shutil
import threading
from collections.abc import Collection as AnyOf
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from facetrail.indexing import recommenders
from facetrail.indexing.collection import Collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.recommend_request import MAX_LIMIT
from facetrail.models.checkpoint import MANIFEST_FILE
from facetrail.models.errors import InvalidInput
from facetrail.models.recommend.recommender import Recommender
from facetrail.models.recommend.records import Event, Recommendation

if TYPE_CHECKING:
    from facetrail.models.recommend.hint_answer_records import Mode
    from facetrail.models.recommend.hint_recommender import HintRecommender

HINTS = "hints"
MODEL_FOLDER, REASONER_FOLDER = "model", "reasoner"
POOL = MAX_LIMIT
"""Candidates of the default strategy; where they end, the list ends. Independent of limit, so pages agree."""
DISLIKED = 0.0
"""Value of an event that the collection's rules do not count as a like: below any that the model takes for one."""


@dataclass(frozen=True)
class Attached:
    """A model that was put into service, and how many of the collection's documents it knows."""

    folder: Path
    n_documents: int


def attach_hints(collection: Collection, folder: Path) -> Attached:
    """Copies a model of hints beside the collection's recommenders; the newest attached one is in service.

    folder: the run of `train hints` or `train hint-language`, or the model folder itself. Raises NotFound (no model
    there), Damaged, and InvalidInput for another kind of model, or one of none of the collection's documents.
    """
    from facetrail.models.recommend.hint_model import open_hint_model
    from facetrail.models.recommend.hint_reasoner import read_reasoner

    is_model = (folder / MANIFEST_FILE).is_file()
    parts = {MODEL_FOLDER: folder if is_model else folder / MODEL_FOLDER}
    known = open_hint_model(parts[MODEL_FOLDER]).items
    if not is_model and (folder / REASONER_FOLDER).is_dir():
        parts[REASONER_FOLDER] = folder / REASONER_FOLDER
        read_reasoner(parts[REASONER_FOLDER])
    with collection.snapshot() as view:
        n_documents = sum(name in known.numbers for name in view.ids_by_change())
    if not n_documents:
        raise InvalidInput(
            f"none of the {len(known):,} items of {folder} is a document of {collection.folder}; attach a model that "
            "was trained on items with the collection's ids"
        )
    place = recommenders.next_version(collection.folder, HINTS)
    draft = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        for name, source in parts.items():
            shutil.copytree(source, draft / name)
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    recommenders.prune(collection.folder, HINTS)
    return Attached(place, n_documents)


class OpenHints:
    """An attached version. Thread-safe; the language model is opened at the first request that asks it."""

    def __init__(self, folder: Path) -> None:
        from facetrail.models.recommend.hint_model import open_hint_model

        self.folder = folder
        self._model = open_hint_model(folder / MODEL_FOLDER)
        self._in_mode: dict[Mode, HintRecommender] = {}
        self._opening = threading.Lock()

    def in_mode(self, mode: "Mode") -> "HintRecommender":
        """Raises InvalidInput for mode `lm` where no language model is attached."""
        if (found := self._in_mode.get(mode)) is not None:  # without waiting for a language model to load
            return found
        with self._opening:
            if mode not in self._in_mode:
                self._in_mode[mode] = self._made(mode)
            return self._in_mode[mode]

    def _made(self, mode: "Mode") -> "HintRecommender":
        from facetrail.models.recommend.hint_reasoner import reasoned
        from facetrail.models.recommend.hint_recommender import HintRecommender

        reasoner = self.folder / REASONER_FOLDER
        if mode == "lm" and not reasoner.is_dir():
            raise InvalidInput(
                "no language model is attached with these hints; ask for mode discovery or blend, or attach the run of "
                "`facetrail train hint-language` with `facetrail index fit DIR --hints RUN`",
                pointer="/hints/mode",
            )
        if mode == "discovery" or not reasoner.is_dir():
            return HintRecommender(self._model, mode=mode)
        for other in self._in_mode.values():  # one language model serves both modes that ask it
            if other.language_model is not None:
                return other.with_mode(mode)
        return reasoned(self._model, reasoner, mode)


class RerankedByHints:
    """The `Recommender` of the strategy. Items, scores and reasons are the model's, sources those of both."""

    def __init__(self, first: Recommender, actions: Actions, hints: "HintRecommender") -> None:
        """first: proposes the candidates · actions: what counts for it."""
        self._first, self._actions, self._hints = first, actions, hints

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return f"{self._hints.name} over {self._first.name}"

    def recommend(
        self,
        history: Sequence[Event],
        *,
        k: int,
        candidates: AnyOf[str] | None = None,
        exclude: AnyOf[str] = (),
        explain: bool = False,
    ) -> list[Recommendation]:
        """As the seam says, among the first's best `POOL`; a language model ends the list with what it has read."""
        known = self._hints.model.items.numbers
        pool = self._first.recommend(
            [event for event in history if self._is_like(event)],
            k=POOL,
            candidates=[name for name in (known if candidates is None else candidates) if name in known],
            exclude=exclude,
        )
        found = self._hints.recommend(
            [self._judged(event) for event in history],
            k=k if self._hints.language_model is None else min(k, self._hints.n_reranked),
            candidates=[item.id for item in pool],
            explain=explain,
        )
        proposed = {item.id: item.sources for item in pool}
        return [replace(item, sources=(*item.sources, *proposed[item.id])) for item in found]

    def _is_like(self, event: Event) -> bool:
        return not event.action or self._actions.keeps(event)  # what was sent without an action speaks for its item

    def _judged(self, event: Event) -> Event:
        """The collection's rules decide what is a like; where it has none, the event's value does."""
        if not event.action or not self._actions.positive:
            return event
        return replace(event, value=None if self._is_like(event) else DISLIKED)
