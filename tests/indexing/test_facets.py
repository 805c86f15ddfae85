"""The facet index: its arithmetic against plain Python, its saved and growing parts, its size."""

from pathlib import Path

import numpy as np
import pytest
from contracts.facet_batches import assert_same, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.facets import FacetConfig, FacetIndex
from facetrail.models.errors import Damaged, InvalidInput
from facetrail.models.text.facets import FACETS, FacetBatch, FacetQuery, quantise

DIM = 16
CONFIG = FacetConfig(names=FACETS, margin=0.05, mixing=0.3)


def make_query(seed: int = 100, *, k: int = 4, dim: int = DIM) -> FacetQuery:
    batch = make_batch(2, k=k, dim=dim, seed=seed)
    vectors = batch.vectors[0] * batch.scales[0][:, None]
    single = vectors[0] / np.linalg.norm(vectors[0])
    return FacetQuery(single, vectors.astype(np.float32), batch.prior[0], batch.gate[0], "question")


def filled(n: int = 40, config: FacetConfig = CONFIG) -> tuple[FacetIndex, FacetBatch]:
    index, batch = FacetIndex(DIM, config), make_batch(n)
    index.add(range(n), batch)
    return index, batch


def oracle(
    query: FacetQuery, weights: list[float], batch: FacetBatch, config: FacetConfig, same_only: bool
) -> list[float]:
    """s_k as the formula reads, one number at a time."""
    scores = []
    for row in range(len(batch)):
        total = 0.0
        for k, weight in enumerate(weights):
            cosines = [
                sum(float(q) * float(x) for q, x in zip(query.facets[k], batch.vectors[row, j], strict=True))
                * float(batch.scales[row, j])
                for j in range(len(weights))
            ]
            total += weight * (cosines[k] if same_only else max(cosines[k], max(cosines) - config.margin))
        scores.append(total)
    return scores


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    weights=st.lists(st.floats(0, 10), min_size=4, max_size=4).filter(lambda w: sum(w) > 0.01),
    margin=st.floats(0, 0.5),
    mixing=st.floats(0, 1),
    same_only=st.booleans(),
)
def test_scores_are_those_of_the_formula(
    seed: int, weights: list[float], margin: float, mixing: float, same_only: bool
) -> None:
    config = FacetConfig(names=FACETS, margin=margin, mixing=mixing)
    index, batch = FacetIndex(DIM, config), make_batch(6, seed=seed)
    index.add(range(6), batch)
    shares = np.array(weights) / sum(weights)
    s_1 = np.random.default_rng(seed).uniform(-1, 1, 3)
    scores, s_k = index.rescore(make_query(seed + 1), shares, [5, 0, 3], s_1, same_only=same_only)
    expected = np.array(oracle(make_query(seed + 1), shares.tolist(), batch, config, same_only))[[5, 0, 3]]
    np.testing.assert_allclose(s_k, expected, atol=1e-5)
    np.testing.assert_allclose(scores, (1 - mixing) * s_1 + mixing * expected, atol=1e-5)


def test_another_facet_counts_at_the_price_of_the_margin() -> None:
    index, batch = filled()
    query = make_query()
    found = index.match(query, range(40), same_only=False)
    moved = found.matched != np.arange(4)
    assert 0 < moved.sum() < moved.size
    cosines = np.einsum("kd,njd->nkj", query.facets, batch.vectors * batch.scales[:, :, None])
    np.testing.assert_allclose(found.scores[moved], cosines.max(axis=2)[moved] - 0.05, atol=1e-5)
    np.testing.assert_allclose(found.scores[~moved], np.einsum("nkk->nk", cosines)[~moved], atol=1e-5)
    alone = index.match(query, range(40), same_only=True)
    assert (alone.matched == np.arange(4)).all()
    np.testing.assert_allclose(alone.scores, np.einsum("nkk->nk", cosines), atol=1e-5)
    dear = FacetIndex(DIM, CONFIG.model_copy(update={"margin": 2.0}))
    dear.add(range(40), batch)
    np.testing.assert_array_equal(dear.match(query, range(40), same_only=False).scores, alone.scores)


def test_eight_bits_are_close_to_float32() -> None:
    rng = np.random.default_rng(3)
    exact = rng.standard_normal((50, 4, 384)).astype(np.float32)
    exact /= np.linalg.norm(exact, axis=2, keepdims=True)
    batch = make_batch(50, dim=384)
    index = FacetIndex(384, CONFIG)
    index.add(
        range(50), FacetBatch(*quantise(exact), batch.prior, batch.gate, batch.first, batch.attention, batch.roles)
    )
    query = FacetQuery(exact[0, 0], exact[7], batch.prior[7], batch.gate[7], "question")
    found = index.match(query, range(50), same_only=False)
    cosines = np.einsum("kd,njd->nkj", exact[7], exact)
    best = np.maximum(np.einsum("nkk->nk", cosines), cosines.max(axis=2) - 0.05)
    np.testing.assert_allclose(found.scores, best, atol=1e-2)


def test_a_score_does_not_depend_on_company_or_on_where_it_is_stored(tmp_path: Path) -> None:
    index, batch = filled()
    query, weights = make_query(), np.array([0.1, 0.2, 0.3, 0.4])
    s_1 = np.linspace(0, 1, 40)
    together, _ = index.rescore(query, weights, range(40), s_1, same_only=False)
    alone = np.concatenate([index.rescore(query, weights, [i], s_1[i : i + 1], same_only=False)[0] for i in range(40)])
    np.testing.assert_array_equal(together, alone)
    index.remove(range(20, 40))
    index.save(tmp_path)
    mixed = FacetIndex.open(tmp_path)
    mixed.add(range(20, 40), batch.take(range(20, 40)))
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_array_equal(mixed.rescore(query, weights, order, s_1[order], same_only=False)[0], together[order])
    assert_same(mixed.details(order), batch.take(order))


def test_removal_forgets_and_misuse_changes_nothing(tmp_path: Path) -> None:
    index, batch = filled()
    index.remove([3, 4])
    assert len(index) == 38
    with pytest.raises(KeyError):
        index.details([3])
    for wrong in ([5, 99], [5, 5]):
        with pytest.raises(KeyError):
            index.remove(wrong)
    with pytest.raises(InvalidInput, match="shape"):
        index.add([100], make_batch(1, dim=DIM + 1))
    with pytest.raises(ValueError, match="in the index"):
        index.add([5], make_batch(1))
    assert len(index) == 38
    index.add([3], batch.take([30]))  # an ordinal may come back in a test; its old row must not
    assert_same(index.details([3]), batch.take([30]))
    index.save(tmp_path)
    opened = FacetIndex.open(tmp_path)
    assert len(opened) == 39
    assert_same(opened.details([3, 39]), batch.take([30, 39]))


def test_an_empty_index_survives_saving(tmp_path: Path) -> None:
    index, batch = filled(2)
    index.remove([0, 1])
    index.save(tmp_path)
    opened = FacetIndex.open(tmp_path)
    assert len(opened) == 0
    opened.add([7], batch.take([1]))
    assert_same(opened.details([7]), batch.take([1]))
    assert opened.config == CONFIG


def test_the_same_content_gives_the_same_files(tmp_path: Path) -> None:
    index, batch = filled()
    index.remove(range(0, 40, 2))
    fresh = FacetIndex(DIM, CONFIG)
    fresh.add(range(1, 40, 2), batch.take(range(1, 40, 2)))
    for name, each in (("a", index), ("b", fresh)):
        (tmp_path / name).mkdir()
        each.save(tmp_path / name)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(names) == 9
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


@pytest.mark.parametrize("name", ["facets.json", "vectors.npy", "first.npy", "ordinals.npy", "roles.npy"])
def test_a_file_of_another_shape_is_named_on_opening(tmp_path: Path, name: str) -> None:
    index, _ = filled()
    index.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(Damaged, match=name):
        FacetIndex.open(tmp_path)
    np.save(tmp_path / "first.npy", np.arange(41)[::-1].copy())
    (tmp_path / name).write_bytes(content) if name != "first.npy" else None
    with pytest.raises(Damaged, match=r"first\.npy"):
        FacetIndex.open(tmp_path)


def test_a_stored_document_is_a_query_of_its_own() -> None:
    index, batch = filled()
    single = np.eye(DIM, dtype=np.float32)[0]
    query = index.query(7, single)
    assert query.task == "document"
    np.testing.assert_allclose(np.linalg.norm(query.facets, axis=1), 1, atol=1e-2)
    np.testing.assert_array_equal(query.prior, batch.prior[7])
    best = index.match(query, range(40), same_only=True).scores.sum(axis=1).argmax()
    assert best == 7


def test_four_facets_cost_at_most_five_and_a_half_times_a_single_vector(tmp_path: Path) -> None:
    """Everything a document takes on disk beside words, at int8: single vector, facets, sentences, keys."""
    n, dim = 2_000, 384
    facets = FacetIndex(dim, CONFIG)
    batch = make_batch(n, dim=dim, sentences=8)
    facets.add(range(n), batch)
    dense = DenseIndex(dim, DenseConfig(kind="exact", storage="int8"))
    dense.add(range(n), (batch.vectors[:, 0] * batch.scales[:, :1]).astype(np.float32))
    sizes = {}
    for name, part in (("facets", facets), ("dense", dense)):
        (tmp_path / name).mkdir()
        part.save(tmp_path / name)
        sizes[name] = sum(p.stat().st_size for p in (tmp_path / name).iterdir())
    assert sizes["facets"] + sizes["dense"] <= 5.5 * n * dim
