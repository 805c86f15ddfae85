"""A recommender as a model folder: what it was fitted to, byte for byte, and the ids of its items.

The vocabulary is stored among the tensors (UTF-8 bytes and where each id ends) and its hash in the config. Numbers are
restored as they were written, so a reopened recommender answers with the same items and scores. Never pickle.
"""

import hashlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.models.checkpoint import ModelManifest, open_tensors, read_manifest, save_model
from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.recommend.interactions import Scorer, Vocabulary
from facetrail.models.recommend.scored import ScoredRecommender

KIND = "recommender"
SCORERS = {
    "ease": "ease:Ease",
    "ials": "factorisation:ImplicitFactors",
    "item-knn": "knn:ItemKnn",
    "item-vectors": "knn:ItemVectors",
    "lightgcn": "lightgcn:LightGcn",
    "markov": "markov:Markov",
    "popularity": "popularity:Popularity",
    "recent-popularity": "popularity:RecentPopularity",
    "sasrec": "sasrec:SasrecScorer",
}
"""Kind → module of this package and class; a module is imported when a folder needs it."""


@runtime_checkable
class Storable(Protocol):
    """A scorer that is numbers and a config."""

    kind: str

    def stored(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Config, as JSON holds it, and tensors."""


class StoredScorer(BaseModel):
    """One scorer of the folder; its tensors are named `<place>.<name>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    config: dict[str, Any]
    tensors: list[str]


class RecommenderConfig(BaseModel):
    """What the folder holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorers: list[StoredScorer] = Field(min_length=2)
    """Those that are summed, and at the end the one for histories of which nothing is known."""
    n_items: int = Field(ge=0)
    vocabulary_sha256: str = Field(pattern="^[0-9a-f]{64}$")


def save_recommender(
    folder: Path,
    recommender: ScoredRecommender,
    *,
    trained_on: Mapping[str, Any] | None = None,
    figures: Mapping[str, float] | None = None,
    licence: str = "",
) -> ModelManifest:
    """Writes a new model folder; neighbours of new items are not part of it.

    Raises Conflict where something stands already and InvalidInput for a scorer that cannot be stored.
    """
    tensors = vocabulary_tensors(recommender.vocabulary)
    config = RecommenderConfig(
        scorers=[
            _store(scorer, place, tensors) for place, scorer in enumerate((*recommender.scorers, recommender.popular))
        ],
        n_items=len(recommender.vocabulary),
        vocabulary_sha256=vocabulary_sha256(recommender.vocabulary),
    )
    return save_model(
        folder, kind=KIND, config=config, tensors=tensors, trained_on=trained_on, figures=figures, licence=licence
    )


def open_recommender(folder: Path, *, cold: Mapping[str, Sequence[str]] | None = None) -> ScoredRecommender:
    """The recommender of a model folder. cold: as of `ScoredRecommender`.

    Raises NotFound (no model there), InvalidInput (another kind of model, or of scorer), Conflict (a newer format) and
    Damaged.
    """
    manifest = read_manifest(folder, kind=KIND)
    try:
        config = RecommenderConfig.model_validate(manifest.config)
    except ValidationError as error:
        raise Damaged(f"{folder} does not fit a recommender ({error.errors()[0]['msg']}); save it again") from error
    with open_tensors(folder, manifest) as tensors:
        vocabulary = restored_vocabulary(tensors.get_tensor("ids"), tensors.get_tensor("id_ends"))
        if vocabulary_sha256(vocabulary) != config.vocabulary_sha256:
            raise Damaged(f"the ids in {folder} are not those that its manifest names; save it again")
        *scorers, popular = (_restore(folder, stored, place, tensors) for place, stored in enumerate(config.scorers))
    return ScoredRecommender(vocabulary, scorers, popular=popular, cold=cold)


def vocabulary_tensors(vocabulary: Vocabulary) -> dict[str, NDArray[Any]]:
    """`ids`, the UTF-8 bytes of all ids in a row, and `id_ends` (m,), where each ends."""
    encoded = [name.encode() for name in vocabulary.ids]
    return {
        "ids": np.frombuffer(b"".join(encoded), np.uint8),
        "id_ends": np.cumsum([len(name) for name in encoded], dtype=np.int64),
    }


def restored_vocabulary(ids: NDArray[np.uint8], ends: NDArray[np.int64]) -> Vocabulary:
    """The inverse of `vocabulary_tensors`."""
    text, bounds = ids.tobytes(), [0, *ends.tolist()]
    return Vocabulary(tuple(text[a:b].decode() for a, b in pairwise(bounds)))


def vocabulary_sha256(vocabulary: Vocabulary) -> str:
    """Of the ids in their order, each with its length, so that no two vocabularies share one."""
    digest = hashlib.sha256()
    for name in vocabulary.ids:
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()


def _store(scorer: Scorer, place: int, tensors: dict[str, NDArray[Any]]) -> StoredScorer:
    if not isinstance(scorer, Storable) or scorer.kind not in SCORERS:
        raise InvalidInput(f"{scorer.name} cannot be saved with a recommender; scorers that can: {', '.join(SCORERS)}")
    config, own = scorer.stored()
    tensors.update({f"{place}.{name}": tensor for name, tensor in own.items()})
    return StoredScorer(kind=scorer.kind, config=config, tensors=sorted(own))


def _restore(folder: Path, stored: StoredScorer, place: int, tensors: Any) -> Scorer:
    if stored.kind not in SCORERS:
        raise InvalidInput(f"{folder} holds a scorer of kind {stored.kind!r}, which this facetrail lacks; upgrade it")
    module, name = SCORERS[stored.kind].split(":")
    found = getattr(import_module(f"facetrail.models.recommend.{module}"), name)
    own = {tensor: tensors.get_tensor(f"{place}.{tensor}") for tensor in stored.tensors}
    return cast(Scorer, found.restored(stored.config, own))
