"""What reasoning may ask for and what it answers; the command line, the service and Python share these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from facetrail.indexing.recommend_request import MAX_HISTORY, HistoryEvent
from facetrail.indexing.request import Closed, Mode
from facetrail.models.language.citing import Citation, Sentence

MAX_PASSAGES = 20


class ReasonRequest(Closed):
    """One question, answered from documents of the collection or from the measured reasons of recommendations."""

    question: str = Field(min_length=1, max_length=100_000)
    mode: Mode | None = None
    """Of the search for passages, as `facets` and `filter`; None: the collection's default."""
    facets: dict[str, float] | Literal["auto"] | None = None
    filter: dict[str, Any] | None = None
    limit: int = Field(default=5, ge=1, le=MAX_PASSAGES)
    """Passages to retrieve, or items to recommend."""
    max_tokens: int = Field(default=256, ge=1, le=4_096)
    """The most that the model may write."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0: the likeliest token each time, so that equal questions get equal answers."""
    about: Literal["documents", "recommendations"] = "documents"
    user: str | None = Field(default=None, min_length=1, max_length=512)
    """About recommendations: whose, as in a `RecommendRequest`."""
    history: list[str | HistoryEvent] | None = Field(default=None, max_length=MAX_HISTORY)
    """About recommendations: the events of somebody unknown."""


@dataclass(frozen=True, slots=True)
class AnswerModel:
    """Which model spoke. context: tokens it reads and writes at most · limits: what held for this answer, in words."""

    name: str
    kind: Literal["local", "endpoint", "tiny"]
    context: int
    limits: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its citations checked.

    What is quoted is the document's text; about recommendations it is the recommender's reasons in words.
    is_answered: False where nothing relevant was retrieved or the model says that it does not know · dropped: ids of
    passages that were retrieved and for which the prompt had no room, or which held nothing that may be shown.
    """

    answer: str
    is_answered: bool
    sentences: Sequence[Sentence]
    citations: Sequence[Citation]
    model: AnswerModel
    dropped: Sequence[str]
    took_ms: float


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that the model is about to read, their `quote` still empty."""

    citations: Sequence[Citation]


@dataclass(frozen=True, slots=True)
class Token:
    """The next part of the answer; all parts together are the answer."""

    text: str


AnswerEvent = Retrieved | Token | Answer
