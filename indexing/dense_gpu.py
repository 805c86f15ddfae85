"""Exact candidates from a GPU: FAISS where its GPU build is installed, else one matrix product and top-k in torch.

As on the CPU the scan only proposes; its window below the k-th score is wide enough for the GPU's arithmetic, so hits
and scores are those of any other exact scan, bit for bit. torch and faiss are imported here only when they are used.
"""

import importlib
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from facetrail.indexing.dense_config import DenseConfig
from facetrail.indexing.dense_exact import rounding_window
from facetrail.indexing.dense_rows import VectorRows
from facetrail.indexing.index import BoolArray, Float32Array, Int64Array
from facetrail.models.errors import Unavailable

GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
SCORES_AT_ONCE = 1 << 28
"""Approximate scores on the GPU at a time: 1 GiB."""
TF32 = 2.0**-10
"""Error of one product in the short float format that tensor cores may use, relative to the vectors' lengths."""
SHORT_FORMATS = {"highest": 0.0, "high": TF32, "medium": 2.0**-7}
FAISS_GPU_MAX = 2_048
"""Hits that a FAISS GPU index can return."""


def open_scanner(rows: VectorRows, config: DenseConfig) -> "TorchScanner | FaissGpuScanner | None":
    """A scanner on the GPU; None where the CPU is to scan. Raises Unavailable if `cuda` is asked for and not there."""
    if config.device == "cpu" or len(rows) == 0:
        return None
    asked = config.device == "cuda"
    # Below `exact_below` the CPU answers in 2 ms, and finding out about GPUs can mean loading torch for seconds.
    if not asked and (len(rows) < config.exact_below or not _may_have_gpu()):
        return None
    faiss = importlib.import_module("faiss")
    if faiss.get_num_gpus() > 0:
        return FaissGpuScanner(rows)
    torch = importlib.import_module("torch")
    needed = rows.data.size * 4 + SCORES_AT_ONCE * 4
    if torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > needed:
        return TorchScanner(rows, "cuda")
    if asked:
        raise Unavailable(
            f"the index asks for device 'cuda', but no GPU with {needed / 2**30:.1f} GiB free was found; "
            "install a CUDA build of torch or rebuild with device 'auto'"
        )
    return None


def _may_have_gpu() -> bool:
    return "torch" in sys.modules or any(Path(file).exists() for file in GPU_DEVICE_FILES)


class TorchScanner:
    """All vectors in float32 on one torch device, which tests set to `cpu`."""

    def __init__(self, rows: VectorRows, device: str) -> None:
        self._torch: Any = importlib.import_module("torch")
        self._device = device
        self._matrix: Any = self._torch.empty(rows.data.shape, dtype=self._torch.float32, device=device)
        for part, vectors in rows.blocks():
            self._matrix[part] = self._torch.from_numpy(np.array(vectors))

    def candidates(
        self, queries: Float32Array, k: int, mask: BoolArray | None, n_threads: int
    ) -> list[Int64Array | None]:
        """See `dense_base.Scanner`; never None."""
        torch, n = self._torch, len(self._matrix)
        window = rounding_window(queries.shape[1]) + 2.25 * SHORT_FORMATS[torch.get_float32_matmul_precision()]
        hidden = None if mask is None else torch.from_numpy(~mask).to(self._device)
        found: list[Int64Array | None] = []
        step = max(1, SCORES_AT_ONCE // n)
        for first in range(0, len(queries), step):
            block = torch.from_numpy(np.ascontiguousarray(queries[first : first + step])).to(self._device)
            scores = block @ self._matrix.T
            if hidden is not None:
                scores.masked_fill_(hidden, -torch.inf)
            kth = scores.topk(min(k, n), dim=1).values[:, -1:]
            # Everything near the k-th, however many: top-k alone would cut ties.
            pairs = (scores >= kth - window).nonzero().cpu().numpy()
            ends = np.searchsorted(pairs[:, 0], np.arange(1, len(block)))
            found.extend(np.split(pairs[:, 1], ends))
        return found


class FaissGpuScanner:
    """A flat FAISS index on the first GPU; leaves a query to the CPU where 2,048 rows do not settle it."""

    def __init__(self, rows: VectorRows) -> None:
        faiss: Any = importlib.import_module("faiss")
        self._resources = faiss.StandardGpuResources()
        self._index = faiss.GpuIndexFlatIP(self._resources, rows.data.shape[1])
        for _, vectors in rows.blocks():
            self._index.add(np.ascontiguousarray(vectors))
        self._lock = threading.Lock()  # GPU resources serve one thread at a time

    def candidates(
        self, queries: Float32Array, k: int, mask: BoolArray | None, n_threads: int
    ) -> list[Int64Array | None]:
        """See `dense_base.Scanner`."""
        n = self._index.ntotal
        share = 1.0 if mask is None else max(1, np.count_nonzero(mask)) / n
        fetch = min(n, FAISS_GPU_MAX, int(1.25 * k / share) + 64)
        if k > fetch:
            return [None] * len(queries)
        with self._lock:
            scores, ids = self._index.search(queries, fetch)
        window = rounding_window(queries.shape[1]) + 2.25 * TF32
        return [settled_rows(s, i, k, mask, window, n) for s, i in zip(scores, ids, strict=True)]


def settled_rows(
    scores: Float32Array, rows: Int64Array, k: int, mask: BoolArray | None, window: float, n: int
) -> Int64Array | None:
    """The allowed rows, if the list reaches so far down that no row beyond it can be among the k best; else None.

    scores, rows: (m,) in descending order of n rows altogether.
    """
    keep = rows >= 0 if mask is None else (rows >= 0) & mask[rows]
    kept: Int64Array = rows[keep]
    if len(kept) < k:
        return None
    kth = scores[keep][k - 1]
    return kept if len(rows) == n or scores[-1] < kth - window else None
