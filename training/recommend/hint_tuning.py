"""Tunes a language model on prompts with hints: the loss is on the answer's first token alone, discovery is frozen.

Rows come from block 2 on, with hints from the blocks before their own; a share of them shows no hint, so that the model
does not forget how to answer without.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facetrail.eval.recommend_metrics import auc, user_auc
from facetrail.models.errors import InvalidInput
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.recommend.hint_answers import check_answers
from facetrail.models.recommend.hint_model import SeenRows
from facetrail.models.recommend.hint_prompts import NO, YES, Asked, HintPrompts, PairPrompt, Slot
from facetrail.models.recommend.hint_statistics import Evidence
from facetrail.models.recommend.hints import HintNetwork
from facetrail.models.recommend.knowledge import Attributes
from facetrail.models.recommend.time_blocks import Floats, Ints, Ratings, block_cuts, rolling_cuts
from facetrail.training.config import NOTHING
from facetrail.training.language.meters import Meters
from facetrail.training.language.supervised import Example, fit_supervised
from facetrail.training.loop import FitConfig, Recorder
from facetrail.training.recommend.hint_batches import Rows


class TuningConfig(BaseModel):
    """How a language model is tuned on few rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_shots: int | None = Field(default=1_000, ge=1)
    """Rows to learn from, drawn by the seed; None: all from block 2 on."""
    n_blocks: int = Field(default=5, ge=2)
    """As of the discovery network."""
    sees: Literal["blocks", "earlier"] = "blocks"
    """What a row to learn from is known by: the blocks of time before its own, or every earlier event of training. The
    first is what the discovery network needs (its user embeddings would learn labels by heart); a prompt names no user.
    """
    hint_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the rows whose slot is left empty."""
    batch: int = Field(default=16, ge=1)
    """Rows of a step."""
    micro_rows: int = Field(default=4, ge=0)
    """Rows in memory at a time; 0: the whole step. On a CPU four are also 2.5 times as fast as sixteen, and take a
    quarter of the memory."""
    lr: float = Field(default=1e-4, gt=0)
    fit: FitConfig


def tuning_config(values: Mapping[str, Any]) -> TuningConfig:
    """From plain values, where `none` says None. Raises InvalidInput naming the key that does not fit."""
    try:
        return TuningConfig.model_validate({key: None if one == NOTHING else one for key, one in values.items()})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in ("tuning", *problem["loc"]))
        raise InvalidInput(f"{key}: {problem['msg']}; change it with --set {key}=VALUE") from error


def shots(rows: Rows, attributes: Attributes, network: HintNetwork, config: TuningConfig) -> tuple[list[Asked], Floats]:
    """Rows to learn from, by time, and their labels."""
    cuts = block_cuts(rows.train.times, config.n_blocks)
    chosen = np.flatnonzero(cuts > 0)
    if config.n_shots is not None and config.n_shots < len(chosen):
        rng = np.random.default_rng([config.fit.seed, 1])
        chosen = np.sort(rng.choice(chosen, config.n_shots, replace=False))
    part: Ratings = rows.train.take(chosen)
    visible = cuts[chosen] if config.sees == "blocks" else rolling_cuts(part, rows.log)
    seen = SeenRows(network, Evidence(rows.log, attributes), part.users, part.items, visible)
    return seen.asked(np.arange(len(part))), part.labels


def written(
    prompts: HintPrompts, asked: Sequence[Asked], slot: Slot, *, seed: int, dropout: float = 0.0
) -> list[PairPrompt]:
    """A prompt for each row; a share of them, drawn by the seed, without hints. Row i draws from its own stream."""
    silent = np.random.default_rng([seed, 2]).random(len(asked)) < dropout
    return [
        prompts.pair(one, "none" if is_silent else slot, rng=np.random.default_rng([seed, 3, row]))
        for row, (one, is_silent) in enumerate(zip(asked, silent, strict=True))
    ]


def tune(
    policy: CausalPolicy, prompts: Sequence[PairPrompt], labels: Floats, config: TuningConfig, *,
    tracker: Recorder | None = None, folder: Path | None = None, resume: bool = False,
) -> Meters:  # fmt: skip
    """Tunes the policy in place. labels: (r,) 1 answers Yes. Raises InvalidInput where Yes or No is several tokens."""
    check_answers(policy)
    tokens, meters = policy.tokenizer, Meters()
    answers = {True: tuple(tokens.encode(YES)), False: tuple(tokens.encode(NO))}
    # No end token follows: scores look at the first token, and what comes after it is nobody's business.
    examples = [
        Example(tuple(tokens.encode_prompt(prompt.text)), answers[bool(label > 0.5)])
        for prompt, label in zip(prompts, labels, strict=True)
    ]
    fit_supervised(
        policy, examples, config=config.fit, lr=config.lr, batch=config.batch, micro_rows=config.micro_rows,
        meters=meters, tracker=tracker, folder=folder, resume=resume,
    )  # fmt: skip
    return meters


def pair_measures(users: Ints, scores: Floats, labels: Floats) -> dict[str, float]:
    """AUC, UAUC, and over how many users the latter is a mean."""
    of_users = user_auc(users, scores, labels)
    return {"AUC": auc(scores, labels), "UAUC": of_users.mean, "users": float(of_users.n_users)}
