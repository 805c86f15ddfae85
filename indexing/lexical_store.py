"""A lexical index as files: one JSON description and plain NumPy arrays, memory-mapped when opened.

The generation above writes checksums. What is checked here is cheap and is what the kernels rely on: a damaged
array gives one clear sentence and never a read outside of it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrail.indexing.lexical_segment import Forward, Postings, Segment
from facetrail.indexing.lexical_terms import Vocabulary
from facetrail.models.errors import Conflict, Damaged

FORMAT = 1
DESCRIPTION = "lexical.json"
_DTYPES = {
    "terms": np.uint8,
    "term_offsets": np.int64,
    "posting_offsets": np.int64,
    "posting_docs": np.uint32,
    "posting_codes": np.uint16,
    "forward_offsets": np.int64,
    "forward_terms": np.uint32,
    "forward_tfs": np.uint16,
    "lengths": np.uint32,
    "ordinals": np.int64,
}


def write(folder: Path, description: dict[str, Any], segment: Segment, vocabulary: Vocabulary) -> None:
    """Writes into an existing folder."""
    blob, term_offsets = vocabulary.arrays
    arrays: dict[str, NDArray[Any]] = {
        "terms": blob,
        "term_offsets": term_offsets,
        "posting_offsets": segment.postings.offsets,
        "posting_docs": segment.postings.docs,
        "posting_codes": segment.postings.codes,
        "forward_offsets": segment.forward.offsets,
        "forward_terms": segment.forward.terms,
        "forward_tfs": segment.forward.tfs,
        "lengths": segment.forward.lengths,
        "ordinals": segment.ordinals,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    sizes = {name: len(array) for name, array in arrays.items()}
    whole = {"format": FORMAT, **description, "sizes": sizes}
    text = json.dumps(whole, indent=2)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """The JSON description. Damaged where it cannot be read, Conflict where its format is not ours."""
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        written = description["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if written != FORMAT:
        raise Conflict(f"{path} has format {written}, this version reads {FORMAT}: rebuild the index")
    return dict(description)


def read(folder: Path, description: dict[str, Any]) -> tuple[Segment, Vocabulary]:
    """Maps the arrays. Damaged where a file is missing, cut, or not what the description says."""
    arrays = {name: _map(folder, name, description) for name in _DTYPES}
    n_docs, n_terms, n_postings = len(arrays["lengths"]), len(arrays["term_offsets"]) - 1, len(arrays["posting_docs"])
    same_lengths = {"posting_codes": n_postings, "forward_terms": n_postings, "forward_tfs": n_postings}
    same_lengths |= {"ordinals": n_docs, "forward_offsets": n_docs + 1, "posting_offsets": n_terms + 1}
    for name, expected in same_lengths.items():
        if len(arrays[name]) != expected:
            raise _damaged(folder / f"{name}.npy", f"it holds {len(arrays[name])} numbers instead of {expected}")
    for name, total in (("term_offsets", len(arrays["terms"])), ("posting_offsets", n_postings)):
        _check_offsets(folder, name, arrays[name], total)
    _check_offsets(folder, "forward_offsets", arrays["forward_offsets"], n_postings)
    ordinals = arrays["ordinals"]
    if n_docs and (int(ordinals[0]) < 0 or not bool((ordinals[1:] > ordinals[:-1]).all())):
        raise _damaged(folder / "ordinals.npy", "the ordinals do not ascend")
    postings = Postings(arrays["posting_offsets"], arrays["posting_docs"], arrays["posting_codes"])
    forward = Forward(arrays["forward_offsets"], arrays["forward_terms"], arrays["forward_tfs"], arrays["lengths"])
    segment = Segment(ordinals, forward, postings, np.ones(n_docs, np.bool_))
    return segment, Vocabulary(arrays["terms"], arrays["term_offsets"])


def _map(folder: Path, name: str, description: dict[str, Any]) -> NDArray[Any]:
    path = folder / f"{name}.npy"
    try:
        expected = int(description["sizes"][name])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / DESCRIPTION, f"it does not say how long {name} is") from error
    try:
        # an empty file cannot be mapped
        array = np.load(path, mmap_mode="r" if expected else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    if array.dtype != _DTYPES[name] or array.shape != (expected,):
        wanted = f"{expected} of {np.dtype(_DTYPES[name])}"
        raise _damaged(path, f"it holds shape {array.shape} of {array.dtype} instead of {wanted}")
    plain: NDArray[Any] = array.view(np.ndarray)  # memmap's subclass slows every slice
    plain.flags.writeable = False
    return plain


def _check_offsets(folder: Path, name: str, offsets: NDArray[np.int64], total: int) -> None:
    if offsets[0] != 0 or offsets[-1] != total or not bool((offsets[1:] >= offsets[:-1]).all()):
        raise _damaged(folder / f"{name}.npy", f"its offsets do not ascend from 0 to {total}")


def _damaged(path: Path, problem: str) -> Damaged:
    return Damaged(f"{path} is damaged: {problem}; rebuild the index from its collection")
