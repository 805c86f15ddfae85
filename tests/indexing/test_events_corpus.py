"""Event files as people have them: four forms, broken rows named by line, good rows kept."""

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pytest

from facetrail.indexing.corpus_report import RowReport
from facetrail.indexing.events_corpus import read_events
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.records import Event

NOW = 1_750_000_000_000
ANN = Event("ann", "tea", "order", 1_700_000_000_000, 2.0, "r1")


def read(path: Path, **options: object) -> tuple[list[Event], RowReport]:
    report = RowReport()
    found = [event for _, event in read_events(path, report=report, now=NOW, **options)]  # type: ignore[arg-type]
    return found, report


def lines(report: RowReport) -> list[tuple[int, str]]:
    return [(p.line, p.kind) for p in report.problems]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_one_event_in_every_form(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    json = '{"user": "ann", "item": "tea", "action": "order", "time": 1700000000000, "value": 2, "request_id": "r1"}\n'
    csv = "user_id,item_id,event,timestamp,rating,request_id\nann,tea,order,2023-11-14T22:13:20Z,2,r1\n"
    atomic = "user_id:token\titem_id:token\taction:token\ttimestamp:float\trating:float\trequest_id:token\n"
    table = pa.table(
        {
            "user": ["ann"],
            "item": ["tea"],
            "action": ["order"],
            "time": [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)],
            "value": [2.0],
            "request_id": ["r1"],
        }
    )
    parquet.write_table(table, tmp_path / "e.parquet")
    files = [
        tmp_path / "e.parquet",
        write(tmp_path / "e.jsonl", json),
        write(tmp_path / "e.ndjson.gz", gzip.compress(json.encode())),
        write(tmp_path / "e.csv", csv),
        write(tmp_path / "e.tsv", csv.replace(",", "\t")),
        write(tmp_path / "tabs.csv", csv.replace(",", "\t")),
        write(tmp_path / "e.inter", atomic + "ann\ttea\torder\t1700000000.0\t2\tr1\n"),
        write(tmp_path / "e.inter.gz", gzip.compress((atomic + "ann\ttea\torder\t1.7e9\t2\tr1").encode())),
    ]
    for file in files:
        found, report = read(file)
        assert (file.name, found) == (file.name, [ANN])
        assert (report.n_read, report.n_good, report.problems) == (1, 1, [])


def test_every_broken_row_is_named_by_line_and_the_good_ones_are_kept(tmp_path: Path) -> None:
    good = '{"user": 7, "item": 3.0, "action": "view", "time": 1700000000}'
    rows = [
        good,
        '{"user": "ann", "item": "tea", "action": "view", "time": 17000000',
        '{"item": "tea", "action": "view", "time": 1700000000}',
        '{"user": "ann", "item": "", "action": "view", "time": 1700000000}',
        '{"user": "ann", "item": ["tea"], "action": "view", "time": 1700000000}',
        '{"user": "ann", "item": "tea", "time": 1700000000}',
        '{"user": "ann", "item": "tea", "action": "view"}',
        '{"user": "ann", "item": "tea", "action": "view", "time": "yesterday"}',
        '{"user": "ann", "item": "tea", "action": "view", "time": 1750000601}',
        '{"user": "ann", "item": "tea", "action": "view", "time": "2099-01-01"}',
        '{"user": "ann", "item": "tea", "action": "view", "time": -5}',
        '{"user": "ann", "item": "tea", "action": "view", "time": 1700000000, "value": "much"}',
        '{"user": "ann", "item": "tea", "action": "view", "time": 1700000000, "value": true}',
        '["ann"]',
        "",
        '{"user": "ann", "item": "tea", "action": "view", "time": 1750000600}',
    ]
    found, report = read(write(tmp_path / "e.jsonl", "\n".join(rows).encode() + b'\n{"user": "\xff"}\n'))
    assert found == [Event("7", "3", "view", 1_700_000_000_000), Event("ann", "tea", "view", 1_750_000_600_000)]
    kinds = ["invalid", "id", "id", "id", "invalid", *["time"] * 5, "invalid", "invalid", "invalid"]
    assert lines(report) == [*zip(range(2, 15), kinds, strict=True), (17, "encoding")]
    assert (report.n_read, report.n_good, report.n_bad) == (16, 2, 14)
    with pytest.raises(InvalidInput, match=r"e\.jsonl:2: .*without|e\.jsonl:2: "):
        read(tmp_path / "e.jsonl", strict=True)


def test_unknown_columns_are_named_once_and_left_out(tmp_path: Path) -> None:
    csv = "user,item,time,action,colour,size\na,x,1700000000,view,red,3\na,y,1700000000,view,red,4\n"
    found, report = read(write(tmp_path / "e.csv", csv))
    assert [event.item for event in found] == ["x", "y"]
    assert sorted(p.reason.split("'")[1] for p in report.problems) == ["colour", "size"]
    assert (lines(report), report.n_bad) == ([(2, "column")] * 2, 0)


def test_the_action_is_the_rows_own_then_the_one_given_then_rating(tmp_path: Path) -> None:
    csv = "user,item,time,action,rating\na,x,1700000000,view,3\na,y,1700000000,,3\na,z,1700000000,,\n"
    file = write(tmp_path / "e.csv", csv)
    found, report = read(file)
    assert [(event.item, event.action) for event in found] == [("x", "view"), ("y", "rating")]
    assert lines(report) == [(4, "invalid")]
    assert [event.action for event in read(file, action="order")[0]] == ["view", "order", "order"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.csv", "who,what\na,b\n", "no column with the user"),
        ("e.inter", "user_id:token\titem_id:token\n1\t2\n", "no column with the time"),
        ("e.csv", "", "is empty"),
        ("e.parquet", "PAR1 not", "cannot be read as Parquet"),
        ("e.docx", "x", "of no kind"),
    ],
)
def test_a_file_that_cannot_hold_events_is_refused(tmp_path: Path, name: str, content: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(write(tmp_path / name, content))


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        read(tmp_path / "none.csv")


def test_a_ragged_row_and_a_cut_stream_lose_only_themselves(tmp_path: Path) -> None:
    rows = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\n" + "".join(
        f'"u{n}\tx{n}\t3\t1700000000\n' for n in range(5_000)
    )
    whole = gzip.compress(rows.encode())
    found, report = read(write(tmp_path / "e.inter.gz", whole[: len(whole) // 2]))
    assert 500 < len(found) < 5_000
    assert found[0] == Event('"u0', "x0", "rating", 1_700_000_000_000, 3.0)  # atomic files know no quotes
    assert lines(report)[0] == (2, "ragged")
    assert lines(report)[-1][1] == "truncated"


def test_movielens_is_read_whole(data_folder: Path) -> None:
    found, report = read(data_folder / "ml-100k" / "ml-100k.inter.gz")
    assert (len(found), report.problems) == (100_000, [])
    assert found[0] == Event("196", "242", "rating", 881_250_949_000, 3.0)
    grocery = read_events(data_folder / "grocery" / "train.csv.gz", action="order", now=NOW)
    assert next(grocery) == (2, Event("2177", "3", "order", 965_779_200_000))
