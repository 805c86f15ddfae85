import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from facetrail.models.errors import NotFound
from facetrail.models.text.facets import FACETS
from facetrail.training.text import corpora, leaks
from facetrail.training.text.corpora import ACL, CACM, PUBMEDQA, normalised_title
from facetrail.training.text.pairs import build_training_data, permuted
from facetrail.training.text.records import UNTITLED, PairConfig, TrainingData

TINY = PairConfig(
    n_citation=40,
    n_cocitation=30,
    n_shared_keywords=10,
    n_tldr=20,
    n_title=20,
    n_keywords=10,
    n_sentence=20,
    n_role=12,
    n_expert=10,
    removal_rate=1,
    negative_ranks=(3, 40),
)
FEW = PairConfig(
    n_citation=100,
    n_cocitation=50,
    n_shared_keywords=0,
    n_tldr=50,
    n_title=0,
    n_keywords=0,
    n_sentence=0,
    n_role=40,
    n_expert=20,
)
"""Sources that need no ranking over the largest collection."""


def built(data: Path, seed: int = 0, config: PairConfig = TINY) -> TrainingData:
    return build_training_data(data, config, rng=np.random.default_rng(seed))


def edges(data: Path) -> set[tuple[str, str]]:
    one_way = [edge for kind in corpora.LINK_KINDS for edge in corpora.links(data, kind)]
    return {*one_way, *((right, left) for left, right in one_way)}


def assert_sound(training: TrainingData, data: Path) -> None:
    """What holds for every pair of every source."""
    linked = edges(data)
    for pair in training.train:
        ids = (pair.left_id, pair.right_id, *(name.removesuffix(UNTITLED) for name in pair.negatives))
        for name in ids:
            assert not name.startswith(f"{CACM}:") or corpora.cacm_split(name) == "train"
        for name in ids[2:]:
            assert name not in ids[:2]
            assert (pair.left_id, name) not in linked
            assert (pair.right_id, name) not in linked
        for name in pair.negatives:
            assert name not in training.neighbours.get(pair.left_id, ())
            assert name not in training.neighbours.get(pair.right_id, ())
            assert training.texts[name]
        assert pair.right_id in training.neighbours[pair.left_id]
        assert pair.kind == ("qd" if pair.left_id.startswith("question:") else "dd")
        asked = pair.left.removeprefix(f"{pair.facet}: ")
        if pair.source in ("title", "role"):
            assert normalised_title(asked) not in normalised_title(pair.right)
            assert normalised_title(asked) in normalised_title(training.texts[pair.right_id])


def test_every_source_gives_its_pairs_and_every_pair_is_sound(tiny_data: Path, own_cache: Path):
    training = built(tiny_data)
    assert_sound(training, tiny_data)
    counts = dict(training.counts)
    assert counts == dict(Counter(pair.source for pair in training.train))
    assert counts.pop("shared_keywords") > 0
    assert counts == {"citation": 40, "cocitation": 30, "tldr": 20, "title": 20, "keywords": 10, "sentence": 20,
                      "role": 12, "expert": 10}  # fmt: skip
    assert Counter(p.facet for p in training.train if p.source == "role") == dict.fromkeys(FACETS, 3)
    assert {p.weight for p in training.train if p.source == "cocitation"} == {0.5}
    assert set(training.hashes) == set(corpora.FILES)
    leaks.check(tiny_data, training)


def test_a_removed_sentence_is_absent_and_the_rate_is_kept(tiny_data: Path, own_cache: Path):
    def n_present(rate: float) -> int:
        pairs = built(tiny_data, config=TINY.model_copy(update={"removal_rate": rate})).train
        return sum(pair.left in pair.right for pair in pairs if pair.source == "sentence")

    assert (n_present(1.0), n_present(0.0)) == (0, 20)


def test_only_questions_of_the_train_split_bring_their_document(tiny_data: Path, own_cache: Path):
    asked = {f"{PUBMEDQA}:{i}" for i in range(20)}
    training = built(tiny_data)
    names = {name for pair in training.train for name in (pair.right_id, *pair.negatives)}
    assert {name for name in names if name.startswith(PUBMEDQA)} <= asked


def test_the_same_generator_gives_the_same_data_and_another_gives_other_data(tiny_data: Path, own_cache: Path):
    first = built(tiny_data)
    assert built(tiny_data) == first
    assert built(tiny_data, seed=1).train != first.train


def test_the_data_does_not_depend_on_the_process(tiny_data: Path, own_cache: Path):
    """Sets of strings come in another order in every process; none may reach the generator."""
    code = (
        "import sys, hashlib, numpy as np; from pathlib import Path; "
        "from facetrail.training.text.pairs import PairConfig, build_training_data; "
        "config = PairConfig.model_validate_json(sys.argv[2]); "
        "built = build_training_data(Path(sys.argv[1]), config, rng=np.random.default_rng(0)); "
        "print(hashlib.sha256(repr((built.train, built.dev_pairs, built.texts)).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tiny_data), TINY.model_dump_json()]
    digests = {
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_development_pairs_share_no_query_with_training(tiny_data: Path, own_cache: Path):
    training = built(tiny_data)
    assert Counter(pair.kind for pair in training.dev_pairs)["qd"] == corpora.N_SCITLDR_DEV
    assert any(pair.kind == "dd" for pair in training.dev_pairs)
    trained = {name for pair in training.train for name in (pair.left_id, pair.right_id, *pair.negatives)}
    assert not trained & {pair.left_id for pair in training.dev_pairs}


def test_what_stands_in_a_test_trains_neither_by_title_nor_by_abstract(tiny_data: Path, own_cache: Path):
    training = built(tiny_data)
    names = {name.removesuffix(UNTITLED) for name in training.texts}
    planted = {f"{ACL}:P{i}" for i in range(9)}
    assert not names & planted
    assert len(names & {f"{ACL}:P{i}" for i in range(9, 30)}) > 15


def test_permuted_pairs_keep_the_texts_and_lose_the_match(tiny_data: Path, own_cache: Path):
    pairs = built(tiny_data).train
    dealt = permuted(pairs, np.random.default_rng(0))
    assert [p.left for p in dealt] == [p.left for p in pairs]
    for kind in ("dd", "qd"):
        assert Counter(p.right for p in dealt if p.kind == kind) == Counter(p.right for p in pairs if p.kind == kind)
    assert sum(a.right_id == b.right_id for a, b in zip(pairs, dealt, strict=True)) < len(pairs) / 5


def test_a_missing_folder_and_a_missing_file_are_named(tiny_data: Path, tmp_path: Path):
    with pytest.raises(NotFound, match=r"no data folder at .*nowhere; give"):
        built(tmp_path / "nowhere")
    with pytest.raises(NotFound, match=r"lacks \d+ files that training needs, first acl_anthology_2019"):
        built(tmp_path)


def test_the_real_collections_give_sound_pairs(data_folder: Path):
    training = built(data_folder, config=FEW)
    assert_sound(training, data_folder)
    assert dict(training.counts) == {"citation": 100, "cocitation": 50, "tldr": 50, "role": 40, "expert": 20}
    assert all(pair.negatives for pair in training.train if pair.kind == "qd")
