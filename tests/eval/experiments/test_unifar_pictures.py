"""Pictures are written, whatever little there is to draw."""

from pathlib import Path

import numpy as np

from facetrail.eval.experiments.unifar_pictures import anchor_similarity, dev_curves, gate_by_length, right_and_wrong
from facetrail.eval.experiments.unifar_probe import Probed


def test_every_picture_is_a_file_of_its_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    gate = rng.random((10, 4)).astype(np.float32)
    probed = Probed(
        arm="UK", seed=1, query_ids=("a#method",), right=(1.0,), wrong=(0.5,), shuffled_right=(0.5,),
        shuffled_wrong=(0.6,),
    )  # fmt: skip
    paths = [
        dev_curves(tmp_path / "dev.png", {"B": [(0, 0.4), (100, 0.5)], "UK": [(0, 0.4)]}, measure="nDCG@10"),
        gate_by_length(tmp_path / "gate.png", rng.integers(1, 128, 10), gate),
        gate_by_length(tmp_path / "gate-one.png", np.array([7]), gate[:1]),
        anchor_similarity(tmp_path / "anchors.png", rng.standard_normal((4, 8)).astype(np.float32)),
        right_and_wrong(tmp_path / "probe.png", [probed]),
    ]
    assert len(set(paths)) == 5
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
