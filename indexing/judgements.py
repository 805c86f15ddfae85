"""The judged queries of a collection: what was asked and which documents answer it, to compare ways to search by.

They come from a test collection's files and are replaced as a whole. Only relevant documents (grade 1 and above) are
kept: no measure of a ranking needs the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrail.indexing.collection import Collection
from facetrail.indexing.collection_judgements import (
    JUDGEMENT_COLUMNS,
    JudgedQuery,
    decode_judged,
    encode_judged,
    require_judged,
)
from facetrail.indexing.collection_schema import has_table, upgrade, write_property
from facetrail.indexing.corpus_judgements import read_qrels, read_queries
from facetrail.models.errors import InvalidInput

__all__ = ["MAX_JUDGED", "JudgedQuery", "Judgements", "JudgementsResult", "ReadJudgements", "read_judgements"]

MAX_JUDGED = 10_000
"""Queries of one collection: they are read, sent and compared all at once."""


@dataclass(frozen=True, slots=True)
class JudgementsResult:
    """What storing judged queries came to."""

    n_queries: int
    n_judgements: int
    n_replaced: int
    """Judged queries that were there before and are no more."""
    unknown_documents: tuple[str, ...]
    """Relevant documents that are not in the collection: kept, and never found until they are."""


class Judgements:
    """Thread-safe, as the collection is. One of an older schema has none, and gets its table with the first."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def replace(self, judged: Sequence[JudgedQuery]) -> JudgementsResult:
        """Stores judged queries in the place of those that are there, in one transaction; on disk when it returns.

        Raises InvalidInput naming the query that cannot be stored, before anything is written.
        """
        if len(judged) > MAX_JUDGED:
            raise InvalidInput(
                f"{len(judged):,} judged queries, at most {MAX_JUDGED:,} are kept; give a sample of them"
            )
        for query in judged:
            require_judged(query)
        if len({query.id for query in judged}) < len(judged):
            raise InvalidInput("a query id comes twice among the judged queries; ids must differ")
        rows = [encode_judged(query, number) for number, query in enumerate(judged, 1)]
        with self._collection.transaction() as view:
            upgrade(view.connection, view.database)
            n_replaced = view.connection.execute("DELETE FROM judgements").rowcount
            view.connection.executemany(f"INSERT INTO judgements ({JUDGEMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?)", rows)
            write_property(view.connection, "judgements", str(len(rows)))
            named = dict.fromkeys(i for query in judged for i in query.relevant)
            living = view.living(named)
        unknown = tuple(i for i in named if i not in living)
        return JudgementsResult(len(rows), sum(len(q.relevant) for q in judged), n_replaced, unknown)

    def all(self) -> list[JudgedQuery]:
        """Every judged query, in the order in which they were given; empty where there are none."""
        with self._collection.snapshot() as view:
            if not has_table(view.connection, "judgements"):
                return []
            rows = view.rows(f"SELECT {JUDGEMENT_COLUMNS} FROM judgements ORDER BY number")
            return [decode_judged(row, view.database) for row in rows]


@dataclass(frozen=True, slots=True)
class ReadJudgements:
    """Judged queries out of a test collection's files, and what was left out of them."""

    queries: tuple[JudgedQuery, ...]
    """In the order of the judgements."""
    n_without_text: int
    """Queries with relevant documents that the file of queries does not hold."""
    n_without_relevant: int
    """Judged queries to which nothing is relevant."""


def read_judgements(queries: Path, qrels: Path) -> ReadJudgements:
    """Reads `queries.jsonl` and the judgements of one split. Raises what `read_queries` and `read_qrels` do, and
    InvalidInput where no query has both a text and a relevant document."""
    texts = {query.id: query.text for query in read_queries(queries)}
    graded = {query_id: {d: g for d, g in grades.items() if g >= 1} for query_id, grades in read_qrels(qrels).items()}
    relevant = {query_id: grades for query_id, grades in graded.items() if grades}
    judged = tuple(JudgedQuery(i, texts[i], grades) for i, grades in relevant.items() if i in texts)
    if not judged:
        raise InvalidInput(
            f"none of the {len(relevant):,} queries with relevant documents in {qrels} is in {queries}; "
            "give the queries that these judgements were made for"
        )
    return ReadJudgements(judged, len(relevant) - len(judged), len(graded) - len(relevant))
