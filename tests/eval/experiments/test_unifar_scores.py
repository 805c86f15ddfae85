"""Rankings from vectors, against plain loops over pairs."""

import numpy as np
import pytest

from facetrail.eval.experiments.unifar_scores import (
    Encoded,
    EncodedTexts,
    Ranked,
    bytes_per_document,
    facet_matches,
    fused,
    hidden_rows,
    lexical_ranking,
    merged_sentences,
    mixed,
    role_facets,
    sentence_matches,
    single_ranking,
    weighted_matches,
)
from facetrail.eval.experiments.unifar_sets import JudgedSet
from facetrail.models.errors import InvalidInput

N, Q, K, D = 12, 5, 4, 6
NOTHING_HIDDEN = np.full(Q, -1)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pair() -> tuple[Encoded, Encoded]:
    rng = np.random.default_rng(3)

    def encoded(n: int) -> Encoded:
        first = np.concatenate([[0], np.cumsum(rng.integers(1, 5, n))])
        prior = rng.random((n, K)).astype(np.float32)
        return Encoded(
            unit(rng.standard_normal((n, D))),
            unit(rng.standard_normal((n, K, D))),
            prior / prior.sum(1, keepdims=True),
            unit(rng.standard_normal((int(first[-1]), D))),
            first,
        )

    return encoded(Q), encoded(N)


def facet_score(q: Encoded, i: int, d: Encoded, j: int, margin: float, weights: np.ndarray) -> float:
    """s_K, one pair, as the formula is written."""
    assert q.facets is not None
    assert d.facets is not None
    total = 0.0
    for k in range(K):
        same = float(q.facets[i, k] @ d.facets[j, k])
        best = max(float(q.facets[i, k] @ d.facets[j, other]) for other in range(K))
        total += float(weights[k]) * max(same, best - margin)
    return total


def test_single_ranking_is_the_order_of_cosines(pair: tuple[Encoded, Encoded]) -> None:
    queries, documents = pair
    ranked = single_ranking(queries, documents, NOTHING_HIDDEN, depth=7)
    for i in range(Q):
        cosines = [float(queries.single[i] @ documents.single[j]) for j in range(N)]
        assert ranked.rows[i].tolist() == sorted(range(N), key=lambda j: (-cosines[j], j))[:7]
        assert ranked.scores[i].tolist() == pytest.approx(sorted(cosines, reverse=True)[:7], abs=1e-6)


def test_the_querys_own_document_is_left_out_and_the_next_moves_up(pair: tuple[Encoded, Encoded]) -> None:
    queries, documents = pair
    best = single_ranking(queries, documents, NOTHING_HIDDEN, depth=N).rows
    without = single_ranking(queries, documents, best[:, 0], depth=N)
    assert (without.rows[:, : N - 1] == best[:, 1:]).all()
    assert (without.rows[:, N - 1] == -1).all()


@pytest.mark.parametrize("prior", ["own", "uniform"])
def test_facet_scores_are_those_of_the_formula(pair: tuple[Encoded, Encoded], prior: str) -> None:
    queries, documents = pair
    assert queries.prior is not None
    rows = single_ranking(queries, documents, NOTHING_HIDDEN, depth=8).rows
    found = weighted_matches(
        facet_matches(queries, documents, rows, margin=0.05), queries, "own" if prior == "own" else "uniform"
    )
    for i in range(Q):
        weights = queries.prior[i] if prior == "own" else np.full(K, 1 / K)
        wanted = [facet_score(queries, i, documents, j, 0.05, weights) for j in rows[i].tolist()]
        assert found[i].tolist() == pytest.approx(wanted, abs=1e-6)


def test_sentence_scores_are_the_best_cosine(pair: tuple[Encoded, Encoded]) -> None:
    queries, documents = pair
    assert documents.sentences is not None
    assert documents.first is not None
    rows = np.argsort(np.random.default_rng(0).random((Q, N)), axis=1)
    found = sentence_matches(queries, documents, rows)
    for i in range(Q):
        for place, j in enumerate(rows[i].tolist()):
            its = documents.sentences[documents.first[j] : documents.first[j + 1]]
            assert found[i, place] == pytest.approx(max(float(queries.single[i] @ s) for s in its), abs=1e-6)


def test_mixing_reorders_the_head_and_leaves_the_rest_behind_it(pair: tuple[Encoded, Encoded]) -> None:
    queries, documents = pair
    ranked = single_ranking(queries, documents, NOTHING_HIDDEN, depth=N)
    second = np.random.default_rng(1).uniform(-1, 1, (Q, 5))
    found = mixed(ranked, second, 0.7)
    for i in range(Q):
        wanted = {j: 0.3 * s + 0.7 * t for j, s, t in zip(ranked.rows[i], ranked.scores[i], second[i], strict=False)}
        assert found.rows[i, :5].tolist() == sorted(wanted, key=lambda j: -wanted[j])
        assert found.scores[i, :5].tolist() == pytest.approx(sorted(wanted.values(), reverse=True))
        assert found.rows[i, 5:].tolist() == ranked.rows[i, 5:].tolist()
        assert (np.diff(found.scores[i]) <= 0).all()
        assert found.scores[i, 4] > found.scores[i, 5]


def test_a_share_of_nothing_changes_nothing(pair: tuple[Encoded, Encoded]) -> None:
    queries, documents = pair
    ranked = single_ranking(queries, documents, np.arange(Q), depth=N)  # one place of each row stays empty
    found = mixed(ranked, np.random.default_rng(1).uniform(-1, 1, (Q, N)), 0.0)
    assert (found.rows == ranked.rows).all()
    np.testing.assert_array_equal(found.scores, ranked.scores)


def test_role_facets_are_means_of_a_roles_sentences_or_the_whole_text(pair: tuple[Encoded, Encoded]) -> None:
    _, documents = pair
    assert documents.sentences is not None
    assert documents.first is not None
    roles = np.random.default_rng(5).integers(-1, K, len(documents.sentences))
    found = role_facets(documents, roles, K)
    for j in range(N):
        its = range(int(documents.first[j]), int(documents.first[j + 1]))
        for k in range(K):
            of_role = [documents.sentences[s] for s in its if roles[s] == k]
            wanted = unit(np.mean(of_role, axis=0)) if of_role else documents.single[j]
            np.testing.assert_allclose(found[j, k], wanted, atol=1e-6)


def test_merged_sentences_keep_short_texts_and_join_neighbours_of_long_ones() -> None:
    rows = unit(np.random.default_rng(2).standard_normal((9, D)))
    merged, first = merged_sentences(rows, np.array([0, 2, 9]), 4)
    assert first.tolist() == [0, 2, 6]
    np.testing.assert_allclose(merged[:2], rows[:2], atol=1e-6)
    groups = [rows[2:4], rows[4:6], rows[6:8], rows[8:9]]  # seven sentences in four runs
    np.testing.assert_allclose(merged[2:], [unit(g.mean(0)) for g in groups], atol=1e-6)


def test_bytes_count_the_vectors_an_index_keeps(pair: tuple[Encoded, Encoded]) -> None:
    documents = pair[1]
    assert documents.sentences is not None
    assert bytes_per_document(documents, facets=False, sentences=False) == 4 * D
    assert bytes_per_document(documents, facets=True, sentences=False) == 4 * D + K * (D + 4)
    more = len(documents.sentences) / N * (D + 4)
    assert bytes_per_document(documents, facets=False, sentences=True) == pytest.approx(4 * D + more)


def test_fusion_is_the_z_sum_of_both_lists() -> None:
    lexical = Ranked(np.array([[0, 1, 2]]), np.array([[9.0, 5.0, 1.0]]))
    dense = Ranked(np.array([[2, 0, 1]]), np.array([[0.9, 0.5, 0.4]]))
    found = fused(lexical, dense, 0.25, depth=3)

    def z(scores: list[float]) -> np.ndarray:
        return (np.array(scores) - np.mean(scores)) / np.std(scores)

    a, b = z([9, 5, 1]), z([0.9, 0.5, 0.4])
    wanted = {0: 0.75 * a[0] + 0.25 * b[1], 1: 0.75 * a[1] + 0.25 * b[2], 2: 0.75 * a[2] + 0.25 * b[0]}
    assert found.rows[0].tolist() == sorted(wanted, key=lambda j: -wanted[j])
    assert found.scores[0].tolist() == pytest.approx(sorted(wanted.values(), reverse=True))


def test_texts_that_sets_share_have_one_row() -> None:
    judged = JudgedSet("s", "document", {"a": "x"}, {"b": "y", "a": "x"}, {"a": {"b": 1}}, exclude_self=True)
    encoded = Encoded(np.eye(2, dtype=np.float32))
    texts = EncodedTexts({"x": 0, "y": 1}, encoded, {}, Encoded(np.empty((0, 2), np.float32)))
    queries, documents = texts.of(judged)
    assert queries.single.tolist() == [[1, 0]]
    assert documents.single.tolist() == [[1, 0], [0, 1]]  # in the order of ids: a, b
    assert hidden_rows(judged).tolist() == [0]


def test_taking_rows_takes_their_sentences_along(pair: tuple[Encoded, Encoded]) -> None:
    documents = pair[1]
    taken = documents.take(np.array([3, 0, 3]))
    assert taken.first is not None
    assert documents.first is not None
    assert taken.sentences is not None
    assert documents.sentences is not None
    for place, j in enumerate([3, 0, 3]):
        np.testing.assert_array_equal(
            taken.sentences[taken.first[place] : taken.first[place + 1]],
            documents.sentences[documents.first[j] : documents.first[j + 1]],
        )


def test_bm25_finds_the_words_and_not_the_query_itself() -> None:
    documents = {"a": "graph colouring", "b": "graph colouring heuristics", "c": "steam engines"}
    judged = JudgedSet("s", "document", {"a": documents["a"]}, documents, {"a": {"b": 1}}, exclude_self=True)
    assert lexical_ranking(judged, depth=3).rows.tolist() == [[1, -1, -1]]


def test_vectors_that_do_not_belong_together_are_refused() -> None:
    single = np.eye(2, dtype=np.float32)
    with pytest.raises(InvalidInput, match="one row a text"):
        Encoded(single, np.ones((3, K, 2), np.float32))
    with pytest.raises(InvalidInput, match="no sentence vector"):
        Encoded(single, sentences=single, first=np.array([0, 2, 2]))
    with pytest.raises(InvalidInput, match="facet vectors"):
        facet_matches(Encoded(single), Encoded(single), np.zeros((2, 1), np.int64), margin=0)
