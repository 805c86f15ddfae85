"""Fixtures that every layer's tests share."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facetrail.models.text.encoder import EncoderCard

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real research collections; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FACETRAIL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the research collections; set FACETRAIL_DATA to their folder (looked in {folder})")
    return folder


class HashEncoder:
    """A deterministic encoder without a network: a text's vector is the sum of one random vector a word."""

    def __init__(self, dim: int = 32, salt: str = "") -> None:
        self.name, self.dim, self.salt = f"hash{salt}", dim, salt
        self.fingerprint = hashlib.sha256(f"hash encoder {dim} {salt}".encode()).hexdigest()
        self.n_encoded = 0

    @property
    def card(self) -> EncoderCard:
        return EncoderCard(
            name=self.name,
            source="tests",
            dim=self.dim,
            pooling="mean",
            normalise=True,
            query_prefix="",
            document_prefix="",
            max_query_tokens=256,
            max_document_tokens=256,
            weights_sha256=self.fingerprint,
            dtype_bulk="fp32",
            runtime_query="torch",
        )

    def encode_documents(
        self, texts: Sequence[str], *, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        self.n_encoded += len(texts)
        rows = np.stack([self._vector(text) for text in texts]) if texts else np.empty((0, self.dim))
        if progress is not None:
            progress(len(texts))
        return rows.astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.encode_documents(texts)

    def _vector(self, text: str) -> NDArray[np.float64]:
        total = np.zeros(self.dim)
        for word in [self.salt, *text.lower().split()]:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "big")
            total += np.random.default_rng(seed).standard_normal(self.dim)
        return np.asarray(total / np.linalg.norm(total))


@pytest.fixture
def hash_encoder() -> HashEncoder:
    """An encoder that needs no weights."""
    return HashEncoder()


@pytest.fixture
def other_encoder() -> HashEncoder:
    """Another one, of the same dimension but incomparable."""
    return HashEncoder(salt="other")
