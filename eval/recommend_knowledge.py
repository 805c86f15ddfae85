"""Public knowledge graphs around MovieLens, and its pair-wise split "will this user like this film".

Where attributes come from: genres and release years of the lists of items, Freebase through the links of MovieLens
100k (its persons have ids and no names, so they work without being shown), DBpedia categories through
`eval.recommend_dbpedia`.
"""

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from facetrail.eval.recommend_dbpedia import FilmRow, align_dbpedia, read_dbpedia
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.knowledge import KnowledgeGraph, Triple, build_graph
from facetrail.models.recommend.time_blocks import Ratings

GENRE, DECADE, CATEGORY = "genre", "decade", "category"
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_RELATION_NAMES = {
    GENRE: GENRE,
    DECADE: DECADE,
    CATEGORY: CATEGORY,
    "film.film.actor": "actor",
    "film.film.directed_by": "director",
    "film.film.written_by": "writer",
    "film.film.produced_by": "producer",
    "film.film.cinematography": "cinematographer",
    "film.film.production_companies": "production company",
    "film.film.genre": "Freebase genre",
    "film.film.language": "language",
    "film.film.country": "country",
    "film.film.rating": "content rating",
    "film.film.subjects": "subject",
    "film.film.award_won": "award won",
    "film.film.award_nomination": "award nomination",
    "film.film.sequel": "sequel",
    "film.film.prequel": "prequel",
}


@dataclass(frozen=True)
class PairsData:
    """`ml-1m-pairs`: will a user rate a film above 3. Rows are ordered by time, each split later than the one before.

    titles: of each item, with its year.
    """

    users: Vocabulary
    items: Vocabulary
    titles: tuple[str, ...]
    train: Ratings
    validation: Ratings
    test: Ratings

    @cached_property
    def item_of_title(self) -> dict[str, int]:
        """Title in lower case → item."""
        return {title.lower(): item for item, title in enumerate(self.titles)}


@dataclass(frozen=True)
class LinkedGraph:
    """A graph and how much of the items each of its sources reaches, as shares in [0, 1]."""

    graph: KnowledgeGraph
    linked: dict[str, float]
    years_checked: int = 0
    """DBpedia rows whose category of a release year could be compared with the title's."""
    years_agree: int = 0


def load_pairs(folder: Path) -> PairsData:
    """Reads the folder `ml-1m-pairs`. Raises NotFound, and InvalidInput where an id has two titles."""
    import pandas as pd

    frames = []
    for split in ("train", "valid", "test"):
        file = folder / f"{split}.csv.gz"
        if not file.is_file():
            raise NotFound(f"{file} does not exist; give the folder of ml-1m-pairs")
        frames.append(pd.read_csv(file, dtype={"uid": str, "iid": str, "title": str}))
    every = pd.concat(frames)
    titles = every.drop_duplicates(["iid", "title"]).set_index("iid")["title"]
    if titles.index.has_duplicates:
        raise InvalidInput(f"{folder} gives an item two titles; its three files must be of one version")
    users = Vocabulary(tuple(sorted(every["uid"].unique(), key=int)))
    items = Vocabulary(tuple(sorted(titles.index, key=int)))
    train, validation, test = (
        Ratings(
            users.rows(frame["uid"].tolist()),
            items.rows(frame["iid"].tolist()),
            frame["label"].to_numpy(np.float64),
            frame["timestamp"].to_numpy(np.int64) * 1_000,
        ).ordered()
        for frame in frames
    )
    return PairsData(users, items, tuple(titles[item] for item in items.ids), train, validation, test)


def pairs_graph(data: PairsData, shared: Path) -> LinkedGraph:
    """Genres, decades, DBpedia categories and Freebase around the films of `ml-1m-pairs`.

    shared: the folder that holds `ml-1m-sequences` and `ml-100k`.
    """
    films = read_films(shared / "ml-1m-sequences")
    features = read_dbpedia(shared / "ml-1m-sequences")
    alignment = align_dbpedia(films, features)
    freebase, entity_of, names = _freebase(shared / "ml-100k")
    links = {item: entity_of.get(title.lower(), f"item/{item}") for item, title in _titled(data)}
    triples = list(freebase)
    n_genres = n_categories = 0
    by_title = {film.title.lower(): (film, row) for film, row in zip(films, alignment.rows, strict=True)}
    for item, title in _titled(data):
        triples += _decade(links[item], title)
        film, row = by_title.get(title.lower(), (None, -1))
        if film is not None:
            triples += [Triple(links[item], GENRE, f"genre/{genre}") for genre in film.genres]
            n_genres += 1
        if row >= 0:
            triples += [Triple(links[item], CATEGORY, f"category/{name}") for name in features[row]]
            n_categories += 1
    known = {tail: tail.partition("/")[2] for _, relation, tail in triples if relation in (GENRE, DECADE, CATEGORY)}
    graph = build_graph(triples, links, data.items, names={**_RELATION_NAMES, **names, **known})
    n_freebase = sum(not entity.startswith("item/") for entity in links.values())
    shares = {GENRE: n_genres, CATEGORY: n_categories, "freebase": n_freebase}
    linked = {name: count / len(data.items) for name, count in shares.items()}
    return LinkedGraph(graph, linked, alignment.years_checked, alignment.years_agree)


def load_ml100k_graph(folder: Path, items: Vocabulary) -> LinkedGraph:
    """Freebase, genres and decades around the films of `ml-100k`; items by their ids there."""
    triples, _, names = _freebase(folder)
    links = _links(folder)
    added: list[Triple] = []
    for item, _, year, genres in _rows(folder / "ml-100k.item.gz", 4):
        entity = links.setdefault(item, f"item/{item}")
        added += [Triple(entity, GENRE, f"genre/{genre}") for genre in genres.split()]
        added += _decade(entity, f"({year})")
    known = {tail: tail.partition("/")[2] for _, _, tail in added}
    graph = build_graph([*triples, *added], links, items, names={**_RELATION_NAMES, **names, **known})
    n_freebase = sum(not links.get(item, "item/").startswith("item/") for item in items.ids)
    return LinkedGraph(graph, {"freebase": n_freebase / len(items)})


def read_films(folder: Path) -> list[FilmRow]:
    """The films of MovieLens 1M in the order of their ids, from `ml-1m-sequences`."""
    found = []
    for _, title, genres in _rows(folder / "ml1m_items.dat.gz", 3, header=False):
        year = _YEAR.search(title)
        found.append(FilmRow(title, tuple(genres.split("|")), int(year[1]) if year else None))
    return found


def _titled(data: PairsData) -> Iterator[tuple[str, str]]:
    return zip(data.items.ids, data.titles, strict=True)


def _decade(entity: str, title: str) -> list[Triple]:
    year = _YEAR.search(title)
    return [Triple(entity, DECADE, f"decade/{int(year[1]) // 10 * 10}s")] if year else []


def _freebase(folder: Path) -> tuple[list[Triple], dict[str, str], dict[str, str]]:
    """Triples, title with year in lower case → entity, entity → title."""
    triples = [Triple(*row) for row in _rows(folder / "ml-100k.kg.gz", 3)]
    links = _links(folder)
    titles = {item: f"{title} ({year})" for item, title, year, _ in _rows(folder / "ml-100k.item.gz", 4)}
    entity_of = {titles[item].lower(): entity for item, entity in links.items() if item in titles}
    return triples, entity_of, {entity: titles[item] for item, entity in links.items() if item in titles}


def _links(folder: Path) -> dict[str, str]:
    """Item of MovieLens 100k → entity."""
    return {row[0]: row[1] for row in _rows(folder / "ml-100k.link.gz", 2)}


def _rows(file: Path, n_columns: int, *, header: bool = True) -> Iterator[Sequence[str]]:
    """The rows of a tab-separated file. Raises NotFound, and InvalidInput for a row of another width."""
    if not file.is_file():
        raise NotFound(f"{file} does not exist; give the folder of the MovieLens collections")
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if header and number == 1:
                continue
            row = line.rstrip("\r\n").split("\t")
            if len(row) != n_columns:
                raise InvalidInput(f"{file} line {number} has {len(row)} columns, not {n_columns}; fetch it again")
            yield row
