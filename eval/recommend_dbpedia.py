"""DBpedia categories of MovieLens 1M's films, whose own index is documented nowhere.

Rows of categories and films stand in the same order, but films without an article are missing among the rows. So the
two are aligned monotonically: the alignment that agrees best on release years and genres, found by dynamic
programming. What cannot be checked is reported, not hidden.
"""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput, NotFound

_GENRE_WORDS = {
    "Action": "action", "Adventure": "adventure", "Animation": "animated", "Children's": "children",
    "Comedy": "comed", "Crime": "crime", "Documentary": "documentar", "Drama": "drama", "Fantasy": "fantasy",
    "Film-Noir": "noir", "Horror": "horror", "Musical": "musical", "Mystery": "mystery", "Romance": "roman",
    "Sci-Fi": "science fiction", "Thriller": "thriller", "War": "war ", "Western": "western",
}  # fmt: skip
_YEAR_CATEGORY = re.compile(r"(\d{4}) films")
_YEAR_WEIGHT, _GENRE_WEIGHT = 6.0, 1.0
"""A release year is nearly proof; a word such as `comedy` is a hint among several."""
_YEARS_APART = 1
"""First shown at a festival in one year, released in the next: the two sources often differ by so much."""


@dataclass(frozen=True)
class FilmRow:
    """A film of the list of items."""

    title: str
    genres: tuple[str, ...]
    year: int | None


@dataclass(frozen=True)
class Alignment:
    """rows: of each film, the row of its categories, -1 where it has none. years_checked: rows whose category of a
    release year has a title's year beside it; years_agree: those within a year of it.
    """

    rows: NDArray[np.int64]
    years_checked: int
    years_agree: int


def read_dbpedia(folder: Path) -> list[tuple[str, ...]]:
    """Readable category names of each row, in the rows' order."""
    names = {number: _readable(uri) for number, uri in (row for row in _lines(folder / "dbpedia_features.tsv.gz"))}
    rows = []
    for _, *features in _lines(folder / "dbpedia_map.tsv.gz"):
        rows.append(tuple(names[number] for number in features if number))
    return rows


def align_dbpedia(films: Sequence[FilmRow], rows: Sequence[Sequence[str]]) -> Alignment:
    """The monotone alignment of rows to films with the best agreement. Raises InvalidInput for more rows than films.

    Row i stands at film i + o, where the offset o never falls from one row to the next.
    """
    n_offsets = len(films) - len(rows) + 1
    if n_offsets < 1 or not rows:
        raise InvalidInput(f"{len(rows)} rows of categories cannot belong to {len(films)} films; give the right files")
    agreement = _agreement(films, rows)
    reached = np.zeros(n_offsets)
    best_from = np.empty((len(rows), n_offsets), np.int64)
    for i in range(len(rows)):
        running = np.maximum.accumulate(reached)
        fresh = np.r_[True, reached[1:] > running[:-1]]
        best_from[i] = np.maximum.accumulate(np.where(fresh, np.arange(n_offsets), 0))
        reached = running + agreement[i, i : i + n_offsets]
    offset, found = int(reached.argmax()), np.full(len(films), -1, np.int64)
    for i in range(len(rows) - 1, -1, -1):
        found[i + offset] = i
        offset = int(best_from[i, offset])
    checks = [
        abs(film.year - year) <= _YEARS_APART
        for film, row in zip(films, found.tolist(), strict=True)
        if row >= 0 and film.year is not None and (year := _year(rows[row])) is not None
    ]
    return Alignment(found, len(checks), sum(checks))


def _agreement(films: Sequence[FilmRow], rows: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """(rows, films): years that agree or contradict, and genres that both, or the row alone, speak of."""
    in_film = np.array([[genre in film.genres for genre in _GENRE_WORDS] for film in films], float)
    text = [" ".join(row).lower() + " " for row in rows]
    in_row = np.array([[word in one for word in _GENRE_WORDS.values()] for one in text], float)
    genres = in_row @ (in_film - 0.5).T * _GENRE_WEIGHT
    film_years = np.array([film.year or 0 for film in films])
    row_years = np.array([_year(row) or 0 for row in rows])
    apart = np.abs(row_years[:, None] - film_years[None, :])
    years = np.where(apart <= _YEARS_APART, _YEAR_WEIGHT - 2 * apart, -_YEAR_WEIGHT) * (row_years > 0)[:, None]
    agreement: NDArray[np.float64] = genres + years
    return agreement


def _year(row: Sequence[str]) -> int | None:
    return next((int(found[1]) for name in row if (found := _YEAR_CATEGORY.fullmatch(name))), None)


def _readable(uri: str) -> str:
    """`...Category:1990s_comedy_films>` → `1990s comedy films`."""
    return uri.rpartition("Category:")[2].rstrip(">").replace("_", " ")


def _lines(file: Path) -> list[list[str]]:
    if not file.is_file():
        raise NotFound(f"{file} does not exist; give the folder of ml-1m-sequences")
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\r\n").split("\t") for line in lines if line.strip()]
