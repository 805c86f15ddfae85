"""What one agent wrote, as another agent reads it: decoded by the source's tokenizer, encoded by the learner's.

Follows the authors' code of HACPO (arXiv 2603.02604) in cutting prompts from the left and completions from the right.
Ours: only end and padding tokens vanish in decoding (`</think>` is content: a blanket skip of special tokens would ruin
every foreign completion), and a completion that ended gets the learner's own end token. The reward is never computed
anew, and own ids are never encoded anew: decoding and encoding them might give others than were sampled.
"""

from dataclasses import dataclass
from typing import Literal

from facetrail.models.errors import InvalidInput
from facetrail.models.language.records import Prompt, Rollout, Tokenizer

Overflow = Literal["truncate", "error"]


@dataclass(frozen=True, slots=True)
class LearnerView:
    """One trajectory in the learner's tokens."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    source_id: str
    is_own: bool
    source_mean_log_prob: float
    """Over the source's own tokens, at the sampling temperature, before any update of the source in this step."""
    reward: float | None
    n_prompt_cut: int = 0
    """Tokens cut from the prompt's left."""
    n_completion_cut: int = 0
    """Tokens cut from the completion's right, the end token among them."""

    @property
    def was_cut(self) -> bool:
        """Whether anything is missing; the share of such views is `retokenised_cut_rate`."""
        return self.n_prompt_cut + self.n_completion_cut > 0


def learner_view(
    prompt: Prompt,
    rollout: Rollout,
    *,
    learner_id: str,
    learner: Tokenizer,
    source: Tokenizer,
    source_mean_log_prob: float,
    max_prompt_tokens: int,
    max_completion_tokens: int,
    overflow: Overflow = "truncate",
) -> LearnerView:
    """The learner's view of a rollout: its own ids as sampled, or a foreign text in its own tokens.

    Raises InvalidInput where a foreign text has no token in the learner's vocabulary or, with overflow "error", is
    longer than the learner may read.
    """
    is_own = rollout.source_id == learner_id
    prompt_ids = tuple(learner.encode_prompt(prompt.text))
    if is_own:
        completion_ids, n_prompt_cut, n_completion_cut = rollout.completion_ids, 0, 0
    else:
        whole = _reencoded(rollout, source, learner)
        n_prompt_cut = max(0, len(prompt_ids) - max_prompt_tokens)
        n_completion_cut = max(0, len(whole) - max_completion_tokens)
        if overflow == "error" and n_prompt_cut + n_completion_cut:
            raise InvalidInput(
                f"{_named(rollout)} is {len(prompt_ids)} prompt and {len(whole)} completion tokens to {learner_id!r}, "
                f"which may read {max_prompt_tokens} and {max_completion_tokens}; raise the limits or truncate"
            )
        prompt_ids, completion_ids = prompt_ids[n_prompt_cut:], whole[: len(whole) - n_completion_cut]
    return LearnerView(
        prompt_ids=prompt_ids,
        completion_ids=completion_ids,
        source_id=rollout.source_id,
        is_own=is_own,
        source_mean_log_prob=source_mean_log_prob,
        reward=rollout.reward,
        n_prompt_cut=n_prompt_cut,
        n_completion_cut=n_completion_cut,
    )


def _reencoded(rollout: Rollout, source: Tokenizer, learner: Tokenizer) -> tuple[int, ...]:
    text = source.decode(rollout.completion_ids)
    ids = learner.encode(text)
    # A completion that is nothing but its end is a lesson in stopping; a text that leaves no token is lost.
    if not ids and (text or rollout.finish != "eos"):
        raise InvalidInput(
            f"{_named(rollout)} has no token in the learner's vocabulary (its text is {text!r}); leave it out or give "
            "the agents tokenizers of the same language"
        )
    return (*ids, learner.eos_id) if rollout.finish == "eos" else tuple(ids)


def _named(rollout: Rollout) -> str:
    return f"rollout {rollout.sample} of prompt {rollout.prompt_id!r} by {rollout.source_id!r}"
