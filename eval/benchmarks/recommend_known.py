"""What rows of recommendation are held against: figures of other implementations, and a trained sequence model's."""

import json
from pathlib import Path

from facetrail.models.errors import InvalidInput, NotFound

ML1M, ML100K = "ML-1M", "ML-100k by time"
RANKED = ("R@1", "R@10", "NDCG@10", "MRR")
WALL_SECONDS = "fit wall s"
LEAST = {
    "ease+markov": {"R@10": 0.295, "NDCG@10": 0.170},
    "sasrec": {"R@10": 0.25},
}
"""What is demanded on ML-1M."""
REPRODUCED: dict[str, dict[str, tuple[float, float, float]]] = {
    ML1M: {
        "popularity": (0.006, 0.042, 0.020),
        "item-knn": (0.014, 0.073, 0.039),
        "ease": (0.015, 0.111, 0.055),
        "markov": (0.068, 0.282, 0.161),
        "ease+markov": (0.077, 0.298, 0.172),
    },
    ML100K: {
        "popularity": (0.009, 0.071, 0.033),
        "ease": (0.019, 0.133, 0.066),
        "markov": (0.025, 0.156, 0.080),
        "ease+markov": (0.029, 0.179, 0.091),
    },
}
"""R@1, R@10 and NDCG@10, measured by another implementation of the same definitions."""
PUBLISHED = {
    "MF-BPR": (0.074, 0.038),
    "SASRec, one negative, original": (0.199, 0.108),
    "SASRec, one negative, in PyTorch": (0.239, 0.126),
    "SASRec, full softmax, RecTools": (0.306, 0.178),
    "gSASRec": (0.300, 0.173),
    "HSTU-large": (0.329, 0.189),
}
"""R@10 and NDCG@10 of leave-last-out on ML-1M, all items ranked, as their authors' code reports them."""


def trained(run: Path, *, sha256: str) -> dict[str, float]:
    """Test figures and wall seconds of a run of `train recommender --recipe sasrec` on ML-1M, last events left out.

    sha256: of the sequences. Raises NotFound (no finished run) and InvalidInput (another model, split or file).
    """
    files = [run / name for name in ("report.json", "run.json", "curves.jsonl")]
    if missing := [file.name for file in files if not file.is_file()]:
        raise NotFound(
            f"{run} holds no {missing[0]}; give the folder of a finished `train recommender --recipe sasrec`"
        )
    report, made = (json.loads(file.read_bytes()) for file in files[:2])
    if (report["scorer"], report["split"]) != ("sasrec", "leave_last") or sha256 not in made["data"].values():
        raise InvalidInput(
            f"{run} is no SASRec of these sequences with their last events left out; train it with "
            "--recipe sasrec --set split=leave_last --set ties=file"
        )
    seconds: float = json.loads(files[2].read_text(encoding="utf-8").splitlines()[-1])["seconds"]
    return {measure: report["seen_hidden"]["per_prediction"][measure] for measure in RANKED} | {WALL_SECONDS: seconds}
