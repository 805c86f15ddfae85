"""The experiment on hints: a small run of every arm, its evidence, going on after a stop, and tests over users."""

import json
from pathlib import Path

import numpy as np
import pytest

from facetrail.app.cli import main
from facetrail.eval.evidence import read_result
from facetrail.eval.experiments.hints_plan import PLAN_FILE, HintsExperiment, NetworkArm
from facetrail.eval.recommend_metrics import auc, user_auc
from facetrail.eval.user_significance import UserBootstrap, interval, swap_test, user_test
from facetrail.models.errors import Conflict
from facetrail.training.config import read_recipe
from facetrail.training.recommend import hints_experiment
from facetrail.training.recommend.hint_material import controlled, miniature, sample_by_user
from facetrail.training.recommend.hints_experiment import run


@pytest.fixture(scope="module")
def plan() -> HintsExperiment:
    """As declared."""
    return read_recipe(PLAN_FILE, HintsExperiment)


def test_the_declared_experiment_holds_the_arms_of_its_claims(plan: HintsExperiment):
    language, ablation, discovery = (plan.parts[name] for name in ("language", "ablation", "discovery"))
    assert {plan.arms[name].slot for name in (*language.arms, *ablation.arms) if name in plan.arms} == {
        "none", "all", "all-cut", "random", "frequent", "own", "collaborative", "pidlr", "triples"
    }  # fmt: skip
    assert [(one.a, one.b) for one in language.comparisons] == [
        ("PIDLR", "text only"),
        ("PIDLR", "all attributes"),
        ("PIDLR", "random 5"),
        ("PIDLR", "frequent 5"),
        ("PIDLR + logistic", "bias logistic"),
    ]
    assert {(b.arm, b.measure, b.least, b.most) for b in discovery.bounds if b.arm == "shuffled labels"} == {
        ("shuffled labels", "AUC frozen", 0.48, 0.52),
        ("shuffled labels", "AUC rolling", 0.48, 0.52),
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"blends": {"x": "nothing"}}, "not among the arms"),
        ({"arms": ("discovery", "text only")}, "sample of the rows only"),
        ({"blends": {"x": "shuffled labels"}}, "labels of its own"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(plan: HintsExperiment, change: dict[str, object], says: str):
    values = plan.model_dump()
    values["parts"]["discovery"] |= {"bounds": (), "comparisons": ()} | change
    with pytest.raises(ValueError, match=says):
        HintsExperiment.model_validate(values)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a smoke run of both parts."""
    out = tmp_path_factory.mktemp("hints") / "run"
    run(out.parent, out, smoke=True)
    return out


def test_a_small_run_writes_evidence_of_every_arm(done: Path, plan: HintsExperiment):
    found = read_result(done / "hints-language.json")
    assert set(found.arms) == set(plan.parts["language"].every_arm)
    assert "not pretrained" in found.notes
    text, hints = found.arms["text only"], found.arms["PIDLR"]
    assert text.meters["tokens_per_prompt"] < hints.meters["tokens_per_prompt"]
    assert text.meters["optimiser_steps"] == hints.meters["optimiser_steps"] == 2
    assert {"AUC frozen", "UAUC rolling", "AUC frozen, overlap 1 to 3"} <= set(hints.measures)
    assert "AUC frozen, all rows" in found.arms["discovery + logistic"].measures
    assert sum(row.p_holm is not None for row in found.comparisons) == 10
    gains = {row.measure.split()[-1]: row for row in found.comparisons if "relative" in row.measure}
    assert (gains["frozen"].demand, gains["rolling"].met) == ("at least 3.02% and an interval above 0", None)
    for rule, row in gains.items():
        pairs = [(hints.measures[f"{one} {rule}"][0], text.measures[f"{one} {rule}"][0]) for one in ("AUC", "UAUC")]
        assert row.difference == pytest.approx(np.mean([ours / theirs - 1 for ours, theirs in pairs]), abs=1e-5)
    scores = json.loads((done / "scores" / "text-only-1.json").read_bytes())
    assert len(set(scores["frozen"])) > 1


def test_the_part_without_a_language_model_scores_every_row(done: Path, plan: HintsExperiment):
    found, other = read_result(done / "hints-discovery.json"), read_result(done / "hints-language.json")
    assert set(found.arms) == set(plan.parts["discovery"].every_arm)
    assert "64 rows" in found.notes
    assert "--part discovery" in found.command
    for name in ("discovery", "bias logistic"):
        assert found.arms[name].measures["AUC frozen"] == other.arms[name].measures["AUC frozen, all rows"]
    names = [name for name, arm in plan.networks.items() if arm.fake != 0.25]  # one of two attributes, as at a half
    files = [done / "scores" / f"{'-'.join(name.lower().replace(',', '').split())}-1.json" for name in names]
    learned = {tuple(json.loads(file.read_bytes())["frozen_all"]) for file in files}
    assert len(learned) == len(files)  # no two arms are the same network
    assert sum(row.p_holm is not None for row in found.comparisons) == 10
    demands = {row.a: row.demand for row in found.comparisons if row.b is None}
    assert demands["shuffled labels"] == "at least 0.4800 and at most 0.5200"


def test_signs_alone_count_likes_less_dislikes(done: Path):
    found = json.loads((done / "scores" / "signs-alone-1.json").read_bytes())
    counts = np.array(found["rolling_all"])
    assert (counts == counts.round()).all()
    assert counts.min() < 0 < counts.max()
    assert auc(counts, miniature().rows.test.labels) > 0.6  # users of the miniature like one genre


def test_the_noise_part_compares_what_fake_attributes_cost(done: Path):
    found = read_result(done / "hints-noise.json")
    (row,) = [row for row in found.comparisons if "loss" in row.measure]

    def loss(arm: str) -> float:
        measures = [found.arms[name].measures["AUC frozen"][0] for name in (arm, f"{arm}, 100 % fake")]
        return measures[0] - measures[1]

    chosen, alike = loss("discovery"), loss("every attribute alike")
    assert row.difference == pytest.approx(chosen - alike, abs=2e-6)
    assert row.met is (chosen <= 0.5 * alike)


def test_shuffled_labels_are_measured_by_the_labels_of_their_shuffle(done: Path):
    unit = json.loads((done / "scores" / "shuffled-labels-1.json").read_bytes())
    test, shuffled = miniature().rows.test, np.array(unit["labels_all"])
    assert (shuffled != test.labels).any()
    assert shuffled.sum() == test.labels.sum()
    found = read_result(done / "hints-discovery.json").arms["shuffled labels"].measures["AUC rolling"][0]
    assert found == pytest.approx(auc(np.array(unit["rolling_all"]), shuffled), abs=1e-6)


def test_controls_change_what_they_say_and_nothing_else():
    material = miniature()
    every, n = material.attributes, len(miniature().titles)

    def held(arm: NetworkArm) -> list[list[int]]:
        found = controlled(material, arm, n_plain=1, seed=3).attributes
        return [found.of(item).tolist() for item in range(n)]

    own = held(NetworkArm(description=""))
    assert own == [every.of(item).tolist() for item in range(n)]
    few = held(NetworkArm(description="", attributes="random"))
    assert all(len(kept) == 1 and kept[0] in given for kept, given in zip(few, own, strict=True))
    other = held(NetworkArm(description="", attributes="swapped"))
    assert sorted(other) == sorted(own)
    assert other != own
    faked = held(NetworkArm(description="", fake=0.5))
    for given, kept in zip(faked, own, strict=True):
        assert set(kept) < set(given)
        assert len(given) == len(set(given)) == len(kept) + (len(kept) + 1) // 2
    moved = controlled(material, NetworkArm(description="", labels="shuffled"), n_plain=1, seed=3).rows
    for part, before in ((moved.train, material.rows.train), (moved.validation, material.rows.validation)):
        assert (part.labels != before.labels).any()
        assert part.labels.sum() == before.labels.sum()
        assert (part.items == before.items).all()


def test_a_part_and_a_changed_plan_run_by_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def asked(folder: str, *options: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["experiment", "hints", "--data", str(tmp_path), "--out", str(tmp_path / folder), "--smoke", *options])
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    sets = ("--set", "seeds=[4]", "--set", "tuning.n_shots=4")
    code, out, err = asked("run", "--part", "discovery", *sets, "--json")
    assert code == 0, err
    assert [Path(result).name for result in json.loads(out)["results"]] == ["hints-discovery.json"]
    kept = read_result(tmp_path / "run" / "hints-discovery.json")
    assert (kept.seeds, "--set tuning.n_shots=4" in kept.command) == ([4], True)
    for wrong, says in (
        (("--part", "magic"), "choose discovery or noise or language or ablation"),
        (("--set", "tuning.hint_dropout=2"), "tuning.hint_dropout: "),
    ):
        code, _, err = asked("other", *wrong)
        assert (code, says in err) == (2, True), err


def test_the_closed_forms_of_the_miniature_are_those_of_their_module(done: Path):
    rows = miniature().rows
    counts = np.bincount(rows.train.items, minlength=rows.n_items)
    sums = np.bincount(rows.train.items, weights=rows.train.labels, minlength=rows.n_items)
    means = (sums + 5 * rows.train.labels.mean()) / (counts + 5)
    found = read_result(done / "hints-discovery.json").arms["item mean"].measures["AUC frozen"][0]
    assert found == pytest.approx(auc(means[rows.test.items], rows.test.labels), abs=1e-6)


def test_a_run_goes_on_with_the_unit_that_is_missing(done: Path):
    with pytest.raises(Conflict):
        run(done.parent, done, smoke=True)
    first = read_result(done / "hints-language.json")
    kept = {path.name: path.read_bytes() for path in (done / "scores").iterdir()}
    assert len(kept) == 26
    (done / "scores" / "pidlr-1.json").unlink()
    run(done.parent, done, smoke=True, resume=True)
    again = read_result(done / "hints-language.json")
    assert {name: arm.measures for name, arm in again.arms.items()} == {n: a.measures for n, a in first.arms.items()}
    assert {p.name for p in (done / "scores").iterdir() if p.read_bytes() != kept[p.name]} <= {"pidlr-1.json"}


def test_the_sample_takes_the_same_share_of_every_user():
    rows = miniature().rows.test
    chosen = sample_by_user(rows, len(rows) // 2, rng=np.random.default_rng(0))
    assert sorted(set(chosen.tolist())) == chosen.tolist()
    every, taken = (np.bincount(users, minlength=8) for users in (rows.users, rows.users[chosen]))
    assert (np.abs(taken - every / 2)[every >= 4] <= 1).all()
    assert (taken >= np.minimum(every, 2)).all()


def _planted(gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """40 users of 20 rows; system b is a noisy view of the labels, a one that knows more by `gain`."""
    rng = np.random.default_rng(3)
    users, labels = np.repeat(np.arange(40), 20), rng.integers(2, size=800).astype(float)
    b = labels + rng.normal(0, 2, (2, 800))
    return users, labels, b + gain * labels, b


def test_a_gain_is_seen_over_users_and_equal_systems_are_equal():
    users, labels, a, b = _planted(1.0)
    rng = np.random.default_rng(0)
    bootstrap = UserBootstrap(users, labels, rng=rng, n_resamples=200)
    drawn = bootstrap.measures(a) - bootstrap.measures(b)
    for column in (0, 1):
        low, high = interval(drawn[:, column])
        assert 0 < low < high
    assert swap_test(users, labels, a, b, rng=rng, n_randomisations=200) == pytest.approx(1 / 201)
    assert user_test(users, labels, a, b, rng=rng, n_randomisations=200) == pytest.approx(1 / 201)
    assert swap_test(users, labels, b, b, rng=rng, n_randomisations=50) == 1.0


def test_a_resample_of_every_user_once_has_the_measures_of_the_rows():
    users, labels, a, _ = _planted(0.5)
    bootstrap = UserBootstrap(users, labels, rng=np.random.default_rng(0), n_resamples=1)
    bootstrap._counts = np.ones((1, 40))
    expected = [
        np.mean([auc(row, labels) for row in a]),
        np.mean([user_auc(users, row, labels).mean for row in a]),
    ]
    np.testing.assert_allclose(bootstrap.measures(a)[0], expected, atol=1e-12)


def test_a_users_own_level_widens_the_interval_over_users():
    """One row's label says what the user's others are: 10 users with 40 rows know less than 400 rows would."""
    rng = np.random.default_rng(1)
    users, level = np.repeat(np.arange(10), 40), np.repeat(rng.normal(size=10), 40)
    labels = (rng.random(400) < 1 / (1 + np.exp(-3 * level))).astype(float)
    scores = (level + rng.normal(0, 0.1, 400))[None]
    widths = []
    for groups in (users, np.arange(400) // 2):
        bootstrap = UserBootstrap(groups, labels, rng=np.random.default_rng(0), n_resamples=200)
        low, high = interval(bootstrap.measures(scores)[:, 0])
        widths.append(high - low)
    assert widths[0] > 1.5 * widths[1]


def test_smaller_keeps_every_arm(plan: HintsExperiment):
    small = hints_experiment.smaller(plan)
    assert (small.arms, small.networks, small.language_model) == (plan.arms, plan.networks, "tiny")
