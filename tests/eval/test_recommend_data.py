"""Loaders: files of every kind, broken rows by line, the public collections' published counts."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facetrail.eval.recommend_data import (
    ItemInformation,
    attribute_matrix,
    load_beauty,
    load_events,
    load_grocery,
    load_ml1m_sequences,
    load_ml100k,
)
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.interactions import Interactions, Vocabulary

T = 1_700_000_000_000
ROWS = [("ann", "x", "rating", 5, T), ("ann", "y", "rating", 3, T + 1), ("bob", "x", "order", None, T + 2)]
COLUMNS = ["user", "item", "action", "value", "time"]


def in_words(events: Interactions) -> list[tuple[str, str, int]]:
    users = np.repeat(events.users.ids, np.diff(events.starts))
    return [
        (str(user), events.vocabulary.ids[item], int(time))
        for user, item, time in zip(users, events.items, events.times, strict=True)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "inter", "csv.gz"])
def test_every_kind_of_file_gives_the_same_events(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"events.{kind}"
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "inter":
        types = {"user": "user_id:token", "item": "item_id:token", "value": "rating:float", "time": "timestamp:float"}
        frame.rename(columns=types | {"action": "action:token"}).to_csv(path, sep="\t", index=False)
    else:
        frame.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    data = load_events(path)
    assert in_words(data.interactions) == [("ann", "x", T), ("ann", "y", T + 1), ("bob", "x", T + 2)]
    np.testing.assert_array_equal(data.interactions.values, np.array([5, 3, np.nan], np.float32))
    assert data.report.n_bad == 0


def test_broken_rows_are_reported_by_line_and_the_good_ones_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "user,item,action,time\n"
        f"ann,x,view,{T}\n"
        f"ann,,view,{T}\n"
        "ann,y,view,yesterday\n"
        f"ann,x,view,{T}\n"
        f"ann,z,view\n"
        f"bob,y,view,{T}\n"
    )
    data = load_events(path)
    assert in_words(data.interactions) == [("ann", "x", T), ("bob", "y", T)]
    assert [problem.line for problem in data.report.problems] == [3, 4, 6]
    assert (data.report.n_bad, data.n_duplicates) == (3, 1)
    with pytest.raises(InvalidInput, match=":3: "):
        load_events(path, strict=True)


def test_actions_that_count_are_named_and_unknown_ones_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(path, index=False)
    assert len(load_events(path).interactions.items) == 3
    data = load_events(path, keep=["rating >= 4", "order"])
    assert in_words(data.interactions) == [("ann", "x", T), ("bob", "x", T + 2)]
    assert data.n_unwanted == 1
    assert in_words(load_events(path, keep=["rating<5"], ignore=["order"]).interactions) == [("ann", "y", T + 1)]
    assert len(load_events(path, ignore=["order"]).interactions.items) == 2
    with pytest.raises(InvalidInput, match=r":4: the action 'order' is not known"):
        load_events(path, keep=["rating"])
    with pytest.raises(InvalidInput, match="no condition"):
        load_events(path, keep=["rating>="])


def test_a_value_that_is_absent_meets_no_bound(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(path, index=False)
    assert in_words(load_events(path, keep=["order<9", "rating>=5"]).interactions) == [("ann", "x", T)]


def test_attributes_become_a_matrix_in_the_order_of_the_vocabulary() -> None:
    items = {"b": ItemInformation("B", {"genre": ("Drama", "Comedy")}), "a": ItemInformation("A", {"genre": ("War",)})}
    matrix, values = attribute_matrix(items, Vocabulary(("a", "unknown", "b")), "genre")
    assert values == ("Comedy", "Drama", "War")
    assert matrix.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_a_missing_or_mangled_collection_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"ml-100k\.inter\.gz"):
        load_ml100k(tmp_path)
    (tmp_path / "ml-100k.inter.gz").write_bytes(gzip.compress(b"user\titem\trating\ttime\n1\t2\t3\n"))
    with pytest.raises(InvalidInput, match=":2 has 3 columns"):
        load_ml100k(tmp_path)


def test_movielens_100k(data_folder: Path) -> None:
    data = load_ml100k(data_folder / "ml-100k")
    events = data.interactions
    assert (events.n_users, events.n_items, len(events.items), data.n_duplicates) == (943, 1_682, 100_000, 0)
    assert data.items["1"].title == "Toy Story"
    assert data.items["1"].attributes == {"year": ("1995",), "genre": ("Animation", "Children's", "Comedy")}
    assert set(events.vocabulary.ids) == set(data.items)
    assert events.times.min() == 874_724_710_000


def test_movielens_1m_sequences(data_folder: Path) -> None:
    data = load_ml1m_sequences(data_folder / "ml-1m-sequences")
    events = data.interactions
    assert (events.n_users, events.n_items, len(events.items)) == (6_040, 3_416, 987_019)
    assert set(events.vocabulary.ids) <= set(data.items)
    with gzip.open(data_folder / "ml-1m-sequences" / "sas_to_original_items.txt.gz", "rt") as lines:
        original = dict(line.split() for line in lines)
    # The first line of the file is user 5988 and starts 1 2 3 ….
    history = events.history(events.users.numbers["5988"])
    assert [events.vocabulary.ids[item] for item in history[:3]] == [original[n] for n in "123"]


def test_beauty_and_grocery(data_folder: Path) -> None:
    beauty = load_beauty(data_folder / "amazon-beauty")
    events = beauty.interactions
    assert (events.n_users, events.n_items, len(events.items)) == (22_363, 12_101, 198_502)
    assert beauty.items["4"].attributes["attribute"] == ("1", "2", "3")
    grocery = load_grocery(data_folder / "grocery")
    assert (len(grocery.interactions.items), len(grocery.items)) == (121_892, 8_713)
    assert "6285" in grocery.items["1"].attributes["substitute"]
