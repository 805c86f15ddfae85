"""Roles are learned by the anchors and by nothing else, and are counted as promised."""

from pathlib import Path

import pytest
import torch
from contracts.tiny_bert import save_tiny_bert

from facetrail.models.text.facets import FACETS
from facetrail.models.text.source import Overrides, find_source
from facetrail.models.text.unifar import N_PLACES, UnifarHead
from facetrail.models.text.unifar_config import UnifarConfig
from facetrail.training.text.corpora import RoleAbstract, role_target
from facetrail.training.text.roles import (
    FITTED,
    LabelledSentences,
    RolesConfig,
    fit_roles,
    joined_spans,
    labelled_sentences,
    predict_roles,
    role_accuracy,
    role_store,
    start_anchors,
)
from facetrail.training.text.states import StateBuilder

DIM = 16


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of random weights in two layers."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def planted(seed: int, n: int = 240) -> LabelledSentences:
    """Sentences around one direction for each facet, with much that says nothing; every seventh is "other"."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    directions = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(99)))[0][:4]
    states = directions[labels] * 2 + torch.randn(n, DIM, generator=generator) * 0.7
    targets = torch.nn.functional.one_hot(labels, 4) * 0.6 + 0.1
    labels[::7] = -1
    targets[::7] = 0
    return LabelledSentences(states, torch.zeros(n, N_PLACES), labels, targets, n_unread=0)


def head(seed: int = 0) -> UnifarHead:
    return UnifarHead(UnifarConfig(dim=DIM, gate_width=4), generator=torch.Generator().manual_seed(seed))


def test_planted_roles_are_found_and_random_anchors_find_none() -> None:
    train, dev, test = planted(1), planted(2), planted(3)
    ours = head()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    fit = fit_roles(ours, train, dev)
    assert role_accuracy(ours, test).accuracy_of_facets > 0.9
    assert all(role_accuracy(head(seed), test).accuracy < 0.7 for seed in range(5))
    after = ours.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == set(FITTED) - {"place_map"}  # these sentences stand nowhere
    assert all(torch.equal(after[name], tensor) for name, tensor in fit.state.items())


def test_shuffled_anchors_tell_wrong_roles() -> None:
    ours = head()
    fit_roles(ours, planted(1), planted(2))
    with torch.no_grad():
        ours.anchors.copy_(ours.anchors.roll(1, 0))
    assert role_accuracy(ours, planted(3)).accuracy < 0.2


def test_the_best_step_on_dev_is_kept() -> None:
    ours, dev = head(), planted(2)
    fit = fit_roles(ours, planted(1), dev, config=RolesConfig(steps=40, lr=0.5, eval_every=1))
    assert role_accuracy(ours, dev) == fit.dev


def test_anchors_begin_where_their_sentences_are() -> None:
    ours, train = head(), planted(1)
    start_anchors(ours, train)
    length = train.states.norm(dim=1).mean()
    for facet in range(4):
        mean = train.states[train.labels == facet].mean(0)
        assert torch.allclose(ours.anchors[facet], mean / mean.norm() * length, atol=1e-5)


def test_a_role_without_sentences_is_refused() -> None:
    train = planted(1)
    train.labels[train.labels == 2] = -1
    with pytest.raises(ValueError, match="'method'"):
        start_anchors(head(), train)


def test_accuracy_counts_other_and_unread_sentences_as_mistakes() -> None:
    ours = head()
    with torch.no_grad():
        ours.anchors.copy_(torch.eye(4, DIM))
    states = torch.eye(4, DIM)[[0, 0, 1, 2, 3]]
    labels = torch.tensor([0, 1, 1, 2, -1])  # told: 0 0 1 2 3
    report = role_accuracy(
        ours, LabelledSentences(states, torch.zeros(5, N_PLACES), labels, torch.zeros(5, 4), n_unread=1)
    )
    assert (report.accuracy, report.accuracy_of_facets, report.n) == (3 / 6, 3 / 4, 6)
    assert report.f1 == pytest.approx({"background": 2 / 3, "objective": 2 / 3, "method": 1.0, "result": 0.0})
    assert report.macro_f1 == pytest.approx(7 / 12)


def test_where_a_sentence_stands_is_learned_too() -> None:
    """States say nothing here, places everything."""
    labels = torch.arange(200) % 4
    places = torch.zeros(200, N_PLACES)
    places[torch.arange(200), 2 * labels] = 1
    noise = torch.randn(200, DIM, generator=torch.Generator().manual_seed(0)) * 0.1
    told = LabelledSentences(noise, places, labels, torch.nn.functional.one_hot(labels, 4).float(), n_unread=0)
    assert fit_roles(head(), told, told).dev.accuracy >= 0.95


def test_labelled_sentences_meet_their_labels(tiny_bert: Path, tmp_path: Path) -> None:
    builder = StateBuilder(find_source(str(tiny_bert), Overrides()), root=tmp_path)
    first, second = ("Old one", "we try."), ("We did.", "it won, e.g. twice.", "Thanks to all.")
    abstracts = [
        RoleAbstract(
            str(i),
            sentences,
            labels,
            (1.0,) * len(labels),
            tuple(role_target(label, 1.0) for label in labels),
        )
        for i, (sentences, labels) in enumerate(
            [(first, ("background", "objective")), (second, ("method", "result", "other"))]
        )
    ]
    store = role_store(builder, abstracts, max_tokens=32)
    found = labelled_sentences(store, abstracts)
    assert found.labels.tolist() == [0, 1, 2, 3, -1]
    assert found.targets.argmax(1).tolist() == [0, 1, 2, 3, 0]
    assert found.n_unread == 0
    states, _ = store.batch([0], is_question=False)
    assert torch.allclose(found.states[0], states[0, 1:3].mean(0), atol=1e-5)  # [CLS] old one
    ours = UnifarHead(UnifarConfig(dim=48), generator=torch.Generator().manual_seed(0))
    roles = predict_roles(ours, store)
    assert [rows.shape for rows in roles] == [(2, len(FACETS)), (3, len(FACETS))]
    assert all(abs(rows.sum(1) - 1).max() < 1e-5 for rows in roles)
    cut = labelled_sentences(role_store(builder, abstracts, max_tokens=8), abstracts)
    assert cut.n_unread == 1
    assert cut.labels.tolist() == [0, 1, 2, 3]


def test_spans_of_joined_sentences() -> None:
    sentences = ("One.", "Two two.", "x")
    text = " ".join(sentences)
    assert [text[start:end] for start, end in joined_spans(sentences)] == list(sentences)
