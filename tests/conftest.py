"""Fixtures that every layer's tests share."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.hash_encoders import FacetHashEncoder, HashEncoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real research collections; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("FACETRAIL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the research collections; set FACETRAIL_DATA to their folder (looked in {folder})")
    return folder


@pytest.fixture
def facet_encoder() -> FacetHashEncoder:
    """An encoder with facets that needs no weights."""
    return FacetHashEncoder()


@pytest.fixture
def hash_encoder() -> HashEncoder:
    """An encoder that needs no weights."""
    return HashEncoder()


@pytest.fixture
def other_encoder() -> HashEncoder:
    """Another one, of the same dimension but incomparable."""
    return HashEncoder(salt="other")


@pytest.fixture
def no_running_loop() -> Iterator[None]:
    """A browser test leaves its event loop marked as running in its thread, where later tests may run one of theirs."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)
