"""Recommending by hints: three modes, what an answer says of its reasoner and its reasons, and faithfulness."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from contracts.hint_models import small_hint_model, tiny_language
from numpy.typing import NDArray

from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.hint_answer_records import HintedItem, Reasoner
from facetrail.models.recommend.hint_choice import HintChoice, HintFeedback
from facetrail.models.recommend.hint_model import HintBlend, HintModel, log_odds, save_hint_model
from facetrail.models.recommend.hint_prompts import Slot, words_and_signs
from facetrail.models.recommend.hint_reasoner import open_hint_recommender
from facetrail.models.recommend.hint_recommender import HintRecommender
from facetrail.models.recommend.records import Event, ShownHint

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
    found = next(hint for hint in comedy.hints.shown if hint.value == "Comedy")
    assert (found.relation, found.polarity, found.provenance) == ("genre", "likes", "own")
    assert sorted(found.own_items, key=int) == list(LIKED)
    assert 0 < found.credibility <= 1
    assert 0 <= found.similar_users <= 3
    assert "likes — genre: Comedy" in comedy.hints.text.replace("; ", " ## likes — ")
    drama = next(item for item in answer.items if item.id == "13")
    disliked = next(hint for hint in drama.hints.shown if hint.value == "Drama")
    assert (disliked.polarity, len(disliked.own_items), disliked.own_liked) == ("dislikes", len(DISLIKED), 0)


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
    assert all(hint.own_items in ((), ("0",)) for item in bare.items for hint in item.hints.shown)


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
    assert reason.text.startswith("likes — genre: Comedy (4 items of the history, 4 of them liked, ")
    assert f"credibility {reason.weight:.2f})" in reason.text
    assert found.hints is not None
    shown = next(hint for hint in found.hints.shown if hint.value == "Comedy")
    assert (shown.credibility, len(shown.own_items)) == (reason.weight, 4)
    assert found.hints.n_tokens == words_and_signs(found.hints.text) > 0
    assert HintRecommender(model).recommend(HISTORY, k=1)[0].hints is None


def told(model: HintModel, *feedback: HintFeedback, history: Sequence[Event] = HISTORY) -> dict[str, HintedItem]:
    """What is answered to a user who says so, by id."""
    recommender = HintRecommender(model, mode="discovery").under(HintChoice(feedback=feedback))
    return {item.id: item for item in recommender.answer(history, k=40).items}


def shown_of(item: HintedItem) -> dict[str, ShownHint]:
    """By value."""
    return {hint.value: hint for hint in item.hints.shown}


def test_what_a_user_says_of_an_attribute_counts_at_once_and_is_taken_back_by_leaving_it_out(model: HintModel):
    before = told(model)
    comedies = [name for name, item in before.items() if "Comedy" in shown_of(item)]
    turned = told(model, HintFeedback("genre", "Comedy", "dislikes"))
    liked = told(model, HintFeedback("genre", "Drama", "likes"))
    assert comedies
    assert all(turned[name].score < before[name].score for name in comedies)
    assert {shown_of(turned[name])["Comedy"].polarity for name in comedies if "Comedy" in shown_of(turned[name])} == {
        "dislikes"
    }
    assert shown_of(before["13"])["Drama"].polarity == "dislikes"
    assert shown_of(liked["13"])["Drama"].polarity == "likes"
    assert liked["13"].score > before["13"].score
    assert told(model) == before
    last = (HintFeedback("genre", "Drama", "likes"), HintFeedback("genre", "Drama", "dislikes"))
    assert told(model, *last) == told(model, last[1])


def test_who_is_known_by_one_word_alone_gets_hints_by_it(model: HintModel):
    found = told(model, HintFeedback("genre", "Comedy", "likes"), history=[])
    hints = [hint for item in found.values() for hint in item.hints.shown if hint.value == "Comedy"]
    assert hints
    assert {(hint.polarity, hint.provenance, hint.own_items) for hint in hints} == {("likes", "own", ())}


def test_a_muted_attribute_is_gone_and_a_denied_one_does_not_come_back_by_being_liked(model: HintModel):
    muted = told(model, HintFeedback("genre", "Comedy", "mute"))
    assert not any("Comedy" in shown_of(item) for item in muted.values())
    assert any("Drama" in shown_of(item) for item in muted.values())
    denied = HintChoice(deny=("genre",), feedback=(HintFeedback("genre", "Comedy", "likes"),))
    answer = HintRecommender(model, mode="discovery").under(denied).answer(HISTORY, k=40)
    assert not any(hint.relation == "genre" for item in answer.items for hint in item.hints.shown)
    with pytest.raises(InvalidInput, match="no attribute 'genre: Opera'") as refused:
        told(model, HintFeedback("genre", "Comedy", "mute"), HintFeedback("genre", "Opera", "likes"))
    assert refused.value.pointer == "/hints/feedback/1"
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
