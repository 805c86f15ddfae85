"""What the experiment on hints is run on: the pair-wise split of MovieLens 1M, or a made-up miniature of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facetrail.eval.experiments.hints_plan import NetworkArm
from facetrail.eval.recommend_knowledge import load_pairs, pairs_graph
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.knowledge import Attributes, Triple, build_attributes, build_graph
from facetrail.models.recommend.time_blocks import Ints, Ratings
from facetrail.training.recommend.hint_batches import Rows
from facetrail.training.recommend.hints import FILES
from facetrail.training.run_folder import data_hashes

GENRES = ("Comedy", "Drama", "Western", "Horror")


@dataclass(frozen=True)
class HintMaterial:
    """Rows, the items' attributes and titles. hashes: file → sha256; none for made-up rows."""

    rows: Rows
    attributes: Attributes
    titles: tuple[str, ...]
    hashes: Mapping[str, str]


def pairs_material(data: Path) -> HintMaterial:
    """`ml-1m-pairs` with its graph. Raises NotFound where a file is missing."""
    hashes = data_hashes({name: data / name for name in FILES})
    pairs = load_pairs(data / "ml-1m-pairs")
    rows = Rows(pairs.train, pairs.validation, pairs.test, len(pairs.users), len(pairs.items))
    return HintMaterial(rows, build_attributes(pairs_graph(pairs, data).graph), pairs.titles, hashes)


def miniature(*, n_users: int = 8, n_items: int = 40, n_rows: int = 320, seed: int = 0) -> HintMaterial:
    """Users who like one genre, most of the time; it shows that everything runs and nothing else."""
    rng = np.random.default_rng(seed)
    genres, decades = np.arange(n_items) % len(GENRES), rng.integers(5, 10, size=n_items) * 10
    titles = tuple(f"Film {item} (19{decade + item % 10})" for item, decade in enumerate(decades.tolist()))
    ids = Vocabulary(tuple(str(item) for item in range(n_items)))
    triples = [Triple(f"item/{item}", "genre", f"genre/{GENRES[genre]}") for item, genre in enumerate(genres.tolist())]
    triples += [Triple(f"item/{item}", "decade", f"decade/19{decade}s") for item, decade in enumerate(decades.tolist())]
    names = {"genre": "genre", "decade": "decade"} | {tail: tail.partition("/")[2] for _, _, tail in triples}
    graph = build_graph(triples, {str(item): f"item/{item}" for item in range(n_items)}, ids, names=names)
    users, items = rng.integers(n_users, size=n_rows), rng.integers(n_items, size=n_rows)
    likes = (genres[items] == users % len(GENRES)) ^ (rng.random(n_rows) < 0.2)
    every = Ratings(users, items, likes.astype(np.float64), np.arange(n_rows, dtype=np.int64))
    first, second = round(0.6 * n_rows), round(0.8 * n_rows)
    parts = (every.take(slice(0, first)), every.take(slice(first, second)), every.take(slice(second, None)))
    return HintMaterial(Rows(*parts, n_users=n_users, n_items=n_items), build_attributes(graph), titles, {})


def controlled(material: HintMaterial, arm: NetworkArm, *, n_plain: int, seed: int) -> HintMaterial:
    """What an arm's network is fitted and measured on. n_plain: attributes that the arm `random` keeps."""
    rng, rows, attributes = np.random.default_rng([seed, 7]), material.rows, material.attributes
    lists = [attributes.of(item) for item in range(attributes.n_items)]
    if arm.attributes == "random":
        lists = [np.sort(rng.choice(one, min(n_plain, len(one)), replace=False)) for one in lists]
    elif arm.attributes == "swapped":
        lists = [lists[other] for other in elsewhere(len(lists), rng)]
    if arm.fake:
        lists = _with_fakes(lists, arm.fake, rng)
    if arm.labels == "shuffled":
        train, validation, test = (
            replace(part, labels=rng.permutation(part.labels)) for part in (rows.train, rows.validation, rows.test)
        )
        rows = replace(rows, train=train, validation=validation, test=test)
    return replace(material, rows=rows, attributes=attributes.regrouped(lists))


def _with_fakes(lists: Sequence[Ints], share: float, rng: np.random.Generator) -> list[Ints]:
    """Every list with attributes of others added, each as likely as it is frequent: no rarity betrays it."""
    pool = np.concatenate([*lists, np.empty(0, np.int64)])
    wider = []
    for own in lists:
        others = pool[~np.isin(pool, own)]
        drawn = rng.permutation(others)[: 20 * len(own)]  # enough to find so many different ones among
        distinct = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
        wider.append(np.sort(np.concatenate([own, distinct[: math.ceil(share * len(own))]])))
    return wider


def elsewhere(n: int, rng: np.random.Generator) -> list[int]:
    """A permutation that leaves nothing in its place."""
    circle = rng.permutation(n)
    places = np.empty(n, np.int64)
    places[circle] = np.roll(circle, 1)
    return places.tolist()


def sample_by_user(rows: Ratings, n: int, *, rng: np.random.Generator) -> Ints:
    """(about n,) rows, ascending: of every user the same share, and at least two where there are two."""
    share = min(1.0, n / max(1, len(rows)))
    chosen = []
    for user in np.unique(rows.users):
        own = np.flatnonzero(rows.users == user)
        size = min(len(own), max(2, round(share * len(own))))
        chosen.append(rng.choice(own, size, replace=False))
    return np.sort(np.concatenate([*chosen, np.empty(0, np.int64)]))
