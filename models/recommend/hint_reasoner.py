"""A tuned language model beside a model of hints: what it was asked in, what its answers weigh, and opening both."""

from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from facetrail.models.errors import Damaged, NotFound
from facetrail.models.language.causal import LocalPolicy
from facetrail.models.language.smollm2 import NAME, smollm2_folder
from facetrail.models.recommend.hint_answer_records import Mode
from facetrail.models.recommend.hint_model import HintBlend, HintModel, open_hint_model
from facetrail.models.recommend.hint_prompts import PromptConfig, Slot
from facetrail.models.recommend.hint_recommender import HintRecommender

CONFIG_FILE, ADAPTER_FOLDER = "reasoner.json", "adapter"


class ReasonerConfig(BaseModel):
    """How a language model was tuned to answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    language_model: str
    """`smollm2`, or a folder of transformers."""
    slot: Slot
    prompt: PromptConfig
    blend: dict[str, float]
    """With the bias logistic, fitted on validation."""

    @property
    def weights(self) -> HintBlend:
        """The blend."""
        return HintBlend(**self.blend)


def save_reasoner(
    folder: Path, policy: LocalPolicy, *, language_model: str, slot: Slot, prompt: PromptConfig, blend: HintBlend
) -> None:
    """Writes the adapter and, last, what it is. Raises Conflict where something stands already."""
    config = ReasonerConfig(language_model=language_model, slot=slot, prompt=prompt, blend=asdict(blend))
    policy.save(folder / ADAPTER_FOLDER)
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_reasoner(folder: Path) -> ReasonerConfig:
    """Raises NotFound where no reasoner stands, and Damaged."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise NotFound(f"{folder} holds no reasoner (there is no {CONFIG_FILE}); train one with `train hint-language`")
    try:
        return ReasonerConfig.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise Damaged(f"{file} does not fit its form ({error.errors()[0]['msg']}); train it again") from error


def base_folder(language_model: str) -> Path:
    """The folder of a language model by name."""
    return smollm2_folder() if language_model == NAME else Path(language_model)


def open_hint_recommender(
    discovery: Path, *, reasoner: Path | None = None, mode: Mode = "blend", device: str = "cpu"
) -> HintRecommender:
    """discovery: the model folder of `train hints` · reasoner: that of `train hint-language`; None: no language model.

    Raises what opening either raises, and InvalidInput for mode `lm` without a reasoner.
    """
    model = open_hint_model(discovery)
    return HintRecommender(model, mode=mode) if reasoner is None else reasoned(model, reasoner, mode, device=device)


def reasoned(model: HintModel, folder: Path, mode: Mode, *, device: str = "cpu") -> HintRecommender:
    """A recommender of an open model with the language model of a reasoner's folder. Raises NotFound and Damaged."""
    config = read_reasoner(folder)
    policy = LocalPolicy.open(
        base_folder(config.language_model),
        adapter=folder / ADAPTER_FOLDER,
        device=device,
        name=Path(config.language_model).name,
    )
    return HintRecommender(
        model, mode=mode, language_model=policy, blend=config.weights, slot=config.slot, prompt=config.prompt
    )
