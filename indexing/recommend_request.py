"""What a recommendation may ask for and what it answers; the command line, the service and Python share these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from facetrail.indexing.request import Closed
from facetrail.models.recommend.records import Recommendation

MAX_LIMIT = 500
MAX_DEPTH = 10_000
MAX_HISTORY = 10_000


class HistoryEvent(Closed):
    """One event of a history that is sent along instead of stored."""

    item: str = Field(min_length=1, max_length=512)
    action: str | None = Field(default=None, min_length=1, max_length=512)
    """None: it speaks for the item, whatever the recommender counts."""
    time: int = Field(default=0, ge=0, le=2**53)
    """Milliseconds since 1970 in UTC; events of one time keep their order."""
    value: float | None = Field(default=None, allow_inf_nan=False)


class RecommendRequest(Closed):
    """One recommendation: for a stored user, for a history that is sent along, or for both, the stored events first."""

    user: str | None = Field(default=None, min_length=1, max_length=512)
    """Whose stored events to start from."""
    history: list[str | HistoryEvent] | None = Field(default=None, max_length=MAX_HISTORY)
    """Items, oldest first, or events. An empty list asks for somebody of whom nothing is known."""
    strategy: str = Field(default="blend", min_length=1, max_length=100)
    """`blend`, its parts `ease`, `markov` and `popular`; `similar` to `item`; or another fitted recommender by name."""
    item: str | None = Field(default=None, min_length=1, max_length=512)
    """Strategy `similar`: the document to be near to."""
    limit: int = Field(default=10, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0, le=MAX_DEPTH - MAX_LIMIT)
    filter: dict[str, Any] | None = None
    """A tree of must / should / must_not over the documents' metadata; see `facetrail.indexing.filters`."""
    allow: list[str] | None = Field(default=None, max_length=MAX_DEPTH)
    """The only ids that may be returned; None: all."""
    exclude: list[str] = Field(default_factory=list, max_length=MAX_DEPTH)
    """Ids that may not be returned."""
    filter_seen: bool = True
    """Leaves out every item that the user has an event with, and every item of the history sent along."""
    explain: bool = False


@dataclass(frozen=True, slots=True)
class RecommendResult:
    """Items, higher scores first, equal ones by id."""

    items: Sequence[Recommendation]
    request_id: str
    """Send it back with the events that follow, so that they can be told apart from others."""
    model: str
    """What scored: a version of a recommender, `blend/000003`, or `dense`."""
    generation: int
    fallback: bool
    """Nothing was known of the user: recent popularity answered."""
    warnings: Sequence[str] = ()
