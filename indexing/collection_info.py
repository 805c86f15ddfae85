"""What a collection in service holds and how it was built."""

from dataclasses import dataclass

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection
from facetrail.indexing.events import Events
from facetrail.indexing.state import IndexState


@dataclass(frozen=True)
class CollectionInfo:
    """What `facetrail index info` and `GET /v1/collections` show."""

    name: str
    n_documents: int
    n_events: int
    modes: tuple[str, ...]
    facets: tuple[str, ...]
    """Names of the facets that can be asked for."""
    generation: int
    n_written_since: int
    """Changes after the generation, served from memory until the next build."""
    encoder: str | None
    encoder_fingerprint: str | None
    dim: int | None
    dense_kind: str | None
    n_without_vector: int
    bytes_on_disk: int
    writable: bool


def describe(collection: Collection, state: IndexState) -> CollectionInfo:
    """Counts and names; cheap. state: what searches of the collection read now."""
    settings = collection.settings
    return CollectionInfo(
        name=settings.name,
        n_documents=len(state.ids),
        n_events=Events(collection).count(),
        modes=state.modes,
        facets=settings.facets or (),
        generation=state.number,
        n_written_since=collection.last_change - generation.built_from(collection.folder),
        encoder=settings.encoder,
        encoder_fingerprint=settings.encoder_fingerprint,
        dim=settings.dim,
        dense_kind=state.dense.kind if state.dense is not None else None,
        n_without_vector=len(state.ids) - len(state.dense) if state.dense is not None else 0,
        bytes_on_disk=sum(f.stat().st_size for f in collection.folder.rglob("*") if f.is_file()),
        writable=collection.writable,
    )
