"""Everything that happens before the first step, each part kept in the cache: pairs, states, roles, facet targets."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from facetrail.indexing.progress import Progress
from facetrail.models.text.facets import FACETS
from facetrail.models.text.sentences import split_sentences
from facetrail.models.text.source import EncoderSource, Overrides, find_source
from facetrail.models.text.unifar import UnifarHead
from facetrail.training.text import leaks, roles
from facetrail.training.text.corpora import RoleAbstract, Split, drawn, load_roles
from facetrail.training.text.dev_sets import DevSet
from facetrail.training.text.pairs import build_training_data, load_dev, permuted
from facetrail.training.text.records import Pair, TrainingData
from facetrail.training.text.states import StateBuilder, StateStore
from facetrail.training.text.unifar_batches import PairTable
from facetrail.training.text.unifar_dev import DevStates, gains_of
from facetrail.training.text.unifar_model import UnifarModel
from facetrail.training.text.unifar_recipe import UnifarRecipe
from facetrail.training.text.unifar_step import Stores

BASE = "base"


@dataclass(frozen=True)
class Roles:
    """What the stage "roles" left. maps: tensors of the head · prior: (k,) shares of the roles in labelled text ·
    head: a head that holds those tensors, over the frozen base."""

    maps: dict[str, Tensor]
    prior: Tensor
    head: UnifarHead
    dev_accuracy: float
    abstracts: Mapping[Split, list[RoleAbstract]]


class Prepared:
    """What every arm shares. States come after the last frozen layer, or after the last of all (`final`)."""

    def __init__(self, data: Path, recipe: UnifarRecipe, *, device: torch.device, progress: Progress) -> None:
        self.data, self.recipe, self._progress = data, recipe, progress
        self.source: EncoderSource = find_source(BASE, Overrides())
        self.base_config: Mapping[str, Any] = self.source.config
        self.base_tensors: dict[str, Tensor] = {}
        for path in self.source.weights:
            self.base_tensors |= load_file(path)
        self._builder = StateBuilder(
            self.source,
            max_sentences=recipe.unifar.max_sentences,
            max_paragraphs=recipe.unifar.max_paragraphs,
            device=device,
        )
        self.training: TrainingData = build_training_data(
            data, recipe.pairs, rng=np.random.default_rng(0), progress=progress
        )
        leaks.check(data, self.training)
        self.neighbours = self.training.neighbours
        self.dev_sets = [smaller(dev, recipe.n_dev_others) for dev in load_dev(data)]
        self.roles = self._fit_roles()
        self._questions, self._documents = _rows(self.training)
        self.table = self._with_split_targets(self._table(self.training.train))

    def permuted(self) -> "Prepared":
        """The same with the right texts dealt out at random: the control that must teach nothing."""
        other = copy(self)
        table = self._table(permuted(self.training.train, np.random.default_rng(0)))
        other.table = replace(table, split=self.table.split)
        return other

    def _table(self, pairs: Sequence[Pair]) -> PairTable:
        return _table(pairs, self.training.texts, self._questions, self._documents)

    def _fit_roles(self) -> "Roles":
        # One sentence alone is read by its tokens, so that its label would fall on one of them.
        abstracts: dict[Split, list[RoleAbstract]] = {
            split: [abstract for abstract in load_roles(self.data, split) if len(abstract.sentences) > 1]
            for split in ("train", "dev", "test")
        }
        labelled = {
            split: roles.labelled_sentences(roles.role_store(self._builder, abstracts[split]), abstracts[split])
            for split in ("train", "dev")
        }
        head = UnifarHead(self.recipe.unifar, generator=torch.Generator().manual_seed(0))
        fit = roles.fit_roles(head, labelled["train"], labelled["dev"])
        counts = torch.bincount(labelled["train"].labels.clamp_min(-1) + 1, minlength=len(FACETS) + 1)[1:].float()
        return Roles(fit.state, counts / counts.sum(), head, fit.dev.accuracy, abstracts)

    def layer(self, *, final: bool) -> int:
        """How many layers lie below what is trained."""
        n_layers = int(self.base_config["num_hidden_layers"])
        return n_layers if final else n_layers - self.recipe.unifar.trained_layers

    def store(self, name: str, texts: Sequence[str], *, is_question: bool, final: bool) -> StateStore:
        """The states of texts, from the cache where they are complete."""
        recipe, layer = self.recipe, self.layer(final=False)

        def progress(done: int, of: int) -> None:
            self._progress(f"states of {name}", done, of)

        store = self._builder.build(
            texts,
            max_tokens=recipe.question_tokens if is_question else recipe.document_tokens,
            layer=layer,
            progress=progress,
        )
        return self._builder.continued(store, layer, progress=progress) if final else store

    def stores(self, *, final: bool) -> Stores:
        """Where the rows of a batch point to."""
        abstracts = self.roles.abstracts["train"]
        return Stores(
            questions=self.store("questions", list(self._questions), is_question=True, final=final),
            documents=self.store("documents", list(self._documents), is_question=False, final=final),
            roles=self._labelled_store("train", final=final),
            targets=_targets(abstracts, self.recipe.unifar.max_sentences),
        )

    def _labelled_store(self, split: Split, *, final: bool) -> StateStore:
        return roles.role_store(self._builder, self.roles.abstracts[split], layer=self.layer(final=final))

    def told_roles(self, model: UnifarModel, split: Split, *, final: bool) -> tuple[NDArray[np.int64], list[str]]:
        """(s,) the facet a model gives each labelled sentence, -1 where it read too little, and the labels."""
        store, told = self._labelled_store(split, final=final), list[NDArray[np.int64]]()
        labels = [label for abstract in self.roles.abstracts[split] for label in abstract.labels]
        with torch.inference_mode():
            for row, abstract in enumerate(self.roles.abstracts[split]):
                state = model.encode(store, [row], is_question=False)
                found = state.roles[0].argmax(1).cpu().numpy()[: store.n_sentences[row]]
                told.append(np.full(len(abstract.labels), -1, np.int64))
                told[-1][: len(found)] = found
        return np.concatenate(told), labels

    def dev(self, *, final: bool) -> list[DevStates]:
        """The development sets."""
        found = []
        for dev in self.dev_sets:
            document_ids = list(dev.documents)
            column = {document_id: i for i, document_id in enumerate(document_ids)}
            query_ids, is_question = [query.id for query in dev.queries], dev.kind == "qd"
            found.append(
                DevStates(
                    dev.name,
                    self.store(
                        f"{dev.name}'s queries", [q.text for q in dev.queries], is_question=is_question, final=final
                    ),
                    is_question,
                    self.store(f"{dev.name}'s documents", list(dev.documents.values()), is_question=False, final=final),
                    gains_of(dev.qrels, query_ids, document_ids),
                    np.array([column.get(query_id, -1) for query_id in query_ids], np.int64),
                )
            )
        return found

    def _with_split_targets(self, table: PairTable) -> PairTable:
        """Base vectors of the title and the sentences of each role, for the first right texts in the pairs' order."""
        rows = list(dict.fromkeys(table.right.tolist()))[: self.recipe.n_split_documents]
        documents = list(self._documents)
        texts = [documents[row] for row in rows]
        store = self.store("right texts", texts, is_question=False, final=True)
        parts: list[str] = []
        places: list[tuple[int, int]] = []
        for row, text, told in zip(rows, texts, roles.predict_roles(self.roles.head, store), strict=True):
            labels = told.argmax(1).tolist()
            for k, part in enumerate(split_by_role(text, labels)):
                if part:
                    parts.append(part)
                    places.append((row, k))
        vectors = self.store("facet targets", parts, is_question=False, final=True).base
        split: dict[int, NDArray[np.float32]] = {}
        for (row, k), vector in zip(places, vectors, strict=True):
            split.setdefault(row, np.zeros((len(FACETS), vectors.shape[1]), np.float32))[k] = vector
        return replace(table, split=split)


def smaller(dev: DevSet, n_others: int) -> DevSet:
    """The set with fewer documents that are relevant to nothing."""
    needed = {name for grades in dev.qrels.values() for name in grades} | {query.id for query in dev.queries}
    kept = needed | set(drawn((name for name in dev.documents if name not in needed), n_others, "dev pool"))
    return replace(dev, documents={name: text for name, text in dev.documents.items() if name in kept})


def split_by_role(text: str, labels: Sequence[int]) -> list[str]:
    """(facets) the title and the sentences of each role; empty where the role does not occur.

    labels: facet of each sentence, -1 for none. A first line counts as title where more lines follow.
    """
    spans = split_sentences(text)[: len(labels)]
    title, _, rest = text.partition("\n")
    is_titled = bool(rest.strip())
    found = []
    for k in range(len(FACETS)):
        own = [
            text[start:end]
            for (start, end), label in zip(spans, labels, strict=True)
            if label == k and not (is_titled and start < len(title))
        ]
        found.append("\n".join([title, " ".join(own)]) if own and is_titled else " ".join(own))
    return found


def _rows(training: TrainingData) -> tuple[dict[str, int], dict[str, int]]:
    """Question texts and document texts, each with its row."""
    pairs = training.train
    questions = dict.fromkeys(pair.left for pair in pairs if pair.kind == "qd")
    documents = dict.fromkeys(pair.left for pair in pairs if pair.kind == "dd")
    documents |= dict.fromkeys(pair.right for pair in pairs)
    documents |= dict.fromkeys(training.texts[name] for pair in pairs for name in pair.negatives)
    return {text: row for row, text in enumerate(questions)}, {text: row for row, text in enumerate(documents)}


def _table(
    pairs: Sequence[Pair], texts: Mapping[str, str], questions: Mapping[str, int], documents: Mapping[str, int]
) -> PairTable:
    """The pairs as rows of both stores."""
    most = max((len(p.negatives) for p in pairs), default=0)
    negatives = np.full((len(pairs), most), -1, np.int64)
    for i, pair in enumerate(pairs):
        negatives[i, : len(pair.negatives)] = [documents[texts[name]] for name in pair.negatives]
    return PairTable(
        pairs,
        np.array([(questions if p.kind == "qd" else documents)[p.left] for p in pairs], np.int64),
        np.array([documents[p.right] for p in pairs], np.int64),
        negatives,
        [p.negatives for p in pairs],
        {},
    )


def _targets(abstracts: Sequence[RoleAbstract], most: int) -> NDArray[np.float32]:
    """(texts, sentences, k) soft labels, zeros where a sentence has none."""
    width = min(most, max(len(abstract.targets) for abstract in abstracts))
    targets = np.zeros((len(abstracts), width, len(FACETS)), np.float32)
    for row, abstract in enumerate(abstracts):
        for place, target in enumerate(abstract.targets[:width]):
            if target is not None:
                targets[row, place] = target
    return targets
