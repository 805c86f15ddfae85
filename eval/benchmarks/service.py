"""What the service costs around a search, and what it does at twice its capacity.

    python -m facetrail.eval.benchmarks.service [--rounds 5] [--seconds 3] [--work DIR]

Throughput: wrk (Debian package `wrk`) on the built-in sample against two bare FastAPI endpoints that take the same
pydantic body and return the same answer, in alternating rounds; medians of requests a second and of requests a second
of the server's own CPU time, which other work on the machine does not disturb.
Overload: an open-loop generator at half and at twice the measured capacity, for lexical and for hybrid search.
"""

import argparse
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from facetrail.eval.evidence import write_result
from facetrail.models.errors import Unavailable

LEXICAL = {"query": "contrastive training with few labels", "mode": "lexical", "limit": 10}
HYBRID = {"query": "contrastive training with few labels", "mode": "hybrid", "limit": 10}
CONNECTIONS = 16

BARE = """
import json, sys
import orjson, uvicorn
from fastapi import FastAPI, Response
from pydantic import TypeAdapter
from facetrail.indexing.request import SearchRequest, SearchResult

raw = sys.stdin.buffer.read()
result = TypeAdapter(SearchResult).validate_python(json.loads(raw))
app = FastAPI()

@app.post("/model")
async def model(body: SearchRequest) -> SearchResult:
    return result

@app.post("/bytes")
async def ready_bytes(body: SearchRequest) -> Response:
    return Response(raw, media_type="application/json")

@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {}

uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, given: bytes = b"") -> Iterator[int]:
    """A server process, ready; yields its process id."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert child.stdin is not None
    child.stdin.write(given)
    child.stdin.close()
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            break
        except OSError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(
                    f"the server did not start: {' '.join(command[:4])}; run it by hand to see why"
                ) from None
            time.sleep(0.1)
    try:
        yield child.pid
    finally:
        child.terminate()
        child.wait(30)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def closed_loop(
    port: int, path: str, body: dict[str, Any], seconds: float, pid: int, scratch: Path, *, strict: bool = True
) -> tuple[float, float]:
    """Requests a second, by the clock and by the server's CPU time. Raises Unavailable for a failing answer."""
    script = scratch / "post.lua"
    script.write_text(
        f"wrk.method='POST'; wrk.body='{json.dumps(body)}'; wrk.headers['content-type']='application/json'\n"
        "function done(s, l, r) io.write(string.format('RESULT %d %d %d\\n', s.requests, s.duration,"
        " s.errors.status + s.errors.read + s.errors.timeout + s.errors.connect)) end\n"
    )
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(script), f"http://127.0.0.1:{port}{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - before
    n, microseconds, n_failed = map(int, output.split("RESULT ")[1].split())
    if strict and n_failed > n / 100:  # a machine that stalls sheds a request now and then; only answers count
        raise Unavailable(f"{n_failed} of {n} requests to {path} failed; the figures would mean nothing")
    return (n - n_failed) / microseconds * 1e6, (n - n_failed) / spent


def open_loop(port: int, rate: float, seconds: float, body: dict[str, Any]) -> dict[str, Any]:
    """See `service_load`."""
    command = [sys.executable, "-m", "facetrail.eval.benchmarks.service_load", str(port), str(rate), str(seconds)]
    output = subprocess.run([*command, json.dumps(body)], capture_output=True, text=True, check=True).stdout
    return dict(json.loads(output))


def build_sample(scratch: Path) -> Path:
    with as_file(files("facetrail.indexing.sample")) as sample:
        command = [sys.executable, "-m", "facetrail.app.cli", "index", "build", "--corpus", str(sample)]
        subprocess.run([*command, "--out", str(scratch / "sample")], check=True, stdout=subprocess.DEVNULL)
    return scratch / "sample"


def throughput(folder: Path, rounds: int, seconds: float, scratch: Path) -> dict[str, dict[str, list[float]]]:
    """Alternating rounds of the service and the two bare endpoints."""
    port, bare_port = free_port(), free_port()
    serve = [sys.executable, "-m", "facetrail.app.cli", "serve", str(folder), "--port", str(port)]
    measured: dict[str, dict[str, list[float]]] = {}
    with running(serve, port) as pid:
        url, headers = f"http://127.0.0.1:{port}/v1/search", {"content-type": "application/json"}
        answer = urllib.request.urlopen(urllib.request.Request(url, json.dumps(LEXICAL).encode(), headers)).read()
        with running([sys.executable, "-c", BARE, str(bare_port)], bare_port, answer) as bare_pid:
            arms = {
                "service": (port, "/v1/search", pid),
                "bare, response model": (bare_port, "/model", bare_pid),
                "bare, ready bytes": (bare_port, "/bytes", bare_pid),
            }
            for n in range(rounds + 1):
                for arm, (arm_port, path, arm_pid) in arms.items():
                    by_clock, by_cpu = closed_loop(arm_port, path, LEXICAL, seconds, arm_pid, scratch)
                    if n:  # the first round warms up
                        found = measured.setdefault(arm, {"requests/s": [], "requests/cpu-s": []})
                        found["requests/s"].append(by_clock)
                        found["requests/cpu-s"].append(by_cpu)
                        print(arm, round(by_clock), round(by_cpu), file=sys.stderr)
    return measured


def overload(folder: Path, body: dict[str, Any], seconds: float, scratch: Path) -> dict[str, Any]:
    """Capacity by closed loop, then open loop at half and at twice of it."""
    port = free_port()
    serve = [sys.executable, "-m", "facetrail.app.cli", "serve", str(folder), "--port", str(port)]
    with running(serve, port) as pid:
        closed_loop(port, "/v1/search", body, 2, pid, scratch, strict=False)
        capacity, _ = closed_loop(port, "/v1/search", body, 3, pid, scratch, strict=False)
        found: dict[str, Any] = {"capacity": capacity}
        for factor in (0.5, 2.0):
            found[f"x{factor:g}"] = open_loop(port, factor * capacity, seconds, body)
            print(body["mode"], factor, found[f"x{factor:g}"], file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--folder", type=Path, help="a built sample, to save building it")
    parser.add_argument("--out", type=Path, help="where the result goes; eval/results if left out")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise Unavailable("this benchmark drives its load with wrk; install it (`apt-get install wrk`)")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or build_sample(Path(scratch))
        measured = throughput(folder, arguments.rounds, arguments.seconds, Path(scratch))
        loads = {
            str(body["mode"]): overload(folder, body, 3 * arguments.seconds, Path(scratch))
            for body in (LEXICAL, HYBRID)
        }
    write(measured, loads, arguments)


def write(measured: dict[str, dict[str, list[float]]], loads: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Arms, demands and verdicts."""
    medians = {arm: {m: statistics.median(v) for m, v in found.items()} for arm, found in measured.items()}
    arms: dict[str, Any] = {
        arm: {"description": f"lexical search, 10 hits with payload, {CONNECTIONS} connections", "measures": found}
        for arm, found in medians.items()
    }
    comparisons: list[dict[str, Any]] = []
    for bare in ("bare, response model", "bare, ready bytes"):
        for measure in ("requests/s", "requests/cpu-s"):
            ratio = medians["service"][measure] / medians[bare][measure]
            row = {"a": "service", "b": bare, "measure": f"ratio of {measure}", "difference": ratio}
            if measure == "requests/s":
                row |= {"demand": "at least .8 of the bare endpoint's requests/s", "met": ratio >= 0.8}
            comparisons.append(row)
    for mode, found in loads.items():
        double = found["x2"]
        answered = sum(double["statuses"].values())
        accepted = double["statuses"].get("200", 0)
        p99 = double["ms"].get("200", {}).get("p99", 0.0)
        refused_well = double["refused_without_retry_after"] == 0 and set(double["statuses"]) <= {"200", "429", "503"}
        name = f"{mode} at twice the capacity"
        measures = {
            "capacity/s": found["capacity"],
            "offered/s": double["offered"],
            "accepted share": accepted / answered,
        }
        measures |= {f"accepted {p} ms": ms for p, ms in double["ms"].get("200", {}).items()}
        measures |= {"lost": double["lost"], "unsent": double["unsent"], "late": double["late"]}
        arms[name] = {"description": "open loop", "measures": measures}
        demand = "accepted p99 at most 250 ms, all others 429 or 503 with Retry-After"
        met = 0 < p99 <= 250 and refused_well and double["lost"] == 0
        comparisons.append({"a": name, "measure": "accepted p99 ms", "difference": p99, "demand": demand, "met": met})
    with as_file(files("facetrail.indexing.sample") / "corpus.jsonl") as corpus:
        digest = hashlib.sha256(corpus.read_bytes()).hexdigest()
    path = write_result(
        "service",
        claim="The service keeps 80 % of a bare endpoint's throughput, and its latency at twice its capacity.",
        data=[{"name": "built-in sample", "sha256": digest}],
        arms=arms,
        comparisons=comparisons,
        seeds=[],
        meter={"name": "connections", "equal_within": 0.0},
        command=f"python -m facetrail.eval.benchmarks.service --rounds {arguments.rounds}",
        notes="Medians over alternating rounds. Server and load generator share the machine's cores.",
        folder=arguments.out,
    )
    print(path)


if __name__ == "__main__":
    main()
