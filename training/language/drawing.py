"""What agents write in a step: rollouts with behaviour log-probs, then verdicts on them."""

from collections.abc import Sequence
from dataclasses import replace

from facetrail.models.language.records import Rollout
from facetrail.training.language.distributed import Processes
from facetrail.training.language.hooks import Agent, Reward, Sampler, Step
from facetrail.training.language.meters import Meters
from facetrail.training.language.rollouts import hidden_of, judged, log_probs_of, own_sample


def drawn(
    agent: Agent, step: Step, sampler: Sampler, *, policy_version: int, processes: Processes
) -> tuple[list[Rollout], Meters]:
    """An agent's rollouts, those of the first prompt first, and what they have used; each process writes its share.

    Whatever one process meets with (a server that is down) is raised in all of them, before anything is counted.
    """
    parts = processes.tried(lambda: _own_share(agent, step, sampler, processes))
    used = Meters()
    for rollouts, meters in parts:
        used.add(meters)
        used.add_rollouts(rollouts)
    return [
        replace(one, source_id=agent.name, policy_version=policy_version, born_step=step.number)
        for rollouts, _ in parts
        for one in rollouts
    ], used


def verified(agent: Agent, rollouts: Sequence[Rollout], step: Step, reward: Reward) -> list[Rollout]:
    """The rollouts with their verdicts. Raises InvalidInput for a reward that is no finite number."""
    hidden = None
    if reward.needs_hidden:
        samples = [own_sample(step.prompt(one), one, agent.policy.tokenizer, 0.0) for one in rollouts]
        hidden = hidden_of(agent.policy, samples, rows=step.config.micro_rows, meters=step.meters)
    return judged(rollouts, reward.score(agent, rollouts, step, hidden))


def _own_share(agent: Agent, step: Step, sampler: Sampler, processes: Processes) -> tuple[list[Rollout], Meters]:
    """Rollouts of this process's prompts, and the tokens of searches and passes on the way."""
    mine = replace(step, prompts=processes.share(step.prompts), meters=Meters())
    if not mine.prompts:
        return [], mine.meters
    rollouts = list(sampler.sample(agent, mine))
    unknown = [i for i, one in enumerate(rollouts) if not one.log_probs and one.completion_ids]
    if unknown:
        temperature = step.config.temperature
        missing = [own_sample(mine.prompt(rollouts[i]), rollouts[i], agent.policy.tokenizer, 0.0) for i in unknown]
        found = log_probs_of(
            agent.policy, missing, temperature=temperature, rows=step.config.micro_rows, meters=mine.meters
        )
        for i, log_probs in zip(unknown, found, strict=True):
            rollouts[i] = replace(rollouts[i], log_probs=log_probs, temperature=temperature)
    return rollouts, mine.meters
