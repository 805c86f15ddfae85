"""What the command line evaluates: modes by name, a collection made ready for them, and the runs."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from facetrail.eval.datasets import RetrievalDataset
from facetrail.indexing.request import FusionConfig, Mode
from facetrail.models.errors import InvalidInput
from facetrail.models.text.locate import DEFAULT_ENCODER

if TYPE_CHECKING:
    from facetrail.indexing.searcher import Searcher

METHODS = ("z", "minmax", "rrf", "dbsf")


@dataclass(frozen=True)
class ModeArm:
    """One thing to evaluate: `lexical`, `dense`, `hybrid`, or `hybrid:METHOD`."""

    label: str
    mode: Mode
    fusion: FusionConfig


def parse_arm(text: str, weights: Mapping[str, float] | None = None) -> ModeArm:
    """`hybrid:rrf` → its mode and fusion; weights apply to hybrid alone. Raises InvalidInput."""
    mode, _, method = text.strip().partition(":")
    if mode not in get_args(Mode):
        raise InvalidInput(f"there is no mode {mode!r}; use lexical, dense, hybrid or hybrid:METHOD")
    if ":" in text and (mode != "hybrid" or method not in METHODS):
        raise InvalidInput(f"{text!r} is no mode; only hybrid takes a method: hybrid:{', hybrid:'.join(METHODS)}")
    parts: dict[str, Any] = {"method": method or "z"}
    if weights is not None and mode == "hybrid":
        parts["weights"] = dict(weights)
    return ModeArm(text.strip(), cast(Mode, mode), FusionConfig(**parts))


def parse_arms(mode: str, compare: str | None, weights: Mapping[str, float] | None = None) -> list[ModeArm]:
    """The mode to report first, then those to compare it with, each once."""
    names = [mode, *(compare.split(",") if compare else [])]
    arms = [parse_arm(name, weights) for name in names if name.strip()]
    return list({arm.label: arm for arm in arms}.values())


def parse_weights(text: str | None) -> dict[str, float] | None:
    """`0.6` (the dense ranker's share) or `lexical=0.4,dense=0.6`; None stays None. Raises InvalidInput."""
    if text is None:
        return None
    cure = "give the dense ranker's share, as in 0.6, or lexical=0.4,dense=0.6"
    weights: dict[str, float] = {}
    try:
        if "=" not in text:
            share = float(text)
            if not 0 <= share <= 1:
                raise InvalidInput(f"--weights {text} is not between 0 and 1; {cure}")
            return {"lexical": 1.0 - share, "dense": share}
        for part in text.split(","):
            name, _, value = part.partition("=")
            weights[name.strip()] = float(value)
    except ValueError as error:
        raise InvalidInput(f"--weights {text!r} cannot be read; {cure}") from error
    if set(weights) != {"lexical", "dense"} or any(not 0 <= value < float("inf") for value in weights.values()):
        raise InvalidInput(f"--weights {text!r} must weigh lexical and dense, each from 0 up; {cure}")
    return weights


def open_or_build(
    dataset: RetrievalDataset, *, index: Path | None, encoder: str, with_dense: bool, quiet: bool
) -> "Searcher":
    """The collection to search: the one at `index`, or one built from the data set's corpus into the cache folder.

    The cache is keyed by the corpus's hash and the encoder's fingerprint; a build that was interrupted is continued.
    """
    from facetrail.indexing.build import BuildConfig, build_collection
    from facetrail.indexing.progress import progress_bar
    from facetrail.indexing.searcher import Searcher

    if index is not None:
        if encoder == DEFAULT_ENCODER:  # nobody asked for another: the one it was built with
            return Searcher.open(index)
        from facetrail.models.text.encoder import load_encoder

        return Searcher.open(index, encoder=load_encoder(encoder))
    loaded = None
    if with_dense:
        from facetrail.models.text.encoder import load_encoder

        loaded = load_encoder(encoder)
    modes = None if with_dense else ("lexical",)  # None: with facets, where the encoder has them
    folder = cached_collection(dataset.sha256["corpus"], loaded.fingerprint if loaded else "")
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        with progress_bar(quiet=quiet) as progress:
            config = BuildConfig(encoder=encoder, modes=modes)
            build_collection(
                dataset.corpus, unfinished, config=config, encoder=loaded, resume=unfinished.is_dir(), progress=progress
            )
        with suppress(OSError):  # another process finished the same build first
            unfinished.rename(folder)
    return Searcher.open(folder, encoder=loaded)


def cached_collection(corpus_sha256: str, encoder_fingerprint: str) -> Path:
    """Where the collection of this corpus and encoder ("" for words alone) is kept, for this version of the code."""
    from importlib.metadata import version

    from facetrail.indexing.analysis import Analyser
    from facetrail.models.text.cache import cache_folder

    made_of = (corpus_sha256, encoder_fingerprint, Analyser().fingerprint, version("facetrail"))
    key = hashlib.sha256("|".join(made_of).encode()).hexdigest()[:24]
    return cache_folder("collections") / f"{key}{'' if encoder_fingerprint else '-lexical'}"
