"""Tells a damaged write-ahead log from one that a crash cut short.

SQLite ends a log at the first frame whose checksum does not fit, silently: right for a torn last write, but a flipped
bit in the middle of what a killed writer left behind would drop every acknowledged write after it. Each frame's
checksum continues the one stored in the frame before, so that frames behind the break can still be seen to fit. Those
of the broken frame's own transaction prove nothing (a power cut may keep the second half of a write, and a killed
writer's unfinished frames may outlive the next write over them), but a later transaction was begun after this one was
synced: if one fits, the break is damage. So all transactions are covered but the last.

Format: https://sqlite.org/fileformat2.html#walformat
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER, _FRAME_HEADER = 32, 24
_MAGIC = 0x377F0682  # the lowest bit says that checksums are of big-endian words

Words = NDArray[np.uint32]


def log_problem(database: Path) -> tuple[Path, str] | None:
    """(log file, what is wrong) if the log holds writes that SQLite would drop though they were finished."""
    log = database.with_name(f"{database.name}-wal")
    while True:
        try:
            raw = log.read_bytes()
            what = _problem(raw)
            with log.open("rb") as file:
                if what is None or file.read(_HEADER) == raw[:_HEADER]:
                    return (log, what) if what else None
        except FileNotFoundError:
            return None
        # A writer began the log anew while we read it.


def _problem(raw: bytes) -> str | None:
    if len(raw) <= _HEADER:
        return None  # nothing was ever committed to it
    header = np.frombuffer(raw[:_HEADER], ">u4")
    words = ">u4" if header[0] & 1 else "<u4"
    start = np.zeros((2, 1), np.uint32)
    found = _checksums(np.frombuffer(raw[:24], words).reshape(1, -1), start)
    page_size = int(header[2])
    if int(header[0]) & ~1 != _MAGIC or found[:, 0].tolist() != header[6:].tolist() or page_size < 512:
        return "has a damaged header: SQLite would drop every write in it"
    size = _FRAME_HEADER + page_size
    n = (len(raw) - _HEADER) // size
    if n == 0:
        return None
    frames = np.frombuffer(raw, np.uint8, n * size, _HEADER).reshape(n, size)
    heads = np.ascontiguousarray(frames[:, :_FRAME_HEADER]).view(">u4")  # (n, 6): page, commit, 2 salts, 2 checksums
    ours = (heads[:, 2:4] == header[4:6]).all(axis=1)
    before = np.concatenate([header[6:].reshape(1, 2), heads[:-1, 4:]]).astype(np.uint32).T  # (2, n)
    content = np.concatenate([frames[:, :8], frames[:, _FRAME_HEADER:]], axis=1).view(words)
    fits = ours & (_checksums(content, before) == heads[:, 4:].T).all(axis=0)
    broken = int(np.argmin(fits))
    ends = np.flatnonzero(ours[broken:] & (heads[broken:, 1] != 0))  # frames that commit
    if fits[broken] or not len(ends):
        return None
    n_behind = int(fits[broken + int(ends[0]) + 1 :].sum())
    if n_behind == 0:
        return None
    return f"is damaged in frame {broken + 1}: SQLite would drop it and the {n_behind} good frames behind it"


def _checksums(rows: NDArray[np.unsignedinteger], start: Words) -> Words:
    """SQLite's cumulative checksum of every row at once. rows: (n, even number of words) · start: (2, n) → (2, n)."""
    columns = np.ascontiguousarray(rows.T).astype(np.uint32)
    first, second = start[0].copy(), start[1].copy()
    for even, odd in zip(columns[::2], columns[1::2], strict=True):
        first += even + second  # modulo 2**32, as SQLite's
        second += odd + first
    return np.stack([first, second])
