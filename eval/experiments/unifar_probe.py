"""Do facets mean what they are called: a search with half of a role's sentences, and the roles of sentences.

Half of the sentences of one role (the first, third, …) ask for the abstract that keeps the other half, among all test
abstracts of CSAbstruct. Only facet scores count, with the user's weight on one facet: the role's own (right) or one of
the other three (wrong). Control: the same with the rows of the facets exchanged, as if anchors were permuted.
Beside it, what facets can reach that are nothing but the text of a role: the same by the annotators' own roles.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from facetrail.eval.experiments import unifar_scores as scores
from facetrail.eval.experiments.unifar_plan import Closed
from facetrail.eval.experiments.unifar_scores import Encoded, Ranked
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.indexing.corpus_judgements import MAX_LINE_BYTES
from facetrail.indexing.corpus_rows import BadRow, json_rows
from facetrail.indexing.index import Float32Array, Float64Array, Int64Array, best_with_ties
from facetrail.models.errors import InvalidInput
from facetrail.models.text.facets import FACETS

MEASURE = "RR@10"
ANNOTATED = "annotated roles"
SHIFT = 1
"""By how many places the control moves the facets: every facet lands on another."""


class RoleScores(Closed):
    """Roles of sentences. `accuracy` counts the role "other", which cannot be told, as missed."""

    accuracy: float
    accuracy_of_facets: float
    """Over sentences that have one of the facets as role."""
    f1: dict[str, float]
    """By facet."""

    @property
    def macro_f1(self) -> float:
        """Mean over facets."""
        return float(np.mean(list(self.f1.values())))


class Probed(Closed):
    """One arm under one seed: RR@10 of every probe query, and how well roles were told."""

    arm: str
    seed: int | None
    query_ids: tuple[str, ...]
    right: tuple[float, ...]
    wrong: tuple[float, ...]
    """Mean over the other facets."""
    shuffled_right: tuple[float, ...]
    shuffled_wrong: tuple[float, ...]
    roles: RoleScores | None = None


def read_abstracts(data: Path, split: str = "test") -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Sentences and roles of CSAbstruct's abstracts, in the order of the file."""
    found = []
    for number, row in json_rows(data / "csabstruct" / f"{split}.jsonl.gz", MAX_LINE_BYTES):
        if isinstance(row, BadRow):
            raise InvalidInput(f"csabstruct/{split}.jsonl.gz:{number}: {row.reason}")
        found.append((tuple(row["sentences"]), tuple(row["labels"])))
    return found


def probe_sets(abstracts: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[JudgedSet]:
    """One set a facet, in the order of FACETS; queries are parts of documents and encoded as documents."""
    found = []
    for facet in FACETS:
        queries, documents, qrels = {}, {}, {}
        for number, (sentences, labels) in enumerate(abstracts, start=1):
            name = f"csabstruct:test-{number}"
            taken = _asking(labels, facet)
            documents[name] = " ".join(text for place, text in enumerate(sentences) if place not in taken)
            if taken:
                query = f"{name}#{facet}"
                queries[query], qrels[query] = " ".join(sentences[place] for place in taken), {name: 1}
        found.append(JudgedSet(f"probe-{facet}", "document", queries, documents, qrels))
    return found


def by_annotation(
    abstracts: Sequence[tuple[Sequence[str], Sequence[str]]],
    sets: Sequence[JudgedSet],
    encode: Callable[[Sequence[str]], Float32Array],
) -> list[tuple[Encoded, Encoded]]:
    """Queries and documents of the sets of `probe_sets`, put together from sentences whose roles are known.

    A facet of a document is the mean of its sentences with that role, or of all where there is none; a query is the
    mean of its sentences under every facet. encode: sentences → (s, d) unit rows.
    """
    units = encode([sentence for sentences, _ in abstracts for sentence in sentences])
    owner = np.repeat(np.arange(len(abstracts)), [len(sentences) for sentences, _ in abstracts])
    roles = np.array([_place(label) for _, labels in abstracts for label in labels], np.int64)
    found = []
    for facet, judged in zip(FACETS, sets, strict=True):
        asks = np.concatenate([np.isin(np.arange(len(labels)), _asking(labels, facet)) for _, labels in abstracts])
        sizes = np.bincount(owner[~asks], minlength=len(abstracts))
        whole = Encoded(
            scores.means_by(units[~asks], owner[~asks], len(abstracts)),
            sentences=units[~asks],
            first=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        )
        place_of = {name: place for place, name in enumerate(judged.documents)}  # the sets sort theirs by name
        documents = Encoded(whole.single, scores.role_facets(whole, roles[~asks], len(FACETS))).take(
            np.array([place_of[name] for name in judged.document_ids], np.int64)
        )
        asking, place = np.unique(owner[asks], return_inverse=True)
        queries = scores.means_by(units[asks], place, len(asking))
        found.append((Encoded(queries, np.repeat(queries[:, None], len(FACETS), axis=1)), documents))
    return found


def probe(
    arm: str,
    vectors: Sequence[tuple[Encoded, Encoded]],
    sets: Sequence[JudgedSet],
    *,
    seed: int | None,
    margin: float,
    roles: RoleScores | None = None,
) -> Probed:
    """vectors: queries and documents of each of the sets of `probe_sets`."""
    tables: dict[bool, list[Float64Array]] = {False: [], True: []}  # (k, q) of every set
    ids: list[str] = []
    for judged, (queries, documents) in zip(sets, vectors, strict=True):
        ids += judged.queries
        for shuffled, found in tables.items():
            asked, pool = (_exchanged(x) if shuffled else x for x in (queries, documents))
            found.append(_reciprocal_ranks(judged, asked, pool, margin))
    right, wrong = _right_and_wrong(tables[False])
    shuffled_right, shuffled_wrong = _right_and_wrong(tables[True])
    return Probed(
        arm=arm, seed=seed, query_ids=tuple(ids), right=right, wrong=wrong,
        shuffled_right=shuffled_right, shuffled_wrong=shuffled_wrong, roles=roles,
    )  # fmt: skip


def role_scores(predicted: Int64Array, labels: Sequence[str]) -> RoleScores:
    """predicted: (s,) places in FACETS · labels: role names, "other" among them."""
    truth = np.array([_place(label) for label in labels], np.int64)
    if len(truth) != len(predicted) or not len(truth):
        raise InvalidInput(f"{len(predicted)} predicted roles for {len(truth)} sentences; give one for each")
    hit, is_facet = predicted == truth, truth >= 0
    f1 = {}
    for place, facet in enumerate(FACETS):
        both = int(((predicted == place) & (truth == place)).sum())
        either = int((predicted == place).sum()) + int((truth == place).sum())
        f1[facet] = 2 * both / either if either else 0.0
    return RoleScores(accuracy=float(hit.mean()), accuracy_of_facets=float(hit[is_facet].mean()), f1=f1)


def _place(label: str) -> int:
    return FACETS.index(label) if label in FACETS else -1


def _asking(labels: Sequence[str], facet: str) -> list[int]:
    """The sentences that leave their abstract and ask for it: every other one of a role that has two or more."""
    of_role = [place for place, label in enumerate(labels) if label == facet]
    return of_role[::2] if len(of_role) >= 2 else []


def _reciprocal_ranks(judged: JudgedSet, queries: Encoded, documents: Encoded, margin: float) -> Float64Array:
    """RR@10 of every query under each facet alone. → (k, q)."""
    everything = np.arange(len(documents.single))
    rows = np.tile(everything, (len(queries.single), 1))
    matches = scores.facet_matches(queries, documents, rows, margin=margin)  # (q, n, k)
    found = []
    for facet in range(matches.shape[2]):
        hits = [best_with_ties(everything, row, len(everything)) for row in matches[:, :, facet].astype(np.float64)]
        ranked = Ranked(
            np.array([h.ordinals for h in hits], np.int64).reshape(rows.shape),
            np.array([h.scores for h in hits], np.float64).reshape(rows.shape),
        )
        found.append(ranked.measured(judged, [MEASURE], depth=10).values[MEASURE])
    return np.array(found)


def _right_and_wrong(tables: Sequence[Float64Array]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The row of the set's own facet, and the mean of the others. tables: one (k, q) a facet, in the facets' order."""
    right = np.concatenate([table[place] for place, table in enumerate(tables)])
    wrong = np.concatenate([np.delete(table, place, axis=0).mean(axis=0) for place, table in enumerate(tables)])
    return tuple(right.tolist()), tuple(wrong.tolist())


def _exchanged(encoded: Encoded) -> Encoded:
    if encoded.facets is None:
        raise InvalidInput("the probe asks for facets; this arm has none")
    return Encoded(encoded.single, np.roll(encoded.facets, SHIFT, axis=1), encoded.prior)
