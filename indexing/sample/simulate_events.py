"""Make ``events.jsonl``: simulated reading events of forty invented readers.

No person was observed. Every reader has two favourite topics and one favourite method keyword. At each
step a reader

* follows a citation out of the abstract read last, with probability ``FOLLOW``,
* else draws from the favourites, with probability ``FAVOUR``,
* else draws from the whole collection.

The abstract is saved instead of merely read with probability ``SAVE_FAVOURITE`` when it is a favourite and
``SAVE_OTHER`` when it is not. Times are UTC milliseconds between 2025-01-01 and 2025-06-30 and rise strictly
per reader. The seed is fixed, and only integers and ``random()`` are drawn, so that the file is the same
byte for byte on every machine. Run as ``python simulate_events.py``.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict

SEED = 20250101
READERS = 40
FEWEST, MOST = 15, 60  # events of one reader
FOLLOW = 0.35
FAVOUR = 0.75
SAVE_FAVOURITE = 0.30
SAVE_OTHER = 0.08
START = 1_735_689_600_000  # 2025-01-01T00:00:00Z
END = 1_751_328_000_000  # 2025-07-01T00:00:00Z, exclusive
METHODS = (
    *("ablation", "bootstrap", "contrastive learning"),
    *("Gaussian process", "graph neural network", "randomised controlled trial"),
)


class Event(TypedDict):
    """One line of ``events.jsonl``."""

    user: str
    item: str
    action: str
    time: int
    simulated: bool


class Abstract(NamedTuple):
    """What the rule needs to know of one abstract."""

    id: str
    topic: str
    keywords: frozenset[str]


def read_abstracts(path: Path) -> list[Abstract]:
    """Identifier, topic and keywords of every abstract, in file order."""
    abstracts: list[Abstract] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        metadata = record["metadata"]
        abstracts.append(Abstract(record["_id"], metadata["topic"], frozenset(metadata["keywords"])))
    return abstracts


def read_citations(path: Path) -> dict[str, list[str]]:
    """For every citing abstract, the abstracts that it cites, in file order."""
    cited: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        source, _, target = line.split("\t")
        cited.setdefault(source, []).append(target)
    return cited


def pick(rng: random.Random, choices: Sequence[str]) -> str:
    """One of the choices, all equally likely."""
    return choices[int(rng.random() * len(choices))]


def read_one(rng: random.Random, user: str, abstracts: Sequence[Abstract], cited: dict[str, list[str]]) -> list[Event]:
    """The events of one reader, in order of time."""
    topics = sorted({abstract.topic for abstract in abstracts})
    first = pick(rng, topics)
    second = pick(rng, [topic for topic in topics if topic != first])
    method = pick(rng, METHODS)
    everything = [abstract.id for abstract in abstracts]
    favourites = [a.id for a in abstracts if a.topic in (first, second) or method in a.keywords]
    liked = frozenset(favourites)
    count = FEWEST + int(rng.random() * (MOST - FEWEST + 1))
    times: set[int] = set()
    while len(times) < count:
        times.add(START + int(rng.random() * (END - START)))
    events: list[Event] = []
    last = ""
    for time in sorted(times):
        onward = cited.get(last, [])
        if onward and rng.random() < FOLLOW:
            last = pick(rng, onward)
        else:
            last = pick(rng, favourites if rng.random() < FAVOUR else everything)
        saved = rng.random() < (SAVE_FAVOURITE if last in liked else SAVE_OTHER)
        action = "save" if saved else "read"
        events.append({"user": user, "item": last, "action": action, "time": time, "simulated": True})
    return events


def main() -> None:
    """Write ``events.jsonl`` next to this file."""
    folder = Path(__file__).resolve().parent
    abstracts = read_abstracts(folder / "corpus.jsonl")
    cited = read_citations(folder / "links.tsv")
    rng = random.Random(SEED)
    events = [e for n in range(READERS) for e in read_one(rng, f"reader-{n + 1:02d}", abstracts, cited)]
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "events.jsonl").write_bytes(text.encode("utf-8"))


if __name__ == "__main__":
    main()
