"""Recommends by preference hints: by the discovery network, by a language model that reads its hints, or by a blend.

What an answer says of a language model (its kind, and whether it was pretrained) is part of the answer: one made from
random weights knows nothing of the world. Choices of ours:
1. whoever asks is known by the given history alone, as the newest events of a log whose others are training's;
2. a language model reads the discovery's best `n_reranked` items only;
3. `blend` weighs the reasoner's log-odds and those of the bias logistic as on validation.
"""

from collections.abc import Collection, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import LanguageModel
from facetrail.models.recommend.hint_answer_records import (
    HintAnswer,
    HintedItem,
    Mode,
    Reasoner,
    as_reason,
    shown_hint,
)
from facetrail.models.recommend.hint_answers import prefer
from facetrail.models.recommend.hint_choice import HintChoice
from facetrail.models.recommend.hint_model import HintBlend, HintModel, SeenRows, log_odds
from facetrail.models.recommend.hint_prompts import Asked, HintPrompts, PromptConfig, Slot, TokenCounts, words_and_signs
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.records import Event, ItemHints, Recommendation, ShownHint, Source
from facetrail.models.recommend.time_blocks import EventLog, Floats, Ints, Ratings, joined

DISCOVERY = "hint discovery"
LIKED_ABOVE = 3.0
"""Stars above which an item counts as liked; an event without a value is a like."""


class HintRecommender:
    """One of the three modes over a fitted model."""

    def __init__(
        self,
        model: HintModel,
        *,
        mode: Mode = "blend",
        language_model: LanguageModel | None = None,
        blend: HintBlend | None = None,
        slot: Slot = "pidlr",
        prompt: PromptConfig | None = None,
        n_reranked: int = 20,
    ) -> None:
        """blend: of the language model with the bias logistic; without a language model the discovery's own is used.

        Raises InvalidInput for mode `lm` without a language model, and for `blend` with one but without its weights.
        """
        if mode == "lm" and language_model is None:
            raise InvalidInput("mode lm needs a language model; open one, or use mode discovery or blend")
        if mode == "blend" and language_model is not None and blend is None:
            raise InvalidInput("a blend with a language model needs weights fitted on validation; train hint-language")
        if mode == "discovery":
            language_model = None
        self.model, self.mode, self.n_reranked = model, mode, n_reranked
        self._choice, self._attributes = HintChoice(), model.attributes
        self.language_model, self._slot = language_model, slot
        self._blend = model.blend if language_model is None or blend is None else blend
        counts = (
            TokenCounts(words_and_signs, words_and_signs) if language_model is None else TokenCounts.of(language_model)
        )
        self._prompts = HintPrompts(model.titles, model.attributes, counts, prompt)

    @property
    def name(self) -> str:
        """As tables and answers call it."""
        return f"hints ({self.mode})"

    def with_mode(self, mode: Mode) -> "HintRecommender":
        """The same models under another mode: for one that asks a language model, `lm` or `blend`."""
        other = copy(self)
        other.mode = mode
        return other

    def under(self, choice: HintChoice) -> "HintRecommender":
        """The same models for a request that wants other hints. Raises InvalidInput for an unknown relation."""
        other = copy(self)
        other._choice, other._attributes = choice, choice.seen(self.model.attributes)
        other._prompts = self._prompts.over(other._attributes)
        return other

    @property
    def reasoner(self) -> Reasoner:
        """What decides. A `tiny` model was made here from random weights; all others come pretrained."""
        model = self.language_model
        if model is None:
            return Reasoner("none", DISCOVERY, False)
        return Reasoner(model.kind, model.name, model.kind != "tiny")

    def answer(
        self,
        history: Sequence[Event],
        *,
        k: int,
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
    ) -> HintAnswer:
        """At most k items with their hints. Ids that the model does not know are ignored."""
        known = self.model.items
        wanted, left_out = set(known.ids if candidates is None else candidates), set(exclude)
        items = known.rows([name for name in known.ids if name in wanted and name not in left_out])
        if not len(items) or k < 1:
            return HintAnswer(self.mode, self.reasoner, ())
        asking = self._asking(history)
        users, cuts = np.full(len(items), asking.user), np.full(len(items), len(asking.evidence.log))
        seen = SeenRows(self.model.network, asking.evidence, users, items, cuts)
        scores, rows = self._scores(seen, asking, items, k)
        best = np.lexsort((rows, -scores))[:k]
        asked = self._asked(seen, rows[best])
        found = [
            self._shown(one, float(scores[i]), rank) for rank, (i, one) in enumerate(zip(best, asked, strict=True), 1)
        ]
        return HintAnswer(self.mode, self.reasoner, tuple(found))

    def recommend(
        self,
        history: Sequence[Event],
        *,
        k: int,
        candidates: Collection[str] | None = None,
        exclude: Collection[str] = (),
        explain: bool = False,
    ) -> list[Recommendation]:
        """As `answer`, in the form of every recommender; the source names the reasoner, reasons are the hints."""
        answer, reasoner = self.answer(history, k=k, candidates=candidates, exclude=exclude), self.reasoner
        said = "pretrained" if reasoner.pretrained else "not pretrained"
        source = DISCOVERY if reasoner.kind == "none" else f"{reasoner.name} ({reasoner.kind}, {said})"
        return [
            Recommendation(
                id=item.id,
                score=item.score,
                rank=item.rank,
                sources=(Source(source, item.rank, item.score),),
                reasons=tuple(as_reason(hint) for hint in item.hints.shown) if explain else (),
                flags=("fallback",) if "cold_user" in item.hints.flags else (),
                hints=item.hints if explain else None,
            )
            for item in answer.items
        ]

    def _scores(self, seen: SeenRows, asking: "_Asking", items: Ints, k: int) -> tuple[Floats, Ints]:
        """Of the rows that are in question; → (scores, rows)."""
        order = np.argsort(-seen.logits, kind="stable")
        rows = order if self.language_model is None else order[: max(k, self.n_reranked)]
        reasoned = seen.logits[rows] if self.language_model is None else self._read(self._asked(seen, rows))
        if self.mode != "blend":
            return reasoned, rows
        n = len(rows)
        asked = Ratings(np.full(n, asking.user), items[rows], np.zeros(n), np.zeros(n, np.int64))
        log = asking.evidence.log
        biases = log_odds(self.model.logistic.probabilities(log, asked, np.full(n, len(log))))
        return self._blend.log_odds(biases, reasoned), rows

    def _asked(self, seen: SeenRows, rows: Ints) -> list[Asked]:
        return [self._choice.kept(one) for one in seen.asked(rows)]

    def _read(self, asked: Sequence[Asked]) -> Floats:
        model = self.language_model
        assert model is not None
        # The one slot that draws is no part of serving; its numbers would be the same in every request.
        prompts = [self._prompts.pair(one, self._slot, rng=np.random.default_rng(one.item)) for one in asked]
        return np.array([prefer(model, prompt.text) for prompt in prompts])

    def _asking(self, history: Sequence[Event]) -> "_Asking":
        model, guest = self.model, len(self.model.users)
        numbers = {model.users.numbers[event.user] for event in history if event.user in model.users.numbers}
        user = numbers.pop() if len(numbers) == 1 else guest
        others = model.events.take(model.events.users != user)
        own = [event for event in sorted(history, key=lambda e: e.time) if event.item in model.items.numbers]
        start = int(others.times.max(initial=0)) + 1
        events = Ratings(
            np.full(len(own), user, np.int64),
            model.items.rows([event.item for event in own]),
            np.array([float(event.value is None or event.value > LIKED_ABOVE) for event in own]),
            np.arange(start, start + len(own), dtype=np.int64),
        )
        log = EventLog(joined([others, events]), guest + 1, len(model.items), n_prior=len(others))
        return _Asking(user, Evidence(log, self._attributes, self._choice.told(user, self._attributes)))

    def _shown(self, asked: Asked, score: float, rank: int) -> HintedItem:
        lines = self._prompts.lines(asked, "pidlr", rng=np.random.default_rng(0))
        text = "\n".join(line for line in lines if line)
        ids = self.model.items.ids
        hints: dict[int, ShownHint] = {}
        for hint in (*asked.hints.item, *asked.hints.user):
            hints.setdefault(hint.attribute, shown_hint(hint, ids))
        n_tokens = self._prompts.tokens.of_text(text) if text else 0
        told = ItemHints(tuple(hints.values()), asked.hints.null_item, text, n_tokens, asked.hints.flags)
        return HintedItem(ids[asked.item], score, rank, told)


class _Asking(NamedTuple):
    user: int
    evidence: Evidence
