"""8-bit codes: the bound on the error, and the wrap-around that integer products would bring."""

import numpy as np
import pytest

from facetrail.indexing.dense import DenseConfig, DenseIndex
from facetrail.indexing.quantise import decode_int8, encode_int8


def test_each_component_is_off_by_at_most_half_a_step() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((500, 96)) * 10.0 ** rng.integers(-6, 3, (500, 1))).astype(np.float32)
    codes, scales = encode_int8(rows)
    assert np.abs(codes.astype(np.int64)).max() == 127
    error = np.abs(decode_int8(codes, scales).astype(np.float64) - rows)
    assert (error <= scales[:, None].astype(np.float64) * 0.5001).all()


def test_by_hand() -> None:
    codes, scales = encode_int8(np.array([[1.27, -0.64, 0.005], [0, 0, 0]], np.float32))
    assert codes.tolist() == [[127, -64, 0], [0, 0, 0]]
    np.testing.assert_allclose(scales, [0.01, 1], rtol=1e-6)


def test_tiny_and_empty_rows_do_not_divide_by_zero() -> None:
    codes, scales = encode_int8(np.full((1, 4), 1e-45, np.float32))
    assert np.isfinite(scales).all()
    assert np.isfinite(decode_int8(codes, scales)).all()
    assert encode_int8(np.empty((0, 4), np.float32))[0].shape == (0, 4)


@pytest.mark.parametrize("dim", [64, 384])
def test_scores_are_off_by_at_most_4_thousandths(dim: int) -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((4_000, dim))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    index = DenseIndex(dim, DenseConfig(storage="int8"))
    index.add(range(len(rows)), rows)
    for query in rows[:20]:
        exact = rows.astype(np.float64) @ query.astype(np.float64)
        assert np.abs(index.score(query, range(len(rows))) - exact).max() <= 0.004


def test_products_do_not_wrap_around() -> None:
    """Codes of 127 · 127 · 384 need 23 bits; an 8-bit product of them is noise."""
    row = np.full((1, 384), 384**-0.5, np.float32)
    index = DenseIndex(384, DenseConfig(storage="int8"))
    index.add([0], row)
    assert index.search(row[0], 1).scores[0] == pytest.approx(1, abs=1e-4)
    codes, _ = encode_int8(row)
    assert int(codes[0] @ codes[0]) != 127 * 127 * 384  # what the trap looks like
