"""The promises of `facetrail.models.text.encoder.TextEncoder`, as tests that every encoder inherits.

Subclass it with a name that starts with `Test`; `make()` returns the encoder, which the tests do not change.
`tolerance` is how far a coordinate may move when a text is encoded in other company: 1e-5 for fp32, more for bf16.
"""

import threading

import numpy as np

from facetrail.models.text.encoder import Float32Array, TextEncoder

TEXTS = [
    "Honeybees combine a sun compass with path integration.",
    "sorting",
    "A merge sort whose runs fit the second-level cache outperforms quicksort on large arrays. " * 4,
    "Does aspirin lower the risk of a second heart attack?",
    "Yields of winter wheat on 42 farms were regressed on soil water content.",
    "Graph neural networks suggest references for an unfinished manuscript. " * 9,
    "sorting",
    "睡眠不足会影响青少年的记忆力",
    "Peaks shift with temperature; the tetragonal phase returns on cooling. " * 40,
]
DEGENERATE = ["", " ", "\n\t", "a", ".", "\x00", "é", "🙂" * 300, "ا" * 40]
HUGE = ["word " * 100_000, "x" * 1_000_000]


class TextEncoderContract:
    """Every encoder's promises."""

    tolerance = 1e-5

    def make(self) -> TextEncoder:
        """The encoder under test."""
        raise NotImplementedError

    def assert_unit_rows(self, vectors: Float32Array, n: int) -> None:
        assert vectors.shape == (n, self.make().dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)

    def test_rows_are_unit_vectors_of_the_promised_shape(self) -> None:
        encoder = self.make()
        self.assert_unit_rows(encoder.encode_documents(TEXTS), len(TEXTS))
        self.assert_unit_rows(encoder.encode_queries(TEXTS[:3]), 3)
        self.assert_unit_rows(encoder.encode_queries(TEXTS * 2), 2 * len(TEXTS))

    def test_rows_follow_the_texts(self) -> None:
        encoder = self.make()
        order = np.random.default_rng(3).permutation(len(TEXTS))
        straight = encoder.encode_documents(TEXTS)
        shuffled = encoder.encode_documents([TEXTS[i] for i in order])
        np.testing.assert_allclose(shuffled, straight[order], atol=self.tolerance)

    def test_company_changes_nothing(self) -> None:
        """Neither the batch's size nor longer texts beside a text move its vector."""
        encoder = self.make()
        together = encoder.encode_documents(TEXTS)
        alone = np.concatenate([encoder.encode_documents([text]) for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=self.tolerance)

    def test_company_changes_nothing_for_queries(self) -> None:
        encoder = self.make()
        many = encoder.encode_queries([*TEXTS, *TEXTS])
        few = np.concatenate([encoder.encode_queries([text]) for text in TEXTS])
        np.testing.assert_allclose(many[: len(TEXTS)], few, atol=self.tolerance)

    def test_equal_texts_have_equal_vectors(self) -> None:
        vectors = self.make().encode_documents(TEXTS)
        np.testing.assert_allclose(vectors[1], vectors[6], atol=self.tolerance)

    def test_no_texts_give_no_rows(self) -> None:
        encoder = self.make()
        assert encoder.encode_documents([]).shape == (0, encoder.dim)
        assert encoder.encode_queries([]).shape == (0, encoder.dim)

    def test_degenerate_texts_have_unit_vectors(self) -> None:
        encoder = self.make()
        self.assert_unit_rows(encoder.encode_documents([*DEGENERATE, *HUGE]), len(DEGENERATE) + len(HUGE))
        for text in DEGENERATE:
            self.assert_unit_rows(encoder.encode_queries([text]), 1)

    def test_progress_counts_to_the_end(self) -> None:
        told: list[int] = []
        self.make().encode_documents(TEXTS, progress=told.append)
        assert told
        assert told == sorted(told)
        assert told[-1] == len(TEXTS)

    def test_callers_may_change_what_they_get(self) -> None:
        encoder = self.make()
        first = encoder.encode_queries(["sorting"])
        kept = first.copy()
        first[:] = 0
        np.testing.assert_array_equal(encoder.encode_queries(["sorting"]), kept)

    def test_threads_share_an_encoder(self) -> None:
        encoder = self.make()
        expected = encoder.encode_documents(TEXTS)
        found: list[Float32Array] = []
        threads = [threading.Thread(target=lambda: found.append(encoder.encode_documents(TEXTS))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3
        for vectors in found:
            np.testing.assert_allclose(vectors, expected, atol=self.tolerance)

    def test_the_card_agrees_with_the_encoder(self) -> None:
        encoder = self.make()
        assert (encoder.card.name, encoder.card.dim) == (encoder.name, encoder.dim)
        assert len(encoder.fingerprint) == 64
        int(encoder.fingerprint, 16)
