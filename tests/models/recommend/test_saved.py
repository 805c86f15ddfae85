"""Saved recommenders: the same answers after reopening, and refusals of what is none or is damaged."""

from pathlib import Path

import numpy as np
import pytest
from contracts.toy_interactions import drawn, posted

from facetrail.models.checkpoint import TENSORS_FILE, read_manifest, save_model
from facetrail.models.errors import Conflict, Damaged, InvalidInput, NotFound
from facetrail.models.recommend.ease import Ease, EaseConfig
from facetrail.models.recommend.factorisation import FactorConfig, ImplicitFactors
from facetrail.models.recommend.interactions import Interactions, Scorer, Vocabulary
from facetrail.models.recommend.knn import ItemKnn, ItemVectors
from facetrail.models.recommend.lightgcn import LightGcn, LightGcnConfig
from facetrail.models.recommend.markov import Markov
from facetrail.models.recommend.popularity import Popularity, RecentPopularity
from facetrail.models.recommend.saved import (
    RecommenderConfig,
    open_recommender,
    restored_vocabulary,
    save_recommender,
    vocabulary_sha256,
    vocabulary_tensors,
)
from facetrail.models.recommend.scored import ScoredRecommender

TOY = drawn(100, 20)
EVENTS = Interactions(
    TOY.users, Vocabulary(tuple(f"item {i} é" for i in range(20))), TOY.starts, TOY.items, TOY.times, TOY.values
)


def every_kind() -> list[Scorer]:
    rng = np.random.default_rng(0)
    layers = rng.standard_normal((3, 20, 4)).astype(np.float32)
    return [
        Ease.fit(EVENTS, EaseConfig(ridge=10)),
        Markov.fit(EVENTS),
        ItemKnn.fit(EVENTS),
        ItemVectors.of(rng.standard_normal((20, 5)).astype(np.float32)),
        ImplicitFactors.fit(EVENTS, FactorConfig(dim=3, sweeps=2), rng=rng),
        LightGcn(layers, np.ones(20, np.float32), LightGcnConfig(dim=4, layers=2)),
        RecentPopularity.fit(EVENTS),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recommender = ScoredRecommender(EVENTS.vocabulary, every_kind(), popular=Popularity.fit(EVENTS))
    save_recommender(tmp_path / "model", recommender, trained_on={"toy": "a" * 64}, figures={"R@10": 0.5})
    return tmp_path / "model"


def test_a_reopened_recommender_gives_the_same_answers_with_the_original_ids(folder: Path) -> None:
    before = ScoredRecommender(EVENTS.vocabulary, every_kind(), popular=Popularity.fit(EVENTS))
    after = open_recommender(folder)
    assert after.name == before.name
    for history in ([], posted(["item 3 é", "item 7 é", "item 1 é"]), posted(["unknown"])):
        assert after.recommend(history, k=20, explain=True) == before.recommend(history, k=20, explain=True)
    assert read_manifest(folder).trained_on == {"toy": "a" * 64}
    assert not [file for file in folder.iterdir() if file.suffix not in {".json", ".safetensors", ".md"}]


def test_a_reopened_recommender_takes_users_in_as_before(tmp_path: Path) -> None:
    scorers = every_kind()[:2]
    before = ScoredRecommender(EVENTS.vocabulary, scorers, popular=Popularity.fit(EVENTS))
    save_recommender(tmp_path / "model", before)
    more, history = [posted(["item 3 é", "item 8 é", "brand new"])], posted(["item 3 é"])
    grown = open_recommender(tmp_path / "model").fit_partial(more)
    assert grown.recommend(history, k=21) == before.fit_partial(more).recommend(history, k=21)
    save_recommender(tmp_path / "grown", grown)
    assert open_recommender(tmp_path / "grown").recommend(history, k=21) == grown.recommend(history, k=21)


def test_neighbours_of_new_items_are_given_when_opening(folder: Path) -> None:
    opened = open_recommender(folder, cold={"new": ["item 1 é"]})
    assert opened.recommend(posted(["item 3 é"]), k=1, candidates=["new"])[0].flags == ("cold",)


def test_vocabularies_survive_and_their_hashes_tell_them_apart() -> None:
    for names in ((), ("",), ("a", "é", "日本", "a b")):
        tensors = vocabulary_tensors(Vocabulary(names))
        assert restored_vocabulary(tensors["ids"], tensors["id_ends"]).ids == names
    assert vocabulary_sha256(Vocabulary(("ab", "c"))) != vocabulary_sha256(Vocabulary(("a", "bc")))


def test_damage_is_named(folder: Path) -> None:
    file = folder / TENSORS_FILE
    intact = file.read_bytes()
    file.write_bytes(intact[:-1] + bytes([intact[-1] ^ 1]))
    with pytest.raises(Damaged, match=r"model\.safetensors is not byte for byte"):
        open_recommender(folder)
    file.write_bytes(intact[:-1])
    with pytest.raises(Damaged, match="bytes"):
        open_recommender(folder)
    file.write_bytes(intact)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"n_items": 20', '"n_items": 21'))
    with pytest.raises(Damaged, match=r"manifest\.json is not as it was written"):
        open_recommender(folder)


def test_other_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no model"):
        open_recommender(tmp_path)
    config = RecommenderConfig.model_validate(read_manifest(folder).config)
    save_model(tmp_path / "other", kind="unifar", config=config, tensors={})
    with pytest.raises(InvalidInput, match="kind 'unifar', not 'recommender'"):
        open_recommender(tmp_path / "other")
    newer = config.model_copy(update={"scorers": [config.scorers[0].model_copy(update={"kind": "oracle"})] * 2})
    save_model(tmp_path / "newer", kind="recommender", config=newer, tensors=vocabulary_tensors(EVENTS.vocabulary))
    with pytest.raises(InvalidInput, match="'oracle', which this facetrail lacks"):
        open_recommender(tmp_path / "newer")
    exchanged = vocabulary_tensors(Vocabulary(tuple(reversed(EVENTS.vocabulary.ids))))
    save_model(tmp_path / "exchanged", kind="recommender", config=config, tensors=exchanged)
    with pytest.raises(Damaged, match="ids"):
        open_recommender(tmp_path / "exchanged")


def test_nothing_is_overwritten_and_what_cannot_be_stored_is_not_half_written(folder: Path, tmp_path: Path) -> None:
    opened = open_recommender(folder)
    with pytest.raises(Conflict, match="exists already"):
        save_recommender(folder, opened)

    class Foreign(Popularity):
        kind = "foreign"

    foreign = ScoredRecommender(EVENTS.vocabulary, [Foreign(np.ones(20, np.int64))], popular=opened.popular)
    with pytest.raises(InvalidInput, match="cannot be saved"):
        save_recommender(tmp_path / "foreign", foreign)
    assert not (tmp_path / "foreign").exists()
