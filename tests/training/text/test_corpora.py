import json
from pathlib import Path

import pytest

from facetrail.models.errors import InvalidInput
from facetrail.models.text.facets import FACETS
from facetrail.training.text import corpora
from facetrail.training.text.dev_sets import N_CLAIMS, N_DISTRACTORS, N_OTHER_ABSTRACTS, load_dev


def test_a_role_keeps_the_annotators_confidence_and_spreads_the_rest():
    assert corpora.role_target("method", 0.7) == pytest.approx((0.1, 0.1, 0.7, 0.1))
    assert corpora.role_target("other", 0.7) is None


def test_every_sentence_has_a_role_and_a_target(tiny_data: Path):
    abstracts = corpora.load_roles(tiny_data, "train")
    assert len({abstract.id for abstract in abstracts}) == len(abstracts) == 40
    for abstract in abstracts:
        assert abstract.text == " ".join(abstract.sentences)
        for label, target in zip(abstract.labels, abstract.targets, strict=True):
            assert (target is None) == (label not in FACETS)
            assert target is None or sum(target) == pytest.approx(1)


def test_an_abstract_without_a_role_for_every_sentence_is_refused(tmp_path: Path):
    import gzip

    path = tmp_path / "csabstruct/train.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(
        gzip.compress(json.dumps({"sentences": ["A.", "B."], "labels": ["method"], "confs": [1]}).encode())
    )
    with pytest.raises(InvalidInput, match="abstract 1 of CSAbstruct's train"):
        corpora.load_roles(tmp_path, "train")


def test_links_are_read_once_whatever_their_direction(tmp_path: Path):
    (tmp_path / "cacm").mkdir()
    links = tmp_path / "cacm/links.tsv"
    links.write_text("from\tkind\tto\n9\tcitation\t1\n1\tcitation\t9\n4\tcoupling\t5\n3\tcitation\t3\n")
    assert corpora.links(tmp_path, "citation") == [("cacm:1", "cacm:9")]
    assert corpora.links(tmp_path, "coupling") == [("cacm:4", "cacm:5")]
    links.write_text("from\tkind\tto\n9\tcitation\n")
    with pytest.raises(InvalidInput, match=r"links\.tsv:2: not a link"):
        corpora.links(tmp_path, "citation")


def test_titles_are_equal_up_to_case_punctuation_and_width():
    assert corpora.normalised_title("On  Ｒanking: a STUDY!") == corpora.normalised_title("on ranking, a study")
    assert corpora.normalised_title("?!") == ""


def test_what_is_drawn_by_hash_does_not_depend_on_the_order_of_the_ids():
    names = [f"n{i}" for i in range(50)]
    assert corpora.drawn(names, 7, "salt") == corpora.drawn(reversed(names), 7, "salt")
    assert corpora.drawn(names, 7, "salt") != corpora.drawn(names, 7, "other salt")


def test_development_sets_are_small_whole_and_the_same_every_time(data_folder: Path):
    sets = {dev.name: dev for dev in load_dev(data_folder)}
    assert {name: dev.kind for name, dev in sets.items()} == {
        "scitldr-dev200": "qd", "cacm-dev": "dd", "scifact-train": "qd"
    }  # fmt: skip
    for dev in sets.values():
        assert [query.id for query in dev.queries] == list(dev.qrels)
        assert all(name in dev.documents for names in dev.qrels.values() for name in names)
    assert len(sets["scitldr-dev200"].documents) == corpora.N_SCITLDR_DEV + N_DISTRACTORS
    assert len(sets["scifact-train"].queries) == N_CLAIMS
    assert len(sets["scifact-train"].documents) >= N_OTHER_ABSTRACTS + 100
    assert all(corpora.cacm_split(query.id) == "dev" for query in sets["cacm-dev"].queries)
    assert all(corpora.cacm_split(name) != "test" for name in sets["cacm-dev"].documents)


def test_no_test_claim_finds_its_document_in_the_development_pool(tiny_data: Path):
    claims = next(dev for dev in load_dev(tiny_data) if dev.name == "scifact-train")
    assert set(claims.documents) == {f"scifact:{i}" for i in range(10)}
