"""A planted world: topics that a good system sees and a poor one does not."""

from collections.abc import Sequence

import numpy as np

from facetrail.eval.experiments.unifar_scores import Encoded
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.models.text.facets import Task

DIM, FACETS = 16, 4


def make_set(name: str, *, n_queries: int = 30, n_documents: int = 60, task: Task = "question") -> JudgedSet:
    """Query i asks for document i; the words are no help, and no two sets share a text."""
    documents = {f"x:{i:03}": f"{name} text number {i}" for i in range(n_documents)}
    queries = {f"q{i:03}": f"{name} asks {i}" for i in range(n_queries)}
    if task == "document":
        queries = dict(list(documents.items())[:n_queries])
    qrels = {query: {f"x:{(i + (task == 'document')):03}": 1} for i, query in enumerate(queries)}
    return JudgedSet(
        name, task, queries, documents, qrels,
        exclude_self=task == "document", subsets={"first": frozenset(list(queries)[:5])},
    )  # fmt: skip


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


class World:
    """Vectors of every text: documents at random, a query near its relevant document. `noise` makes a system poor."""

    def __init__(self, noise: float, *, facet_noise: float | None = None, seed: int = 0) -> None:
        self.noise, self.facet_noise, self.seed = noise, noise if facet_noise is None else facet_noise, seed

    def __call__(self, judged: JudgedSet) -> tuple[Encoded, Encoded]:
        truth = np.random.default_rng(len(judged.name))
        documents = unit(truth.standard_normal((len(judged.document_ids), DIM)))
        place = {name: row for row, name in enumerate(judged.document_ids)}
        wanted = documents[[place[next(iter(judged.qrels[query]))] for query in judged.queries]]
        draws = np.random.default_rng(1_000 + self.seed)

        def asked(noise: float, shape: Sequence[int]) -> np.ndarray:
            return unit(np.broadcast_to(wanted[:, None], shape) + noise * draws.standard_normal(shape) / DIM**0.5)

        n = len(judged.queries)
        single = asked(self.noise, (n, 1, DIM))[:, 0]
        prior = np.full((n, FACETS), 1 / FACETS, np.float32)
        queries = Encoded(single, asked(self.facet_noise, (n, FACETS, DIM)), prior)
        facets = np.repeat(documents[:, None], FACETS, axis=1)
        first = np.arange(len(documents) + 1)
        return queries, Encoded(documents, facets, np.full((len(documents), FACETS), 0.25), documents, first)
