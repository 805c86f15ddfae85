"""What a run leaves for programs, for TensorBoard and for people to look at."""

import io
import json
import math
from contextlib import closing
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from facetrail.models.errors import Damaged
from facetrail.training.tracking import CURVES_FILE, EVENTS_FOLDER, PICTURE_FILE, Tracker, read_curves


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def events(folder: Path) -> list[Event]:
    """The events of all files, oldest first, read as the format says: length, its checksum, bytes, their checksum."""
    found = []
    for path in sorted((folder / EVENTS_FOLDER).iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            record = content[place + 12 : place + 12 + size]
            checksum = int.from_bytes(content[place + 12 + size : place + 16 + size], "little")
            assert checksum == masked_crc32c(record)
            found.append(Event.FromString(record))
            place += 16 + size
    return found


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    return [
        (v.tag, e.step, v.simple_value) for e in events(folder) for v in e.summary.value if not v.HasField("tensor")
    ]


def test_every_form_holds_the_same_figures(tmp_path: Path) -> None:
    with Tracker(tmp_path, total=3, quiet=True) as tracker:
        for step in (1, 2, 3):
            tracker.log(step, {"train/loss": 1 / step, "train/lr/head": 0.5})
        tracker.log(3, {"eval/nDCG@10": 0.25})
        tracker.note(2, "skipped")
    rows = [json.loads(line) for line in (tmp_path / CURVES_FILE).read_text().splitlines()]
    assert [row["train/loss"] for row in rows[:3]] == [1, 0.5, 1 / 3]
    assert all(row.pop("seconds") >= 0 for row in rows)
    assert rows[3:] == [{"step": 3, "eval/nDCG@10": 0.25}, {"step": 2, "note": "skipped"}]
    read = scalars(tmp_path)
    assert [(tag, step) for tag, step, _ in read if tag == "train/loss"] == [("train/loss", s) for s in (1, 2, 3)]
    assert ("eval/nDCG_10", 3, 0.25) in read  # TensorBoard's tags have no @
    picture = (tmp_path / PICTURE_FILE).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.endswith(b"IEND\xaeB`\x82")


def test_the_picture_is_drawn_of_a_run_that_failed_or_logged_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Tracker(tmp_path, total=3, quiet=True):
        raise RuntimeError
    assert (tmp_path / PICTURE_FILE).stat().st_size > 1_000


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    with closing(Tracker(tmp_path, total=1, quiet=True)) as tracker:
        tracker.log(1, {"a": math.nan, "b": math.inf, "c": 1.0})
    row = read_curves(tmp_path / CURVES_FILE)[0]
    assert (row["a"], row["b"], row["c"]) == (None, None, 1.0)


def test_rewinding_takes_rows_back(tmp_path: Path) -> None:
    for sitting in (1, 2):
        with closing(Tracker(tmp_path, total=5, quiet=True)) as tracker:
            if sitting == 2:
                tracker.rewind(2)
            for step in range(1, 4) if sitting == 1 else range(3, 6):
                tracker.log(step, {"x": float(10 * sitting + step)})
    assert [(row["step"], row["x"]) for row in read_curves(tmp_path / CURVES_FILE)] == [
        (1, 11), (2, 12), (3, 23), (4, 24), (5, 25),
    ]  # fmt: skip
    # TensorBoard drops what an earlier file says from this step on.
    assert 3 in [event.step for event in events(tmp_path) if event.session_log.status]


def test_a_line_cut_short_is_left_out_and_a_broken_one_named(tmp_path: Path) -> None:
    path = tmp_path / CURVES_FILE
    path.write_text('{"step": 1}\n{"step": 2, "tra')
    assert read_curves(path) == [{"step": 1}]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(Damaged, match=r"curves\.jsonl:2"):
        read_curves(path)


def test_plain_lines_where_nobody_watches_and_a_bar_where_somebody_does(tmp_path: Path) -> None:
    for name, stream in (("plain", io.StringIO()), ("terminal", Terminal())):
        with closing(Tracker(tmp_path / name, total=4, stream=stream)) as tracker:
            tracker.log(1, {"train/loss": 0.5})
            tracker.log(2, {"train/loss": 0.25})
            tracker.log(2, {"eval/RR": 0.75})
            tracker.note(2, "skipped [x]")
        shown = stream.getvalue()
        assert "step 2/4: eval/RR 0.7500" in shown
        assert "step 2: skipped [x]" in shown
        assert ("\x1b[" in shown) == (name == "terminal")
        assert ("step 1/4: loss 0.5000" in shown) == (name == "plain")


def test_quiet_is_silent(tmp_path: Path) -> None:
    stream = Terminal()
    with closing(Tracker(tmp_path, total=4, quiet=True, stream=stream)) as tracker:
        tracker.log(1, {"train/loss": 0.5, "eval/RR": 0.75})
    assert stream.getvalue() == ""
