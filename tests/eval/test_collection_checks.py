"""`facetrail data`: what is whole passes, what is damaged is named (exit 3), what is missing is named (exit 4)."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facetrail.eval import checks
from facetrail.eval.checks import check_collection, check_folder, count_rows, known_collections
from facetrail.eval.cli import data_app
from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound

CLI = CliRunner()


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """A small whole collection in `tmp_path/all/tiny`."""
    folder = tmp_path / "all" / "tiny"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{i}", "title": "t", "text": f"text {i}"} for i in range(200)]
    lines = "".join(json.dumps(d) + "\n" for d in documents).encode()
    (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a"}\n{"_id": "q2", "text": "b\\u2028c"}\n')
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t0\n")
    return folder


def test_a_whole_collection_passes(beir: Path) -> None:
    check = check_collection(beir, {"corpus.jsonl.gz": 200})
    assert (check.state, check.kind) == ("ok", "beir")
    assert check.counts == {"documents": 200, "queries": 2, "judgements": 2}
    assert check.rows == {"corpus.jsonl.gz": 200, "queries.jsonl": 2, "qrels/test.tsv": 2}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def append(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(path.read_bytes() + text.encode())

    return change


def overwrite(content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_bytes(content)

    return change


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("corpus.jsonl.gz", cut, "not a whole gzip file"),
    ("corpus.jsonl.gz", flip, "corpus.jsonl.gz"),
    ("corpus.jsonl.gz", overwrite(b"not gzip"), "not a whole gzip file"),
    (
        "corpus.jsonl.gz",
        overwrite(gzip.compress(b'{"_id": "d1", "text": "a"}\n' * 2)),
        ":2: the id 'd1' was used before",
    ),
    ("corpus.jsonl.gz", overwrite(gzip.compress(b'{"_id": "d1", "text": "a"}\n')), "1 rows where 200 belong"),
    ("queries.jsonl", append('{"_id": "q3"}\n'), "queries.jsonl:3: 'q3' has no text"),
    ("queries.jsonl", append('{"_id": 3, "text": "c"}\n'), ":3: the row has no _id that is a string"),
    ("queries.jsonl", append("{cut"), ":3: not JSON"),
    ("queries.jsonl", append("[1]\n"), ":3: the row has no _id"),
    ("queries.jsonl", overwrite(b'{"_id": "q1", "text": "\xff"}\n'), ":1: not JSON in UTF-8"),
    ("qrels/test.tsv", append("q9\td1\t1\n"), "test.tsv:4: query 'q9' is in no query file"),
    ("qrels/test.tsv", append("q1 d1 1\n"), "test.tsv:4: not query, document and whole-number grade"),
    ("qrels/test.tsv", append("q1\td1\thigh\n"), "test.tsv:4: not query, document"),
    ("qrels/test.tsv", overwrite(b"query-id\tcorpus-id\tscore\nq1\tnone\t1\n"), "not one judged document"),
]


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGE, ids=[f"{d[0]}: {d[2]}" for d in DAMAGE])
def test_damage_is_named(beir: Path, name: str, damage: Callable[[Path], None], said: str) -> None:
    damage(beir / name)
    check = check_collection(beir, {"corpus.jsonl.gz": 200})
    assert check.state == "damaged"
    assert said in "\n".join(check.damaged)


def test_a_judged_document_that_the_corpus_lacks_is_a_note(beir: Path) -> None:
    append("q1\tgone\t1\n")(beir / "qrels" / "test.tsv")
    check = check_collection(beir, {})
    assert check.state == "ok"
    assert check.notes == ["qrels/test.tsv: 1 judged documents are not in the corpus"]


def test_a_missing_file_is_named(beir: Path) -> None:
    (beir / "queries.jsonl").unlink()
    (beir / "qrels" / "test.tsv").unlink()
    check = check_collection(beir, {"corpus.jsonl.gz": 200, "queries.jsonl": 2})
    assert (check.state, check.missing) == ("missing", ["queries.jsonl"])


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.jsonl", b'{"x": NaN}\n\n{"x": "\xe2\x80\xa8"}\n', 2),
        ("a.json", b'{"a": 1, "b": 2, "c": 3}', 3),
        ("a.csv", b'a,b\n1,"x\ny"\n2,z\n', 2),
        ("tabs.csv", b"a\tb\n1\tx,y\n", 1),
        ("a.tsv", b"from\tkind\tto\n1\tc\t2\n", 1),
        ("plain.tsv", b"1\t2\n3\t4\n", 2),
        ("a.inter", b"user_id:token\titem_id:token\n1\t2\n", 1),
        ("labels.txt", b"node label\n0 1\n", 1),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_are_counted_by_kind(tmp_path: Path, name: str, content: bytes, rows: int, packed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(content) if packed else content)
    assert count_rows(path) == rows


def test_a_ragged_table_and_a_broken_matrix_are_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n")
    (tmp_path / "g.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 300)
    damaged = check_collection(tmp_path, {}).damaged
    assert [d.split(":")[0] for d in damaged] == ["a.csv", "g.mat"]
    assert damaged[0] == "a.csv:3: 1 columns where the header has 2"


def test_the_research_collections_are_whole(data_folder: Path) -> None:
    found = check_folder(data_folder)
    assert {c.name: c.damaged + c.missing for c in found if c.state != "ok"} == {}
    assert set(known_collections()) <= {c.name for c in found}


def test_command_check_exits_by_what_it_found(beir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"tiny": {"about": "", "licence": "", "files": {"corpus.jsonl.gz": 200, "queries.jsonl": 2}}}
    monkeypatch.setattr(checks, "known_collections", lambda: known)
    folder = beir.parent
    fine = CLI.invoke(data_app, ["check", str(folder)])
    assert fine.exit_code == 0
    assert "tiny" in fine.output
    (beir / "queries.jsonl").unlink()
    (beir / "qrels" / "test.tsv").unlink()
    assert isinstance(CLI.invoke(data_app, ["check", str(folder)]).exception, NotFound)
    cut(beir / "corpus.jsonl.gz")
    broken = CLI.invoke(data_app, ["check", str(folder), "--json"])
    assert isinstance(broken.exception, Damaged)
    printed = json.loads(broken.stdout)["collections"][0]
    assert (printed["name"], printed["state"], printed["missing"]) == ("tiny", "damaged", ["queries.jsonl"])


def test_absent_collections_are_missing_unless_only_the_present_are_asked_for(beir: Path) -> None:
    with_absent = CLI.invoke(data_app, ["check", str(beir.parent)])
    assert isinstance(with_absent.exception, NotFound)
    assert "scifact" in str(with_absent.exception)
    assert CLI.invoke(data_app, ["check", str(beir.parent), "--present"]).exit_code == 0
    assert CLI.invoke(data_app, ["check", str(beir)]).exit_code == 0, "a single collection is checked alone"


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_with_nothing_to_check(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "empty"
    if there:
        folder.mkdir()
    with pytest.raises(NotFound):
        check_folder(folder, only_present=True)


def test_get_writes_the_sample_whole(tmp_path: Path) -> None:
    out = tmp_path / "sample"
    assert CLI.invoke(data_app, ["get", "sample", "--out", str(out)]).exit_code == 0
    check = check_collection(out, {})
    assert check.state == "ok"
    assert check.counts["documents"] >= 120
    assert check.notes == []
    assert isinstance(CLI.invoke(data_app, ["get", "sample", "--out", str(out)]).exception, Conflict)
    shutil.rmtree(out)
    assert isinstance(CLI.invoke(data_app, ["get", "sample"]).exception, InvalidInput)


def test_get_downloads_nothing_and_says_so() -> None:
    refused = CLI.invoke(data_app, ["get", "scifact"]).exception
    assert isinstance(refused, NotFound)
    assert "nothing is downloaded" in str(refused)
    assert "data list" in str(CLI.invoke(data_app, ["get", "nonsense"]).exception)


def test_list_names_every_collection() -> None:
    printed = json.loads(CLI.invoke(data_app, ["list", "--json"]).stdout)
    assert [c["name"] for c in printed["collections"]] == ["sample", *known_collections()]
    assert "scifact" in CLI.invoke(data_app, ["list"]).stdout


def test_known_graphs_are_read_and_a_changed_one_is_named(data_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "airports"
    shutil.copytree(data_folder / "airports", folder)
    check = check_collection(folder, {})
    assert (check.state, check.kind) == ("ok", "graphs")
    assert {name: check.counts[name] for name in check.counts if name.startswith("brazil")} == {
        "brazil nodes": 131, "brazil links": 1003,
    }  # fmt: skip
    (folder / "labels-usa-airports.txt").chmod(0o644)
    append("1 2\n")(folder / "labels-usa-airports.txt")
    damaged = check_collection(folder, {})
    assert damaged.state == "damaged"
    assert "labels-usa-airports.txt has sha256" in damaged.damaged[0]
