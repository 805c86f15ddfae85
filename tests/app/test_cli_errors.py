"""Errors that a person can cause at the command line: one sentence, a stable exit code, nothing lost."""

import gzip
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.app.cli import main
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.searcher import Searcher

ROWS = [
    {"_id": f"d{i}", "title": f"title {i}", "text": f"words of document {i}", "metadata": {"n": i}} for i in range(12)
]


class Case:
    """A command line with placeholders {c} (collection), {l} (lexical one), {e} (empty folder), {t} (scratch)."""

    def __init__(self, code: int, says: str, *argv: str, prepare: Callable[[Path], None] | None = None) -> None:
        self.code, self.says, self.argv, self.prepare = code, says, argv, prepare

    def __repr__(self) -> str:
        return " ".join(self.argv)[:70]


def text(name: str, content: bytes | str) -> Callable[[Path], None]:
    """A file in the scratch folder."""
    return lambda folder: (
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode()) and None
    )


def flip(pattern: str, offset: int = -7) -> Callable[[Path], None]:
    """A bit of the first file below the collection that fits a pattern is turned."""

    def change(scratch: Path) -> None:
        file = max((scratch / "c").rglob(pattern), key=lambda f: f.stat().st_size)
        content = bytearray(file.read_bytes())
        content[offset] ^= 1
        file.write_bytes(content)

    return change


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda scratch: next(iter((scratch / "c").rglob(pattern))).unlink()


def cut(pattern: str) -> Callable[[Path], None]:
    def change(scratch: Path) -> None:
        file = max((scratch / "c").rglob(pattern), key=lambda f: f.stat().st_size)
        file.write_bytes(file.read_bytes()[:-20])

    return change


def beir(corpus: str, queries: str = "", qrels: str = "") -> Callable[[Path], None]:
    def make(scratch: Path) -> None:
        folder = scratch / "beir"
        (folder / "qrels").mkdir(parents=True)
        (folder / "corpus.jsonl").write_text(corpus)
        if queries:
            (folder / "queries.jsonl").write_text(queries)
        if qrels:
            (folder / "qrels" / "test.tsv").write_text(qrels)

    return make


GOOD = "".join(json.dumps(row) + "\n" for row in ROWS)
QUERIES = '{"_id": "q1", "text": "words"}\n'
HEADER = "query-id\tcorpus-id\tscore\n"
SEARCH = ("search", "{c}", "words", "--mode", "lexical")
EVAL = ("eval", "retrieval", "--data", "{t}/beir", "--mode", "lexical")

LEXICAL = ("--mode-set", "lexical")

CASES = [
    # usage
    Case(2, "No such command", "find"),
    Case(2, "No such option", "search", "{c}", "words", "--colour", "red"),
    Case(2, "Missing argument", "search"),
    Case(2, "exactly one", "search", "{c}"),
    Case(2, "exactly one", "search", "{c}", "words", "--like", "d1"),
    Case(2, "mode", "search", "{c}", "words", "--mode", "psychic"),
    Case(2, "limit", *SEARCH, "--limit", "0"),
    Case(2, "limit", *SEARCH, "--limit", "1001"),
    Case(2, "limit", *SEARCH, "--limit", "many"),
    Case(2, "offset", *SEARCH, "--offset", "-1"),
    Case(2, "depth", *SEARCH, "--offset", "999", "--limit", "10"),
    Case(2, "JSON", *SEARCH, "--filter", "{n: 3"),
    Case(2, "object", *SEARCH, "--filter", "[1, 2]"),
    Case(2, "range", *SEARCH, "--filter", '{"n": {"above": 3}}'),
    Case(2, "must", *SEARCH, "--filter", '{"must": {"n": 3}}'),
    Case(2, "range|number|date", *SEARCH, "--filter", '{"must": [{"key": "n", "range": {"gt": "tall"}}]}'),
    Case(2, "fusion", *SEARCH, "--fusion", "magic"),
    Case(2, "dense index", "search", "{l}", "words", "--mode", "dense"),
    Case(2, "dense index", "search", "{l}", "words", "--mode", "hybrid"),
    Case(2, "--out", "index", "build", "--corpus", "{t}"),
    Case(2, "mode-set", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n", "--mode-set", "smell"),
    Case(2, "mode-set", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n", "--mode-set", ","),
    Case(2, "--b", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n", "--b", "1.5", *LEXICAL),
    Case(2, "--k1", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n", "--k1", "-1", *LEXICAL),
    Case(2, "dense-kind", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n", "--dense-kind", "flat"),
    Case(2, "--id|filter", "index", "delete", "{c}"),
    Case(2, "--id|filter", "index", "delete", "{c}", "--id", "d1", "--filter", "{}"),
    Case(2, "port", "serve", "{c}", "--port", "99999"),
    Case(2, "key", "serve", "{c}", "--host", "0.0.0.0"),
    # corpora
    Case(2, "accept|kind|read", "index", "build", "--corpus", "{t}/a.doc", "--out", "{t}/n",
         prepare=text("a.doc", "x")),
    Case(2, "no document", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", *LEXICAL,
         prepare=text("a.jsonl", "")),
    Case(2, "a.jsonl:1", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.jsonl", '{"_id": "a", "text": \n')),
    Case(2, "a.jsonl:2", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.jsonl", '{"_id": "a", "text": "b"}\n{"text": "no id"}\n')),
    Case(2, "a.jsonl:2", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.jsonl", b'{"_id": "a", "text": "b"}\n{"_id": "b", "text": "caf\xe9"}\n')),
    Case(2, "a.jsonl:2", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.jsonl", '{"_id": "a", "text": "b"}\n{"_id": "a", "text": "again"}\n')),
    Case(2, "a.csv:3", "index", "build", "--corpus", "{t}/a.csv", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.csv", "id,text\n1,one\n2,two,three\n")),
    Case(2, "id", "index", "build", "--corpus", "{t}/a.csv", "--out", "{t}/n", *LEXICAL,
         prepare=text("a.csv", "name,text\n1,one\n")),
    Case(2, "parquet|Parquet", "index", "build", "--corpus", "{t}/a.parquet", "--out", "{t}/n", *LEXICAL,
         prepare=text("a.parquet", "not parquet at all")),
    Case(2, "gzip|cut off|no document", "index", "build", "--corpus", "{t}/a.jsonl.gz", "--out", "{t}/n", "--mode-set",
         "lexical", prepare=text("a.jsonl.gz", gzip.compress(GOOD.encode())[:30])),
    Case(2, "bad|512|id", "index", "build", "--corpus", "{t}/a.jsonl", "--out", "{t}/n", "--strict", *LEXICAL,
         prepare=text("a.jsonl", json.dumps({"_id": "x" * 600, "text": "b"}) + "\n")),
    # not found
    Case(4, "nowhere", "search", "{t}/nowhere", "words"),
    Case(4, "collection", "search", "{e}", "words"),
    Case(4, "nobody", "search", "{c}", "--like", "nobody", "--mode", "lexical"),
    Case(4, "nowhere", "index", "build", "--corpus", "{t}/nowhere", "--out", "{t}/n", *LEXICAL),
    Case(4, "nowhere", "index", "build", "{t}/nowhere"),
    Case(4, "nowhere", "index", "add", "{c}", "--corpus", "{t}/nowhere"),
    Case(4, "nowhere", "index", "add", "{t}/nowhere", "--corpus", "{t}/good.jsonl"),
    Case(4, "nobody", "index", "delete", "{l}", "--id", "nobody"),
    Case(4, "nowhere", "index", "info", "{t}/nowhere"),
    Case(4, "nowhere", "index", "verify", "{t}/nowhere"),
    Case(4, "nowhere", "index", "snapshot", "{t}/nowhere", "--out", "{t}/n"),
    Case(4, "nowhere", "index", "restore", "{t}/nowhere", "--out", "{t}/n"),
    Case(4, "no-such-encoder", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/n",
         "--encoder", "no-such-encoder"),
    Case(4, "nowhere", "serve", "{t}/nowhere"),
    Case(4, "nowhere", "data", "check", "{t}/nowhere"),
    Case(4, "nowhere", "eval", "retrieval", "--data", "{t}/nowhere"),
    Case(4, "dev", *EVAL, "--split", "dev", prepare=beir(GOOD, QUERIES, HEADER + "q1\td1\t1\n")),
    Case(4, "queries", *EVAL, prepare=beir(GOOD, "", HEADER + "q1\td1\t1\n")),
    # evaluation input
    Case(2, "test.tsv:3", *EVAL, prepare=beir(GOOD, QUERIES, HEADER + "q1\td1\t1\nq1 d2\n")),
    Case(2, "test.tsv:2", *EVAL, prepare=beir(GOOD, QUERIES, HEADER + "q1\td1\tgood\n")),
    Case(2, "queries.jsonl:1", *EVAL, prepare=beir(GOOD, "{broken\n", HEADER + "q1\td1\t1\n")),
    Case(2, "measure", *EVAL, "--measures", "nDGC@10", prepare=beir(GOOD, QUERIES, HEADER + "q1\td1\t1\n")),
    Case(2, "mode", *EVAL, "--compare", "lexical,psychic", prepare=beir(GOOD, QUERIES, HEADER + "q1\td1\t1\n")),
    # conflicts
    Case(5, "already holds", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{c}", *LEXICAL),
    Case(5, "other files", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}", *LEXICAL),
    Case(5, "made a folder", "index", "build", "--corpus", "{t}/good.jsonl", "--out", "{t}/good.jsonl", *LEXICAL),
    Case(5, "exist", "index", "snapshot", "{c}", "--out", "{e}"),
    Case(5, "exist|holds", "index", "restore", "{c}", "--out", "{l}"),
    Case(5, "writ|lock", "index", "add", "{locked}", "--corpus", "{t}/good.jsonl"),
    Case(5, "writ|lock", "index", "build", "{locked}"),
    # damage
    Case(3, "npy", *SEARCH, prepare=cut("*.npy")),
    Case(3, "npy", "index", "verify", "{c}", prepare=flip("*.npy")),
    Case(3, "ids.json", *SEARCH, prepare=remove("ids.json")),
    Case(3, "CURRENT", *SEARCH, prepare=flip("CURRENT", 3)),
    Case(3, "MANIFEST", *SEARCH, prepare=flip("MANIFEST.json", 40)),
    Case(3, "collection.sqlite", *SEARCH, prepare=flip("collection.sqlite", 3)),
    Case(3, "collection.sqlite", "index", "verify", "{c}", prepare=flip("collection.sqlite", 5000)),
]  # fmt: skip


def filled(word: str, places: dict[str, Path]) -> str:
    """A word of the command line with its placeholders replaced."""
    for name, place in places.items():
        word = word.replace("{" + name + "}", str(place))
    return word


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collections made once and copied for each case."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "good.jsonl").write_text(GOOD)
    config = BuildConfig(modes=("lexical",))
    for name in ("c", "l", "locked"):
        build_collection(folder / "good.jsonl", folder / name, config=config)
    return folder


def digest(folder: Path) -> str:
    """Names and bytes of everything below a folder but SQLite's scratch files and the lock's text."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not file.name.endswith(("-shm", "-wal", "writer.lock")):
            content = file.read_bytes()
            if file.suffix == ".sqlite":  # the file changes when its log is folded in; its rows must not
                content = rows_of(file)
            total.update(file.relative_to(folder).as_posix().encode() + content)
    return total.hexdigest()


def rows_of(database: Path) -> bytes:
    try:
        with sqlite3.connect(database) as connection:
            return repr([list(connection.execute(f"SELECT * FROM {t}")) for t in ("documents", "deletions")]).encode()
    except sqlite3.DatabaseError:
        return database.read_bytes()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_one_sentence_a_stable_code_and_nothing_lost(
    case: Case, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setenv("FACETRAIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("c", "l", "locked"):
        shutil.copytree(built / name, tmp_path / name)
    (tmp_path / "good.jsonl").write_text(GOOD)
    (tmp_path / "e").mkdir()
    if case.prepare is not None:
        case.prepare(tmp_path)
    places = {
        "c": tmp_path / "c",
        "l": tmp_path / "l",
        "e": tmp_path / "e",
        "t": tmp_path,
        "locked": tmp_path / "locked",
    }
    argv = [filled(word, places) for word in case.argv]
    before = {name: digest(tmp_path / name) for name in ("c", "l", "locked")}
    holder = Searcher.open(tmp_path / "locked", writable=True) if "{locked}" in case.argv else None
    try:
        with pytest.raises(SystemExit) as exit_:
            main(argv)
    finally:
        if holder is not None:
            holder.close()
    output = capsys.readouterr()
    said = " ".join((output.err + output.out).replace("│", " ").split())
    assert exit_.value.code == case.code, said
    assert any(word in said for word in case.says.split("|")), said
    assert "Traceback" not in said
    assert {name: digest(tmp_path / name) for name in ("c", "l", "locked")} == before
    assert not (tmp_path / "n" / "CURRENT").exists()


def test_at_least_sixty_errors_are_kept() -> None:
    assert len(CASES) >= 60


def test_a_good_command_after_a_bad_one_still_works(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["search", str(built / "c"), "document 7", "--mode", "lexical", "--json"])
    assert exit_.value.code == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert result["hits"][0]["id"] == "d7"
    assert np.isfinite(result["hits"][0]["score"])
