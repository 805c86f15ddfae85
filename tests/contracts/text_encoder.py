"""The promises of `TextEncoder` and of `FacetEncoder`, as tests that every encoder inherits.

Subclass it with a name that starts with `Test`; `make()` returns the encoder, which the tests do not change.
`tolerance` is how far a coordinate may move when a text is encoded in other company: 1e-5 for fp32, more for bf16.
"""

import threading

import numpy as np

from facetrail.models.text.encoder import Float32Array, TextEncoder
from facetrail.models.text.facets import FacetBatch, FacetEncoder

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


STRUCTURED = [
    "Bees\nForaging bees were displaced. We tracked them by radar. They flew in loops until they met a landmark.",
    "Soil moisture and yield\nOur aim was a model of yield. Rain was simulated.\nIt explains half of it.",
    "One sentence without a title.",
    "",
    "sorting",
    "Long\n" + "Runs that fit the cache are merged. " * 60,
]


class FacetEncoderContract(TextEncoderContract):
    """What an encoder with facets promises beyond that."""

    def make(self) -> FacetEncoder:
        """The encoder under test."""
        raise NotImplementedError

    def test_it_is_a_facet_encoder(self) -> None:
        encoder = self.make()
        assert isinstance(encoder, FacetEncoder)
        assert encoder.card.facets == encoder.facets
        assert 0 < encoder.mixing < 1
        assert encoder.margin >= 0

    def test_documents_have_the_same_single_vector_with_and_without_facets(self) -> None:
        encoder = self.make()
        single, batch = encoder.encode_facets(STRUCTURED)
        assert len(batch) == len(STRUCTURED)
        np.testing.assert_allclose(single, encoder.encode_documents(STRUCTURED), atol=self.tolerance)

    def test_facet_data_is_whole(self) -> None:
        encoder = self.make()
        texts = [*STRUCTURED, *TEXTS, *DEGENERATE, *HUGE]
        single, batch = encoder.encode_facets(texts)
        self.assert_unit_rows(single, len(texts))
        k = len(encoder.facets)
        assert batch.vectors.shape == (len(texts), k, encoder.dim)
        rows = batch.vectors * batch.scales[..., None]
        np.testing.assert_allclose(np.linalg.norm(rows, axis=2), 1, atol=0.02)  # eight bits
        np.testing.assert_allclose(batch.prior.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(batch.gate.sum(1), 1, atol=1e-5)
        n_sentences = [len(encoder.sentences(text)) for text in texts]
        np.testing.assert_array_equal(np.diff(batch.first), n_sentences)
        assert batch.attention.shape == batch.roles.shape == (sum(n_sentences), k)
        for i, n in enumerate(n_sentences):
            here = slice(batch.first[i], batch.first[i + 1])
            np.testing.assert_allclose(batch.attention[here].sum(0, dtype=int), 255 if n else 0, atol=1 + n / 2)
            np.testing.assert_allclose(batch.roles[here].sum(1, dtype=int), 255, atol=1 + k / 2)

    def test_company_changes_no_facet(self) -> None:
        encoder = self.make()
        together = encoder.encode_facets(STRUCTURED)[1]
        apart = FacetBatch.concatenate([encoder.encode_facets([text])[1] for text in STRUCTURED])
        for name in ("prior", "gate", "scales"):
            np.testing.assert_allclose(getattr(together, name), getattr(apart, name), atol=self.tolerance)
        np.testing.assert_array_equal(together.first, apart.first)
        for name in ("vectors", "attention", "roles"):  # a rounding may fall on the other side
            difference = getattr(together, name).astype(int) - getattr(apart, name).astype(int)
            assert abs(difference).max(initial=0) <= 1

    def test_no_texts_give_no_facets(self) -> None:
        encoder = self.make()
        single, batch = encoder.encode_facets([])
        assert single.shape == (0, encoder.dim)
        assert (len(batch), batch.first.tolist(), batch.roles.shape) == (0, [0], (0, len(encoder.facets)))

    def test_facet_queries_agree_with_queries(self) -> None:
        encoder = self.make()
        for text in [*STRUCTURED, *TEXTS[:4], *DEGENERATE]:
            query = encoder.encode_facet_query(text)
            np.testing.assert_allclose(query.single, encoder.encode_queries([text])[0], atol=self.tolerance)
            np.testing.assert_allclose(np.linalg.norm(query.facets, axis=1), 1, atol=1e-4)
            np.testing.assert_allclose([query.prior.sum(), query.gate.sum()], 1, atol=1e-5)

    def test_a_query_taken_for_a_document_is_encoded_as_one(self) -> None:
        encoder = self.make()
        single, batch = encoder.encode_facets(STRUCTURED)
        for i, text in enumerate(STRUCTURED):
            query = encoder.encode_facet_query(text, task="document")
            assert query.task == "document"
            np.testing.assert_allclose(query.single, single[i], atol=self.tolerance)
            np.testing.assert_allclose(query.prior, batch.prior[i], atol=self.tolerance)
            np.testing.assert_allclose(query.gate, batch.gate[i], atol=self.tolerance)
            rows = batch.vectors[i] * batch.scales[i][:, None]
            np.testing.assert_allclose(query.facets, rows, atol=0.01)
