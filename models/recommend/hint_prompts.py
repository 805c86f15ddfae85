"""Prompts that ask a language model what a user will like, with hints in one slot.

That hints reach the model as short text, one item at a time (pair-wise) or as a list of options, is PIDLR's (arXiv
2601.18096); the wording is ours:
1. the arms of a comparison differ in the slot's text alone;
2. titles and names are data: one line, no quotes, angle brackets or signs of the grammar, hence no chat markers.
"""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.errors import InvalidInput
from facetrail.models.language.policy import LanguageModel
from facetrail.models.recommend.hint_reading import RowHints
from facetrail.models.recommend.hint_text import BUDGET, CountTokens, Hint, as_triples, flatten_sides, safe_name
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.time_blocks import Ints

Slot = Literal["none", "all", "all-cut", "random", "frequent", "own", "collaborative", "pidlr", "triples"]
"""What stands in the slot: nothing · every named attribute of the item, also cut at the budget · a few of them at
random, or those on the most items · discovered hints of one provenance, or all of them · these as triples."""
SLOTS: tuple[Slot, ...] = get_args(Slot)
YES, NO = "Yes", "No"
_UNSAFE = re.compile(r'["<>]')
_SIGNS = re.compile(r"\w+|[^\w\s]")


class PromptConfig(BaseModel):
    """What a prompt says, and how long it may be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noun: str = Field(default="film", pattern="^[a-z ]+$")
    """What the items are called."""
    n_liked: int = Field(default=10, ge=0)
    """Titles that the user liked, the latest ones."""
    budget: int = Field(default=BUDGET, ge=0)
    """Tokens of hints."""
    n_plain: int = Field(default=5, ge=1)
    """Attributes in the slots `random` and `frequent`."""
    limit: int = Field(default=1_024, ge=16)
    """Tokens of a prompt; the oldest titles are dropped first."""


@dataclass(frozen=True)
class Asked:
    """One user and item to ask about. liked: items that the user liked, oldest first."""

    item: int
    liked: tuple[int, ...]
    hints: RowHints


class Lines(NamedTuple):
    """The two lines of the hint slot; an empty one is left out."""

    user: str
    item: str


class PairPrompt(NamedTuple):
    """A prompt, its tokens (template included) and the titles that had room."""

    text: str
    n_tokens: int
    n_liked: int


@dataclass(frozen=True)
class TokenCounts:
    """How long a text, or a prompt with its template, is for a model. limit: the longest prompt it reads; None: any."""

    of_text: CountTokens
    of_prompt: CountTokens
    limit: int | None = None

    @classmethod
    def of(cls, model: LanguageModel) -> "TokenCounts":
        """By the model's own tokenizer. A server's is unknown: words and signs are counted then."""
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            return cls(words_and_signs, words_and_signs)
        context: int = model.context  # type: ignore[attr-defined]
        if model.kind == "tiny":
            return cls.of_words(limit=context - 1)
        return cls(
            lambda text: len(tokenizer.encode(text)), lambda text: len(tokenizer.encode_prompt(text)), context - 1
        )

    @classmethod
    def of_words(cls, *, limit: int | None = None) -> "TokenCounts":
        """For a closed vocabulary of words, which cannot encode a text it does not know in order to count it."""
        return cls(lambda text: len(text.split()), lambda text: len(text.split()) + 1, limit)


def words_and_signs(text: str) -> int:
    """An estimate of tokens that needs no tokenizer."""
    return len(_SIGNS.findall(text))


def safe_title(title: str) -> str:
    """A title that can stand between quotes in a prompt."""
    return safe_name(_UNSAFE.sub(" ", title)) or "untitled"


class HintPrompts:
    """Writes prompts over one set of items."""

    def __init__(
        self, titles: Sequence[str], attributes: Attributes, tokens: TokenCounts, config: PromptConfig | None = None
    ) -> None:
        """titles: of every item, by number."""
        self.config, self.tokens = config or PromptConfig(), tokens
        self._titles = {number: safe_title(title) for number, title in enumerate(titles)}
        self._attributes = attributes

    def over(self, attributes: Attributes) -> "HintPrompts":
        """The same where items have other attributes, under the same numbers."""
        other = copy(self)
        other._attributes = attributes
        return other

    def title(self, item: int) -> str:
        """As prompts and list-wise answers call it."""
        return self._titles[item]

    def pair(self, asked: Asked, slot: Slot, *, rng: np.random.Generator) -> PairPrompt:
        """Will the user like the item? rng: draws the attributes of `random`.

        Raises InvalidInput where the prompt is too long even without a title.
        """
        lines, noun = self.lines(asked, slot, rng=rng), self.config.noun
        question = f'Will the user like the {noun} "{self.title(asked.item)}"? Answer {YES} or {NO}.\nAnswer:'
        return self._fitted(asked.liked, [*self._slot(lines), question])

    def options(self, options: Sequence[Asked], order: Ints, slot: Slot, *, rng: np.random.Generator) -> PairPrompt:
        """Which of the options comes next? order: in which they are named. All are of one user."""
        lines = [self.lines(option, slot, rng=rng).item for option in options]
        about = self.lines(_user_of(options), slot, rng=rng).user if slot in ("own", "collaborative", "pidlr") else ""
        named = [
            f'- "{self.title(options[i].item)}"' + (f"; hints: {lines[i]}" if lines[i] else "") for i in order.tolist()
        ]
        question = f"Which of these {self.config.noun}s will the user like next? Answer with its title.\nAnswer:"
        return self._fitted(options[0].liked, [*self._slot(Lines(about, "")), *named, question])

    def lines(self, asked: Asked, slot: Slot, *, rng: np.random.Generator) -> Lines:
        """What stands in the hint slot of one item."""
        config, count = self.config, self.tokens.of_text
        if slot == "none":
            return Lines("", "")
        if slot in ("all", "all-cut", "random", "frequent"):
            chosen = self._plain(asked.item, slot, rng)
            return Lines("", self._facts(chosen, None if slot == "all" else config.budget))
        user, item = (_harmless(side) for side in (asked.hints.user, asked.hints.item))
        if slot == "triples":
            of_item = {hint.attribute for hint in item}
            user = tuple(hint for hint in user if hint.attribute not in of_item)
            # Every own item with a hint would be a triple: thousands of tokens. Those that the prompt names are enough.
            heads = {number: self._titles[number] for number in self._latest(asked.liked)}
            title = self._titles[asked.item]
            return Lines(as_triples(user, heads, title), as_triples(item, heads, title))
        if slot != "pidlr":
            wanted = "own" if slot == "own" else "similar"
            user, item = (tuple(hint for hint in side if hint.provenance == wanted) for side in (user, item))
        return Lines(*flatten_sides(user, item, budget=config.budget, count_tokens=count))

    def _plain(self, item: int, slot: Slot, rng: np.random.Generator) -> list[int]:
        """The item's named attributes, those on the most items first, or a few of them."""
        known = self._attributes
        named = [a for a in known.of(item).tolist() if known.relation_names[a] and known.tail_names[a]]
        named.sort(key=lambda a: (known.idf[a], a))
        n = min(self.config.n_plain, len(named))
        if slot == "random":
            return [named[i] for i in sorted(rng.choice(len(named), n, replace=False).tolist())] if named else []
        return named[:n] if slot == "frequent" else named

    def _facts(self, numbers: Sequence[int], budget: int | None) -> str:
        """`relation: value | value; relation: value`, whole values within the budget."""
        known, text = self._attributes, ""
        groups: dict[str, list[str]] = {}
        for number in numbers:
            relation, value = safe_title(str(known.relation_names[number])), safe_title(str(known.tail_names[number]))
            groups.setdefault(relation.replace(":", " "), []).append(value)
            longer = "; ".join(f"{name}: {' | '.join(values)}" for name, values in groups.items())
            if budget is not None and self.tokens.of_text(longer) > budget:
                break
            text = longer
        return text

    def _slot(self, lines: Lines) -> list[str]:
        about = (
            (f"Hints about the user: {lines.user}", lines.user),
            (f"Hints about the {self.config.noun}: {lines.item}", lines.item),
        )
        return [said for said, line in about if line]

    def _latest(self, liked: Sequence[int]) -> list[int]:
        return list(liked)[max(0, len(liked) - self.config.n_liked) :]

    def _fitted(self, liked: Sequence[int], rest: Sequence[str]) -> PairPrompt:
        """The latest liked titles that leave room for the rest."""
        noun, limit = self.config.noun, min(self.config.limit, self.tokens.limit or self.config.limit)
        kept = self._latest(liked)
        while True:
            titles = "; ".join(f'"{self.title(item)}"' for item in kept)
            first = (
                f"The user liked these {noun}s, oldest first: {titles}."
                if kept
                else f"No {noun} is known that the user liked."
            )
            text = "\n".join([first, *rest])
            if (n_tokens := self.tokens.of_prompt(text)) <= limit:
                return PairPrompt(text, n_tokens, len(kept))
            if not kept:
                raise InvalidInput(
                    f"a prompt has {n_tokens} tokens without any liked title, and {limit} are allowed; raise the "
                    "limit, lower the budget of hints, or choose a model that reads more"
                )
            kept = kept[1:]


def _user_of(options: Sequence[Asked]) -> Asked:
    """Hints about the user alone, each as credible as it is beside the option where it is most."""
    best: dict[int, Hint] = {}
    for hint in (hint for option in options for hint in option.hints.user):
        if hint.attribute not in best or hint.credibility > best[hint.attribute].credibility:
            best[hint.attribute] = hint
    ordered = tuple(sorted(best.values(), key=lambda hint: (-hint.credibility, hint.attribute)))
    return replace(options[0], hints=replace(options[0].hints, item=(), user=ordered))


def _harmless(hints: Sequence[Hint]) -> tuple[Hint, ...]:
    """Without the signs that quote titles or mark a chat's turns."""
    return tuple(
        replace(hint, relation=_UNSAFE.sub(" ", hint.relation), value=_UNSAFE.sub(" ", hint.value)) for hint in hints
    )
