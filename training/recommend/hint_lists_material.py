"""What the experiment on lists is run on: MovieLens 100k cut by time, or a made-up miniature of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrail.eval.experiments.hint_lists_plan import HintListsExperiment
from facetrail.eval.recommend_cleaning import Ties, event_users, interactions_of
from facetrail.eval.recommend_data import load_ml100k
from facetrail.eval.recommend_knowledge import load_ml100k_graph
from facetrail.eval.recommend_options import OptionLists, draw_lists
from facetrail.eval.recommend_splits import Split, cut_times, time_split
from facetrail.models.recommend.interactions import Interactions, Vocabulary
from facetrail.models.recommend.knowledge import Attributes, Triple, build_attributes, build_graph
from facetrail.models.recommend.time_blocks import Ratings
from facetrail.training.recommend.hint_batches import Rows
from facetrail.training.recommend.hint_material import GENRES
from facetrail.training.run_folder import data_hashes

FILES = tuple(f"ml-100k/ml-100k.{name}.gz" for name in ("inter", "item", "kg", "link"))
LISTS_SEED = 11


@dataclass(frozen=True)
class ListMaterial:
    """One split in both forms, over the same users and items, and the lists drawn from it.

    rows: every rating, labelled by whether it is a like · hashes: file → sha256; none for made-up events.
    """

    split: Split
    rows: Rows
    attributes: Attributes
    titles: tuple[str, ...]
    validation: OptionLists
    test: OptionLists
    hashes: Mapping[str, str]


def ml100k_material(data: Path, plan: HintListsExperiment) -> ListMaterial:
    """`ml-100k` with its graph. Raises NotFound where a file is missing."""
    hashes = data_hashes({name: data / name for name in FILES})
    loaded = load_ml100k(data / "ml-100k")
    split = _split(loaded.interactions, plan)
    attributes = build_attributes(load_ml100k_graph(data / "ml-100k", split.catalogue).graph)
    told = loaded.items
    titles = tuple(f"{told[item].title} ({''.join(told[item].attributes['year'])})" for item in split.catalogue.ids)
    return _material(split, attributes, titles, plan, hashes)


def list_miniature(plan: HintListsExperiment, *, n_users: int = 24, n_items: int = 120, seed: int = 0) -> ListMaterial:
    """Users who take up and like one genre, most of the time; it shows that everything runs and nothing else."""
    rng, n_events = np.random.default_rng(seed), 20
    genres = np.arange(n_items) % len(GENRES)
    events = []
    for user in range(n_users):
        likely = np.where(genres == user % len(GENRES), 8.0, 1.0)
        for place, item in enumerate(rng.choice(n_items, n_events, replace=False, p=likely / likely.sum()).tolist()):
            stars = 5.0 if (genres[item] == user % len(GENRES)) ^ (rng.random() < 0.2) else 2.0
            events.append((f"u{user:02}", f"i{item:03}", place * n_users + user, stars))
    users, items, times, values = (list(column) for column in zip(*events, strict=True))
    split = _split(interactions_of(users, items, times, values), plan)
    ids = split.catalogue.ids
    triples = [Triple(item, "genre", f"genre/{GENRES[int(item[1:]) % len(GENRES)]}") for item in ids]
    names = {"genre": "genre", "maker": "maker"} | {triple.tail: triple.tail.partition("/")[2] for triple in triples}
    triples += [Triple(item, "maker", f"maker/{int(item[1:]) % 7}") for item in ids]  # who has no name to show
    graph = build_graph(triples, {item: item for item in ids}, Vocabulary(ids), names=names)
    titles = tuple(f"Film {item}" for item in ids)
    return _material(split, build_attributes(graph), titles, plan, {})


def _split(events: Interactions, plan: HintListsExperiment) -> Split:
    cuts = cut_times(events, train=plan.train_share, validation=plan.validation_share)
    return time_split(events, cuts, ties=Ties("shuffle"))  # each event is a question, its history strictly earlier


def _material(
    split: Split, attributes: Attributes, titles: tuple[str, ...], plan: HintListsExperiment, hashes: Mapping[str, str]
) -> ListMaterial:
    source = split.test.source
    rated = Ratings(
        event_users(source), source.items, (source.values >= plan.least).astype(np.float64), source.times
    ).ordered()
    first, second = int(split.rule["t1"]), int(split.rule["t2"])
    parts = (rated.times <= first, (rated.times > first) & (rated.times <= second), rated.times > second)
    train, validated, tested = (rated.take(part) for part in parts)
    rows = Rows(train, validated, tested, source.n_users, len(split.catalogue))
    validation, test = (
        draw_lists(
            asked,
            split.train,
            least=plan.least,
            n_options=plan.n_options,
            per_user=per_user,
            rng=np.random.default_rng([LISTS_SEED, per_user]),
        )
        for asked, per_user in ((split.validation, plan.per_user // 3), (split.test, plan.per_user))
    )
    return ListMaterial(split, rows, attributes, titles, validation, test, hashes)
