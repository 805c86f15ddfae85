"""The declared experiment on two planted sets, small enough for a test."""

import pytest
from contracts.planted_retrieval import make_set

from facetrail.eval.experiments.unifar_plan import UnifarExperiment, read_experiment
from facetrail.eval.experiments.unifar_sets import JudgedSet


@pytest.fixture
def experiment() -> UnifarExperiment:
    """The declared one, on two planted sets, small enough for a test."""
    declared = read_experiment()
    return declared.model_copy(
        update={
            "sets": ("one", "two"), "primary": {"one": "AP", "two": "nDCG@10"}, "mixing_dev": ("dev",),
            "fusion_dev": ("dev",), "depth": 40, "rescore_depth": 20, "n_randomisations": 2_000, "seeds": (1, 2),
            "demands": tuple(d.model_copy(update={"sets": ()}) for d in declared.demands),
        }
    )  # fmt: skip


@pytest.fixture
def sets() -> list[JudgedSet]:
    return [make_set("one"), make_set("two", task="document")]


@pytest.fixture
def dev() -> list[JudgedSet]:
    return [make_set("dev")]
