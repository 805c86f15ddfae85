"""ADAlign in the loop of graph adaptation: its recipe, its alignment, and how far apart a fit leaves two graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from safetensors import safe_open
from torch import Tensor, nn

from facetrail.models.errors import NotFound
from facetrail.models.graph.adalign import SpectralConfig, ascend, descend
from facetrail.models.graph.encoder import GraphEncoder
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.graph.propagation import graph_tensors
from facetrail.models.graph.spectral import FrequencySampler, gaussian_frequencies, nsd
from facetrail.training.graph.adapt import Fitted
from facetrail.training.graph.alignment import Aligned, own_generator
from facetrail.training.graph.recipe import AlignedRecipe
from facetrail.training.state import TENSORS_FILE, checkpoint_folders

_N_FIXED, _FIXED_VARIANCE = 64, 0.09


class AdalignRecipe(AlignedRecipe, SpectralConfig):
    """The weight lies among those that the release found on target labels; here it is one for all pairs."""

    method: str = "adalign"
    weight: float = Field(default=0.6, ge=0)


class SpectralAlignment:
    """The spectral discrepancy, after one step of the sampler with an Adam of its own."""

    parameters: Sequence[nn.Parameter] = ()

    def __init__(self, recipe: AdalignRecipe, device: str) -> None:
        self._kappa = recipe.kappa
        self._generator = own_generator(recipe.seed)
        self._sampler = FrequencySampler(recipe.dim, recipe.frequencies, recipe.sampler, self._generator).to(device)
        self._learnt = [p for p in self._sampler.parameters() if p.requires_grad]
        self._optimiser = (
            torch.optim.Adam(self._learnt, lr=recipe.lr, weight_decay=recipe.weight_decay) if self._learnt else None
        )
        self._frequencies = torch.empty(0, recipe.dim)

    def __call__(self, source: Tensor, target: Tensor, epoch: int) -> Aligned:
        if self._optimiser is not None:
            ascend(self._sampler, self._optimiser, source, target, self._kappa)
        discrepancy, self._frequencies, figures = descend(self._sampler, source, target, self._kappa)
        return Aligned(discrepancy, figures)

    def state(self) -> Mapping[str, Any]:
        """Sampler, its moments, where the drawing stands, and the frequencies of the last epoch."""
        moments = {
            f"moments/{number}/{key}": value
            for number, parameter in enumerate(self._learnt)
            for key, value in self._moments(parameter).items()
        }
        weights = {f"sampler/{name}": value for name, value in self._sampler.state_dict().items()}
        return {"generator": self._generator.get_state(), "frequencies": self._frequencies, **weights, **moments}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._generator.set_state(state["generator"])
        self._frequencies = state["frequencies"]
        self._sampler.load_state_dict({name: state[f"sampler/{name}"] for name in self._sampler.state_dict()})
        for number, parameter in enumerate(self._learnt):
            prefix = f"moments/{number}/"
            held = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            # Adam counts its steps on the CPU, wherever the parameter lives.
            placed = {key: value if key == "step" else value.to(parameter.device) for key, value in held.items()}
            if self._optimiser is not None and placed:
                self._optimiser.state[parameter] = placed

    def _moments(self, parameter: nn.Parameter) -> Mapping[str, Any]:
        return self._optimiser.state.get(parameter, {}) if self._optimiser is not None else {}


def learned_frequencies(folder: Path) -> Tensor:
    """(K, d) frequencies of a fit's last epoch, from its newest checkpoint. Raises NotFound where there is none."""
    for checkpoint in checkpoint_folders(folder / "checkpoints"):
        with safe_open(checkpoint / TENSORS_FILE, framework="pt") as tensors:
            if "parts/alignment/frequencies" in tensors.keys():  # noqa: SIM118  (no mapping, only its method)
                found: Tensor = tensors.get_tensor("parts/alignment/frequencies")
                return found
    raise NotFound(f"{folder} holds no checkpoint with frequencies; give the folder of an ADAlign fit")


def distance_before_and_after(fitted: Fitted, source: GraphData, target: GraphData, *, seed: int = 0) -> dict[str, Any]:
    """The discrepancy of the untrained and of the final encoder, at 64 frequencies of N(0, 0.09 I) fixed by the seed.

    The graphs are those that the fit read. In evaluation mode, κ = 1/2; comparable between fits of one width only.
    """
    recipe, shape = fitted.recipe, fitted.config.encoder
    generator = torch.Generator().manual_seed(seed)
    t = gaussian_frequencies(_N_FIXED, shape.dim, _FIXED_VARIANCE, generator)
    untrained = GraphEncoder(shape, torch.Generator().manual_seed(recipe.seed)).eval()
    after = GraphEncoder(shape, torch.Generator()).eval()
    after.load_state_dict(fitted.final)
    sides = [(graph_tensors(source), recipe.k_source), (graph_tensors(target), recipe.k_target)]
    found = []
    for net in (untrained, after):
        with torch.no_grad():
            ours, theirs = (net.encode(graph, k) for graph, k in sides)
            found.append(float(nsd(t, ours, theirs, kappa=0.5)))
    return {"nsd_before": found[0], "nsd_after": found[1], "nsd_seed": seed}
