"""What a reader says about rows it could not use: file, line and reason, counted by kind."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from facetrail.models.errors import InvalidInput

MAX_KEPT = 1_000

Kind = Literal[
    "invalid", "encoding", "id", "duplicate", "too_large", "ragged", "truncated", "time", "empty", "column", "known"
]
WARNINGS: frozenset[Kind] = frozenset({"empty", "column", "known"})
"""Kinds that leave the row in the corpus and do not stop a strict reading."""
WORDS: dict[Kind, str] = {
    "invalid": "not readable",
    "encoding": "not UTF-8",
    "id": "without a usable id",
    "duplicate": "with an id seen before",
    "too_large": "too large",
    "ragged": "with the wrong number of columns",
    "truncated": "cut off by a damaged file",
    "time": "without a usable time",
    "empty": "kept without title and text",
    "known": "stored before, or twice in the file",
    "column": "group of columns left out",
}


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One row that was left out, or kept with a warning."""

    file: str
    line: int
    """Physical line where the row starts, from 1; in Parquet the row number. 0: the file as a whole."""
    kind: Kind
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


@dataclass(slots=True)
class RowReport:
    """Filled while a corpus is read; the first 1,000 problems are kept, all are counted."""

    n_read: int = 0
    """Rows met, blank lines not counted."""
    n_good: int = 0
    """Documents handed out."""
    problems: list[RowProblem] = field(default_factory=list)
    counts: Counter[Kind] = field(default_factory=Counter)

    @property
    def n_bad(self) -> int:
        """Rows left out."""
        return sum(n for kind, n in self.counts.items() if kind not in WARNINGS)

    def add(self, problem: RowProblem, *, strict: bool = False) -> None:
        """Notes a problem; under `strict` one that costs a row raises InvalidInput instead of being passed over."""
        self.counts[problem.kind] += 1
        if len(self.problems) < MAX_KEPT or problem.kind == "truncated":  # of which a file has one
            self.problems.append(problem)
        if strict and problem.kind not in WARNINGS:
            raise InvalidInput(f"{problem}; repair the row, or read on past bad rows by leaving out --strict")

    def summary(self) -> str:
        """One sentence: `5 of 7 rows read; left out: 1 not UTF-8, 1 with an id seen before (a.csv:3: …)`."""
        text = f"{self.n_good:,} of {self.n_read:,} rows read"
        left_out = [f"{n:,} {WORDS[kind]}" for kind, n in self.counts.items() if kind not in WARNINGS]
        warned = [f"{n:,} {WORDS[kind]}" for kind, n in self.counts.items() if kind in WARNINGS]
        if left_out:
            bad = [p for p in self.problems if p.kind not in WARNINGS]
            # A file cut off may lack any number of documents: that comes before single rows.
            first = next((p for p in bad if p.kind == "truncated"), bad[0] if bad else None)
            text += f"; left out: {', '.join(left_out)}" + (f" ({first})" if first else "")
        if warned:
            text += f"; warnings: {', '.join(warned)}"
        return text
