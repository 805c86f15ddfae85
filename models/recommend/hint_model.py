"""A fitted discovery of hints as one model folder: weights, attributes with their names, ids, titles and events.

Serving needs more than weights: tastes and similar users are statistics of events, so the events of training are part
of the folder. Users stand there by the ids of the data; whoever may not read those may not read the folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.models.checkpoint import ModelManifest, open_tensors, read_manifest, save_model
from facetrail.models.errors import Damaged
from facetrail.models.recommend.hint_prompts import Asked
from facetrail.models.recommend.hint_reading import HintReader
from facetrail.models.recommend.hint_rows import HintTable, contexts_of
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintConfig, HintNetwork
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.pairwise_baselines import BiasLogistic, logistic_weights
from facetrail.models.recommend.saved import restored_vocabulary, vocabulary_tensors
from facetrail.models.recommend.similar_users import similar_users
from facetrail.models.recommend.time_blocks import Floats, Ints, Ratings

KIND = "hints"
READ_AT_ONCE = 4_096


@dataclass(frozen=True)
class HintBlend:
    """Log-odds of a like from those of the bias logistic and of a reasoner (discovery or a language model)."""

    bias: float
    reasoner: float
    intercept: float

    def log_odds(self, bias: Floats, reasoner: Floats) -> Floats:
        """bias, reasoner: (r,) log-odds → (r,)."""
        summed: Floats = self.bias * bias + self.reasoner * reasoner + self.intercept
        return summed


def fit_blend(bias: Floats, reasoner: Floats, labels: Floats) -> HintBlend:
    """By maximum likelihood on validation. (r,) each. Raises InvalidInput as `logistic_weights` does."""
    # A little ridge: on few rows a reasoner that parts them perfectly must not get an infinite weight.
    weights = logistic_weights(np.column_stack([bias, reasoner, np.ones(len(bias))]), labels, ridge=1e-2)
    return HintBlend(*(float(weight) for weight in weights))


def log_odds(probabilities: Floats) -> Floats:
    """(r,) of probabilities strictly between 0 and 1."""
    found: Floats = np.log(probabilities) - np.log1p(-probabilities)
    return found


class SeenRows:
    """Rows as a network sees them at their cuts: their scores, and what to ask of them."""

    def __init__(self, network: HintNetwork, evidence: Evidence, users: Ints, items: Ints, cuts: Ints) -> None:
        """users, items, cuts: (r,). Who is similar follows from the network's weights."""
        contexts, context = contexts_of(evidence, users, cuts)
        similar = similar_users(evidence, contexts, network.user_vectors, network.config.n_similar)
        self._network = network.eval()
        self.table = HintTable(evidence, users, items, contexts, context, similar)
        self._reader = HintReader(evidence, self.table, similar)

    @cached_property
    def logits(self) -> Floats:
        """(r,) of a like."""
        parts = self._parts(np.arange(len(self.table)))
        with torch.no_grad():
            found = [self._network(self._batch(part)).logits.double().cpu().numpy() for part in parts]
        return np.concatenate([*found, np.empty(0)])

    @torch.no_grad()
    def asked(self, rows: Ints) -> list[Asked]:
        """Some of the rows, with liked items and hints."""
        table, found = self.table, []
        for part in self._parts(rows):
            hints = self._reader.read(part, self._network(self._batch(part)))
            for row, read in zip(part.tolist(), hints, strict=True):
                liked, context = table.contexts.liked, int(table.context[row])
                there = liked.rows[liked.starts[context] : liked.starts[context + 1]]
                found.append(Asked(int(table.items[row]), tuple(there.tolist()), read))
        return found

    def _batch(self, rows: Ints) -> Any:
        return self.table.batch(rows, self._network.slopes.device)

    @staticmethod
    def _parts(rows: Ints) -> list[Ints]:
        return [rows[start : start + READ_AT_ONCE] for start in range(0, len(rows), READ_AT_ONCE)]


@dataclass(frozen=True)
class HintModel:
    """What serving needs. network: with one user more than `users`, whose embedding is 0: whoever asks.

    titles: of every item · events: of training, by time · blend: of discovery with the bias logistic.
    """

    network: HintNetwork
    attributes: Attributes
    users: Vocabulary
    items: Vocabulary
    titles: tuple[str, ...]
    events: Ratings
    logistic: BiasLogistic
    blend: HintBlend


class HintModelConfig(BaseModel):
    """The `config` of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: HintConfig
    logistic: dict[str, float]
    blend: dict[str, float]
    n_users: int = Field(ge=1)
    n_items: int = Field(ge=1)


def with_guest(network: HintNetwork, attributes: Attributes) -> HintNetwork:
    """The same network on the CPU with one user more, of whom nothing was learnt."""
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    state["users.weight"] = torch.cat([state["users.weight"], torch.zeros(1, network.config.dim)])
    return _network(network.config, attributes, state)


def save_hint_model(
    folder: Path, model: HintModel, *, trained_on: Mapping[str, Any] | None = None,
    figures: Mapping[str, float] | None = None, licence: str = "",
) -> ModelManifest:  # fmt: skip
    """Writes a new model folder. Raises Conflict where something stands already."""
    known, events = model.attributes, model.events
    tensors: dict[str, NDArray[Any]] = {
        f"network.{name}": tensor.cpu().numpy() for name, tensor in model.network.state_dict().items()
    }
    tensors |= {f"attributes.{name}": getattr(known, name) for name in ("relations", "tails", "idf", "starts", "rows")}
    tensors |= {f"events.{name}": getattr(events, name) for name in ("users", "items", "labels", "times")}
    for name, words in (
        ("users", model.users.ids),
        ("items", model.items.ids),
        ("titles", model.titles),
        ("relation_names", _marked(known.relation_names)),
        ("tail_names", _marked(known.tail_names)),
    ):
        tensors |= {f"{name}.{part}": array for part, array in vocabulary_tensors(Vocabulary(tuple(words))).items()}
    config = HintModelConfig(
        network=model.network.config,
        logistic=asdict(model.logistic),
        blend=asdict(model.blend),
        n_users=len(model.users),
        n_items=len(model.items),
    )
    return save_model(
        folder, kind=KIND, config=config, tensors=tensors, trained_on=trained_on, figures=figures, licence=licence
    )


def open_hint_model(folder: Path) -> HintModel:
    """The model of a folder. Raises NotFound, InvalidInput (another kind), Conflict (a newer format) and Damaged."""
    manifest = read_manifest(folder, kind=KIND)
    try:
        config = HintModelConfig.model_validate(manifest.config)
    except ValidationError as error:
        raise Damaged(f"{folder} does not fit a model of hints ({error.errors()[0]['msg']}); train it again") from error
    with open_tensors(folder, manifest) as tensors:
        get = tensors.get_tensor

        def words(name: str) -> tuple[str, ...]:
            return restored_vocabulary(get(f"{name}.ids"), get(f"{name}.id_ends")).ids

        arrays = {name: get(f"attributes.{name}") for name in ("relations", "tails", "idf", "starts", "rows")}
        attributes = Attributes(
            **arrays,
            relation_names=_unmarked(words("relation_names")),
            tail_names=_unmarked(words("tail_names")),
        )
        events = Ratings(*(get(f"events.{name}") for name in ("users", "items", "labels", "times")))
        state = {
            name.removeprefix("network."): torch.from_numpy(get(name))
            for name in tensors.keys()  # noqa: SIM118
            if name.startswith("network.")
        }
        users, items, titles = Vocabulary(words("users")), Vocabulary(words("items")), words("titles")
    if (len(users), len(items), len(titles)) != (config.n_users, config.n_items, config.n_items):
        raise Damaged(f"{folder} holds other users or items than its manifest says; train it again")
    try:
        network = _network(config.network, attributes, state)
    except KeyError as error:
        raise Damaged(f"{folder} lacks a weight of the network ({error}); train it again") from error
    return HintModel(
        network, attributes, users, items, titles, events, BiasLogistic(**config.logistic), HintBlend(**config.blend)
    )


def _network(config: HintConfig, attributes: Attributes, state: Mapping[str, torch.Tensor]) -> HintNetwork:
    """Raises KeyError where the state lacks a weight."""
    n_users, n_items = len(state["users.weight"]), len(state["items.weight"])
    network = HintNetwork(config, attributes, n_users, n_items, generator=torch.Generator().manual_seed(0))
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network.eval()


def _marked(names: Sequence[str | None]) -> list[str]:
    """A name behind `=`, so that one that is None and one that is empty stay apart."""
    return ["" if name is None else f"={name}" for name in names]


def _unmarked(names: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(name[1:] if name else None for name in names)
