"""The nouns of the platform: frozen, typed, in the field's words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ID_BYTES = 512


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a document, for instance one sentence with its rhetorical role."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """The unit of retrieval. `id` is 1 to 512 bytes of UTF-8; `metadata` is a JSON object."""

    id: str
    text: str
    title: str = ""
    sections: tuple[Section, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """What is indexed, by words and by meaning: the title, on a line of its own, and the text.

        The line break costs an encoder nothing and tells one that looks at sentences where the title ends.
        """
        return f"{self.title}\n{self.text}".strip()


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked."""

    id: str
    text: str


Qrels = dict[str, dict[str, int]]
"""Judgements: query id → document id → grade (0 = judged, not relevant)."""

Run = dict[str, dict[str, float]]
"""A system's ranked answer: query id → document id → score, higher is better."""
