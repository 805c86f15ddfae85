"""Pages of one recommendation: a cursor keeps the moment of the first, so that its pages agree with each other.

Later pages are ranked from the events and impressions up to that moment. A newly fitted recommender or a new index
generation ranks otherwise, so it ends the cursor.
"""

import base64
import hashlib
import json
from dataclasses import dataclass

from facetrail.indexing.recommend_request import RecommendRequest
from facetrail.models.errors import Gone, InvalidInput

_FREE = {"cursor", "limit", "offset", "explain", "log_impression", "with_payload"}


@dataclass(frozen=True)
class Page:
    """Where a page begins."""

    start: int
    """Items before it."""
    moment: int
    """Milliseconds in UTC at which the first page was asked for."""
    ranked_by: str | None = None
    """The model and generation of the pages before; None for a first page."""

    def require_same(self, ranked_by: str) -> None:
        """Raises Gone where the pages before were ranked by something else."""
        if self.ranked_by is not None and self.ranked_by != ranked_by:
            raise Gone(f"the cursor is of {self.ranked_by}, which {ranked_by} replaced; start again without a cursor")


def fingerprint(request: RecommendRequest) -> str:
    """What makes two requests the same recommendation, whatever page they ask for."""
    asked = request.model_dump_json(exclude=_FREE, exclude_none=True)
    return hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()


def write_cursor(request: RecommendRequest, page: Page, ranked_by: str) -> str:
    """The cursor of the page behind one."""
    content = [page.start + request.limit, page.moment, ranked_by, fingerprint(request)]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def read_page(request: RecommendRequest, now: int) -> Page:
    """The page that a request asks for. Raises InvalidInput for a cursor that is not of this recommendation."""
    if request.cursor is None:
        return Page(request.offset, now)
    if request.offset:
        raise InvalidInput("a cursor replaces offset; send one of the two", pointer="/offset")
    try:
        start, moment, ranked_by, asked = json.loads(base64.urlsafe_b64decode(request.cursor))
        page = Page(int(start), int(moment), str(ranked_by))
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            "the cursor is not one this service gave out; start again without", pointer="/cursor"
        ) from error
    if asked != fingerprint(request) or page.start < 0:
        raise InvalidInput(
            "the cursor belongs to another recommendation; send it with the same request", pointer="/cursor"
        )
    return page
