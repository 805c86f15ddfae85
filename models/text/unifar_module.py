"""UniFAR as a module of the sentence-transformers library, over the transformers form of the network.

`unifar_export` writes it into a folder as one file, together with what it uses of this package. A folder holds the
network as transformers saves it, head.safetensors, tokenizer.json and unifar.json.
"""

import json
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel

from facetrail.models.text.layout import LayoutTokeniser, batch_layout
from facetrail.models.text.task import is_question
from facetrail.models.text.unifar import Layout, UnifarHead

InputModule: Any
try:
    InputModule = import_module("sentence_transformers.base.modules").InputModule
except ImportError:  # before version 6
    InputModule = import_module("sentence_transformers.models").InputModule

SETTINGS_FILE, HEAD_FILE = "unifar.json", "head.safetensors"
LAYOUT_FIELDS = ("sentence", "paragraph", "n_sentences", "n_paragraphs", "is_question")


class UnifarModule(InputModule):  # type: ignore[misc]
    """Texts to unit vectors; `encode_document` takes them for documents, others for questions where they look so."""

    save_in_root = True

    settings: dict[str, Any]

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)
        self.settings = json.loads((self._folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        config: Any = SimpleNamespace(**self.settings["encoder"])
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self.head = UnifarHead(config, generator=torch.Generator().manual_seed(0))
        self.head.load_state_dict(load_file(self._folder / HEAD_FILE))
        self._questions, self._documents = (
            LayoutTokeniser(
                self._folder / "tokenizer.json",
                **self.settings[task],
                max_sentences=config.max_sentences,
                max_paragraphs=config.max_paragraphs,
            )
            for task in ("question", "document")
        )
        layers = self.model.encoder.layer
        self._asked: Tensor | None = None
        if config.trained_layers:
            layers[len(layers) - config.trained_layers].register_forward_pre_hook(self._ask, with_kwargs=True)

    def _ask(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Adds the question vector to the states that enter the trained layers."""
        if args:
            return (args[0] + self._asked, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + self._asked}

    @property
    def max_seq_length(self) -> int:
        """Tokens of a document that count."""
        return int(self._documents.max_tokens)

    def get_sentence_embedding_dimension(self) -> int:
        """Dimensions of a vector."""
        return int(self.head.config.dim)

    get_embedding_dimension = get_sentence_embedding_dimension

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None, **_: Any
    ) -> dict[str, Tensor]:
        """Token ids and layout. task: "document", "question", or anything else for the rule of `is_question`."""
        texts = [(prompt or "") + text for text in inputs]
        laid_out = self._documents(texts)
        asks = [False] * len(texts)
        if task != "document":
            questions = self._questions(texts)
            asks = [
                task == "question" or is_question(text, len(question.ids))
                for text, question in zip(texts, questions, strict=True)
            ]
            laid_out = [q if asked else d for q, d, asked in zip(questions, laid_out, asks, strict=True)]
        ids, layout = batch_layout(laid_out, asks)
        parts = {name: getattr(layout, name) for name in LAYOUT_FIELDS}
        return {"input_ids": ids, "attention_mask": layout.mask.long(), **parts}

    def tokenize(self, texts: Sequence[str], **kwargs: Any) -> dict[str, Tensor]:
        """`preprocess`, as versions before 6 call it."""
        return self.preprocess(texts, **kwargs)

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """Adds sentence_embedding (b, d), facet_embeddings (b, k, d), facet_prior (b, k), granularity_gate (b, 4)."""
        mask = features["attention_mask"].bool()
        layout = Layout(mask, *(features[name] for name in LAYOUT_FIELDS))
        asked = (layout.is_question.unsqueeze(1) & mask).unsqueeze(2) * self.head.question
        self._asked = asked.to(self.model.dtype)
        states = self.model(input_ids=features["input_ids"], attention_mask=mask.long()).last_hidden_state
        self._asked = None
        made = self.head(states.to(self.head.anchors.dtype), layout)
        return {
            **features,
            "token_embeddings": states,
            "sentence_embedding": made.single,
            "facet_embeddings": made.facets,
            "facet_prior": made.prior,
            "granularity_gate": made.gate,
        }

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> "UnifarModule":
        """From a folder or a hub name."""
        known = {
            name: kwargs[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in kwargs
        }
        return cls(cls.load_dir_path(model_name_or_path, subfolder=subfolder, **known))

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Writes the network, the head and this file into a folder."""
        target = Path(output_path)
        self.model.save_pretrained(target)
        save_file(self.head.state_dict(), target / HEAD_FILE)
        for name in ("tokenizer.json", SETTINGS_FILE):
            if (self._folder / name).resolve() != (target / name).resolve():
                shutil.copy(self._folder / name, target / name)
        shutil.copy(__file__, target / f"{__name__.rsplit('.', 1)[-1]}.py")
