"""Models that answer in conversation, piece by piece: the nouns, and the seam.

Ours throughout. A stream is an iterator that is read in a thread, and closing it stops the model: between two tokens or
parts of a prompt where the weights are here, at any moment where a server has them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from facetrail.models.language.records import DrawKey, Finish, Kind, Sampling

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What was written since the piece before; the last one has the finish.

    An empty piece is a breath: nothing was written yet, and whoever reads may look at the clock and stop here.
    """

    text: str = ""
    finish: Finish | None = None
    usage: Usage | None = None
    """Comes with the finish; None where a server does not tell."""


class Speaker(Protocol):
    """Whatever answers messages: a folder of weights, a server, or a small model made from a config."""

    kind: Kind
    name: str

    @property
    def context(self) -> int:
        """The most tokens of prompt and completion together."""

    def count(self, messages: Sequence[Message]) -> int:
        """Tokens of the prompt that these messages make; for a server an estimate from above."""

    def stream(self, messages: Sequence[Message], *, sampling: Sampling, key: DrawKey) -> Iterator[Piece]:
        """The answer as it is written. Raises InvalidInput for messages that leave no room for a token."""
