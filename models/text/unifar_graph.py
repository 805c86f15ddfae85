"""UniFAR on one text as an ONNX graph, written straight from its tensors: no torch.

Every average is taken once, of weights over tokens, so that what the head costs hardly grows with the text. The fused
operators are those of ONNX Runtime, as in `graph.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facetrail.models.text.facet_query import N_PLACES
from facetrail.models.text.graph import GraphWriter, embeddings, layer, save_graph
from facetrail.models.text.unifar_config import UnifarConfig

INPUTS: dict[str, tuple[tuple[int | str, ...], str]] = {
    "ids": ((1, "tokens"), "token ids, special ones included, int64; the others are float32"),
    "sentences": (
        ("sentences", "tokens"),
        "rows that average the tokens of a sentence; one row of zeros if there is none",
    ),
    "paragraphs": (("paragraphs", "tokens"), "the same for lines"),
    "units": (("units", "tokens"), "identity for questions and for texts of one sentence, else the same as sentences"),
    "sentence_places": (
        ("units", N_PLACES),
        "where each sentence stands, see `facet_query.places`; zeros where units are tokens",
    ),
    "sizes": ((1, 3), "log(1 + n) of tokens, sentences, paragraphs"),
    "gate_mask": ((1, 4), "0, 0, then 0 or -inf: more than one sentence, more than one paragraph"),
    "is_question": ((1, 1), "1 for a question, 0 for a document"),
}
"""Name → shape and meaning."""
Tensors = Mapping[str, NDArray[np.float32]]


def write_unifar(folder: Path, network: Tensors, head: Tensors, base: Mapping[str, Any], config: UnifarConfig) -> None:
    """Writes model.onnx and model.bin into an existing folder. network: bare names · base: its config.json."""
    graph = GraphWriter(folder / "model.bin")
    try:
        total = int(base["num_hidden_layers"])
        states = embeddings(graph, network, base)
        for i in range(total):
            states = _asked(graph, head, states) if i == total - config.trained_layers else states
            states = layer(graph, network, base, i, states)
        _Head(graph, head, config).write(states)
    finally:
        graph.close()
    save_graph(
        folder / "model.onnx",
        graph,
        [
            helper.make_tensor_value_info(name, TensorProto.INT64 if name == "ids" else TensorProto.FLOAT, shape)
            for name, (shape, _) in INPUTS.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs(config).items()],
    )


def outputs(config: UnifarConfig) -> dict[str, tuple[int, int]]:
    """Name → shape, all float32."""
    k, d = len(config.facets), config.dim
    return {"single": (1, d), "facets": (k, d), "prior": (1, k), "gate": (1, 4)}


def _asked(graph: GraphWriter, head: Tensors, states: str) -> str:
    """Adds the question vector where the text is a question."""
    shift = graph.node("Mul", ["is_question", graph.weight("question", head["question"])], "question_shift")
    return graph.node("Add", [states, shift], "asked_states")


class _Head:
    """Writes `UnifarHead` for one text: t tokens, u units, k facets, d dimensions."""

    def __init__(self, graph: GraphWriter, head: Tensors, config: UnifarConfig) -> None:
        self._graph, self._head, self._config = graph, head, config
        self._over_rows, self._over_columns = graph.integers("rows", 0), graph.integers("columns", 1)

    def write(self, states: str) -> None:
        """states: (1, t, d)."""
        node = self._graph.node
        tokens = node("Reshape", [states, self._graph.integers("token_shape", -1, self._config.dim)], "tokens")
        mean = node("ReduceMean", [tokens, self._over_rows], "mean", keepdims=1)  # (1, d)
        pooled = self._pooled(tokens, mean)
        prior, facets = self._facets(tokens, mean, pooled)
        shared = node("MatMul", [prior, facets], "weighted_facets")
        self._unit(node("Add", [self._unit(pooled, "unit_pooled"), shared], "summed"), "single")

    def _weight(self, name: str, value: NDArray[np.float32] | None = None) -> str:
        return self._graph.weight(f"head.{name}", self._head[name] if value is None else value)

    def _constant(self, name: str, *values: float) -> str:
        return self._graph.weight(name, np.asarray([values], np.float32))

    def _unit(self, rows: str, output: str) -> str:
        length = self._graph.node("ReduceL2", [rows, self._over_columns], f"{output}.length", keepdims=1)
        tiny = self._constant(f"{output}.tiny", 1e-12)
        return self._graph.node("Div", [rows, self._graph.node("Max", [length, tiny], f"{output}.divisor")], output)

    def _normalised(self, rows: str, name: str) -> str:
        """Layer normalisation without weights of its own."""
        ones = self._graph.weight(f"{name}.ones", np.ones(self._config.dim, np.float32))
        return self._graph.node("LayerNormalization", [rows, ones], name, axis=-1, epsilon=1e-5)

    def _pooled(self, tokens: str, mean: str) -> str:
        """z_0, (1, d), and the output `gate`."""
        node = self._graph.node
        if not self._config.gated:
            first = self._constant("first_granularity", 1, 0, 0, 0)
            node("Identity", [first], "gate")
            return mean
        features = node("Concat", ["sizes", "is_question", self._normalised(mean, "mean_normalised")], "f", axis=1)
        mapped = node("MatMul", [features, self._weight("gate_in", self._head["gate_in"].T)], "gate_mapped")
        hidden = node("BiasGelu", [mapped, self._weight("gate_in_bias")], "gate_hidden", domain="com.microsoft")
        logits = node("MatMul", [hidden, self._weight("gate_out", self._head["gate_out"].T)], "gate_logits")
        gate = node("Softmax", [node("Add", [logits, "gate_mask"], "gate_masked")], "gate", axis=1)
        # z_0 = (1 - ρ (1 - a_D)) g_D + ρ Σ a_g g_g over the three others.
        scale = float(self._head["gate_scale"])
        shares = node("Mul", [gate, self._constant("gate_scale", scale)], "scaled_gate")
        shares = node("Add", [shares, self._constant("rest", 1 - scale, 0, 0, 0)], "shares")
        self._graph.nodes.append(
            helper.make_node("Split", [shares, self._graph.integers("split", 1, 3)], ["share", "others"], axis=1)
        )
        over_tokens = node("Concat", self._token_weights(tokens), "token_weights", axis=0)  # (3, t)
        mixed = node("MatMul", [node("MatMul", ["others", over_tokens], "mixed_weights"), tokens], "mixed")
        return node("Add", [node("Mul", [mean, "share"], "mean_part"), mixed], "pooled")

    def _token_weights(self, tokens: str) -> list[str]:
        """What the token, sentence and paragraph pools give each token: three rows (1, t)."""
        node = self._graph.node
        inner = node("MatMul", [tokens, self._weight("token_map", self._head["token_map"].T)], "token_mapped")
        queries = self._weight("token_query", self._head["token_query"][:, None])
        logits = node("MatMul", [node("Tanh", [inner], "token_inner"), queries], "token_logits")
        rows = [node("Transpose", [node("Softmax", [logits], "token_shares", axis=0)], "token_row")]
        for groups in ("sentence", "paragraph"):
            query = self._weight(f"{groups}_query", self._head[f"{groups}_query"][:, None])
            by_token = node("MatMul", [tokens, query], f"{groups}_by_token")
            by_group = node("MatMul", [f"{groups}s", by_token], f"{groups}_logits")
            shares = node("Transpose", [node("Softmax", [by_group], f"{groups}_shares", axis=0)], f"{groups}_across")
            rows.append(node("MatMul", [shares, f"{groups}s"], f"{groups}_row"))
        return rows

    def _facets(self, tokens: str, mean: str, pooled: str) -> tuple[str, str]:
        """The outputs `prior` (1, k) and `facets` (k, d)."""
        node, config, head = self._graph.node, self._config, self._head
        by_token = node("MatMul", [tokens, self._weight("anchors", folded_anchors(head, config).T)], "anchor_scores")
        by_place = node("MatMul", ["sentence_places", self._weight("place_map", head["place_map"].T)], "place_scores")
        scores = node("Add", [node("MatMul", ["units", by_token], "content_scores"), by_place], "unit_scores")  # (u, k)
        strength = node("ReduceLogSumExp", [scores, self._over_rows], "strength", keepdims=1)
        own = node("MatMul", [mean, self._weight("prior_map", head["prior_map"].T)], "own_prior")
        prior = node("Softmax", [node("Add", [strength, own], "prior_logits")], "prior", axis=1)
        if config.attention_temperature != 1:
            warmth = self._constant("attention_temperature", config.attention_temperature)
            scores = node("Div", [scores, warmth], "warm_scores")
        attention = node("Transpose", [node("Softmax", [scores], "attention", axis=0)], "attention_across")
        over_tokens = node("MatMul", [attention, "units"], "facet_weights")  # (k, t)
        looked_at = node("MatMul", [over_tokens, tokens], "looked_at")
        values = node("MatMul", [looked_at, self._weight("value_map")], "values")
        content = node(
            "MatMul", [self._normalised(values, "content"), self._weight("output_map", head["output_map"].T)], "c"
        )
        shift = node("Mul", [content, self._weight("facet_scale", head["facet_scale"][:, None])], "facet_shift")
        return prior, self._unit(node("Add", [pooled, shift], "facet_rows"), "facets")


def folded_anchors(head: Tensors, config: UnifarConfig) -> NDArray[np.float32]:
    """`UnifarHead.folded_anchors` without torch: (k, d)."""
    scale = config.heads * (config.dim / config.heads) ** 0.5
    folded: NDArray[np.float64] = head["anchors"].astype(np.float64) @ head["query_map"] @ head["key_map"].T / scale
    narrow: NDArray[np.float32] = folded.astype(np.float32)
    return narrow
