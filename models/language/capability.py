"""How capable each agent is of late, which HACPO's ratios are made of (arXiv 2603.02604).

P(k) = share of positive rewards of agent k in a step, floored at 1e-8; the capability is the mean of the last K values,
the present one included; w(a, b) = capability(a) / capability(b), clamped to [0.1, 10]. The floor and the clamp are the
authors' code.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from facetrail.models.errors import Conflict, InvalidInput
from facetrail.models.language.hacpo import HacpoConfig

FLOOR = 1e-8
MIN_RATIO, MAX_RATIO = 0.1, 10.0


class CapabilityTracker:
    """Windowed capability of named agents. Updated once a step, with all rewards, before any agent learns."""

    name = "capability"

    def __init__(self, agents: Sequence[str], config: HacpoConfig) -> None:
        if not agents or len(set(agents)) != len(agents):
            raise InvalidInput(f"agents need names of their own, and these are {list(agents)}; rename them")
        self.agents, self.n_updates = tuple(agents), 0
        self._config = config
        self._windows: dict[str, deque[float]] = {agent: deque(maxlen=config.window) for agent in agents}

    def update(self, rewards: Mapping[str, Sequence[float | None]]) -> None:
        """Takes in a step's rewards of every agent; None (no verdict) does not count.

        Raises InvalidInput, and changes nothing, where an agent is missing or unknown or has no verdict at all.
        """
        if rewards.keys() != set(self.agents):
            raise InvalidInput(
                f"the step brings rewards of {sorted(rewards)}, the agents are {sorted(self.agents)}; every agent must "
                "answer in every step"
            )
        measured = {agent: self._measure(agent, rewards[agent]) for agent in self.agents}
        for agent, value in measured.items():
            self._windows[agent].append(value)
        self.n_updates += 1

    def capability(self, agent: str) -> float:
        """Mean of the last K measures. Raises InvalidInput before the first update."""
        window = self._windows[agent]
        if not window:
            raise InvalidInput("capability is not known before the first step's rewards; update the tracker first")
        return sum(window) / len(window)

    def ratio(self, a: str, b: str) -> float:
        """w(a, b): above 1 where a is the more capable; 1 for an agent and itself and during warm-up."""
        raw = self._raw(a, b)
        return min(MAX_RATIO, max(MIN_RATIO, raw))

    def ratios(self) -> Tensor:
        """w of every pair, in the order of `agents`. → (n_agents, n_agents) float64."""
        return torch.tensor([[self.ratio(a, b) for b in self.agents] for a in self.agents], dtype=torch.float64)

    @property
    def ratio_at_clamp_rate(self) -> float:
        """Share of ordered pairs of different agents whose ratio is at its clamp; 0 for one agent."""
        pairs = [(a, b) for a in self.agents for b in self.agents if a != b]
        at_clamp = [not MIN_RATIO < self._raw(a, b) < MAX_RATIO for a, b in pairs]
        return sum(at_clamp) / len(pairs) if pairs else 0.0

    def state(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {
            "agents": list(self.agents),
            "n_updates": self.n_updates,
            "windows": {agent: list(window) for agent, window in self._windows.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from a saved state. Raises Conflict for one of other agents or of a longer window."""
        if list(state["agents"]) != list(self.agents):
            raise Conflict(
                f"the checkpoint is of agents {list(state['agents'])}, this run's are {list(self.agents)}; name them "
                "alike or start in another folder"
            )
        longest = max(len(values) for values in state["windows"].values())
        if longest > self._config.window:
            raise Conflict(
                f"the checkpoint holds {longest} steps of capability, this run's window {self._config.window}; set "
                "window as it was or start in another folder"
            )
        self.n_updates = int(state["n_updates"])
        self._windows = {
            agent: deque(map(float, state["windows"][agent]), maxlen=self._config.window) for agent in self.agents
        }

    def _raw(self, a: str, b: str) -> float:
        known = self.capability(a) / self.capability(b)
        return 1.0 if a == b or self.n_updates <= self._config.warmup_steps else known

    def _measure(self, agent: str, rewards: Sequence[float | None]) -> float:
        known = [reward for reward in rewards if reward is not None]
        if not known:
            raise InvalidInput(f"agent {agent!r} has no verified rollout in this step; every agent must answer")
        if self._config.capability == "reward_mean":
            return max(FLOOR, sum(known) / len(known))
        if min(known) < 0:
            raise InvalidInput(
                f"agent {agent!r} has a reward of {min(known)}; positive_rate needs rewards of at least 0: take "
                "reward_mean or shift the rewards"
            )
        return max(FLOOR, sum(reward > 0 for reward in known) / len(known))
