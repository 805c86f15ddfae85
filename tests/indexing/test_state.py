"""The indexes of one state hold the same documents, whatever is put and discarded."""

from pathlib import Path

import numpy as np
from contracts.facet_batches import assert_same, make_batch

from facetrail.indexing.collection_schema import CollectionSettings
from facetrail.indexing.state import Encoded, IndexState
from facetrail.models.records import Document
from facetrail.models.text.facets import FACETS, FacetBatch

DIM = 16
SETTINGS = CollectionSettings(
    name="c",
    encoder="e",
    encoder_fingerprint="f" * 64,
    dim=DIM,
    lexical={},
    dense={"kind": "exact"},
    facets=FACETS,
    facet_margin=0.05,
    facet_mixing=0.3,
)


def documents(*ids: str, text: str = "text") -> list[Document]:
    return [Document(i, f"{text} {i}") for i in ids]


def encoded(n: int, seed: int) -> Encoded:
    return Encoded(np.eye(DIM, dtype=np.float32)[:n], make_batch(n, seed=seed))


def facets_of(state: IndexState, *ids: str) -> FacetBatch:
    assert state.facets is not None
    ordinals = [state.ids.ordinal(i) for i in ids]
    return state.facets.details([o for o in ordinals if o is not None])


def sizes(state: IndexState) -> tuple[int, int, int]:
    assert state.lexical is not None
    assert state.dense is not None
    assert state.facets is not None
    return len(state.lexical), len(state.dense), len(state.facets)


def test_every_index_forgets_what_is_replaced_or_discarded(tmp_path: Path) -> None:
    state = IndexState.empty(SETTINGS, ["a", "b", "c", "d"])
    state.fill(range(4), documents("a", "b", "c", "d"), encoded(4, seed=1))
    tmp_path.joinpath("g").mkdir()
    state.save(tmp_path / "g")
    for tested in (state, IndexState.open(tmp_path / "g", number=1, change=4)):
        new = encoded(2, seed=2)
        tested.put(documents("b", "e", text="new"), new)
        assert sizes(tested) == (5, 5, 5)
        assert new.facets is not None
        assert_same(facets_of(tested, "e", "b"), new.facets.take([1, 0]))
        assert_same(facets_of(tested, "a", "d"), make_batch(4, seed=1).take([0, 3]))
        tested.discard(["a", "e", "unknown"])
        assert sizes(tested) == (3, 3, 3)
        tested.put(documents("c", "f", text="bare"), None)
        assert sizes(tested) == (4, 2, 2)
        tested.discard(["c", "f", "b"])
        assert sizes(tested) == (1, 1, 1)
        assert tested.bare == set()
