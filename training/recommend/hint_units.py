"""What the experiments on hints share: units (one arm under one seed), and the language model that one starts from."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from facetrail.eval.evidence import DataSource
from facetrail.indexing.durable import write_durably
from facetrail.models.language.causal import LocalPolicy, TinyPolicy
from facetrail.models.language.causal_policy import CausalPolicy
from facetrail.models.language.huggingface import AdapterConfig, Dtype
from facetrail.models.language.vocabulary import WordTokenizer
from facetrail.models.recommend.hint_prompts import PairPrompt, TokenCounts
from facetrail.models.recommend.hint_reasoner import base_folder
from facetrail.models.recommend.hints import HintNetwork

TINY = "tiny"
Texts = Mapping[str, Sequence[PairPrompt]]
T = TypeVar("T", bound=Texts)


class Units:
    """Scores of units, each written whole; a run that was stopped goes on with the first one that is missing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "scores"

    def is_done(self, name: str, seed: int) -> bool:
        """Whether the unit has its scores."""
        return self._path(name, seed).is_file()

    def keep(self, name: str, seed: int, scores: Mapping[str, NDArray[Any]], **meters: float) -> None:
        """Writes a unit's scores, by part."""
        content = {part: values.tolist() for part, values in scores.items()} | {"meters": meters}
        self._folder.mkdir(exist_ok=True)
        write_durably(self._path(name, seed), json.dumps(content).encode())

    def kept(self, name: str, seed: int) -> dict[str, Any]:
        """part → scores as lists, and `meters`."""
        found: dict[str, Any] = json.loads(self._path(name, seed).read_bytes())
        return found

    def _path(self, name: str, seed: int) -> Path:
        slug = "-".join(name.lower().replace("+", "and").replace(",", "").split())
        return self._folder / f"{slug}-{seed}.json"


def fitted_once(file: Path, fresh: Callable[[], HintNetwork], fit: Callable[[], HintNetwork]) -> HintNetwork:
    """The network of a file, in evaluation mode; where there is none it is fitted and kept. fresh: at step 0."""
    if file.is_file():
        network = fresh()
        network.load_state_dict(load_file(file, device=str(network.slopes.device)))
        return network.eval()
    network = fit()
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".tmp")
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, draft)
    draft.replace(file)
    return network


def sources(hashes: Mapping[str, str]) -> list[DataSource]:
    """Of evidence; a miniature has no file."""
    made_up = [DataSource(name="miniature", sha256="")]
    return [DataSource(name=name, sha256=value) for name, value in sorted(hashes.items())] or made_up


def fresh_policy(
    name: str, texts: Callable[[TokenCounts], T], *, answers: Sequence[str], adapter: AdapterConfig, dtype: Dtype,
    device: torch.device, seed: int,
) -> tuple[CausalPolicy, T]:  # fmt: skip
    """A language model before any step, and its prompts; `tiny` knows the words of prompts and answers alone."""
    if name != TINY:
        changed = adapter.model_copy(update={"seed": seed})
        policy = LocalPolicy.open(base_folder(name), adapter=changed, dtype=dtype, device=str(device), name=name)
        return policy, texts(TokenCounts.of(policy))
    found = texts(TokenCounts.of_words())
    prompts = [prompt for part in found.values() for prompt in part]
    words = {word for text in (*answers, *(prompt.text for prompt in prompts)) for word in text.split()}
    longest = max(prompt.n_tokens for prompt in prompts) + max(len(answer.split()) for answer in answers)
    tokenizer = WordTokenizer.of(sorted(words))
    return TinyPolicy.new(tokenizer, seed=seed, dim=16, n_layers=1, n_heads=2, context=longest + 1), found


def mean_tokens(prompts: Sequence[PairPrompt]) -> float:
    """Template included."""
    return float(np.mean([prompt.n_tokens for prompt in prompts]))
