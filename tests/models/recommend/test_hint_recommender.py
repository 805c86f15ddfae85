"""Recommending by hints: three modes, what an answer says of its reasoner and its reasons, and faithfulness."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from contracts.hint_models import small_hint_model, tiny_language
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.hint_answer_records import Reasoner
from facetrail.models.recommend.hint_model import HintBlend, HintModel, log_odds, save_hint_model
from facetrail.models.recommend.hint_prompts import Slot
from facetrail.models.recommend.hint_reasoner import open_hint_recommender
from facetrail.models.recommend.hint_recommender import HintRecommender
from facetrail.models.recommend.records import Event

# Films 0, 4, 8, ... are comedies, 1, 5, ... dramas: somebody new who likes comedies and no drama.
LIKED, DISLIKED = ("0", "4", "8", "12"), ("1", "5", "9")
HISTORY = [Event("new", item, "rate", time, 5.0) for time, item in enumerate(LIKED)]
HISTORY += [Event("new", item, "rate", 10 + time, 1.0) for time, item in enumerate(DISLIKED)]


class Words:
    """Likes films whose number is high, whatever else the prompt says."""

    kind, name = "endpoint", "words"

    def __init__(self) -> None:
        self.asked = list[str]()

    def score(self, prompt: str, continuations: Sequence[str]) -> NDArray[np.float64]:
        self.asked.append(prompt)
        number = float(prompt.rsplit('"Film ', 1)[1].split()[0])
        return np.array([number, 0.0])


@pytest.fixture(scope="module")
def model() -> HintModel:
    return small_hint_model()


def reader(model: HintModel, **options: object) -> HintRecommender:
    return HintRecommender(model, language_model=Words(), **options)  # type: ignore[arg-type]


def test_discovery_ranks_every_item_and_names_its_hints(model: HintModel):
    answer = HintRecommender(model, mode="discovery").answer(HISTORY, k=40, exclude=["3"])
    assert len(answer.items) == 39
    assert [item.rank for item in answer.items] == list(range(1, 40))
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    assert answer.reasoner == Reasoner("none", "hint discovery", False)
    comedy = next(item for item in answer.items if item.id == "16")
    found = next(hint for hint in comedy.hints if hint.value == "Comedy")
    assert (found.relation, found.polarity, found.provenance) == ("genre", "likes", "own")
    assert sorted(found.own_items, key=int) == list(LIKED)
    assert 0 < found.credibility <= 1
    assert 0 <= found.similar_users <= 3
    assert "likes — genre: Comedy" in comedy.text.replace("; ", " ## likes — ")
    drama = next(item for item in answer.items if item.id == "13")
    assert any(hint.value == "Drama" and hint.polarity == "dislikes" for hint in drama.hints)


def test_candidates_and_unknown_ids_are_respected(model: HintModel):
    recommender = HintRecommender(model, mode="discovery")
    history = [*HISTORY, Event("new", "no such film", "rate", 99, 5.0)]
    found = recommender.recommend(history, k=5, candidates=["7", "2", "nowhere"], exclude=["2"])
    assert [one.id for one in found] == ["7"]
    assert recommender.recommend(history, k=5, candidates=[]) == []
    (cold,) = recommender.recommend([], k=1)
    assert cold.flags == ("fallback",)


def test_a_known_user_is_known_by_the_given_history_alone(model: HintModel):
    recommender = HintRecommender(model, mode="discovery")
    bare = recommender.answer([Event("u3", "0", "rate", 1, 5.0)], k=3)
    assert all(hint.own_items in ((), ("0",)) for item in bare.items for hint in item.hints)


def test_the_language_model_reads_the_best_items_and_decides(model: HintModel):
    language = Words()
    recommender = HintRecommender(model, mode="lm", language_model=language, n_reranked=6)  # type: ignore[arg-type]
    best = {item.id for item in HintRecommender(model, mode="discovery").answer(HISTORY, k=6).items}
    answer = recommender.answer(HISTORY, k=3)
    assert [item.id for item in answer.items] == sorted(best, key=int, reverse=True)[:3]
    assert [item.score for item in answer.items] == [float(item.id) for item in answer.items]
    assert len(language.asked) == 6
    assert all("The user liked these films" in prompt for prompt in language.asked)


def test_a_blend_sums_the_weighted_log_odds(model: HintModel):
    blend = HintBlend(bias=2.0, reasoner=0.1, intercept=-1.0)
    found = reader(model, blend=blend, n_reranked=40).answer(HISTORY, k=40)
    only_bias = reader(model, blend=HintBlend(1.0, 0.0, 0.0), n_reranked=40).answer(HISTORY, k=40)
    bias = {item.id: item.score for item in only_bias.items}
    for item in found.items:
        assert item.score == pytest.approx(2 * bias[item.id] + 0.1 * float(item.id) - 1)
    # The bias logistic of a film nobody rated in the history: from its mean in training and the user's own.
    n = 4 + 3
    events = model.events
    prior = events.labels.mean()
    own = (4 + 5 * prior) / (n + 5)
    rated = events.items == 20
    mean = (events.labels[rated].sum() + 5 * prior) / (rated.sum() + 5)
    logit = model.logistic.item * mean + model.logistic.user * own + model.logistic.intercept
    assert bias["20"] == pytest.approx(logit)
    assert log_odds(np.array([1 / (1 + np.exp(-logit))]))[0] == pytest.approx(logit)


@pytest.mark.parametrize("slot", ["pidlr", "none"])
def test_every_answer_says_whether_its_reasoner_was_pretrained(model: HintModel, slot: Slot):
    spy = Words()
    HintRecommender(model, mode="lm", language_model=spy, slot=slot).answer(HISTORY, k=2)  # type: ignore[arg-type]
    assert any("Hints about the film" in prompt for prompt in spy.asked) is (slot == "pidlr")
    policy = tiny_language([*spy.asked, *(" ".join(prompt.split()) for prompt in spy.asked)])
    tiny = HintRecommender(model, mode="lm", language_model=policy, slot="none", n_reranked=2)
    if slot == "none":
        assert tiny.answer(HISTORY, k=2).reasoner == Reasoner("tiny", "tiny", False)
        assert tiny.recommend(HISTORY, k=1)[0].sources[0].name == "tiny (tiny, not pretrained)"
    assert reader(model, mode="lm").recommend(HISTORY, k=1)[0].sources[0].name == "words (endpoint, pretrained)"


def test_reasons_are_the_hints_with_support(model: HintModel):
    (found,) = HintRecommender(model).recommend(HISTORY, k=1, candidates=["16"], explain=True)
    reason = next(one for one in found.reasons if one.evidence == ("genre: Comedy",))
    assert reason.type == "attribute"
    assert reason.text.startswith("likes — genre: Comedy (4 items of the history, ")
    assert f"credibility {reason.weight:.2f})" in reason.text
    assert HintRecommender(model).recommend(HISTORY, k=1, candidates=["16"])[0].reasons == ()


def test_modes_that_lack_a_part_are_refused(model: HintModel):
    with pytest.raises(InvalidInput, match="needs a language model"):
        HintRecommender(model, mode="lm")
    with pytest.raises(InvalidInput, match="weights fitted on validation"):
        reader(model, mode="blend")


def test_a_recommender_opens_from_its_folder(model: HintModel, tmp_path: Path):
    save_hint_model(tmp_path / "model", model)
    found = open_hint_recommender(tmp_path / "model").answer(HISTORY, k=5)
    assert found == HintRecommender(model).answer(HISTORY, k=5)
    with pytest.raises(NotFound, match="holds no reasoner"):
        open_hint_recommender(tmp_path / "model", reasoner=tmp_path)
