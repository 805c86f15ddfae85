"""Corpus readers: every kind of path, every kind of bad row, and real collections."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from facetrail.indexing.corpus import RowReport, find_corpus_file, read_corpus
from facetrail.indexing.corpus_report import MAX_KEPT, RowProblem
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.records import Document, Section

Read = Callable[..., tuple[list[Document], RowReport]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write_and_read(name: str, content: bytes, **options: int) -> tuple[list[Document], RowReport]:
        (tmp_path / name).write_bytes(content)
        report = RowReport()
        return list(read_corpus(tmp_path / name, report=report, **options)), report  # type: ignore[arg-type]

    return write_and_read


def lines_of(report: RowReport) -> list[tuple[int, str]]:
    return [(p.line, p.kind) for p in report.problems]


def test_json_lines_split_at_newline_only(read: Read) -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive"
    documents, report = read(
        "a.jsonl", json.dumps({"_id": "1", "text": text}, ensure_ascii=False).encode() + b"\r\n\n  \n"
    )
    assert [d.text for d in documents] == [text]
    assert report.summary() == "1 of 1 rows read"


def test_names_of_fields_and_what_becomes_metadata(read: Read) -> None:
    rows = [
        {"_id": "1", "title": "T", "text": "x", "metadata": {"year": 1, "venue": "v"}, "year": 2, "lang": "en"},
        {"id": 2, "abstract": "x"},
        {"doc_id": "3", "body": "x", "id": None},
        {"docid": 4.0, "contents": "x", "text": None},
        {"_id": "5", "sections": [{"name": "aim", "text": "one"}, {"name": "result", "text": "two"}]},
        {"_id": "6", "id": "other", "text": "x", "abstract": "y"},
    ]
    documents, report = read("a.ndjson", "\n".join(map(json.dumps, rows)).encode())
    assert report.n_bad == 0
    assert [d.id for d in documents] == ["1", "2", "3", "4", "5", "6"]
    assert dict(documents[0].metadata) == {"year": 1, "venue": "v", "lang": "en"}
    assert [dict(d.metadata) for d in documents[1:5]] == [{}, {}, {}, {}]
    assert documents[4].text == "one two"
    assert documents[4].sections == (Section("aim", "one"), Section("result", "two"))
    assert dict(documents[5].metadata) == {"id": "other", "abstract": "y"}


BAD = [
    (b"{bad", "invalid", "not JSON"),
    (b"[]", "invalid", "a JSON list"),
    (b"null", "invalid", "a JSON null"),
    (b'{"text": "x"}', "id", "no id"),
    (b'{"_id": ""}', "id", "empty"),
    (b'{"_id": "  "}', "id", "empty"),
    (b'{"_id": 1.5}', "id", "a number"),
    (b'{"_id": true}', "id", "a boolean"),
    (b'{"_id": 123456789012345678901234567890}', "id", "a number"),
    (b'{"_id": "a\\nb"}', "id", "U+000A"),
    (b'{"_id": "a\\u0085b"}', "id", "U+0085"),
    (b'{"_id": "' + "é".encode() * 257 + b'"}', "id", "514 bytes"),
    (b'{"_id": "x", "text": 3}', "invalid", "text is a number"),
    (b'{"_id": "x", "title": ["a"]}', "invalid", "title is a list"),
    (b'{"_id": "x", "sections": "a"}', "invalid", "not JSON"),
    (b'{"_id": "x", "sections": {"a": 1}}', "invalid", "sections is a object"),
    (b'{"_id": "x", "sections": [{"name": "a"}]}', "invalid", "section 1"),
    (b'{"_id": "x", "metadata": [1]}', "invalid", "metadata is a list"),
    (b'{"_id": "x", "text": "caf\xe9"}', "encoding", "byte 0xE9 at position 26"),
    (b'{"_id": "x", "text": "\\ud800"}', "invalid", "not JSON"),
    (b'{"_id": "x", "text": "' + b"a" * 2_000 + b'"}', "too_large", "2,000 bytes"),
    (b'{"_id": "x", "text": "' + b"a" * 9_000 + b'"}', "too_large", "longer than 4,000 bytes"),
    (b'{"_id": "first"}', "duplicate", "used on line 1"),
    (b'{"_id": "x", "deep": ' + b"[" * 1_500 + b"]" * 1_500 + b"}", "invalid", "not JSON"),
]


@pytest.mark.parametrize(("row", "kind", "reason"), BAD, ids=[f"{kind}: {reason}" for _, kind, reason in BAD])
def test_a_bad_row_is_reported_and_the_rest_goes_on(
    read: Read, tmp_path: Path, row: bytes, kind: str, reason: str
) -> None:
    content = b'{"_id": "first", "text": "x"}\n' + row + b'\n{"_id": "last", "text": "x"}'
    documents, report = read("a.jsonl", content, max_text_bytes=1_000, max_row_bytes=4_000)
    assert [d.id for d in documents] == ["first", "last"]
    assert (report.n_read, report.n_good, report.n_bad) == (3, 2, 1)
    (problem,) = report.problems
    assert (problem.file, problem.line, problem.kind) == (str(tmp_path / "a.jsonl"), 2, kind)
    assert reason in problem.reason
    with pytest.raises(InvalidInput, match=r"a\.jsonl:2: .*--strict"):
        list(read_corpus(tmp_path / "a.jsonl", strict=True, max_text_bytes=1_000, max_row_bytes=4_000))


def test_an_empty_document_is_kept_with_a_warning_even_when_strict(read: Read, tmp_path: Path) -> None:
    documents, report = read("a.jsonl", b'{"_id": "1"}\n{"_id": "2", "title": "t"}')
    assert [d.id for d in documents] == ["1", "2"]
    assert lines_of(report) == [(1, "empty")]
    assert report.summary() == "2 of 2 rows read; warnings: 1 kept without title and text"
    assert len(list(read_corpus(tmp_path / "a.jsonl", strict=True))) == 2


def test_byte_order_marks(read: Read) -> None:
    documents, _ = read("a.jsonl", b'\xef\xbb\xbf{"_id": "1", "text": "x"}\n')
    assert [d.id for d in documents] == ["1"]
    documents, report = read("b.jsonl", '{"_id": "1"}\n{"_id": "2"}'.encode("utf-16"))
    assert documents == []
    assert lines_of(report) == [(1, "encoding")]
    assert "UTF-16" in report.summary()


def test_gzip_by_content_and_in_members_with_padding(read: Read) -> None:
    one, two = (gzip.compress(b'{"_id": "%d", "text": "x"}\n' % n) for n in (1, 2))
    assert [d.id for d in read("a.jsonl.gz", one + two + b"\0" * 10)[0]] == ["1", "2"]
    assert [d.id for d in read("a.jsonl", one)[0]] == ["1"]
    with pytest.raises(InvalidInput, match=r"named \.gz but is not gzip"):
        read("b.jsonl.gz", b"{}")


@pytest.mark.parametrize("damage", ["cut", "checksum"])
def test_a_damaged_gzip_gives_what_came_before_and_names_the_line(read: Read, damage: str) -> None:
    rows = b"".join(b'{"_id": "%d", "text": "x"}\n' % n for n in range(50_000))
    packed = bytearray(gzip.compress(rows))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[-6] ^= 1
    documents, report = read("a.jsonl.gz", bytes(packed))
    assert 1_000 < len(documents) <= 50_000
    assert lines_of(report) == [(len(documents) + 1, "truncated")]
    assert "cut off" in report.summary()


def test_the_report_keeps_a_thousand_problems_counts_all_and_names_a_cut_file(read: Read) -> None:
    packed = gzip.compress(b"{bad\n" * 1_500)[:-4]
    _, report = read("a.jsonl.gz", packed)
    assert len(report.problems) == MAX_KEPT + 1
    assert report.counts["invalid"] == 1_500
    assert report.problems[-1].kind == "truncated"
    assert "breaks off" in report.summary()
    assert str(RowProblem("f", 0, "column", "why")) == "f: why"


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no corpus"):
        read_corpus(tmp_path / "missing")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"no kind that can be read; give a BEIR folder, \.jsonl"):
        read_corpus(tmp_path / "a.json")
    with pytest.raises(InvalidInput, match="holds 0"):
        read_corpus(tmp_path)
    (tmp_path / "x.csv").write_text("id,text\n1,a\n")
    assert find_corpus_file(tmp_path).name == "x.csv"
    (tmp_path / "queries.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="holds 2"):
        read_corpus(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("")
    assert list(read_corpus(tmp_path)) == []
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(InvalidInput, match="holds 2"):
        read_corpus(tmp_path)


@pytest.mark.parametrize(("name", "n_documents"), [("scifact", 5_183), ("cacm", 3_204), ("pubmedqa", 1_000)])
def test_real_collections_are_read_whole(data_folder: Path, name: str, n_documents: int) -> None:
    report = RowReport()
    documents = list(read_corpus(data_folder / name, report=report))
    assert len(documents) == len({d.id for d in documents}) == n_documents
    assert (report.n_good, report.n_bad) == (n_documents, 0)
