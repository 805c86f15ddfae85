"""All that a fit must know to go on as if it had never stopped, and how it lies on disk: safetensors and JSON."""

import base64
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from facetrail.indexing.durable import file_sha256, rename_durably, sync_tree
from facetrail.models.errors import Conflict, Damaged

FORMAT_VERSION = 1
TENSORS_FILE = "state.safetensors"
FACTS_FILE = "state.json"
N_KEPT = 2
"""Checkpoints on disk: the newest, and the one before it in case the newest is damaged."""


class Resumable(Protocol):
    """A part of a fit with a state of its own: a buffer of rollouts, a stream of prompts, a learnt scheduler."""

    def state(self) -> Mapping[str, Any]:
        """Tensors and plain values by name."""

    def load(self, state: Mapping[str, Any]) -> None: ...


@dataclass
class Progress:
    """The counters of a fit."""

    step: int = 0
    """Steps done; the next one's number."""
    n_skipped: int = 0
    n_bad_in_a_row: int = 0
    best_step: int | None = None
    measures: dict[str, float] = field(default_factory=dict)
    """Of the best weights, or of the last evaluation where no best is kept."""
    seconds: float = 0.0


class Average:
    """Exponential moving average of parameters: a ← d·a + (1 - d)·p with d = min(decay, (1 + n) / (10 + n)).

    n is the number of updates before this one: a fixed .999 would leave 37 % of the start in the average after 1,000
    steps, and nearly all of it at the first evaluations.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self._parameters, self.decay = parameters, decay
        self.n_updates = 0
        self.tensors = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters as they are now into the average."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        for name, p in self._parameters.items():
            self.tensors[name].mul_(decay).add_(p.detach(), alpha=1 - decay)
        self.n_updates += 1


@contextmanager
def weights_replaced(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """The parameters hold other values inside the block and their own again after it, whatever happens."""
    own = {name: p.detach().clone() for name, p in parameters.items()}
    put(parameters, tensors)
    try:
        yield
    finally:
        put(parameters, own)


@torch.no_grad()
def put(parameters: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Copies values into parameters of the same names."""
    for name, p in parameters.items():
        p.copy_(tensors[name])


class TrainingState:
    """Weights, average, optimiser moments, best weights, counters and random states of one fit."""

    def __init__(
        self,
        parameters: Mapping[str, torch.nn.Parameter],
        optimiser: torch.optim.Optimizer,
        average: Average | None,
        *,
        rng: np.random.Generator | None,
        parts: Mapping[str, Resumable],
    ) -> None:
        self.parameters, self.optimiser, self.average = parameters, optimiser, average
        self.best: dict[str, Tensor] | None = None
        self.progress = Progress()
        self._rng, self._parts = rng, parts

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is a tensor, under names that say what it is."""
        found = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        for name, p in self.parameters.items():
            found |= {f"optimiser/{name}/{key}": value for key, value in self.optimiser.state[p].items()}
        if self.average is not None:
            found |= {f"average/{name}": value for name, value in self.average.tensors.items()}
        if self.best is not None:
            found |= {f"best/{name}": value for name, value in self.best.items()}
        for part, held in self._parts.items():
            found |= {f"parts/{part}/{key}": v for key, v in held.state().items() if isinstance(v, Tensor)}
        return {name: value.contiguous() for name, value in found.items()}

    def facts(self) -> dict[str, Any]:
        """Everything else, as JSON holds it."""
        return {
            "progress": asdict(self.progress),
            "n_average_updates": 0 if self.average is None else self.average.n_updates,
            "random": _random_states(self._rng),
            "parts": {
                part: {key: v for key, v in held.state().items() if not isinstance(v, Tensor)}
                for part, held in self._parts.items()
            },
        }

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Takes the place of whatever this state was."""
        weights = _below(tensors, "weights/")
        shapes = {name: p.shape for name, p in self.parameters.items()}
        if {name: value.shape for name, value in weights.items()} != shapes:
            raise Conflict("the checkpoint holds other parameters than this model; start in another folder")
        put(self.parameters, weights)
        for name, p in self.parameters.items():
            moments = _below(tensors, f"optimiser/{name}/")
            # AdamW counts its steps on the CPU, wherever the parameter lives.
            self.optimiser.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in moments.items()}
        if self.average is not None:
            self.average.tensors = {
                name: value.to(self.parameters[name].device) for name, value in _below(tensors, "average/").items()
            }
            self.average.n_updates = facts["n_average_updates"]
        self.best = _below(tensors, "best/") or None
        self.progress = Progress(**facts["progress"])
        for part, held in self._parts.items():
            held.load({**facts["parts"][part], **_below(tensors, f"parts/{part}/")})
        _set_random_states(facts["random"], self._rng)


def save_state(folder: Path, state: TrainingState) -> Path:
    """Writes one checkpoint below a folder, whole or not at all, and removes all but the newest N_KEPT."""
    target = folder / f"step-{state.progress.step:08d}"
    draft = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(state.tensors(), draft / TENSORS_FILE)
    facts = {"format_version": FORMAT_VERSION, "tensors_sha256": file_sha256(draft / TENSORS_FILE), **state.facts()}
    (draft / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    sync_tree(draft)
    if target.exists():  # damaged, and overtaken by a run resumed from the one before
        shutil.rmtree(target)
    rename_durably(draft, target)
    for old in checkpoint_folders(folder)[N_KEPT:]:
        shutil.rmtree(old)
    return target


def checkpoint_folders(folder: Path) -> list[Path]:
    """The checkpoints below a folder, newest first; what a crash left unfinished is not among them."""
    return sorted(folder.glob("step-????????"), reverse=True)


def load_newest(folder: Path, state: TrainingState) -> Path | None:
    """Loads the newest whole checkpoint and returns its folder; None where there is no checkpoint.

    Raises Damaged if there are checkpoints but none is whole.
    """
    found = checkpoint_folders(folder)
    for path in found:
        read = _read_whole(path)
        if read is not None:
            state.load(*read)
            return path
    if found:
        raise Damaged(f"no checkpoint in {folder} is as it was written; start again in another folder")
    return None


def _read_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        facts = json.loads((path / FACTS_FILE).read_bytes())
        whole = file_sha256(path / TENSORS_FILE) == facts["tensors_sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    if not whole:
        return None
    if facts["format_version"] > FORMAT_VERSION:
        raise Conflict(f"{path} was written by a newer facetrail; upgrade facetrail to resume from it")
    return load_file(path / TENSORS_FILE), facts


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _random_states(rng: np.random.Generator | None) -> dict[str, Any]:
    states: dict[str, Any] = {"torch": _to_text(torch.get_rng_state())}
    if torch.cuda.is_available():
        states["cuda"] = [_to_text(one) for one in torch.cuda.get_rng_state_all()]
    if rng is not None:
        states["numpy"] = rng.bit_generator.state
    return states


def _set_random_states(states: Mapping[str, Any], rng: np.random.Generator | None) -> None:
    torch.set_rng_state(_from_text(states["torch"]))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([_from_text(one) for one in states["cuda"]])
    if rng is not None:
        rng.bit_generator.state = states["numpy"]


def _to_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _from_text(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
