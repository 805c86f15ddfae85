"""What the encoders of this process share: checked texts, remembered queries, the device, the number format."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from facetrail.models.errors import Damaged, InvalidInput, Unavailable
from facetrail.models.text.encoder import Bulk, Float32Array, Runtime
from facetrail.models.text.gate import Verdict, cpu_has_bf16, remembered
from facetrail.models.text.query import GraphRefused

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
FEW = 8
"""Up to so many queries go through ONNX Runtime; more gain from torch's batches."""
MIN_COSINE_BF16 = 0.999
TIE_BF16 = 2e-3
"""Scores closer than this may change places under bf16: twice what MIN_COSINE_BF16 lets a score move."""

NumberFormat = Literal["fp32", "bf16"]
Key = TypeVar("Key")
Value = TypeVar("Value")
Session = TypeVar("Session")


class QueryCache(Generic[Key, Value]):
    """The results of the last `size` queries; safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def known(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """Those of the keys that are remembered."""
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        return found

    def remember(self, results: Mapping[Key, Value]) -> None:
        """Keeps results; the longest unused make room."""
        with self._lock:
            self._kept |= results if self._size else {}
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)


def checked(texts: Sequence[str]) -> list[str]:
    """The texts as a list; raises InvalidInput where one is not a string."""
    if isinstance(texts, str):
        raise InvalidInput("texts to encode come as a list of strings, not as one string; put it in brackets")
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput(f"a text to encode must be a string, not {type(text).__name__}")
    return list(texts)


def finite(name: str, vectors: Float32Array) -> Float32Array:
    """The vectors of encoder `name`; raises Damaged where a number is not finite."""
    if not np.isfinite(vectors).all():
        raise Damaged(
            f"the encoder {name!r} gave vectors that are not finite, so its weights are unusable; "
            f"install it again or choose another"
        )
    return vectors


def torch_device(device: str) -> "torch.device":
    """ "auto" or torch's name of a device; raises InvalidInput where it cannot be used."""
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InvalidInput(f"the device {device!r} cannot be used here; use auto or cpu") from error


def number_format(
    bulk: Bulk, device: "torch.device", *, name: str, graph_key: str, gate: Callable[[], Verdict]
) -> NumberFormat:
    """bf16 where it is asked for or native, and passes the gate, whose verdict is remembered; else fp32."""
    native = device.type == "cuda" or (device.type == "cpu" and cpu_has_bf16())
    if bulk == "fp32" or (bulk == "auto" and not native):
        return "fp32"
    import torch

    verdict = remembered([graph_key, "bf16", str(device), torch.__version__], gate)
    if not verdict.passed:
        logger.warning(
            "documents of encoder %r are encoded in fp32, since bf16 fails the equality gate: %s", name, verdict.reason
        )
    return "bf16" if verdict.passed else "fp32"


def graph_or_torch(name: str, runtime: Runtime, open_graph: Callable[[], Session]) -> Session | None:
    """The ONNX session; None, with a warning, where torch has to serve. Raises Unavailable if `runtime` is "onnx"."""
    try:
        return open_graph()
    except GraphRefused as refusal:
        if runtime == "onnx":
            raise Unavailable(
                f"ONNX Runtime cannot serve the encoder {name!r}: {refusal}; use runtime auto or torch"
            ) from refusal
        logger.warning("queries of encoder %r are encoded by torch, since ONNX Runtime cannot: %s", name, refusal)
        return None
