"""A service on loopback for the tests: the real application, protocol and searcher, in a thread of this process."""

import importlib
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import uvicorn
from contracts.scripted_server import ScriptedServer

from facetrail.app.main import create_app
from facetrail.app.platform import Platform
from facetrail.app.serve import server_config
from facetrail.app.settings import Settings
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.searcher import Searcher

WORDS = ["graph", "neural", "citation", "retrieval", "query", "index", "vector", "protein", "battery", "ocean", "trial"]


@dataclass
class Service:
    """A running service and its inside."""

    client: httpx.Client
    platform: Platform
    port: int
    stop: Callable[[], None]


def rows(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(7)
    return [
        {
            "_id": f"d{i:03d}",
            "title": " ".join(rng.choice(WORDS, 3)),
            "text": " ".join(rng.choice(WORDS, int(rng.integers(5, 30)))),
            "metadata": {"year": 2000 + i % 20, "topic": WORDS[i % 5]},
        }
        for i in range(n)
    ]


Build = Callable[..., Path]
Start = Callable[..., Service]


@pytest.fixture(scope="session")
def lexical_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection of 60 documents without vectors; tests must not write to it."""
    folder = tmp_path_factory.mktemp("lexical")
    (folder / "corpus.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows(60))) + b"\n")
    build_collection(folder / "corpus.jsonl", folder / "sample", config=BuildConfig(modes=("lexical",)))
    return folder / "sample"


@pytest.fixture
def start(tmp_path: Path, hash_encoder: Any) -> Iterator[Start]:
    """Starts services over fresh collections; stops them at the end."""
    running: list[Service] = []
    numbers = itertools.count()

    def open_fresh(modes: Sequence[str]) -> Searcher:
        folder = tmp_path / f"service{next(numbers)}"
        folder.mkdir()
        (folder / "corpus.jsonl").write_bytes(b"\n".join(map(orjson.dumps, rows(60))) + b"\n")
        encoder = hash_encoder if "dense" in modes else None
        build_collection(
            folder / "corpus.jsonl", folder / "sample", config=BuildConfig(modes=tuple(modes)), encoder=encoder
        )
        return Searcher.open(folder / "sample", encoder=encoder, writable=True)

    def begin(modes: Sequence[str] = ("lexical", "dense"), **options: Any) -> Service:
        settings = Settings(**{"log_requests": False, **options})
        platform = Platform(settings)
        app = create_app(settings, platform)
        platform.add("sample", open_fresh(modes))
        platform.state = "ready"
        bound = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(server_config(app, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        port = bound.getsockname()[1]
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.01)

        def stop() -> None:
            client.close()
            server.should_exit = True
            thread.join(30)
            platform.close()

        running.append(Service(client, platform, port, stop))
        return running[-1]

    yield begin
    for service in running:
        service.stop()


SERVE = """
import sys
from pathlib import Path
from facetrail.app.serve import run
run([Path(sys.argv[1])], port=int(sys.argv[2]))
"""


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """Starts the service in a process of its own and waits until it is ready; kills it at the end."""
    children: list[subprocess.Popen[bytes]] = []

    def begin(folder: Path, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        log = tmp_path / f"service{len(children)}.log"
        with log.open("wb") as err:
            child = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(folder), str(port)], env={**os.environ, **environment}, stderr=err
            )
        children.append(child)
        deadline = time.monotonic() + 90
        while True:
            assert child.poll() is None, log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    return child, port
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    yield begin
    for child in children:
        child.kill()
        child.wait()


@pytest.fixture(scope="session")
def imported() -> None:
    """What the first answer of a process loads, which on a busy machine takes longer than a client here waits."""
    for module in ("facetrail.indexing.answering", "facetrail.models.language.speakers"):
        importlib.import_module(module)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer().running() as running:
        yield running
