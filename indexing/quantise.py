"""Vectors as 8-bit codes: code = round(x / s) with s = max|x| / 127 of each row, so that x ≈ s · code.

Each component is off by at most s / 2, at most .004 for a unit vector. Codes are never multiplied as integers: a dot
product of 384 of them does not fit 8 or 16 bits, and NumPy would wrap around without a word.
"""

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.index import Float32Array

Int8Array = NDArray[np.int8]


def encode_int8(vectors: Float32Array) -> tuple[Int8Array, Float32Array]:
    """vectors: (n, dim) float32 → codes (n, dim) int8 in [-127, 127], scales (n,) float32; a zero row has scale 1."""
    if vectors.size == 0:
        return np.zeros(vectors.shape, np.int8), np.ones(len(vectors), np.float32)
    largest = np.abs(vectors).max(axis=1)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    # A subnormal maximum divides to 0; such a row is as good as zero.
    scales[scales == 0] = 1
    codes = np.rint(vectors / scales[:, None])
    return np.clip(codes, -127, 127).astype(np.int8), scales


def decode_int8(codes: Int8Array, scales: Float32Array) -> Float32Array:
    """codes: (n, dim), scales: (n,) → (n, dim) float32."""
    return codes.astype(np.float32) * scales[:, None]
