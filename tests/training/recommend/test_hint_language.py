"""`facetrail train hint-language`: a small language model is tuned beside a frozen discovery; both open to serve."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from contracts.tiny_llama import save_tiny_llama

from facetrail.eval.recommend_knowledge import load_pairs
from facetrail.indexing.build import BuildConfig, build_collection
from facetrail.indexing.event_actions import Actions
from facetrail.indexing.events import Events
from facetrail.indexing.recommend_request import HintOptions, RecommendRequest
from facetrail.indexing.recommenders import fit_closed_forms
from facetrail.indexing.recommending import Recommending
from facetrail.indexing.recommending_hints import attach_hints
from facetrail.indexing.searcher import Searcher
from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.recommend.hint_model import open_hint_model, save_hint_model
from facetrail.models.recommend.hint_reasoner import open_hint_recommender, read_reasoner
from facetrail.models.recommend.hints import HintConfig, HintNetwork
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.records import Event
from facetrail.training.recommend.hint_batches import Rows
from facetrail.training.recommend.hint_language import train
from facetrail.training.recommend.hint_material import miniature
from facetrail.training.recommend.hints import served


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature in the form of `ml-1m-pairs`."""
    material, folder = miniature(), tmp_path_factory.mktemp("data")
    (folder / "ml-1m-pairs").mkdir()
    rows = material.rows
    for name, part in (("train", rows.train), ("valid", rows.validation), ("test", rows.test)):
        frame = pd.DataFrame({"uid": part.users, "iid": part.items, "label": part.labels.astype(int)})
        frame["timestamp"], frame["title"] = part.times, [material.titles[item] for item in part.items]
        frame.to_csv(folder / "ml-1m-pairs" / f"{name}.csv.gz", index=False)
    return folder


@pytest.fixture(scope="module")
def discovery(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained discovery, as `train hints` writes it."""
    pairs, attributes = load_pairs(data / "ml-1m-pairs"), miniature().attributes
    rows = Rows(pairs.train, pairs.validation, pairs.test, len(pairs.users), len(pairs.items))
    network = HintNetwork(
        HintConfig(dim=8, n_similar=3), attributes, rows.n_users, rows.n_items, generator=torch.Generator()
    )
    folder = tmp_path_factory.mktemp("discovery") / "model"
    save_hint_model(folder, served(pairs, rows, attributes, network))
    return folder


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights that reads long prompts and has a token each for Yes and No."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = save_tiny_llama(tmp_path_factory.mktemp("language") / "model", chat=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Yes", "No"])
    config = LlamaConfig.from_pretrained(folder)
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 1_024
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def overrides(discovery: Path, language: Path) -> list[str]:
    return [
        f"discovery={discovery}", f"language_model={language}", "n_validation=16", "tuning.n_shots=8",
        "tuning.batch=4", "tuning.fit.steps=3", "tuning.fit.checkpoint_every=1", "adapter.rank=2", "prompt.n_liked=3",
        "tuning.lr=0.01",
    ]  # fmt: skip


def test_a_tuned_language_model_opens_beside_its_discovery(data: Path, discovery: Path, language: Path, tmp_path: Path):
    out = tmp_path / "run"
    before = {name: tensor.clone() for name, tensor in open_hint_model(discovery).network.state_dict().items()}
    found = train(data, out, overrides=overrides(discovery, language), device="cpu")
    assert found["shots"] == 8
    assert found["language_model"]["kind"] == "local"
    assert all(torch.equal(before[n], t) for n, t in open_hint_model(discovery).network.state_dict().items())
    config = read_reasoner(out / "reasoner")
    assert (config.slot, config.prompt.n_liked) == ("pidlr", 3)
    assert config.blend == found["blend"]
    history = [Event("new", item, "rate", 1, 5.0) for item in ("0", "4")]
    scores = {}
    for mode in ("lm", "blend"):
        recommender = open_hint_recommender(discovery, reasoner=out / "reasoner", mode=mode)  # type: ignore[arg-type]
        answer = recommender.answer(history, k=2, candidates=["8", "9"])
        assert (answer.reasoner.kind, answer.reasoner.pretrained) == ("local", True)
        scores[mode] = {item.id: item.score for item in answer.items}
    assert scores["lm"] != scores["blend"]
    _serves(out, tmp_path)
    with pytest.raises(Conflict):
        train(data, out, overrides=overrides(discovery, language), device="cpu")


def _serves(run: Path, folder: Path) -> None:
    """The run folder is all that a collection of the same films needs."""
    films = [f'{{"_id": "{item}", "text": "film"}}' for item in range(40)]
    (folder / "corpus.jsonl").write_text("\n".join(films))
    build_collection(folder / "corpus.jsonl", folder / "films", config=BuildConfig(modes=("lexical",)))
    with Searcher.open(folder / "films", writable=True) as searcher:
        seen = [Event(f"u{user}", str((user + step) % 40), "rate", step) for user in range(40) for step in range(30)]
        Events(searcher.collection).put(seen)
        fit_closed_forms(searcher.collection, actions=Actions())
        attach_hints(searcher.collection, run)
        asked = RecommendRequest(history=["0", "4"], strategy="hints", hints=HintOptions(mode="lm"), limit=500)
        found = Recommending(searcher).recommend(asked).items
        assert len(found) == 20  # what the language model has read
        assert all(item.sources[0].name.endswith("(local, pretrained)") for item in found)
        plain = Recommending(searcher).recommend(asked.model_copy(update={"hints": HintOptions()})).items
        assert len(plain) == 38
        assert {item.id for item in found} == {item.id for item in plain[:20]}


def test_a_discovery_of_other_items_is_refused(data: Path, discovery: Path, language: Path, tmp_path: Path):
    other = tmp_path / "other"
    model = open_hint_model(discovery)
    save_hint_model(other, replace(model, items=Vocabulary(tuple(f"x{name}" for name in model.items.ids))))
    with pytest.raises(InvalidInput, match="other users or items"):
        train(data, tmp_path / "run", overrides=overrides(other, language), device="cpu")
