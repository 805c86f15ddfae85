"""One document's facet data as bytes: what the collection stores, of one fixed, versioned form.

Little-endian. A head of 8 bytes (version, facets, sentences, dimensions), then int8 vectors (k, d), float32 scales (k),
prior (k) and gate (4), then uint8 attention (s, k) and roles (s, k): 1,656 bytes at four facets of 384 dimensions and
eight sentences.
"""

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput
from facetrail.models.text.facets import GRANULARITIES, FacetBatch

VERSION = 1
MAX_SENTENCES = 65_535
_HEAD = struct.Struct("<BBHI")
_N_GATE = len(GRANULARITIES)


def pack(batch: FacetBatch) -> list[bytes]:
    """Each document's facet data, in order."""
    n_facets, dim = batch.vectors.shape[1:]
    floats = np.concatenate([batch.scales, batch.prior, batch.gate], axis=1).astype("<f4")
    packed = []
    for row, (first, last) in enumerate(zip(batch.first[:-1].tolist(), batch.first[1:].tolist(), strict=True)):
        parts = (batch.vectors[row], floats[row], batch.attention[first:last], batch.roles[first:last])
        packed.append(_HEAD.pack(VERSION, n_facets, last - first, dim) + b"".join(part.tobytes() for part in parts))
    return packed


def unpack(blobs: Sequence[bytes], n_facets: int, dim: int) -> FacetBatch:
    """What `pack` packed. Raises ValueError naming the first document whose bytes are of another form."""
    n = len(blobs)
    vectors = np.empty((n, n_facets, dim), np.int8)
    floats = np.empty((n, 2 * n_facets + _N_GATE), np.float32)
    n_sentences = np.empty(n, np.int64)
    weights = []
    for row, blob in enumerate(blobs):
        n_sentences[row] = n_here = _sentences(row, blob, n_facets, dim)
        at = _HEAD.size
        vectors[row] = np.frombuffer(blob, np.int8, n_facets * dim, at).reshape(n_facets, dim)
        at += n_facets * dim
        floats[row] = np.frombuffer(blob, "<f4", floats.shape[1], at)
        at += 4 * floats.shape[1]
        weights.append(np.frombuffer(blob, np.uint8, 2 * n_here * n_facets, at).reshape(2, n_here, n_facets))
    together = np.concatenate([np.empty((2, 0, n_facets), np.uint8), *weights], axis=1)
    return FacetBatch(
        vectors,
        np.ascontiguousarray(floats[:, :n_facets]),
        np.ascontiguousarray(floats[:, n_facets : 2 * n_facets]),
        np.ascontiguousarray(floats[:, 2 * n_facets :]),
        np.concatenate([[0], np.cumsum(n_sentences)]).astype(np.int64),
        together[0],
        together[1],
    )


def _sentences(row: int, blob: bytes, n_facets: int, dim: int) -> int:
    """How many sentences a document's bytes speak of, after their form was checked."""
    if len(blob) < _HEAD.size:
        raise ValueError(f"facet data {row} ends within its head")
    version, found_facets, n_sentences, found_dim = _HEAD.unpack_from(blob)
    if version != VERSION:
        raise ValueError(f"facet data {row} has version {version}, this facetrail reads {VERSION}")
    if (found_facets, found_dim) != (n_facets, dim):
        raise ValueError(f"facet data {row} has {found_facets} facets of {found_dim}, not {n_facets} of {dim}")
    size = _HEAD.size + n_facets * dim + 4 * (2 * n_facets + _N_GATE) + 2 * n_sentences * n_facets
    if len(blob) != size:
        raise ValueError(f"facet data {row} has {len(blob)} bytes, not {size}")
    return int(n_sentences)


def checked(batch: FacetBatch, n: int, n_facets: int, dim: int) -> FacetBatch:
    """The batch, if it fits n documents; else InvalidInput naming the part that does not."""
    s = int(batch.first[-1]) if batch.first.shape == (n + 1,) else -1
    wanted: tuple[tuple[str, NDArray[np.generic], tuple[int, ...], type[np.generic]], ...] = (
        ("first", batch.first, (n + 1,), np.int64),
        ("vectors", batch.vectors, (n, n_facets, dim), np.int8),
        ("scales", batch.scales, (n, n_facets), np.float32),
        ("prior", batch.prior, (n, n_facets), np.float32),
        ("gate", batch.gate, (n, _N_GATE), np.float32),
        ("attention", batch.attention, (s, n_facets), np.uint8),
        ("roles", batch.roles, (s, n_facets), np.uint8),
    )
    for name, array, shape, dtype in wanted:
        if array.shape != shape or array.dtype != dtype:
            raise InvalidInput(
                f"facet data of {n} documents needs {name} of shape {shape} and type {dtype.__name__}, not "
                f"{array.shape} of {array.dtype}; encode the documents again"
            )
    lengths = np.diff(batch.first)
    if batch.first[0] != 0 or (lengths < 0).any() or (lengths > MAX_SENTENCES).any():
        raise InvalidInput(f"first must rise from 0 by at most {MAX_SENTENCES:,} sentences a document")
    for name in ("scales", "prior", "gate"):
        bad = np.flatnonzero(~np.isfinite(getattr(batch, name)).all(axis=1))
        if len(bad):
            raise InvalidInput(f"{name} of document {int(bad[0])} holds a NaN or an infinity; check the encoder")
    return batch
