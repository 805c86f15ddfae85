"""Facets on the command line: build, info, search, and what the terminal shows."""

import json
from pathlib import Path

import orjson
import pytest
from contracts.hash_encoders import FacetHashEncoder
from typer import Typer
from typer.testing import CliRunner

from facetrail.indexing import build as building
from facetrail.indexing import encoding
from facetrail.indexing import searcher as searching
from facetrail.indexing.cli import index_app
from facetrail.indexing.cli_options import parse_facet_options
from facetrail.indexing.cli_search import search
from facetrail.models.errors import InvalidInput

app = Typer()
app.add_typer(index_app, name="index")
app.command()(search)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two planted documents in a collection whose encoder is found under any name."""
    for module in (building, encoding):
        monkeypatch.setattr(module, "load_encoder", lambda *_, **__: FacetHashEncoder())
    monkeypatch.setattr(searching, "recorded_encoder", lambda _: FacetHashEncoder())
    rows = [
        {"_id": "m", "title": "First", "text": "We do method:graph method:citation. Then result:ocean result:heart."},
        {"_id": "r", "title": "Second", "text": "We see result:graph result:citation. By method:ocean method:heart."},
    ]
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n")
    run("index", "build", "--corpus", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "c"))
    return tmp_path / "c"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_weights_steer_and_json_carries_everything(folder: Path) -> None:
    query = "method:graph method:citation result:graph result:citation"
    for facet, first in (("method", "m"), ("result", "r")):
        answer = json.loads(
            run("search", str(folder), query, "--mode", "facet", "--facet", f"{facet}=.8", "--explain", "--json")
        )
        assert answer["hits"][0]["id"] == first
        assert answer["facets"][facet] == 1
        assert answer["task"] == "question"
        opened = answer["hits"][0]["explanation"]["facets"]
        assert [m["facet"] for m in opened["matches"]] == ["background", "objective", "method", "result"]
        assert opened["sentences"]


def test_like_by_one_facet(folder: Path) -> None:
    answer = json.loads(run("search", str(folder), "--like", "m", "--mode", "facet", "--facet", "method=1", "--json"))
    assert [hit["id"] for hit in answer["hits"]] == ["r"]
    assert answer["task"] == "document"


def test_the_terminal_shows_the_facet_table_and_its_sentence(folder: Path) -> None:
    shown = run("search", str(folder), "method:graph?", "--mode", "facet", "--facet", "method=3", "--facet", "result=1",
                "--explain")  # fmt: skip
    assert "facets of this question: background 0.00, objective 0.00, method 0.75, result 0.25" in shown
    assert "method      0.75 ×" in shown
    assert "“We do method:graph method:citation.” (method)" in shown
    assert "facets of" not in run("search", str(folder), "graph")


def test_info_names_the_facets_and_mode_set_leaves_them_out(folder: Path) -> None:
    assert "background, objective, method, result" in run("index", "info", str(folder))
    assert json.loads(run("index", "info", str(folder), "--json"))["modes"] == ["lexical", "dense", "facet"]
    corpus, plain = str(folder.parent / "c.jsonl"), str(folder.parent / "plain")
    run("index", "build", "--corpus", corpus, "--out", plain, "--mode-set", "lexical,dense")
    assert json.loads(run("index", "info", plain, "--json"))["facets"] == []
    with pytest.raises(InvalidInput, match="mode-set lexical,dense,facet"):
        run("search", plain, "graph", "--mode", "facet")


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], None), (["auto"], "auto"), (["method=.8", " result =2"], {"method": 0.8, "result": 2.0})],
)
def test_facet_options_are_read(given: list[str], expected: object) -> None:
    assert parse_facet_options(given) == expected


@pytest.mark.parametrize("given", [["method"], ["method=much"], ["auto", "method=1"], ["a=1", "a=2"]])
def test_facet_options_that_say_nothing_are_refused(given: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--facet"):
        parse_facet_options(given)
