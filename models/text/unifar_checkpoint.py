"""A trained UniFAR encoder on disk: how its top layers differ from the base, and its head.

A model folder of kind "unifar" holds no weight of the base, only the differences of the trained layers in float16 and
the tensors of the head; the manifest names the base and its sha256, and another base is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.models.checkpoint import BaseIdentity, ModelManifest, open_tensors, read_manifest, save_model
from facetrail.models.errors import Conflict, Damaged, InvalidInput
from facetrail.models.text.architecture import bare_names, is_bert
from facetrail.models.text.encoder import Float32Array
from facetrail.models.text.sentences import SPLITTER_VERSION
from facetrail.models.text.source import EncoderSource, Overrides, find_source
from facetrail.models.text.unifar_config import UnifarConfig

if TYPE_CHECKING:
    from torch import Tensor

KIND = "unifar"
DIFFERENCE, HEAD = "difference/", "head/"
"""Where a tensor's name begins that is added to the base's tensor of that name, or belongs to the head."""
WIDE = 10_000
"""Head tensors of more elements are stored in float16: the maps, which mix hundreds of numbers each; the others, which
scale or compare, in float32."""


class UnifarModelConfig(BaseModel):
    """The configuration in the manifest of a model folder of kind "unifar"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: UnifarConfig
    averaging: float = Field(1.0, ge=0, le=1)
    """w: the saved layers are (1 - w) base + w trained. Already applied to what is saved."""


@dataclass(frozen=True)
class UnifarSource:
    """A located, checked and identified UniFAR encoder; its tensors are still on disk."""

    name: str
    folder: Path
    config: UnifarConfig
    base: EncoderSource
    mixing: float
    weights_sha256: str
    graph_key: str
    """Identifies what a compiled form of the network depends on."""
    fingerprint: str
    """Identifies everything that moves a vector."""


@dataclass(frozen=True)
class UnifarWeights:
    """float32 tensors. network: the base's, under bare names, with the differences added · head: of `UnifarHead`."""

    network: dict[str, Float32Array]
    head: dict[str, Float32Array]


def save_unifar(
    folder: Path,
    config: UnifarConfig,
    *,
    head: "Mapping[str, Tensor]",
    differences: "Mapping[str, Tensor]",
    base: EncoderSource,
    averaging: float = 1.0,
    trained_on: Mapping[str, Any] | None = None,
    figures: Mapping[str, float] | None = None,
    licence: str = "",
) -> ModelManifest:
    """Writes a model folder that must not exist yet.

    head: the state of a `UnifarHead` · differences: of the trained layers from the base, see `TopLayers.differences`,
    with the weight averaging `averaging` already applied.
    """
    require_base(base, config)
    tensors: dict[str, NDArray[Any]] = {
        DIFFERENCE + name: _numpy(tensor).astype(np.float16) for name, tensor in differences.items()
    }
    for name, tensor in head.items():
        values = _numpy(tensor)
        tensors[HEAD + name] = values.astype(np.float16) if values.size > WIDE else values
    if any(not np.isfinite(tensor).all() for tensor in tensors.values()):
        raise InvalidInput("the trained tensors hold numbers that are not finite; train again with a smaller step")
    return save_model(
        folder,
        kind=KIND,
        config=UnifarModelConfig(encoder=config, averaging=averaging),
        tensors=tensors,
        base=BaseIdentity(name=base.name, weights_sha256=base.weights_sha256),
        trained_on=trained_on,
        figures=figures,
        licence=licence,
    )


def find_unifar(name: str, folder: Path, overrides: Overrides | None = None) -> UnifarSource:
    """The encoder in a model folder, found and checked together with its base.

    Raises Conflict (another base, a newer format), Damaged (bytes that are not what was written), InvalidInput (another
    kind of model, an option that would change what it is).
    """
    overrides = overrides or Overrides()
    if overrides.pooling not in (None, "mean") or overrides.normalise is False:
        raise InvalidInput(f"the encoder {name!r} pools by mean and gives unit rows; leave pooling and normalise out")
    manifest = read_manifest(folder, kind=KIND)
    model = _config(folder, manifest)
    base = _base(folder, manifest, overrides)
    require_base(base, model.encoder)
    network = {
        "base": base.graph_key,
        "tensors": manifest.tensors_sha256,
        "config": model.encoder.model_dump(mode="json"),
    }
    rest = {"base": base.fingerprint, "sentences": SPLITTER_VERSION}
    with open_tensors(folder, manifest) as tensors:
        mixing = float(1 / (1 + np.exp(-tensors.get_tensor(f"{HEAD}mixing_logit"))))
    return UnifarSource(
        name=name,
        folder=folder,
        config=model.encoder,
        base=base,
        mixing=mixing,
        weights_sha256=manifest.tensors_sha256,
        graph_key=_digest(network),
        fingerprint=_digest({**network, **rest}),
    )


def _config(folder: Path, manifest: ModelManifest) -> UnifarModelConfig:
    try:
        return UnifarModelConfig.model_validate(manifest.config)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Damaged(
            f"the configuration in {folder} does not fit ({where}: {error.errors()[0]['msg']}); upgrade facetrail, or "
            f"copy the folder again"
        ) from error


def _base(folder: Path, manifest: ModelManifest, overrides: Overrides) -> EncoderSource:
    """The base that a manifest names, with the very weights it names."""
    if manifest.base is None:
        raise Damaged(f"{folder} does not say which base it was trained on; copy the folder again, or train it again")
    base, wanted = find_source(manifest.base.name, overrides), manifest.base.weights_sha256
    if base.weights_sha256 != wanted:
        raise Conflict(
            f"{folder} was trained on the base {manifest.base.name!r} with weights {wanted[:12]}…, but those found now "
            f"are {base.weights_sha256[:12]}…; install that base again or train on this one"
        )
    return base


def require_base(base: EncoderSource, config: UnifarConfig) -> None:
    """Raises InvalidInput unless an encoder can be the base of a UniFAR encoder of this configuration."""
    if base.pooling != "mean" or not base.normalise or not is_bert(base.config):
        raise InvalidInput(
            f"the encoder {base.name!r} cannot be a base: it must be a BERT or RoBERTa with mean pooling and unit rows"
        )
    layers = int(base.config["num_hidden_layers"])
    if base.dim != config.dim or config.trained_layers > layers:
        raise InvalidInput(
            f"the base {base.name!r} has {layers} layers of {base.dim} dimensions, the configuration asks for "
            f"{config.trained_layers} trained layers of {config.dim}; set dim and trained_layers to fit"
        )


def read_unifar(source: UnifarSource) -> UnifarWeights:
    """The tensors of an encoder, laid over its base's. Raises Damaged where one does not fit the base."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    network: dict[str, Any] = {}
    try:
        for path in source.base.weights:
            network |= load_file(path)
        network = {
            name: tensor.astype(np.float32)
            for name, tensor in bare_names(network).items()
            if np.issubdtype(tensor.dtype, np.floating)  # not the list of positions that old files hold
        }
    except (SafetensorError, StopIteration) as error:
        raise Damaged(f"the weights in {source.base.folder} cannot be read ({error}); copy the base again") from error
    head: dict[str, Float32Array] = {}
    with open_tensors(source.folder) as tensors:
        for name in tensors.keys():  # noqa: SIM118  not a dictionary
            value = tensors.get_tensor(name).astype(np.float32)
            if name.startswith(HEAD):
                head[name.removeprefix(HEAD)] = value
                continue
            own = name.removeprefix(DIFFERENCE)
            if own not in network or network[own].shape != value.shape:
                raise Damaged(f"{source.folder} changes a tensor {own!r} that the base does not have; copy it again")
            network[own] = network[own] + value
    return UnifarWeights(network, head)


def _numpy(tensor: "Tensor") -> Float32Array:
    array: Float32Array = tensor.detach().float().cpu().numpy()
    return array


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
