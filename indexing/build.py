"""From a corpus on disk to a collection in service: read, encode, index, switch.

Every step continues where an interrupted one stopped: documents are committed in batches, vectors in blocks, and a
generation appears whole or not at all.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from facetrail.indexing import generation
from facetrail.indexing.collection import Collection, CollectionSettings
from facetrail.indexing.corpus import RowReport, read_corpus
from facetrail.indexing.dense import DenseConfig
from facetrail.indexing.encoding import encode_missing, recorded_encoder, stored_encoding
from facetrail.indexing.lexical import LexicalConfig
from facetrail.indexing.progress import Progress, no_progress
from facetrail.indexing.state import IndexState
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.text.encoder import TextEncoder, load_encoder
from facetrail.models.text.facets import FacetEncoder
from facetrail.models.text.locate import DEFAULT_ENCODER

READ_BATCH = 2_000
INDEX_BATCH = 8_192
MODES = ("lexical", "dense", "facet")


@dataclass(frozen=True)
class BuildConfig:
    """What a new collection is made of."""

    encoder: str = DEFAULT_ENCODER
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    """Prefixes, pooling and lengths that differ from the encoder's own; see `load_encoder`."""
    modes: tuple[str, ...] | None = None
    """Of `MODES`; None: lexical and dense, and facet if the encoder has facets."""
    lexical: LexicalConfig = field(default_factory=lambda: LexicalConfig())
    dense: DenseConfig = field(default_factory=lambda: DenseConfig())


@dataclass(frozen=True)
class BuildReport:
    """What a build did. seconds: wall time of each step."""

    generation: int
    n_documents: int
    rows: RowReport
    seconds: dict[str, float]


def build_collection(
    corpus: Path | None,
    out: Path,
    *,
    config: BuildConfig | None = None,
    encoder: TextEncoder | None = None,
    resume: bool = False,
    strict: bool = False,
    progress: Progress = no_progress,
) -> BuildReport:
    """Builds a collection from a corpus, or rebuilds the indexes of an existing one (corpus None).

    Raises Conflict if `out` holds a collection and neither `resume` nor corpus None was asked; InvalidInput for a
    corpus without one good row, or with a bad one under `strict`.
    """
    config = config or BuildConfig()
    seconds: dict[str, float] = {}
    with _open_or_create(corpus, out, config, encoder, resume) as collection:
        rows = RowReport()
        if corpus is not None:
            with _Timed(seconds, "read"):
                _read(collection, corpus, rows, strict, progress)
        if collection.count() == 0:
            raise InvalidInput(f"{corpus or out} holds no document to index; {rows.summary()}")
        if collection.settings.encoder is not None:
            encoder = encoder or recorded_encoder(collection)
            with _Timed(seconds, "encode"):
                encode_missing(collection, encoder, progress)
        with _Timed(seconds, "index"):
            number = build_generation(collection, progress)
        return BuildReport(number, collection.count(), rows, seconds)


def _open_or_create(
    corpus: Path | None, out: Path, config: BuildConfig, encoder: TextEncoder | None, resume: bool
) -> Collection:
    if corpus is None or (resume and Collection.exists(out)):
        return Collection.open(out, writable=True)
    if Collection.exists(out):
        raise Conflict(
            f"{out} already holds a collection; continue an interrupted build with --resume, add documents with "
            "`facetrail index add`, or choose another --out"
        )
    modes = _checked_modes(config.modes)
    if "dense" not in modes:
        encoder = None
    elif encoder is None:
        encoder = load_encoder(config.encoder, **config.encoder_options)
    faceted = _wanted_facets(encoder, config.modes)
    return Collection.create(
        out,
        CollectionSettings(
            name=out.resolve().name,
            encoder=config.encoder if encoder else None,
            encoder_card=encoder.card.model_dump(mode="json") if encoder else None,
            encoder_fingerprint=encoder.fingerprint if encoder else None,
            dim=encoder.dim if encoder else None,
            lexical=config.lexical.model_dump(mode="json") if "lexical" in modes else None,
            dense=config.dense.model_dump(mode="json") if encoder else None,
            facets=faceted.facets if faceted else None,
            facet_margin=faceted.margin if faceted else None,
            facet_mixing=faceted.mixing if faceted else None,
        ),
    )


def _checked_modes(asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """The modes to build; facet is added by the encoder where nothing was asked for."""
    if asked is None:
        return "lexical", "dense"
    unknown = set(asked) - set(MODES)
    if unknown or not asked:
        raise InvalidInput(f"--mode-set takes lexical, dense and facet, not {', '.join(sorted(unknown)) or 'nothing'}")
    if "facet" in asked and "dense" not in asked:
        raise InvalidInput("facet search scores again what dense search finds; add dense to --mode-set")
    return asked


def _wanted_facets(encoder: TextEncoder | None, asked: tuple[str, ...] | None) -> FacetEncoder | None:
    """The encoder as one with facets, if the collection shall have them."""
    if isinstance(encoder, FacetEncoder):
        return encoder if asked is None or "facet" in asked else None
    if asked is not None and "facet" in asked:
        name = encoder.name if encoder is not None else "none"
        raise InvalidInput(f"encoder {name!r} has no facets; name one that has with --encoder, or leave facet out")
    return None


class _Timed:
    """Adds the wall time of a block to a dictionary of seconds."""

    def __init__(self, seconds: dict[str, float], step: str) -> None:
        self._seconds, self._step = seconds, step

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._step] = round(time.perf_counter() - self._started, 3)


def _read(collection: Collection, corpus: Path, rows: RowReport, strict: bool, progress: Progress) -> None:
    documents = read_corpus(corpus, strict=strict, report=rows)
    done = 0
    while batch := list(islice(documents, READ_BATCH)):
        collection.put(batch)
        done += len(batch)
        progress("read", done, None)


def build_generation(collection: Collection, progress: Progress = no_progress) -> int:
    """Writes a new generation from one consistent view of the collection and puts it in service."""
    settings = collection.settings
    with collection.snapshot() as view:
        ids = view.ids_in_order()
        state = IndexState.empty(settings, ids)
        done = 0
        for batch in view.documents(batch=INDEX_BATCH):
            encoded = None
            if settings.encoder_fingerprint is not None:
                encoded = stored_encoding(view, [d.id for d in batch])
            state.fill(range(done, done + len(batch)), batch, encoded)
            done += len(batch)
            progress("index", done, len(ids))
        with generation.new_generation(collection.folder) as building:
            state.save(building.folder)
            return building.finish(
                built_from_change=view.change,
                n_documents=len(ids),
                encoder_fingerprint=settings.encoder_fingerprint,
                analyser_fingerprint=state.lexical.analyser.fingerprint if state.lexical else None,
            )


def parse_modes(text: str) -> tuple[str, ...]:
    """`lexical,dense` → ("lexical", "dense"); the checks stand in `build_collection`."""
    modes: Sequence[str] = [m.strip() for m in text.split(",") if m.strip()]
    return tuple(dict.fromkeys(modes))
