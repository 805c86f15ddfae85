"""What a fit predicted for the target on its way, and with which weights: in a folder, or in memory without one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

_PROBABILITIES = "probabilities"


class Trace(Mapping[int, NDArray[np.float32]]):
    """Epoch → probabilities (n, C) of the target's nodes."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._held: dict[int, dict[str, Tensor]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __getitem__(self, epoch: int) -> NDArray[np.float32]:
        if self._folder is None:
            return self._held[epoch][_PROBABILITIES].numpy()
        if not (file := self._file(epoch)).is_file():
            raise KeyError(epoch)
        with safe_open(file, framework="numpy") as tensors:
            return np.asarray(tensors.get_tensor(_PROBABILITIES))

    def __iter__(self) -> Iterator[int]:
        if self._folder is None:
            return iter(self._held)
        return (int(file.stem.removeprefix("epoch-")) for file in sorted(self._folder.glob("epoch-*.safetensors")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def weights(self, epoch: int) -> dict[str, Tensor]:
        """The encoder's, after that epoch."""
        held = self._held[epoch] if self._folder is None else load_file(self._file(epoch))
        return {name: value for name, value in held.items() if name != _PROBABILITIES}

    def keep(self, epoch: int, probabilities: NDArray[np.float32], weights: Mapping[str, Tensor]) -> None:
        """Adds an epoch, or replaces it."""
        held = {name: value.detach().cpu().clone() for name, value in weights.items()}
        held[_PROBABILITIES] = torch.from_numpy(probabilities)
        if self._folder is None:
            self._held[epoch] = held
            return
        draft = self._folder / f".{epoch}.tmp"
        save_file(held, draft)
        draft.replace(self._file(epoch))

    def forget(self, after: int) -> None:
        """Drops the epochs after one: the fit goes on from there."""
        for epoch in [epoch for epoch in self if epoch > after]:
            if self._folder is None:
                del self._held[epoch]
            else:
                self._file(epoch).unlink()

    def _file(self, epoch: int) -> Path:
        assert self._folder is not None
        return self._folder / f"epoch-{epoch:06d}.safetensors"
