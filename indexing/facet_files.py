"""A saved facet index: `facets.json` and one NumPy file a column of `FacetBatch`, plus `ordinals.npy`.

Shapes, types and the sentences' bounds are checked on opening; the files' hashes are the generation's business.
"""

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.indexing.dense_files import CURE, read_array
from facetrail.indexing.index import Int64Array
from facetrail.models.errors import Damaged
from facetrail.models.text.facets import GRANULARITIES, FacetBatch

FORMAT = 1
BY_SENTENCE = ("attention", "roles")
MANIFEST, ORDINALS, FIRST = "facets.json", "ordinals.npy", "first.npy"


class FacetConfig(BaseModel):
    """The encoder's facets and how their scores join, saved with the index so that it answers without an encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...] = Field(min_length=1, max_length=255)
    margin: float = Field(ge=0)
    """What a match of another facet of the document costs (cosine)."""
    mixing: float = Field(ge=0, le=1)
    """Share of s_k in the final score."""


@dataclass(frozen=True)
class Content:
    """What a saved index holds besides facet data. ordinals: (n,) ascending."""

    dim: int
    config: FacetConfig
    ordinals: Int64Array


def write(folder: Path, content: Content, blocks: Iterable[FacetBatch]) -> None:
    """Writes an index into an existing folder. blocks: the documents' data in the ordinals' order."""
    n, n_facets = len(content.ordinals), len(content.config.names)
    lengths: list[Int64Array] = [np.zeros(1, np.int64)]
    by_sentence = {name: [np.zeros((0, n_facets), np.uint8)] for name in BY_SENTENCE}
    with ExitStack() as stack:
        files = {}
        for name, (shape, dtype) in _by_document(n, n_facets, content.dim).items():
            files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
            header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(files[name], header)
        for block in blocks:
            lengths.append(np.diff(block.first))
            for name, file in files.items():
                file.write(getattr(block, name).tobytes())
            for name, parts in by_sentence.items():  # a thirtieth of all, so it may wait in memory for its shape
                parts.append(getattr(block, name))
    first = np.cumsum(np.concatenate(lengths), dtype=np.int64)
    for name, parts in by_sentence.items():
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    np.save(folder / FIRST, first)
    np.save(folder / ORDINALS, content.ordinals)
    config = content.config.model_dump(mode="json")
    manifest = {"format": FORMAT, "dim": content.dim, "n": n, "n_sentences": int(first[-1]), "config": config}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")


def read(folder: Path) -> tuple[Content, FacetBatch]:
    """What `write` wrote. Raises Damaged naming the file."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
        n, n_sentences, dim = (int(manifest[name]) for name in ("n", "n_sentences", "dim"))
        config = FacetConfig.model_validate(manifest["config"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise Damaged(f"{path} cannot be read ({type(error).__name__}); {CURE}") from error
    if version != FORMAT:
        raise Damaged(f"{path} has format {version}, this version reads {FORMAT}; update facetrail or {CURE}")
    ordinals = read_array(folder / ORDINALS, (n,), np.dtype(np.int64))
    if n and (ordinals[0] < 0 or (np.diff(ordinals) <= 0).any()):
        raise Damaged(f"{folder / ORDINALS} does not hold ascending ordinals; {CURE}")
    first = read_array(folder / FIRST, (n + 1,), np.dtype(np.int64))
    if first[0] != 0 or first[-1] != n_sentences or (np.diff(first) < 0).any():
        raise Damaged(f"{folder / FIRST} does not say where {n_sentences} sentences begin and end; {CURE}")
    n_facets = len(config.names)
    shapes = _by_document(n, n_facets, dim)
    shapes |= {name: ((n_sentences, n_facets), np.dtype(np.uint8)) for name in BY_SENTENCE}
    columns = {
        name: read_array(folder / f"{name}.npy", shape, dtype, mapped=shape[0] > 0)
        for name, (shape, dtype) in shapes.items()
    }
    return Content(dim, config, ordinals), FacetBatch(first=first, **columns)


def _by_document(n: int, n_facets: int, dim: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of each column with one row a document."""
    return {
        "vectors": ((n, n_facets, dim), np.dtype("i1")),
        "scales": ((n, n_facets), np.dtype("<f4")),
        "prior": ((n, n_facets), np.dtype("<f4")),
        "gate": ((n, len(GRANULARITIES)), np.dtype("<f4")),
    }
