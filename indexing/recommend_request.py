"""What a recommendation may ask for and what it answers; the command line, the service and Python share these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, Field

from facetrail.indexing.request import Closed
from facetrail.models.recommend.records import Recommendation

MAX_LIMIT = 500
MAX_DEPTH = 10_000
MAX_HISTORY = 10_000
IMPRESSION = "impression"
"""Action of an event that says what was shown: it speaks for no item, and no item counts as seen by it."""


class HistoryEvent(Closed):
    """One event of a history that is sent along instead of stored."""

    item: str = Field(min_length=1, max_length=512)
    action: str | None = Field(default=None, min_length=1, max_length=512)
    """None: it speaks for the item, whatever the recommender counts."""
    time: int = Field(default=0, ge=0, le=2**53)
    """Milliseconds since 1970 in UTC; events of one time keep their order."""
    value: float | None = Field(default=None, allow_inf_nan=False)


class Diversity(Closed):
    """How much a list shall vary; the formula stands in `facetrail.indexing.recommending_diversity`."""

    model_config = ConfigDict(populate_by_name=True)

    lambda_: float = Field(alias="lambda", ge=0, le=1, allow_inf_nan=False)
    """0: by score alone; 1: as unlike each other as can be."""


class HintVerdict(Closed):
    """What the user says of an attribute, by the names that hints show."""

    relation: str = Field(min_length=1, max_length=512)
    value: str = Field(min_length=1, max_length=512)
    verdict: Literal["likes", "dislikes", "mute"]
    """`likes` and `dislikes` count like five events of it · `mute`: neither counted nor selected nor shown."""


class HintOptions(Closed):
    """Strategy `hints`: who decides on the candidates."""

    mode: Literal["discovery", "lm", "blend"] = "discovery"
    """`discovery`: the network of hints · `lm`: a language model that reads the hints of the network's best ·
    `blend`: either one, the language model where one is attached, weighed with the two averages as on validation."""
    max: int | None = Field(default=None, ge=0, le=100)
    """Hints of each side, at most; None: as many as the network selects."""
    sides: Literal["item", "user", "both"] = "both"
    """Hints among the item's attributes, or among those that say most of the user whatever the item."""
    polarity: Literal["likes", "dislikes", "both"] = "both"
    """Hints that speak for the item, or against it."""
    relations_allow: list[str] = Field(default_factory=list, max_length=1_000)
    """Relations that may be looked at, by the names that hints show; empty: all."""
    relations_deny: list[str] = Field(default_factory=list, max_length=1_000)
    """Relations whose attributes are neither counted nor selected nor shown."""
    feedback: list[HintVerdict] = Field(default_factory=list, max_length=1_000)
    """Corrects or mutes hints for this request; of one attribute the last verdict holds."""


class ExcludeShown(Closed):
    """Which items were shown often enough."""

    window: int = Field(ge=1, le=2**53)
    """Milliseconds back from now."""
    max: int = Field(default=1, ge=1)
    """An item with so many impressions within the window is left out."""


class RecommendRequest(Closed):
    """One recommendation: for a stored user, for a history that is sent along, or for both, the stored events first."""

    user: str | None = Field(default=None, min_length=1, max_length=512)
    """Whose stored events to start from."""
    history: list[str | HistoryEvent] | None = Field(default=None, max_length=MAX_HISTORY)
    """Items, oldest first, or events. An empty list asks for somebody of whom nothing is known."""
    strategy: str = Field(default="blend", min_length=1, max_length=100)
    """`blend`, its parts `ease`, `markov` and `popular`; `similar` to `item`; `hints`, which re-ranks the best of
    `blend` and needs a model attached; or another fitted recommender by name."""
    hints: HintOptions = HintOptions()
    """Read by strategy `hints` alone."""
    item: str | None = Field(default=None, min_length=1, max_length=512)
    """Strategy `similar`: the document to be near to."""
    limit: int = Field(default=10, ge=1, le=MAX_LIMIT)
    offset: int = Field(default=0, ge=0, le=MAX_DEPTH - MAX_LIMIT)
    cursor: str | None = None
    """`next_cursor` of the page before; replaces offset. What happened after the first page does not count."""
    filter: dict[str, Any] | None = None
    """A tree of must / should / must_not over the documents' metadata; see `facetrail.indexing.filters`."""
    allow: list[str] | None = Field(default=None, max_length=MAX_DEPTH)
    """The only ids that may be returned; None: all."""
    exclude: list[str] = Field(default_factory=list, max_length=MAX_DEPTH)
    """Ids that may not be returned."""
    filter_seen: bool = True
    """Leaves out every item that the user has an event with, and every item of the history sent along."""
    exclude_shown: ExcludeShown | None = None
    """Leaves out what the user's logged impressions say was shown too often."""
    diversity: Diversity | None = None
    """Reorders the best items, so that equal ones do not stand together; their scores stay as they are."""
    explain: bool = False
    log_impression: bool = False
    """Writes the answer's items as events `impression` of the user, all at one time."""


@dataclass(frozen=True, slots=True)
class RecommendResult:
    """Items, higher scores first, equal ones by id; with `diversity` in an order of their own."""

    items: Sequence[Recommendation]
    request_id: str
    """Send it back with the events that follow, so that they can be told apart from others."""
    model: str
    """What scored: a version of a recommender, `blend/000003`, several of them, or `dense`."""
    generation: int
    fallback: bool
    """Nothing was known of the user: recent popularity answered, or, of `hints`, what its model makes of nobody."""
    warnings: Sequence[str] = ()
    next_cursor: str | None = None
