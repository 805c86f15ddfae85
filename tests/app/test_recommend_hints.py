"""Strategy `hints`: a model attached to a collection re-ranks the default strategy, with its hints as reasons."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from contracts.hint_models import small_hint_model

from facetrail.app.cli import main
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommend_request import RecommendRequest
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.indexing.recommending import Recommending
from facetrail.indexing.recommending_hints import attach_hints
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.recommend.hint_model import HintModel, save_hint_model
from facetrail.models.recommend.hint_recommender import HintRecommender
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.records import Event

THEN = 1_700_000_000_000
IDS = [f"d{i:03d}" for i in range(60)]
# Document i is a comedy for i = 0, 4, 8, ..., a drama for 1, 5, ...; the model knows the first forty.
COMEDIES, DRAMAS = [IDS[0], IDS[4]], [IDS[1], IDS[5]]
RULES = Actions(positive=("view", "rating>=4"), ignored=("glance",))


@pytest.fixture(scope="module")
def model() -> HintModel:
    return replace(small_hint_model(), items=Vocabulary(tuple(IDS[:40])))


@pytest.fixture(scope="module")
def fitted_run(model: HintModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `train hints` leaves it."""
    run = tmp_path_factory.mktemp("hints") / "run"
    save_hint_model(run / "model", model)
    (run / "recipe.toml").write_text("lr = 1\n")
    return run


@pytest.fixture
def service(start: Any) -> Any:
    """Thirty users viewed twelve of twenty documents each; closed forms are fitted, no hints attached."""
    running = start(("lexical",))
    collection = running.platform.collection(None).searcher.collection
    walks = [Event(f"u{u}", IDS[(u + step) % 20], "view", THEN + 1_000 * step) for u in range(30) for step in range(12)]
    tastes = [Event("new", item, "rating", THEN + n, 5.0) for n, item in enumerate(COMEDIES)]
    tastes += [Event("new", item, "rating", THEN + 10 + n, 2.0) for n, item in enumerate(DRAMAS)]
    Events(collection).put([*walks, *tastes, Event("new", IDS[3], "glance", THEN)])
    fit_closed_forms(collection, actions=RULES)
    return running


@pytest.fixture
def hinted(service: Any, fitted_run: Path) -> Any:
    attached = attach_hints(service.platform.collection(None).searcher.collection, fitted_run)
    assert (attached.folder.name, attached.n_documents) == ("000001", 40)
    return service


def ask(service: Any, **body: Any) -> httpx.Response:
    answer: httpx.Response = service.client.post("/v1/recommend", json={"user": "new", "strategy": "hints", **body})
    return answer


def ids(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_without_a_model_the_answer_says_how_to_attach_one(service: Any) -> None:
    refused = ask(service)
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/strategy")
    assert "index fit" in refused.json()["detail"]
    assert "--hints RUN" in refused.json()["detail"]


def test_the_default_strategys_best_are_ranked_by_hints_that_are_the_reasons(hinted: Any, model: HintModel) -> None:
    answer = ask(hinted, limit=500, explain=True)
    found = ids(answer)
    assert set(found) == set(ids(ask(hinted, strategy="blend", limit=500)))
    assert answer.json()["model"] == "hints/000001 over blend/000001"
    told = [Event("new", item, "rating", n, 5.0) for n, item in enumerate(COMEDIES)]
    told += [Event("new", item, "rating", 10 + n, 1.0) for n, item in enumerate(DRAMAS)]
    wanted = HintRecommender(model, mode="discovery").recommend(told, k=500, candidates=found, explain=True)
    assert found == [item.id for item in wanted]
    for item, expected in zip(answer.json()["items"], wanted, strict=True):
        assert item["score"] == expected.score
        assert [source["name"] for source in item["sources"]] == ["hint discovery", "ease", "markov"]
        assert [reason["text"] for reason in item["reasons"]] == [reason.text for reason in expected.reasons]
    texts = {item["id"]: " ".join(reason["text"] for reason in item["reasons"]) for item in answer.json()["items"]}
    assert "likes — genre: Comedy (2 items of the history" in texts[IDS[8]]
    assert "dislikes — genre: Drama (2 items of the history" in texts[IDS[9]]
    assert "credibility" in texts[IDS[8]]
    assert all(item["reasons"] == [] for item in ask(hinted, limit=3).json()["items"])


def test_the_collections_rules_say_what_is_a_like_and_what_means_nothing(hinted: Any) -> None:
    def shown(*history: Any) -> str:
        answer = ask(hinted, user=None, history=list(history), limit=500, explain=True, allow=[IDS[8], IDS[9]])
        return " ".join(reason["text"] for item in answer.json()["items"] for reason in item["reasons"])

    def sent(places: tuple[int, ...], action: str, value: float) -> list[Any]:
        return [{"item": IDS[n], "action": action, "value": value} for n in places]

    comedies, dramas = (0, 4, 12, 16), (1, 5, 13)
    disliked = sent(dramas, "rating", 3.5)  # above what the model takes for a like, below the collection's rule
    for liked in (sent(comedies, "rating", 4.0), sent(comedies, "view", 1.0), [IDS[n] for n in comedies]):
        found = shown(*liked, *disliked)
        assert "likes — genre: Comedy (4 items" in found
        assert "dislikes — genre: Drama (3 items" in found
    assert "(4 items" not in shown(*sent(comedies, "glance", 4.0), *disliked)
    assert ask(hinted, user=None, history=[]).json()["fallback"]


def test_filters_lists_and_pages_hold_as_with_every_strategy(hinted: Any) -> None:
    whole = ids(ask(hinted, limit=500))
    assert len(whole) == 15  # of the twenty with events, all but the five seen
    tree = {"must": [{"key": "topic", "match": {"value": "graph"}}]}
    assert ids(ask(hinted, limit=500, filter=tree)) == [i for i in whole if IDS.index(i) % 5 == 0]
    assert ids(ask(hinted, limit=500, exclude=whole[:2])) == whole[2:]
    pages, cursor = [], None
    while not pages or cursor:
        answer = ask(hinted, limit=4, **({"cursor": cursor} if cursor else {}))
        pages.append(ids(answer))
        cursor = answer.json()["next_cursor"]
    assert [i for page in pages for i in page] == whole


def reasons_of(response: httpx.Response) -> dict[str, list[str]]:
    assert response.status_code == 200, response.text
    return {item["id"]: [reason["text"] for reason in item["reasons"]] for item in response.json()["items"]}


def test_a_request_chooses_which_hints_are_shown_without_another_order(hinted: Any) -> None:
    whole = ask(hinted, limit=500, explain=True)
    for options in ({"max": 0}, {"max": 1, "sides": "item"}, {"polarity": "likes"}, {"sides": "user"}):
        some = ask(hinted, limit=500, explain=True, hints=options)
        assert ids(some) == ids(whole)
    assert not any(reasons_of(ask(hinted, explain=True, hints={"max": 0})).values())
    found = reasons_of(whole)
    liked = reasons_of(ask(hinted, limit=500, explain=True, hints={"polarity": "likes"}))
    assert liked == {name: [text for text in texts if "dislike" not in text] for name, texts in found.items()}
    assert liked != found
    assert (
        max(map(len, reasons_of(ask(hinted, limit=500, explain=True, hints={"max": 1, "sides": "item"})).values())) == 1
    )
    assert ask(hinted, hints={"max": -1}).status_code == 422


def test_a_denied_relation_is_neither_counted_nor_shown(hinted: Any, model: HintModel) -> None:
    relations = sorted({name for name in model.attributes.relation_names if name})
    assert "genre" in relations
    assert any(
        "genre:" in text for texts in reasons_of(ask(hinted, limit=500, explain=True)).values() for text in texts
    )
    denied = ask(hinted, limit=500, explain=True, hints={"relations_deny": ["genre"]})
    assert not any("genre:" in text for texts in reasons_of(denied).values() for text in texts)
    allowed = ask(hinted, limit=500, explain=True, hints={"relations_allow": [r for r in relations if r != "genre"]})
    assert denied.json()["items"] == allowed.json()["items"]
    scores = [
        {item["id"]: item["score"] for item in answer.json()["items"]} for answer in (ask(hinted, limit=500), denied)
    ]
    assert scores[0] != scores[1]
    assert ids(ask(hinted, limit=500)) == sorted(scores[0], key=lambda name: (-scores[0][name], name))  # nothing stays
    refused = ask(hinted, hints={"relations_deny": ["star sign"]})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/hints/relations_deny")
    assert f"knows no relation 'star sign'; it knows {', '.join(relations)}" in refused.json()["detail"]


def test_hints_are_fields_of_the_answer(hinted: Any) -> None:
    (found,) = ask(hinted, limit=1, explain=True, allow=[IDS[8]]).json()["items"]
    assert set(found["hints"]) == {"shown", "null_weight", "text", "n_tokens", "flags"}
    comedy = next(hint for hint in found["hints"]["shown"] if hint["value"] == "Comedy")
    assert (comedy["relation"], comedy["polarity"], comedy["provenance"]) == ("genre", "likes", "own")
    assert sorted(comedy["own_items"]) == sorted(COMEDIES)
    assert comedy["own_liked"] == len(COMEDIES)
    assert isinstance(comedy["similar_users"], int)  # a count, not who they are
    assert [reason["weight"] for reason in found["reasons"]] == [h["credibility"] for h in found["hints"]["shown"]]
    assert "genre: Comedy" in found["hints"]["text"]
    assert ask(hinted, limit=1).json()["items"][0]["hints"] is None
    assert ask(hinted, limit=1, strategy="blend", explain=True).json()["items"][0]["hints"] is None


def test_a_user_corrects_and_mutes_hints_for_one_request(hinted: Any) -> None:
    def scores(*feedback: dict[str, str]) -> dict[str, float]:
        answer = ask(hinted, limit=500, hints={"feedback": list(feedback)})
        assert answer.status_code == 200, answer.text
        return {item["id"]: item["score"] for item in answer.json()["items"]}

    comedy = {"relation": "genre", "value": "Comedy"}
    before, turned = scores(), scores({**comedy, "verdict": "dislikes"})
    assert turned[IDS[8]] < before[IDS[8]]
    assert scores() == before
    muted = ask(hinted, limit=500, explain=True, hints={"feedback": [{**comedy, "verdict": "mute"}]})
    assert not any("Comedy" in text for texts in reasons_of(muted).values() for text in texts)
    refused = ask(hinted, hints={"feedback": [{"relation": "genre", "value": "Opera", "verdict": "likes"}]})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/hints/feedback/0")
    assert ask(hinted, hints={"feedback": [{**comedy, "verdict": "adores"}]}).status_code == 422


def test_modes_without_a_language_model_and_a_newer_model(hinted: Any, fitted_run: Path, model: HintModel) -> None:
    refused = ask(hinted, hints={"mode": "lm"})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/hints/mode")
    assert "train hint-language" in refused.json()["detail"]
    plain, blended = ask(hinted, limit=500).json()["items"], ask(hinted, limit=500, hints={"mode": "blend"})
    assert {item["id"]: item["score"] for item in plain} != {
        item["id"]: item["score"] for item in blended.json()["items"]
    }
    assert ask(hinted, hints={"mode": "magic"}).status_code == 422
    cursor = ask(hinted, limit=3).json()["next_cursor"]
    searcher = hinted.platform.collection(None).searcher
    attach_hints(searcher.collection, fitted_run / "model")
    assert ask(hinted).json()["model"] == "hints/000002 over blend/000001"
    assert ask(hinted, limit=3, cursor=cursor).status_code == 410


def test_what_is_no_model_of_this_collection_is_refused(
    service: Any, fitted_run: Path, tmp_path: Path, model: HintModel
) -> None:
    collection = service.platform.collection(None).searcher.collection
    with pytest.raises(NotFound, match="holds no model"):
        attach_hints(collection, tmp_path)
    save_hint_model(tmp_path / "other", replace(model, items=Vocabulary(tuple(f"film {i}" for i in range(40)))))
    with pytest.raises(InvalidInput, match="none of the 40 items"):
        attach_hints(collection, tmp_path / "other")
    with pytest.raises(InvalidInput, match="no model of hints is attached"):
        Recommending(service.platform.collection(None).searcher).recommend(
            RecommendRequest(user="new", strategy="hints")
        )


def test_the_command_line_attaches_and_asks(service: Any, fitted_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = service.platform.collection(None).searcher.collection.folder

    def run(*argv: object) -> Any:
        with suppress(SystemExit):
            main([str(word) for word in argv])
        return json.loads(capsys.readouterr().out)

    with pytest.raises(SystemExit) as end:
        main(["recommend", str(folder), "--user", "new", "--strategy", "hints"])
    assert end.value.code == 2
    assert "index fit" in capsys.readouterr().err
    rules = ("--positive", "view", "--positive", "rating>=4", "--ignore", "glance")
    fitted = run("index", "fit", folder, *rules, "--hints", fitted_run, "--json")
    assert fitted["hinted_documents"] == 40
    asked = ("recommend", folder, "--user", "new", "--strategy", "hints", "--explain", "--json")
    found = run(*asked)
    assert found["model"] == "hints/000001 over blend/000002"
    assert any("likes — genre" in reason["text"] for item in found["items"] for reason in item["reasons"])
    assert [item["id"] for item in found["items"]] == ids(ask(service))
    assert run(*asked, "--hints-mode", "blend")["items"] != found["items"]
    bare = run(*asked, "--hints-deny", "genre", "--hints-polarity", "likes", "--hints-max", "1")["items"]
    assert not any("genre:" in reason["text"] for item in bare for reason in item["reasons"])
    muted = run(*asked, "--hints-feedback", "mute genre: Comedy", "--hints-feedback", "likes genre: Drama")["items"]
    said = {(hint["value"], hint["polarity"]) for item in muted for hint in item["hints"]["shown"]}
    assert ("Drama", "likes") in said
    assert not {("Comedy", "likes"), ("Drama", "dislikes")} & said
    for wrong in ("mute Comedy", "adores genre: Comedy", "mute genre:"):
        with pytest.raises(SystemExit) as end:
            main(["recommend", str(folder), "--user", "new", "--strategy", "hints", "--hints-feedback", wrong])
        assert (end.value.code, "RELATION: VALUE" in capsys.readouterr().err) == (2, True)
