"""One document's facet data as bytes."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from contracts.facet_batches import assert_same, make_batch

from facetrail.indexing.facet_codec import checked, pack, unpack
from facetrail.models.errors import InvalidInput


@pytest.mark.parametrize(("n", "k", "dim"), [(0, 4, 16), (1, 1, 1), (7, 4, 384), (5, 9, 33)])
def test_what_is_packed_comes_back_bit_for_bit(n: int, k: int, dim: int) -> None:
    batch = make_batch(n, k=k, dim=dim)
    assert_same(unpack(pack(batch), k, dim), batch)


def test_documents_come_back_in_any_order() -> None:
    batch = make_batch(9)
    packed = pack(batch)
    assert_same(unpack([packed[i] for i in (4, 0, 8)], 4, 16), batch.take([4, 0, 8]))


def test_the_bytes_are_little_endian_and_of_the_promised_size() -> None:
    batch = make_batch(1, dim=384, sentences=8)
    (blob,) = pack(batch)
    assert len(blob) == 1_656
    assert struct.unpack_from("<BBHI", blob) == (1, 4, 8, 384)
    assert struct.unpack_from("<f", blob, 8 + 4 * 384)[0] == batch.scales[0, 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[:5], "head"),
        (lambda b: b"\x02" + b[1:], "version 2"),
        (lambda b: b[:-1], "bytes, not"),
        (lambda b: b + b"\x00", "bytes, not"),
        (lambda b: b[:1] + b"\x05" + b[2:], "5 facets"),
    ],
)
def test_bytes_of_another_form_are_refused(change: Callable[[bytes], bytes], words: str) -> None:
    (blob,) = pack(make_batch(1))
    with pytest.raises(ValueError, match=words):
        unpack([change(blob)], 4, 16)


def test_a_batch_that_does_not_fit_is_refused_by_name() -> None:
    batch = make_batch(3)
    assert checked(batch, 3, 4, 16) is batch
    with pytest.raises(InvalidInput, match="first"):
        checked(batch, 2, 4, 16)
    with pytest.raises(InvalidInput, match="vectors of shape"):
        checked(batch, 3, 4, 17)
    batch.prior[1, 2] = np.nan
    with pytest.raises(InvalidInput, match="prior of document 1"):
        checked(batch, 3, 4, 16)
    batch.prior[1, 2] = 0
    batch.first[1] = batch.first[2] + 1
    with pytest.raises(InvalidInput, match="rise"):
        checked(batch, 3, 4, 16)
