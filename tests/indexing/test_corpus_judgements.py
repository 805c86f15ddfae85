"""Queries and judgements: BEIR and TREC in, file and line in every error."""

import gzip
from pathlib import Path

import pytest

from facetrail.indexing.corpus import read_qrels, read_queries
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Query


def test_queries_in_order_plain_and_packed(tmp_path: Path) -> None:
    content = b'{"_id": "q2", "text": "a\xe2\x80\xa8b", "metadata": {}}\n\n{"qid": 1, "query": "c"}\n'
    (tmp_path / "q.jsonl").write_bytes(content)
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(content))
    for name in ("q.jsonl", "q.jsonl.gz"):
        assert read_queries(tmp_path / name) == [Query("q2", "a\u2028b"), Query("1", "c")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"_id": "q"', "not JSON"),
        (b'{"text": "x"}', "no id"),
        (b'{"_id": "x"}', "is a null"),
        (b'{"_id": "x", "text": " "}', "is empty"),
        (b'{"_id": "q1", "text": "x"}', "comes twice"),
        (b'{"_id": "x", "text": "\xff"}', "byte 0xFF"),
    ],
)
def test_a_bad_query_names_file_and_line(tmp_path: Path, row: bytes, reason: str) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_bytes(b'{"_id": "q1", "text": "x"}\n' + row)
    with pytest.raises(InvalidInput, match=rf"queries\.jsonl:2: .*{reason}"):
        read_queries(path)


@pytest.mark.parametrize(
    "content",
    [
        b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n\nq 2\td1\t1\n",
        b"\xef\xbb\xbfquery-id\tcorpus-id\tscore\r\nq1\td1\t2\r\nq1\td2\t0\r\nq 2\td1\t1",
        b"score\tquery-id\tcorpus-id\n2\tq1\td1\n0\tq1\td2\n1\tq 2\td1\n",
        b"q1\td1\t2\nq1\td2\t-1\nq 2\td1\t1\n",
        b"q1\t0\td1\t2\nq1\tQ0\td2\t0\nq 2\t0\td1\t1\nq 2\t0\td1\t1\n",
    ],
)
def test_forms_of_judgements(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test.tsv").write_bytes(content)
    assert read_qrels(tmp_path / "test.tsv") == {"q1": {"d1": 2, "d2": 0}, "q 2": {"d1": 1}}


def test_trec_columns_with_spaces(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("301 0 FBIS3-1 1\n301  0  FBIS3-2  -2\n")
    assert read_qrels(tmp_path / "qrels.txt") == {"301": {"FBIS3-1": 1, "FBIS3-2": 0}}


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"q\td\t1.5\n", 1, "no judgement|whole number"),
        (b"query-id\tcorpus-id\tscore\nq\td\t1.0\n", 2, "whole number"),
        (b"query-id\tcorpus-id\tscore\nq\td\n", 2, "not a judgement"),
        (b"query-id\tcorpus-id\tscore\n\td\t1\n", 2, "an id is empty"),
        (b"query-id\tcorpus-id\tscore\nq\td\t1\nq\td\t2\n", 3, "two grades"),
        (b"query-id\tcorpus-id\tscore\nq\t\xe9\t1\n", 2, "byte 0xE9"),
        (b"only one column\n", 1, "no judgement|not a judgement"),
        (b"a,b,1\n", 1, "not a judgement"),
    ],
)
def test_a_bad_judgement_names_file_and_line(tmp_path: Path, content: bytes, line: int, reason: str) -> None:
    path = tmp_path / "test.tsv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=rf"test\.tsv(:{line}:)?.*({reason})"):
        read_qrels(path)


def test_empty_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(InvalidInput, match="holds no judgement"):
        read_qrels(tmp_path / "test.tsv")
    for reader in (read_qrels, read_queries):
        with pytest.raises(NotFound):
            reader(tmp_path / "missing")


def test_real_judgements(data_folder: Path) -> None:
    assert len(read_queries(data_folder / "scifact" / "queries.jsonl")) == 1_109
    qrels = read_qrels(data_folder / "scifact" / "qrels" / "test.tsv")
    assert (len(qrels), sum(map(len, qrels.values()))) == (300, 339)
    assert len(read_qrels(data_folder / "cacm" / "qrels" / "test.tsv")) == 52
