"""A saved dense index: `dense.json`, `vectors.npy`, `ordinals.npy`, `zero.npy`, for int8 `scales.npy`, and for an
approximate kind `candidates.faiss`. Every size is checked on opening; the FAISS file also by its hash, because FAISS
may crash on bytes it did not write. The hashes of the others are the generation's business.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from facetrail.indexing import dense_faiss, dense_gpu
from facetrail.indexing.dense_base import Base, Scanner
from facetrail.indexing.dense_config import DenseConfig, Kind
from facetrail.indexing.dense_rows import BLOCK, VectorRows
from facetrail.indexing.index import BoolArray, Float32Array, Int64Array
from facetrail.models.errors import Damaged

FORMAT = 1
MANIFEST, VECTORS, SCALES, ORDINALS, ZERO, CANDIDATES = (
    "dense.json", "vectors.npy", "scales.npy", "ordinals.npy", "zero.npy", "candidates.faiss",
)  # fmt: skip
CURE = "rebuild the index from the collection"

Stored = tuple[NDArray[Any], Float32Array]


@dataclass(frozen=True)
class Content:
    """What a saved index holds besides vectors. ordinals: (n,) ascending · is_zero: (n,)."""

    dim: int
    config: DenseConfig
    ordinals: Int64Array
    is_zero: BoolArray


def write(folder: Path, content: Content, stored: Callable[[slice], Stored]) -> None:
    """Writes an index into an existing folder. stored(part) → (data (m, dim), scales (m,)) of rows [part)."""
    n, config = len(content.ordinals), content.config
    np.save(folder / ORDINALS, content.ordinals)
    np.save(folder / ZERO, content.is_zero)
    scales = np.ones(n, np.float32)
    header = {"descr": np.dtype(config.storage).str, "fortran_order": False, "shape": (n, content.dim)}
    with (folder / VECTORS).open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, n, BLOCK):
            part = slice(first, min(first + BLOCK, n))
            data, scales[part] = stored(part)
            file.write(data.tobytes())
    if config.storage == "int8":
        np.save(folder / SCALES, scales)
    kind = config.resolve(n)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "dim": content.dim,
        "n": n,
        "kind": kind,
        "config": config.model_dump(mode="json"),
    }
    if kind != "exact":
        rows = _rows(folder, n, content.dim, config)
        dense_faiss.build(rows, kind, config, folder / CANDIDATES)
        manifest["candidates_sha256"] = _sha256(folder / CANDIDATES)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def read(folder: Path) -> tuple[Content, Base]:
    """What `write` wrote. Raises Damaged naming the file."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, n, dim = manifest["format"], int(manifest["n"]), int(manifest["dim"])
        kind = TypeAdapter(Kind).validate_python(manifest["kind"])
        config = DenseConfig.model_validate(manifest["config"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise Damaged(f"{path} cannot be read ({type(error).__name__}); {CURE}") from error
    if version != FORMAT:
        raise Damaged(f"{path} has format {version}, this version reads {FORMAT}; update facetrail or {CURE}")
    ordinals = read_array(folder / ORDINALS, (n,), np.dtype(np.int64))
    if n and (ordinals[0] < 0 or (np.diff(ordinals) <= 0).any()):
        raise Damaged(f"{folder / ORDINALS} does not hold ascending ordinals; {CURE}")
    content = Content(dim, config, ordinals, read_array(folder / ZERO, (n,), np.dtype(np.bool_)))
    rows = _rows(folder, n, dim, config)
    return content, Base(rows, kind, _scanner(folder, rows, kind, config, manifest.get("candidates_sha256")))


def _scanner(folder: Path, rows: VectorRows, kind: Kind, config: DenseConfig, sha256: str | None) -> Scanner | None:
    path = folder / CANDIDATES
    if kind != "exact" and (not path.is_file() or _sha256(path) != sha256):
        raise Damaged(f"{path} is missing or its bytes are not what was written; {CURE}")
    if (gpu := dense_gpu.open_scanner(rows, config)) is not None:
        return gpu
    if kind == "exact":
        return None
    return dense_faiss.open_scanner(path, rows, kind, config)


def _rows(folder: Path, n: int, dim: int, config: DenseConfig) -> VectorRows:
    data = read_array(folder / VECTORS, (n, dim), np.dtype(config.storage), mapped=n > 0)
    scales = np.zeros(0, np.float32)
    if config.storage == "int8":
        scales = read_array(folder / SCALES, (n,), np.dtype(np.float32))
    return VectorRows(data, scales, config.storage)


def read_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], *, mapped: bool = False) -> NDArray[Any]:
    """A NumPy file of a known shape and type, memory-mapped if wanted. Raises Damaged naming it."""
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise Damaged(f"{path} cannot be read as an array ({type(error).__name__}); {CURE}") from error
    if array.shape != shape or array.dtype != dtype:
        raise Damaged(f"{path} holds {array.dtype} of shape {array.shape}, not {dtype} of {shape}; {CURE}")
    plain: NDArray[Any] = array.view(np.ndarray)
    return plain


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
