"""The Model Context Protocol server, asked by the protocol's own client: over stdio, and in this process."""

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from contracts.scripted_server import ScriptedServer
from mcp import Client, ClientSession, StdioServerParameters, stdio_client
from mcp.types import CallToolResult

from facetrail.app.cli import main
from facetrail.app.mcp_server import server_of
from facetrail.app.passages import LONGEST, passage_of
from facetrail.app.settings import Settings
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.collection import Collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.indexing.request import Highlight, SearchRequest
from facetrail.indexing.searcher import Searcher
from facetrail.models.recommend.records import Event
from facetrail.models.records import Document

N = 12
ROWS = [
    {
        "_id": f"d{n:02d}",
        "title": f"Paper {n}",
        "text": f"Opening words. The {word} is measured here with care. " + "Filler follows in every paper. " * 40,
        "metadata": {"year": 2010 + n},
    }
    for n, word in enumerate(["zebra", "okapi", "giraffe"] * 4)
]


def build(folder: Path, encoder: Any = None) -> Path:
    (folder / "corpus.jsonl").write_bytes(b"\n".join(map(orjson.dumps, ROWS)))
    modes = ("lexical",) if encoder is None else ("lexical", "dense")
    build_collection(folder / "corpus.jsonl", folder / "animals", config=BuildConfig(modes=modes), encoder=encoder)
    with Collection.open(folder / "animals", writable=True) as collection:
        walks = [
            Event(f"u{u}", f"d{(u + s) % N:02d}", "view", 1_700_000_000_000 + s) for u in range(N) for s in range(6)
        ]
        Events(collection).put(walks)
        fit_closed_forms(collection, actions=Actions())
    return folder / "animals"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("mcp"))


def over_stdio(folder: Path, talk: Callable[[ClientSession], Awaitable[None]], **environment: str) -> None:
    """Starts the command as a host does, and lets a session talk with it."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "facetrail.app.cli", "mcp", str(folder)],
        env={**os.environ, **environment},
    )

    async def run() -> None:
        with anyio.fail_after(120):
            async with stdio_client(command) as (received, sent), ClientSession(received, sent) as session:
                await session.initialize()
                await talk(session)

    anyio.run(run)


def answer(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    (block,) = result.content
    assert block.type == "text"
    found: dict[str, Any] = json.loads(block.text)
    assert result.structured_content == found
    return found


def complaint(result: CallToolResult) -> str:
    assert result.is_error
    (block,) = result.content
    assert block.type == "text"
    assert "\n" not in block.text
    return block.text


@pytest.fixture
def model() -> Iterator[ScriptedServer]:
    """A language model behind the OpenAI protocol."""
    with ScriptedServer().running() as running:
        yield running


def test_a_host_lists_the_tools_and_calls_them_over_stdio(folder: Path, model: ScriptedServer) -> None:
    model.says = ["The okapi is measured [1]. ", "Whales sing."]

    async def talk(session: ClientSession) -> None:
        listed = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert listed.keys() == {"search", "similar", "recommend", "reason"}
        for tool in listed.values():
            assert len(tool.description or "") > 80
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        assert listed["search"].input_schema["required"] == ["query"]

        given = {"query": "okapi measured", "limit": 2, "filter": {"year": {"gte": 2014}}}
        hits = answer(await session.call_tool("search", given))["hits"]
        assert [hit["id"] for hit in hits] == ["d04", "d07"]
        assert hits[0]["title"] == "Paper 4"
        assert hits[0]["metadata"] == {"year": 2014}
        assert "The okapi is measured here with care." in hits[0]["passage"]
        assert len(hits[0]["passage"]) <= LONGEST

        near = answer(await session.call_tool("similar", {"id": "d04", "limit": 3}))["hits"]
        assert {hit["id"] for hit in near} == {"d01", "d07", "d10"}

        found = answer(await session.call_tool("recommend", {"history": ["d02", "d03"], "limit": 2}))
        assert found["items"][0]["id"] == "d04"
        assert found["items"][0]["passage"].startswith("Opening words.")
        assert any("d03" in reason for reason in found["items"][0]["reasons"])
        assert not found["fallback"]
        known = answer(await session.call_tool("recommend", {"user": "u0", "limit": 1, "exclude": ["d06"]}))
        assert known["items"][0]["id"] != "d06"

        told = answer(await session.call_tool("reason", {"question": "how is the okapi measured?", "limit": 2}))
        assert told["answer"] == "The okapi is measured [1]. Whales sing."
        assert told["is_answered"]
        assert told["unsupported"] == ["Whales sing."]
        assert told["citations"][0]["number"] == 1
        assert told["citations"][0]["passage"] == "The okapi is measured here with care."
        assert told["model"] == "scripted"

        assert "u99" in complaint(await session.call_tool("recommend", {"user": "u99"}))
        assert answer(await session.call_tool("search", {"query": "zebra", "limit": 1}))["hits"]  # it lives on

    over_stdio(folder, talk, FACETRAIL_LANGUAGE_MODEL=model.url, FACETRAIL_LANGUAGE_MODEL_NAME="scripted")


@pytest.fixture
def searcher(tmp_path: Path, hash_encoder: Any) -> Iterator[Searcher]:
    with Searcher.open(build(tmp_path, hash_encoder), encoder=hash_encoder, writable=True) as opened:
        yield opened


def in_process(searcher: Searcher, talk: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    settings = Settings(**options)

    async def run() -> None:
        async with Client(server_of(searcher, settings)) as client:
            await talk(client)

    anyio.run(run)


@pytest.mark.parametrize(
    ("tool", "arguments", "says"),
    [
        ("search", {}, "'query' of search cannot be used: Field required"),
        ("search", {"query": "a", "limit": 0}, "'limit'"),
        ("search", {"query": "a", "limit": "many"}, "'limit'"),
        ("search", {"query": "a", "tone": "kind"}, "'tone'"),
        ("search", {"query": "a", "mode": "magic"}, "'mode'"),
        ("search", {"query": "a", "facets": {"method": 1.0}}, "facet"),
        ("search", {"query": "a", "filter": {"must": [{"key": "year", "range": {"above": 3}}]}}, "above"),
        ("similar", {"id": "nowhere"}, "'nowhere'"),
        ("recommend", {}, "say for whom"),
        ("recommend", {"user": "u99"}, "no events"),
        ("recommend", {"history": [7]}, "'history.0'"),
        ("dance", {}, "there is no tool 'dance'; there are search, similar, recommend, reason"),
        ("reason", {"question": ""}, "'question'"),
    ],
)
def test_what_a_model_gets_wrong_is_one_sentence(
    searcher: Searcher, tool: str, arguments: dict[str, Any], says: str
) -> None:
    async def talk(client: Client) -> None:
        assert says in complaint(await client.call_tool(tool, arguments))

    in_process(searcher, talk)


def test_answers_are_those_of_the_collection_and_its_newest_generation(searcher: Searcher) -> None:
    async def talk(client: Client) -> None:
        wanted = searcher.search(SearchRequest(query="giraffe", limit=4))
        hits = answer(await client.call_tool("search", {"query": "giraffe", "limit": 4}))["hits"]
        assert [(hit["id"], hit["score"]) for hit in hits] == [(hit.id, hit.score) for hit in wanted.hits]
        near = answer(await client.call_tool("similar", {"id": "d02", "limit": 4}))["hits"]
        assert [hit["id"] for hit in near] == [h.id for h in searcher.search(SearchRequest(like="d02", limit=4)).hits]
        searcher.put([Document("new", "An aardvark arrives.")])
        found = answer(await client.call_tool("search", {"query": "aardvark", "mode": "lexical"}))["hits"]
        assert [hit["id"] for hit in found] == ["new"]
        popular = answer(await client.call_tool("recommend", {"history": []}))
        assert popular["fallback"]

    in_process(searcher, talk)


def test_where_nothing_fits_or_no_model_answers_the_tool_says_so(searcher: Searcher, model: ScriptedServer) -> None:
    async def talk(client: Client) -> None:
        told = answer(await client.call_tool("reason", {"question": "who won the chess game?", "limit": 1}))
        assert (told["answer"], told["is_answered"], told["citations"]) == ("I don't know.", False, [])
        assert model.asked == []
        model.manner = "unknown"
        assert "knows no model" in complaint(await client.call_tool("reason", {"question": "the okapi is measured"}))

    in_process(searcher, talk, language_model=model.url, language_model_name="scripted")


def test_a_reader_takes_up_what_another_process_has_built(searcher: Searcher) -> None:
    with Searcher.open(searcher.collection.folder) as reader:

        async def talk(client: Client) -> None:
            searcher.delete(["d00"])
            searcher.rebuild()
            hits = answer(await client.call_tool("search", {"query": "zebra", "limit": 20, "mode": "lexical"}))["hits"]
            assert [hit["id"] for hit in hits] == ["d03", "d06", "d09"]

        in_process(reader, talk)


def test_the_instructions_name_what_can_be_filtered(searcher: Searcher) -> None:
    async def talk(client: Client) -> None:
        told = client.instructions or ""
        assert "'animals' holds 12 documents and 72 events" in told
        assert "year (number, for instance 2010" in told

    in_process(searcher, talk)


# -- the command ---------------------------------------------------------------------------------------------------


def test_a_missing_collection_is_one_sentence_and_a_code(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["mcp", str(tmp_path / "nowhere")])
    told = capfd.readouterr()
    assert (end.value.code, told.out, told.err.count("\n")) == (4, "", 1)


def test_without_the_package_the_command_says_what_to_install(folder: Path) -> None:
    code = (
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda name, *rest: None if name == 'mcp' else real(name, *rest); "
        f"from facetrail.app.cli import main; main(['mcp', {str(folder)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert "pip install 'facetrail[mcp]'" in done.stderr


def test_the_package_is_imported_by_its_command_alone() -> None:
    code = "import sys, facetrail.app.cli, facetrail.app.commands, facetrail.app.client; print('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


# -- passages ------------------------------------------------------------------------------------------------------


def test_a_passage_is_whole_sentences_with_most_of_the_words() -> None:
    sentences = [f"Sentence number {n} says little of use." for n in range(60)]
    sentences[40] = "Here graph neural networks meet."
    text = " ".join(sentences)
    at = text.index("graph neural networks")
    spans = [Highlight("text", at, at + 5), Highlight("text", at + 6, at + 12), Highlight("title", 0, 5)]
    passage = passage_of(text, spans)
    assert "Here graph neural networks meet." in passage
    assert passage in text
    assert len(passage) <= LONGEST
    assert passage.startswith("Sentence number")
    assert passage.endswith((".", "meet."))


@pytest.mark.parametrize(("text", "wanted"), [("", ""), ("One. Two.", "One. Two."), ("a" * 700, "a" * LONGEST)])
def test_without_words_a_passage_is_the_beginning(text: str, wanted: str) -> None:
    assert passage_of(text) == wanted
