"""From the generation on disk to the present: opening the indexes, and the changes that came after them."""

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection
from facetrail.indexing.encoding import stored_encoding
from facetrail.indexing.state import Encoded, IndexState
from facetrail.models.errors import Conflict, NotFound
from facetrail.models.records import Document


def open_state(collection: Collection, *, verify: bool) -> IndexState:
    """The indexes of the generation in service. Raises Conflict if there is none yet, Damaged."""
    opened = generation.open_generation(collection.folder, verify=verify)
    if opened is None:
        raise Conflict(
            f"the collection in {collection.folder} has no index yet; "
            f"finish it with `facetrail index build --out {collection.folder} --resume`"
        )
    path, manifest = opened
    return IndexState.open(path, number=manifest.number, change=manifest.built_from_change)


def catch_up(collection: Collection, state: IndexState) -> None:
    """Applies the changes a state has not seen; the caller keeps searches out of that state."""
    changes = collection.changes_since(state.change)
    if not changes:
        return
    last = {change.id: change for change in changes}
    state.discard(i for i, change in last.items() if change.kind == "delete")
    written = [i for i, change in last.items() if change.kind == "put"]
    documents = [d for d in collection.get_many(written) if d is not None]
    if documents:
        with_vector, encoded, bare = _with_vectors(collection, state, documents)
        state.put(with_vector, encoded)
        state.put(bare, None)
    state.change = changes[-1].number


def _with_vectors(
    collection: Collection, state: IndexState, documents: list[Document]
) -> tuple[list[Document], Encoded | None, list[Document]]:
    """(documents with a vector, their vectors and facet data, documents without)."""
    fingerprint = collection.settings.encoder_fingerprint
    if state.dense is None or fingerprint is None:
        return [], None, documents
    try:
        with collection.snapshot() as view:
            return documents, stored_encoding(view, [d.id for d in documents]), []
    except NotFound:
        # A build that was interrupted between reading and encoding leaves documents without a vector.
        n_bare = collection.count_without_vectors(fingerprint)
        without = {d.id for d, _ in collection.documents_without_vectors(fingerprint, n_bare)}
        rest = [d for d in documents if d.id not in without]
        with collection.snapshot() as view:
            encoded = stored_encoding(view, [d.id for d in rest])
        return rest, encoded, [d for d in documents if d.id in without]
