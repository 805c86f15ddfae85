"""What a run is and must stay: its configuration, its hooks' and the references of its agents."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from facetrail.models.errors import Conflict
from facetrail.training.config import flat
from facetrail.training.language.hooks import Agent, Hook
from facetrail.training.language.loop_config import LoopConfig

PACKAGES = ("facetrail", "torch", "numpy", "transformers")


class RunIdentity:
    """A part of every checkpoint that refuses a run of another configuration, and counts each agent's updates."""

    def __init__(self, agents: Sequence[Agent], config: LoopConfig, hooks: Sequence[Hook]) -> None:
        self.config: dict[str, Any] = {
            "loop": config.model_dump(mode="json"),
            "agents": {
                agent.name: {
                    "lr": agent.lr,
                    "tokenizer": agent.policy.tokenizer.fingerprint,
                    "reference": agent.reference.fingerprint if agent.reference is not None else None,
                }
                for agent in agents
            },
            # JSON and back: what is compared must be what a checkpoint can hold.
            "hooks": json.loads(json.dumps({hook.name: dict(hook.config()) for hook in hooks})),
        }
        self.n_updates = {agent.name: 0 for agent in agents}

    @property
    def hash(self) -> str:
        """sha256 of the configuration."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()

    def state(self) -> Mapping[str, Any]:
        """Configuration, its hash, updates of each agent, versions of packages."""
        return {
            "config": self.config,
            "config_sha256": self.hash,
            "n_updates": dict(self.n_updates),
            "versions": {name: metadata.version(name) for name in PACKAGES},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes up the counts. Raises Conflict for another configuration, naming what differs."""
        if state["config_sha256"] != self.hash:
            before, now = flat(state["config"]), flat(self.config)
            changed = [
                f"{key}: {before.get(key)!r} → {now.get(key)!r}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            ]
            raise Conflict(
                f"the checkpoint is of another configuration ({'; '.join(changed)}); undo that, or start anew in "
                "another folder"
            )
        self.n_updates = dict(state["n_updates"])
