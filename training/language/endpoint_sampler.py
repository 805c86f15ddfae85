"""Rollouts written by a server that speaks the OpenAI protocol, for whoever generates on other machines.

The server should serve the model that is trained. It answers with the weights it has: unless somebody gives it newer
ones, rollouts grow older as the policy learns, and the clip alone bounds the ratio to them. Behaviour log-probs are the
server's where it tells them for exactly the policy's tokens, at temperature 1 and without truncation (servers tell them
before either); otherwise the loop computes them by the policy as it is, which takes every rollout for a fresh one. The
rollout's `sampler` says which: `endpoint`, or `endpoint, recomputed`; the log has the share of the second.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from facetrail.models.errors import InvalidInput
from facetrail.models.language.endpoint import EndpointModel, Written
from facetrail.models.language.records import Prompt, Rollout
from facetrail.models.language.served import served
from facetrail.training.language.hooks import Agent, Sampler, Step

FROM_SERVER, RECOMPUTED = "endpoint", "endpoint, recomputed"


class EndpointRecipe(BaseModel):
    """Which server writes the rollouts, and how it is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = ""
    """Up to and including `/v1`; empty: the policy writes its rollouts itself."""
    model: str = ""
    """The server's name for it."""
    api: Literal["completions", "chat"] = "completions"
    """completions: the server reads the policy's own prompt tokens. chat: it reads the prompt as a user's message in
    its chat template, which must be the policy's."""
    log_probs: bool = True
    """Whether log-probs and token ids are asked for; false for a server that refuses to be asked."""
    key_variable: str = ""
    """Name of the environment variable that holds the API key; empty: none is sent."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds without a byte after which the run ends; it can be resumed."""
    retries: int = Field(default=3, ge=0)
    """How often a server that says it is busy is asked again."""
    parallel: int = Field(default=8, ge=1)
    """Requests under way at a time."""

    def open(self) -> EndpointModel:
        """The server's client. Raises InvalidInput for a wrong URL, no model or an unset variable."""
        key = os.environ.get(self.key_variable, "") if self.key_variable else ""
        if self.key_variable and not key:
            raise InvalidInput(
                f"the environment variable {self.key_variable} holds no API key; set it, or leave "
                "endpoint.key_variable empty",
                pointer="/endpoint/key_variable",
            )
        return EndpointModel(
            self.url,
            model=self.model,
            api_key=key,
            timeout=self.timeout,
            retries=self.retries,
            parallel=self.parallel,
        )


class EndpointSampler(Sampler):
    """G completions of each prompt, by the server."""

    name = "endpoint"

    def __init__(self, recipe: EndpointRecipe) -> None:
        """Asks nothing yet. Raises InvalidInput as `EndpointRecipe.open`."""
        self._model, self._api, self._asks = recipe.open(), recipe.api, recipe.log_probs
        self._recomputed = 0.0

    def config(self) -> Mapping[str, Any]:
        """What decides the rollouts. Where the server stands does not."""
        return {"model": self._model.name, "api": self._api, "log_probs": self._asks}

    def figures(self) -> Mapping[str, float]:
        """Share of the step's rollouts whose behaviour log-probs are the policy's and not the server's."""
        return {"recomputed": self._recomputed}

    def after_rollouts(self, step: Step) -> None:
        """Counts."""
        found = [one.sampler == RECOMPUTED for rollouts in step.rollouts.values() for one in rollouts]
        self._recomputed = sum(found) / len(found)

    def sample(self, agent: Agent, step: Step) -> list[Rollout]:
        """Raises Unavailable (down, slow, busy, nonsense), NotFound (no such model), InvalidInput (no such tokens)."""
        config, tokenizer = step.config, agent.policy.tokenizer
        ids = [tokenizer.encode_prompt(prompt.text) for prompt in step.prompts]
        written = self._model.write(
            step.prompts,
            config.group,
            sampling=config.sampling,
            key=step.key(agent.name),
            prompt_ids=ids if self._api == "completions" else None,
            asks_log_probs=self._asks,
        )
        rows = [(place, sample) for place in range(len(step.prompts)) for sample in range(config.group)]
        return [
            self._rollout(agent, step, step.prompts[place], len(ids[place]), sample, one)
            for (place, sample), one in zip(rows, written, strict=True)
        ]

    def _rollout(self, agent: Agent, step: Step, prompt: Prompt, n_read: int, sample: int, written: Written) -> Rollout:
        tokenizer, sampling = agent.policy.tokenizer, step.config.sampling
        limit = min(sampling.max_new_tokens, agent.policy.context - n_read)
        try:
            found = served(written, tokenizer, limit=limit)
        except InvalidInput as error:
            raise InvalidInput(
                f"{self._model.url} answered prompt {prompt.prompt_id!r} with text that the policy has no tokens for "
                f"({error}); serve the model that is trained"
            ) from error
        is_known = bool(found.log_probs) and sampling.is_plain and sampling.temperature == 1.0
        return Rollout(
            prompt_id=prompt.prompt_id,
            sample=sample,
            completion_ids=found.ids,
            text=tokenizer.decode(found.ids),
            finish=found.finish,
            source_id=agent.name,
            log_probs=found.log_probs if is_known else (),
            sampler=FROM_SERVER if is_known else RECOMPUTED,
            temperature=sampling.temperature,
        )
