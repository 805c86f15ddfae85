"""`facetrail serve`, `facetrail mcp` and `facetrail demo`."""

import hashlib
import tempfile
import threading
import webbrowser
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facetrail.models.errors import FacetrailError, Unavailable

if TYPE_CHECKING:
    from facetrail.indexing.request import SearchResult

SAMPLE_READER = "reader-01"
SAMPLE_QUERIES, SAMPLE_QRELS = "queries.jsonl", "qrels/test.tsv"
SAMPLE_QUESTION = "does contrastive training help when labels are scarce?"


def serve(
    folders: Annotated[
        list[Path], typer.Argument(help="Collections to serve; the first is the default.", metavar="DIR...")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback it needs API keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    read_only: Annotated[bool, typer.Option(help="Refuse writes; another process may build and switch.")] = False,
) -> None:
    """Serves collections over HTTP, with the page at /."""
    from facetrail.app.serve import run

    run(folders, host=host, port=port, read_only=read_only)


def mcp(folder: Annotated[Path, typer.Argument(help="Folder of the collection.", metavar="DIR")]) -> None:
    """Serves a collection to language models over the Model Context Protocol, on standard input and output."""
    if find_spec("mcp") is None:
        raise Unavailable("the Model Context Protocol's package is not installed: pip install 'facetrail[mcp]'")
    from facetrail.app.mcp_server import serve as serve_tools

    serve_tools(folder)


def demo(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Build, search, and leave with exit code 0.")] = False,
) -> None:
    """Indexes the built-in sample, starts the service and opens its page."""
    if check:
        with tempfile.TemporaryDirectory(prefix="facetrail-") as scratch:
            _check(Path(scratch) / "sample")
        return
    folder = _demo_folder()
    if not (folder / "CURRENT").is_file():
        typer.echo("building the sample collection (once)")
        _build_sample(folder)
    address = f"http://127.0.0.1:{port}/"
    typer.echo(f"the page: {address}   (Ctrl+C stops the service)")
    if not no_browser:
        threading.Timer(2.0, webbrowser.open, [address]).start()
    from facetrail.app.serve import run

    run([folder], host="127.0.0.1", port=port, read_only=False)


def _sample_files() -> Path:
    with as_file(files("facetrail.indexing.sample")) as folder:
        return folder


def _demo_folder() -> Path:
    """A folder of its own for every version of the sample, in the cache."""
    from facetrail.models.text.cache import cache_folder

    parts = (_sample_files() / name for name in ("corpus.jsonl", "events.jsonl", SAMPLE_QUERIES, SAMPLE_QRELS))
    digest = hashlib.sha256(b"".join(hashlib.sha256(part.read_bytes()).digest() for part in parts)).hexdigest()
    return cache_folder() / f"demo-{digest[:12]}"


def _build_sample(folder: Path) -> int:
    """Documents, events, a recommender and judged queries; what is there stays. → number of documents."""
    from facetrail.indexing import recommenders
    from facetrail.indexing.build import build_collection
    from facetrail.indexing.collection import Collection
    from facetrail.indexing.event_actions import Actions
    from facetrail.indexing.events import Events
    from facetrail.indexing.events_corpus import read_events
    from facetrail.indexing.judgements import Judgements, read_judgements
    from facetrail.indexing.progress import progress_bar

    with progress_bar() as progress:
        n_documents = build_collection(_sample_files(), folder, resume=True, progress=progress).n_documents
    if not recommenders.names(folder):
        with Collection.open(folder, writable=True) as collection:
            Events(collection).put([event for _, event in read_events(_sample_files() / "events.jsonl", strict=True)])
            judged = read_judgements(_sample_files() / SAMPLE_QUERIES, _sample_files() / SAMPLE_QRELS)
            Judgements(collection).replace(judged.queries)
            recommenders.fit_closed_forms(collection, actions=Actions())
    return n_documents


def _check(folder: Path) -> None:
    from facetrail.indexing.recommend_request import RecommendRequest
    from facetrail.indexing.recommending import Recommending
    from facetrail.indexing.request import SearchRequest
    from facetrail.indexing.searcher import Searcher

    n_documents = _build_sample(folder)
    with Searcher.open(folder) as searcher:
        for mode in ("lexical", "dense", "hybrid"):
            result = searcher.search(SearchRequest.model_validate({"query": SAMPLE_QUESTION, "mode": mode, "limit": 3}))
            _report(mode, result)
        found = Recommending(searcher).recommend(RecommendRequest(user=SAMPLE_READER, limit=1, explain=True)).items
    if not found or not found[0].reasons:
        raise FacetrailError(
            f"the sample has nothing for {SAMPLE_READER}; the installation is broken, reinstall facetrail"
        )
    typer.echo(f"for {SAMPLE_READER}: {found[0].id} {found[0].reasons[0].text}")
    typer.echo(f"the sample works: {n_documents} documents built, searched in three modes and recommended")


def _report(mode: str, result: "SearchResult") -> None:
    if not result.hits:
        raise FacetrailError(f"the sample gave no hit in mode {mode}; the installation is broken, reinstall facetrail")
    best = result.hits[0]
    typer.echo(f"{mode:8} {best.score:7.3f}  {best.payload.title if best.payload else best.id}")
