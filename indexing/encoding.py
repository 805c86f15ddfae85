"""A collection and its encoder: the one it was made with, encoding what has no vector yet, reading what is stored."""

from collections.abc import Callable, Sequence

from facetrail.indexing.collection import Collection, ReadView
from facetrail.indexing.progress import Progress, no_progress
from facetrail.indexing.state import Encoded
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.text.encoder import EncoderCard, TextEncoder, load_encoder
from facetrail.models.text.facets import FacetEncoder

ENCODE_BLOCK = 4_096
"""Documents between two commits of vectors: what an interrupted build repeats at most."""


def recorded_encoder(collection: Collection) -> TextEncoder:
    """The encoder a collection was made with, opened with the same prefixes, pooling and lengths.

    Raises Conflict if what is found under its name now is another one, InvalidInput if there was none.
    """
    settings = collection.settings
    if settings.encoder is None:
        raise InvalidInput("this collection was built without a dense index, so it has no encoder; use mode 'lexical'")
    card = EncoderCard.model_validate(settings.encoder_card)
    encoder = load_encoder(
        settings.encoder,
        query_prefix=card.query_prefix,
        document_prefix=card.document_prefix,
        pooling=card.pooling if card.pooling != "pipeline" else None,
        normalise=card.normalise,
        max_query_tokens=card.max_query_tokens,
        max_document_tokens=card.max_document_tokens,
    )
    require_same_encoder(collection, encoder)
    return encoder


def require_same_encoder(collection: Collection, encoder: TextEncoder) -> None:
    """Raises Conflict unless an encoder is the one a collection's vectors were made with."""
    built_with = collection.settings.encoder_fingerprint
    if built_with is not None and encoder.fingerprint != built_with:
        raise Conflict(
            f"the collection was built with encoder {collection.settings.encoder!r} ({built_with[:12]}), not "
            f"{encoder.name!r} ({encoder.fingerprint[:12]}): weights, pooling, prefixes or length differ; "
            f"open it with that encoder, or build a new one with `facetrail index build --encoder {encoder.name}`"
        )


def encode_missing(collection: Collection, encoder: TextEncoder, progress: Progress = no_progress) -> int:
    """Encodes every document that has no vector of this encoder, each once; committed block by block, vectors and
    facet data together. Returns how many."""
    total = collection.count_without_vectors(encoder.fingerprint)
    done = 0
    progress("encode", 0, total)
    while block := collection.documents_without_vectors(encoder.fingerprint, ENCODE_BLOCK):
        start = done
        encoded = encode_batch(
            collection,
            encoder,
            [document.content for document, _ in block],
            lambda n, start=start: progress("encode", start + n, total),  # type: ignore[misc]
        )
        collection.store_vectors(
            [document.id for document, _ in block],
            [content_hash for _, content_hash in block],
            encoder.fingerprint,
            encoded.vectors,
            encoded.facets,
        )
        done += len(block)
        progress("encode", done, total)
    return done


def encode_batch(
    collection: Collection, encoder: TextEncoder, texts: Sequence[str], progress: Callable[[int], None] | None = None
) -> Encoded:
    """What a collection stores of texts, in one pass of its encoder."""
    if collection.settings.facets is None:
        return Encoded(encoder.encode_documents(texts, progress=progress))
    return Encoded(*require_facets(collection, encoder).encode_facets(texts, progress=progress))


def require_facets(collection: Collection, encoder: TextEncoder) -> FacetEncoder:
    """The encoder of a collection with facets as what it must be. Raises Conflict if it is none such."""
    if not isinstance(encoder, FacetEncoder) or encoder.facets != collection.settings.facets:
        raise Conflict(
            f"the collection has the facets {', '.join(collection.settings.facets or ())}, which encoder "
            f"{encoder.name!r} does not give; open it with the encoder it was built with"
        )
    return encoder


def stored_encoding(view: ReadView, ids: Sequence[str]) -> Encoded:
    """What is stored of distinct ids. Raises NotFound if one has no vector of its present text."""
    settings = view.settings
    assert settings.encoder_fingerprint is not None
    vectors = view.vectors_for(ids, settings.encoder_fingerprint)
    has_facets = settings.facets is not None
    return Encoded(vectors, view.facets_for(ids, settings.encoder_fingerprint) if has_facets else None)
