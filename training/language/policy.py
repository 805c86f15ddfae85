"""`facetrail train policy`: a language model learns a task with verifiable answers from its own completions.

First the start (made, opened or warm-started by supervised training), kept in `out/start`; then the loop; then the
figures on held-out items, which no step has looked at. Under `torchrun` or `accelerate launch`, the processes share
the work.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facetrail.training.config import read_recipe
from facetrail.training.language.distributed import Processes
from facetrail.training.language.endpoint_sampler import EndpointSampler
from facetrail.training.language.parts import GroupAdvantage, NamedLoss
from facetrail.training.language.policy_recipe import ALGORITHMS, PolicyRecipe
from facetrail.training.language.run import MODEL_FOLDER, REPORT_FILE, Run

DEFAULTS = Path(__file__).with_suffix(".toml")


def train(
    data: Path, out: Path, *, overrides: Sequence[str] = (), resume: bool = False, seed: int | None = None,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Trains a policy and writes `out/model`, `out/report.json` and `out/accuracy.png`; → what the command prints.

    Nothing is printed by any but the first of several processes. Raises InvalidInput (recipe, task), NotFound (data,
    model), Conflict (a run of another recipe), Unavailable (a server of rollouts that is down; the run can be resumed).
    """
    recipe = read_recipe(DEFAULTS, PolicyRecipe, overrides).seeded(seed)
    algorithm = ALGORITHMS[recipe.algorithm]
    sampler = EndpointSampler(recipe.endpoint) if recipe.endpoint.url else None
    with Processes.joined() as processes:
        run = Run(recipe, data, out, resume=resume, device=device, processes=processes)
        reports = run.fit(
            [run.learner("policy", recipe, out)],
            advantage=GroupAdvantage(algorithm.advantage),
            policy_loss=NamedLoss(algorithm.policy_loss, recipe.clip),
            sampler=sampler,
        )
    paths = {"model": str(out / MODEL_FOLDER), "report": str(out / REPORT_FILE)}
    return {key: value for report in reports.values() for key, value in (paths | report["test"]).items()}
