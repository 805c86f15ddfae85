"""Documents of small collections, kept as JSON: reading and writing ten of them costs more than finding them."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from facetrail.app.bodies import dumps
from facetrail.models.records import Document

MAX_BYTES = 64 * 1024 * 1024

Fetch = Callable[[Sequence[str]], Sequence[Document | None]]


def written_document(document: Document) -> dict[str, Any]:
    """A document as the API shows it."""
    return {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "sections": document.sections,
        "metadata": document.metadata,
    }


class Payloads:
    """Document id → its JSON. Used on the event loop while no write is under way; a write clears it."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._kept: dict[str, orjson.Fragment] = {}

    def of(self, ids: Sequence[str], fetch: Fetch) -> list[orjson.Fragment | None]:
        """The documents' JSON, in the order of the ids; None where one is gone."""
        kept = self._kept
        missing = [i for i in ids if i not in kept]
        if not missing:
            return [kept[i] for i in ids]
        fresh: dict[str, orjson.Fragment] = {}
        for document in fetch(missing):
            if document is not None:
                text = dumps(written_document(document))
                fresh[document.id] = orjson.Fragment(text)
                self._n_bytes += len(text)
        found = [kept.get(i) or fresh.get(i) for i in ids]
        if self._n_bytes > self._max_bytes:
            self.clear()
        else:
            kept.update(fresh)
        return found

    def clear(self) -> None:
        """Forgets everything; a search that reads at this moment keeps what it reads from."""
        self._kept = {}
        self._n_bytes = 0
