"""A cursor: where a page ended, as (generation, score, id, fingerprint of the search), in one opaque word."""

import base64
import hashlib
import json

import numpy as np

from facetrail.indexing.index import Hits
from facetrail.indexing.request import Hit, SearchRequest
from facetrail.indexing.state import IndexState
from facetrail.models.errors import Gone, InvalidInput


def fingerprint(request: SearchRequest) -> str:
    """What makes two requests the same search, whatever page they ask for."""
    asked = request.model_dump_json(exclude={"cursor", "limit", "offset", "with_payload", "explain"})
    return hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()


def write_cursor(request: SearchRequest, state: IndexState, last: Hit) -> str:
    """The cursor of the page behind a hit."""
    content = [state.number, last.score.hex(), last.id, fingerprint(request)]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def read_cursor(request: SearchRequest, state: IndexState) -> tuple[float, str]:
    """(score, id) of the last hit of the page before. Raises InvalidInput, and Gone after a generation switch."""
    if request.offset:
        raise InvalidInput("a cursor replaces offset; send one of the two", pointer="/offset")
    try:
        number, score, document_id, asked = json.loads(base64.urlsafe_b64decode(request.cursor or ""))
        position = float.fromhex(score), str(document_id)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(
            "the cursor is not one this service gave out; start again without", pointer="/cursor"
        ) from error
    if asked != fingerprint(request):
        raise InvalidInput("the cursor belongs to another search; send it with the same request", pointer="/cursor")
    if number != state.number:
        raise Gone(f"the cursor is of index generation {number}, which generation {state.number} replaced; start again")
    return position


def first_after(ranking: Hits, position: tuple[float, str], state: IndexState) -> int:
    """Where the first hit behind (score, id) stands."""
    score, document_id = position
    start = int(np.searchsorted(-ranking.scores, -score, side="left"))
    while start < len(ranking) and ranking.scores[start] == score:
        if state.ids.id(int(ranking.ordinals[start])).encode() > document_id.encode():
            break
        start += 1
    return start
