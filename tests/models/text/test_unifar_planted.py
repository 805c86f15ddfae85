"""Planted facets: a world in which only a facet-aware encoder can find the right document, and finds it.

A document has four sentences, one per facet: three words of that facet's own vocabulary and the two words of a topic.
In a corpus every topic stands once under every facet, so four documents mention the topic that a query names, and one
of them does so under the facet asked for. The encoder below the head is a frozen table of random word vectors.
Training and test topics are different words: what is learned must be where to look, not which words go together.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facetrail.models.text.losses import alignment, contrastive, diversity, role_divergence
from facetrail.models.text.unifar import FacetState, Layout, UnifarConfig, UnifarHead, pair_scores
from facetrail.models.text.unifar_controls import ProjectionHead

DIM, K, OWN_WORDS = 64, 4, 10
N_TOPICS, N_TEST, SENTENCE = 1000, 60, 5
Head = TypeVar("Head", UnifarHead, ProjectionHead)
UNIFORM = torch.full((K,), 1 / K)
CONFIG = UnifarConfig(dim=DIM)


@dataclass(frozen=True)
class Corpus:
    """n documents over n topics. words: (n, K · SENTENCE) · topics, order: (n, K), topic by facet, facet by place."""

    words: Tensor
    topics: Tensor
    order: Tensor


class World:
    """Word vectors and the texts made of them."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(K * OWN_WORDS + 2 * (N_TOPICS + N_TEST), DIM, generator=self.generator)

    def corpus(self, topics: Tensor) -> Corpus:
        n, g = len(topics), self.generator
        by_facet = torch.stack([topics[torch.randperm(n, generator=g)] for _ in range(K)], 1)
        own = torch.randint(OWN_WORDS, (n, K, 3), generator=g) + OWN_WORDS * torch.arange(K).view(1, K, 1)
        sentences = torch.cat([own, self.topic_words(by_facet)], 2)  # (n, K, SENTENCE)
        order = torch.stack([torch.randperm(K, generator=g) for _ in range(n)])
        words = sentences.gather(1, order.unsqueeze(2).expand(-1, -1, SENTENCE)).flatten(1)
        return Corpus(words, by_facet, order)

    @staticmethod
    def topic_words(topics: Tensor) -> Tensor:
        return K * OWN_WORDS + 2 * topics.unsqueeze(-1) + torch.arange(2)

    def encode(self, head: nn.Module, words: Tensor, *, is_question: bool) -> FacetState:
        n, t = words.shape
        n_sentences = 1 if is_question else K
        sentence = torch.arange(n_sentences).repeat_interleave(t // n_sentences).expand(n, -1)
        counts = torch.full((n,), n_sentences), torch.ones(n, dtype=torch.long)
        layout = Layout(
            torch.ones(n, t, dtype=torch.bool), sentence, sentence * 0, *counts, torch.full((n,), is_question)
        )
        state = head(self.table[words], layout)
        assert isinstance(state, FacetState)
        return state


def with_roles(world: World, head: UnifarHead, *, steps: int) -> UnifarHead:
    """The head after the first stage of training: anchors and attention maps learn the sentences' roles; in place.

    Without it a facet may do as well by subtracting the others' sentences (γ < 0), and then its attention misleads.
    """
    optimiser = torch.optim.AdamW([head.anchors, head.query_map, head.key_map], lr=3e-3)
    for _ in range(steps):
        corpus = world.corpus(torch.randperm(N_TOPICS, generator=world.generator)[:N_TEST])
        state = world.encode(head, corpus.words, is_question=False)
        optimiser.zero_grad()
        role_divergence(torch.eye(K)[corpus.order], state.roles, state.unit_mask).backward()
        optimiser.step()
    return head


def trained(world: World, head: Head, *, steps: int) -> Head:
    """The head after training with the facet of every query known; in place."""
    scalars = ("gate_scale", "facet_scale", "mixing_logit")
    named = dict(head.named_parameters())
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for name, p in named.items() if name not in scalars], "lr": 3e-3},
            {"params": [p for name, p in named.items() if name in scalars], "lr": 3e-2, "weight_decay": 0.0},
        ]
    )
    for _ in range(steps):
        corpus = world.corpus(torch.randperm(N_TOPICS, generator=world.generator)[:N_TEST])
        asked = torch.randint(K, (N_TEST,), generator=world.generator)
        topics = corpus.topics[torch.arange(N_TEST), asked]
        documents = world.encode(head, corpus.words, is_question=False)
        queries = world.encode(head, world.topic_words(topics), is_question=True)
        scores = pair_scores(queries, documents, head.mixing, CONFIG.margin, torch.eye(K)[asked])
        loss = contrastive(scores, scores.T, torch.zeros(scores.shape, dtype=torch.bool))
        if isinstance(head, UnifarHead):
            loss = loss + 0.2 * role_divergence(torch.eye(K)[corpus.order], documents.roles, documents.unit_mask)
            loss = loss + 0.1 * alignment(queries.facets, documents.facets, queries.prior)
            loss = loss + 0.05 * diversity(head.anchors, documents.prior.mean(0), UNIFORM)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head


@torch.no_grad()
def first_ranks(world: World, head: Head) -> dict[str, float]:
    """R@1 on unseen topics with the right facet asked for, with wrong ones, and of the mean-pooled base."""
    corpus = world.corpus(torch.arange(N_TOPICS, N_TOPICS + N_TEST))
    documents, everyone = world.encode(head, corpus.words, is_question=False), torch.arange(N_TEST)
    means = normalize(world.table[corpus.words].mean(1), dim=1)
    hits: dict[str, list[float]] = {"right": [], "wrong": [], "mean": []}
    for facet in range(K):
        words = world.topic_words(corpus.topics[:, facet])
        queries = world.encode(head, words, is_question=True)
        for named in range(K):
            weights = torch.eye(K)[named].expand(N_TEST, -1)
            scores = pair_scores(queries, documents, head.mixing, CONFIG.margin, weights)
            found = (scores.argmax(1) == everyone).float().mean()
            hits["right" if named == facet else "wrong"].append(found.item())
        plain = world.table[words].mean(1) @ means.T
        hits["mean"].append((plain.argmax(1) == everyone).float().mean().item())
    return {name: sum(values) / len(values) for name, values in hits.items()}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=0)


@pytest.fixture(scope="module")
def head(world: World) -> UnifarHead:
    return trained(world, with_roles(world, UnifarHead(CONFIG, generator=world.generator), steps=40), steps=300)


def test_asking_for_a_facet_finds_its_document(world: World, head: UnifarHead) -> None:
    found = first_ranks(world, head)
    assert found["right"] >= 0.95
    assert found["wrong"] <= 0.50
    assert found["wrong"] < found["mean"] < found["right"]


def test_anchors_carry_the_meaning(world: World, head: UnifarHead) -> None:
    anchors = head.anchors.detach().clone()
    with torch.no_grad():
        head.anchors.copy_(anchors.roll(1, 0))
        found = first_ranks(world, head)
        head.anchors.copy_(anchors)
    assert found["right"] <= 0.50


def test_attention_finds_the_facets_sentence(world: World, head: UnifarHead) -> None:
    corpus = world.corpus(torch.arange(N_TOPICS, N_TOPICS + N_TEST))
    with torch.no_grad():
        state = world.encode(head, corpus.words, is_question=False)
    seen = corpus.order.gather(1, state.attention.argmax(2))  # facet of the sentence that each facet looks at most
    assert (seen == torch.arange(K)).float().mean() >= 0.95
    assert (state.roles.argmax(2) == corpus.order).float().mean() >= 0.95


def test_as_many_vectors_without_facets_do_not_help(world: World) -> None:
    free = trained(world, ProjectionHead(CONFIG, generator=world.generator), steps=100)
    found = first_ranks(world, free)
    assert found["right"] <= 0.50
