"""A small model of hints with untrained weights, for tests: its statistics are real, its network knows nothing."""

import torch

from facetrail.models.language.causal import TinyPolicy
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.models.recommend.hint_model import HintBlend, HintModel, with_guest
from facetrail.models.recommend.hints import HintConfig, HintNetwork
from facetrail.models.recommend.interactions import Vocabulary
from facetrail.models.recommend.pairwise_baselines import fit_bias_logistic
from facetrail.training.recommend.hint_material import miniature


def small_hint_model() -> HintModel:
    """8 users and 40 films of 4 genres; a user likes one of these, most of the time."""
    material = miniature()
    rows, config = material.rows, HintConfig(dim=8, n_similar=3)
    network = HintNetwork(
        config, material.attributes, rows.n_users, rows.n_items, generator=torch.Generator().manual_seed(0)
    )
    return HintModel(
        with_guest(network, material.attributes),
        material.attributes,
        Vocabulary(tuple(f"u{user}" for user in range(rows.n_users))),
        Vocabulary(tuple(str(item) for item in range(rows.n_items))),
        material.titles,
        rows.train,
        fit_bias_logistic(rows.log),
        HintBlend(bias=1.0, reasoner=0.5, intercept=0.0),
    )


def tiny_language(texts: list[str], *, context: int = 400, seed: int = 0) -> TinyPolicy:
    """A language model from random weights that knows the words of some texts."""
    words = sorted({"Yes", "No"}.union(*(text.split() for text in texts)))
    return TinyPolicy.new(WordTokenizer.of(words), seed=seed, dim=16, n_layers=1, n_heads=2, context=context)
