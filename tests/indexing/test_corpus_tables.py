"""CSV, TSV and Parquet as corpora."""

import csv
import datetime
import decimal
import gzip
import io
from pathlib import Path

import pytest

from facetrail.indexing.corpus import RowReport, read_corpus
from facetrail.models.errors import InvalidInput
from facetrail.models.records import Document


def read(path: Path) -> tuple[list[Document], RowReport]:
    report = RowReport()
    return list(read_corpus(path, report=report)), report


def problems(report: RowReport) -> list[tuple[int, str]]:
    return [(p.line, p.kind) for p in report.problems]


def test_cells_are_strings_and_empty_cells_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfid, title ,abstract,year\r\n007,a,"x\r\ny ""q"", z",2012\r\n12,b,t,\r\n')
    documents, report = read(path)
    assert [(d.id, d.title, d.text) for d in documents] == [("007", "a", 'x\r\ny "q", z'), ("12", "b", "t")]
    assert [dict(d.metadata) for d in documents] == [{"year": "2012"}, {}]
    assert report.n_bad == 0


def test_bad_records_are_reported_at_the_line_where_they_start(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'id,title,text\n1,a,"two\nlines"\n2,b\n\n3,c,d,e\n4,caf\xe9,x\n5,a\x00b,x\n'
        b'6,a,"x" y\n7,a,b\n7,c,d\n8,a,"open\n9,a,b\n'
    )
    documents, report = read(path)
    assert [d.id for d in documents] == ["1", "7"]
    assert problems(report) == [
        (4, "ragged"), (6, "ragged"), (7, "encoding"), (8, "invalid"), (9, "invalid"),
        (11, "duplicate"), (12, "invalid"),
    ]  # fmt: skip
    assert "2 columns, the header 3" in report.problems[0].reason
    assert "never closed" in report.problems[-1].reason
    with pytest.raises(InvalidInput, match=r"a\.csv:4:"):
        list(read_corpus(path, strict=True))


def test_huge_fields_and_objects_as_json_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    huge = "word " * 100_000
    quoted = '"[{""name"":""aim"",""text"":""s""}]"'
    rows = ["id\ttext\tsections\tmetadata", f"1\t{huge}\t\t", f'2\t\t{quoted}\t{{"k":1}}', "3\t\t\t{k", ""]
    path.write_text("\n".join(rows))
    documents, report = read(path)
    assert [d.text for d in documents] == [huge, "s"]
    assert dict(documents[1].metadata) == {"k": 1}
    assert problems(report) == [(4, "invalid")]


def test_what_python_writes_is_read_back(tmp_path: Path) -> None:
    rows = [["id", "text", "sections", "metadata"], ["1", 'a "b", c\nd\r\n', "", '{"k": [1, "x"]}'],
            ["2", "", '[{"name": "aim", "text": "s"}]', ""]]  # fmt: skip
    for name, delimiter in (("a.csv", ","), ("b.tsv.gz", "\t")):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows(rows)
        content = text.getvalue().encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        documents, report = read(tmp_path / name)
        assert report.n_bad == 0
        assert [(d.id, d.text, dict(d.metadata)) for d in documents] == [
            ("1", rows[1][1], {"k": [1, "x"]}),
            ("2", "s", {}),
        ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"name,text\n1,2\n", "no column with an id"),
        (b"id,name\n1,2\n", "no column with a text or a title"),
        (b"id,text,text\n1,2,3\n", "'text' twice"),
        (b"id,t\xe9xt\n", "the header cannot be read"),
        (b"id;text\n1;2\n", "no column with an id"),
    ],
)
def test_a_table_that_cannot_be_a_corpus_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=reason):
        read(tmp_path / "a.csv")


def test_a_damaged_packed_table_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"id,text\n" + b"".join(b"%d,x\n" % n for n in range(20_000)))[:-2_000])
    documents, report = read(path)
    assert len(documents) > 1_000
    assert [kind for _, kind in problems(report)] == ["truncated"]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {
            "id": [1.0, None, 3.0],
            "title": ["a", "b", None],
            "when": [datetime.datetime(2020, 1, 1, 12)] * 3,
            "day": [datetime.date(2020, 1, 1)] * 3,
            "raw": [b"x"] * 3,
            "tags": [["p", "q"], [], None],
            "price": [decimal.Decimal("1.5")] * 3,
            "sections": [None, None, [{"name": "aim", "text": "s"}]],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    documents, report = read(tmp_path / "a.parquet")
    assert [(d.id, d.title, d.text) for d in documents] == [("1", "a", ""), ("3", "", "s")]
    assert dict(documents[0].metadata) == {
        "when": "2020-01-01T12:00:00+00:00", "day": "2020-01-01", "tags": ["p", "q"], "price": 1.5,
    }  # fmt: skip
    assert problems(report) == [(0, "column"), (2, "id")]
    assert (report.n_read, report.n_good) == (3, 2)
    content = (tmp_path / "a.parquet").read_bytes()
    for wrong in (content[:100], b"id,text\n1,2\n", b""):
        (tmp_path / "b.parquet").write_bytes(wrong)
        with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
            read(tmp_path / "b.parquet")


def test_a_parquet_file_damaged_inside_gives_what_came_before(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    n = 40_000
    table = pa.table({"id": [str(i) for i in range(n)], "text": [f"text {i}" for i in range(n)]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=10_000, write_page_checksum=True)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    start = parquet.read_metadata(tmp_path / "a.parquet").row_group(2).column(0).data_page_offset
    content[start : start + 200] = b"\xff" * 200
    (tmp_path / "a.parquet").write_bytes(content)
    documents, report = read(tmp_path / "a.parquet")
    assert 0 < len(documents) <= 20_000
    assert problems(report) == [(len(documents) + 1, "truncated")]
