"""The order of system calls: an acknowledgement follows the fsync of what it acknowledges.

Killing a process cannot show this, because what it has written survives it in the page cache. strace can; and the
checker itself is held to account with sabotaged writers whose order is wrong.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from facetrail.indexing.collection import Collection, CollectionSettings

WRITER = """
import os, sys
from pathlib import Path
from facetrail.indexing import durable, generation
from facetrail.indexing.collection import Collection
from facetrail.models.records import Document
folder = Path(sys.argv[1])
ack = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def say(line):
    os.write(ack, line.encode() + b"\\n")
collection = Collection.open(folder, writable=True)
collection.put([Document("warm", "up")])
{sabotage}
say("begin put")
collection.put([Document("a", "text")])
say("done put")
say("begin delete")
collection.delete(["a"])
say("done delete")
say("begin switch")
with generation.new_generation(folder) as building:
    (building.folder / "lexical").mkdir()
    (building.folder / "lexical" / "postings.npy").write_bytes(b"postings")
    building.finish(built_from_change=3, n_documents=1)
say("done switch")
os._exit(0)
"""
NO_LOG_FSYNC = 'collection._writer.execute("PRAGMA synchronous = OFF")'
NO_FOLDER_FSYNC = """
real = durable._sync
durable._sync = lambda path, flags: None if flags & os.O_DIRECTORY else real(path, flags)
"""
NO_FILE_FSYNC = """
real = durable._sync
durable._sync = lambda path, flags: real(path, flags) if flags & os.O_DIRECTORY else None
"""
NO_CURRENT_FSYNC = """
real_fsync = os.fsync
names = {name: getattr(os, name) for name in dir(os) if not name.startswith("__")}
durable.os = type("os", (), names | {"fsync": lambda descriptor: None})
durable._sync = lambda path, flags: real_fsync(os.open(path, flags))
"""
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
Call = tuple[str, str]


def trace(folder: Path, sabotage: str = "") -> list[Call]:
    """(call, arguments) of the writer's system calls that write, sync or rename, in order."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace (Debian: apt-get install strace)")
    with Collection.create(folder / "c", CollectionSettings(name="c", lexical={})):
        pass
    log = folder / "strace.log"
    command = ["strace", "-f", "-y", "-s", "40", "--seccomp-bpf", "-o", str(log)]
    command += ["-e", "trace=write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,msync"]
    command += [sys.executable, "-c", WRITER.format(sabotage=sabotage), str(folder / "c"), str(folder / "acks")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    if done.returncode and "ptrace" in done.stderr and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here: ptrace is not permitted in this container")
    assert done.returncode == 0, done.stderr
    found = (CALL.match(line) for line in whole_calls(log.read_text().splitlines()))
    return [(call[1], call[2]) for call in found if call and int(call[3]) >= 0]


def whole_calls(lines: list[str]) -> Iterator[str]:
    """strace's lines with a call that another thread interrupted joined to its end, where it took effect."""
    begun: dict[str, str] = {}
    for line in lines:
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>").rstrip()
        elif resumed := re.match(r"^\d+ +<\.\.\. \w+ resumed>(.*)$", line):
            yield begun.pop(process) + resumed[1]
        else:
            yield line


def between(calls: list[Call], name: str) -> list[Call]:
    """The calls between the two marks of an operation."""
    marks = [
        i for i, (call, text) in enumerate(calls) if call == "write" and "/acks>" in text and f" {name}\\n" in text
    ]
    assert len(marks) == 2, calls
    return calls[marks[0] + 1 : marks[1]]


def last(calls: list[Call], kinds: tuple[str, ...], part: str) -> int:
    """Position of the last call of some kinds whose arguments match a pattern; -1 if there is none."""
    return max((i for i, (call, text) in enumerate(calls) if call in kinds and re.search(part, text)), default=-1)


WRITES, SYNCS, RENAMES = ("write", "pwrite64"), ("fsync", "fdatasync"), ("rename", "renameat", "renameat2")


def commit_faults(calls: list[Call]) -> list[str]:
    """What is wrong with the order of a transaction; empty if its log was synced after its last write."""
    written, synced = last(calls, WRITES, r"collection\.sqlite-wal>"), last(calls, SYNCS, r"collection\.sqlite-wal>")
    if written < 0:
        return ["nothing was written to the log"]
    return [] if synced > written else ["the log was not synced after it was written"]


def switch_faults(calls: list[Call]) -> list[str]:
    """What is wrong with the order of a switch; empty if everything was on disk before it was named."""
    faults: list[str] = []
    moved = last(calls, RENAMES, r"\.building-\w+\", .*/generations/\d{6}\"")
    switched = last(calls, RENAMES, r"/\.CURRENT\.\d+\.tmp\", .*/CURRENT\"")
    if not 0 <= moved < switched:
        return [f"renames are missing or in the wrong order: {calls}"]
    named = "was not synced before the generation got its name"
    files = (r"\.building-\w+/lexical/postings\.npy>", r"\.building-\w+/MANIFEST\.json>")
    faults += [f"{f} {named}" for f in files if not 0 <= last(calls, WRITES, f) < last(calls[:moved], SYNCS, f)]
    folders = (r"\.building-\w+/lexical>", r"\.building-\w+>")
    faults += [f"folder {f} {named}" for f in folders if last(calls[:moved], SYNCS, f) < 0]
    if not moved < last(calls[:switched], SYNCS, r"/generations>"):
        faults.append("the generation's name was not synced before CURRENT named it")
    draft = r"/\.CURRENT\.\d+\.tmp>"
    if not 0 <= last(calls, WRITES, draft) < last(calls[:switched], SYNCS, draft):
        faults.append("CURRENT's bytes were not synced before it was put in place")
    if not switched < last(calls, SYNCS, r"/c>"):
        faults.append("CURRENT's new name was not synced before the acknowledgement")
    return faults


def test_every_acknowledgement_follows_its_fsync(tmp_path: Path) -> None:
    calls = trace(tmp_path)
    assert commit_faults(between(calls, "put")) == []
    assert commit_faults(between(calls, "delete")) == []
    assert switch_faults(between(calls, "switch")) == []


def test_the_checker_catches_commits_without_fsync(tmp_path: Path) -> None:
    calls = trace(tmp_path, NO_LOG_FSYNC)
    assert commit_faults(between(calls, "put")) == ["the log was not synced after it was written"]
    assert commit_faults(between(calls, "delete")) == ["the log was not synced after it was written"]
    assert switch_faults(between(calls, "switch")) == []


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (NO_FOLDER_FSYNC, {"CURRENT's new name", "the generation's name", "folder"}),
        (NO_FILE_FSYNC, {"MANIFEST", "postings"}),
        (NO_CURRENT_FSYNC, {"CURRENT's bytes"}),
    ],
    ids=["folders", "files", "CURRENT"],
)
def test_the_checker_catches_switches_without_fsync(tmp_path: Path, sabotage: str, words: set[str]) -> None:
    calls = trace(tmp_path, sabotage)
    faults = switch_faults(between(calls, "switch"))
    assert {word for word in words if any(word in fault for fault in faults)} == words
    assert all(any(word in fault for word in words) for fault in faults)
    assert commit_faults(between(calls, "put")) == []
