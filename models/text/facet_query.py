"""One text at a time through UniFAR's ONNX graph. Once the graph is in the cache nothing here imports torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetrail.models.text.encoder import Float32Array
from facetrail.models.text.facets import FacetQuery, Task
from facetrail.models.text.gate import PROBES, Verdict, judge
from facetrail.models.text.layout import LayoutTokeniser, TokenisedText
from facetrail.models.text.local import tokeniser_file
from facetrail.models.text.query import MAX_DIFFERENCE, graph_folder, open_session
from facetrail.models.text.unifar_checkpoint import UnifarSource, read_unifar

if TYPE_CHECKING:
    from facetrail.models.text.facet_bulk import UnifarNetwork

HEAD_VERSION = 2
"""Raised when the head is written differently, so that graphs of older code are made anew."""
N_PLACES = 8
"""As in `unifar`, which needs torch."""
OUTPUTS = ["single", "facets", "prior", "gate"]
LAYOUT_PROBES = (*PROBES, "\n".join(PROBES[:4]), " ".join(PROBES[:12]), "Bees\n" + PROBES[5] + " " + PROBES[3])
"""Probes with one sentence and with many, with one line and with several."""
LaidOut = tuple[TokenisedText, bool]


class UnifarSession:
    """A text with its layout → `FacetQuery`."""

    def __init__(self, graph: Path, threads: int) -> None:
        self._session = open_session(graph, threads)

    def __call__(self, text: TokenisedText, is_question: bool) -> FacetQuery:
        single, facets, prior, gate = self._session.run(OUTPUTS, graph_inputs(text, is_question))
        return FacetQuery(single[0], facets, prior[0], gate[0], "question" if is_question else "document")


def layout_tokeniser(source: UnifarSource, task: Task) -> LayoutTokeniser:
    """The tokeniser of questions or of documents."""
    path = tokeniser_file(source.base)
    if path is None:
        raise ValueError("a base of a UniFAR encoder has a tokeniser of ours")
    return LayoutTokeniser(
        path,
        **tokeniser_options(source, task),
        max_sentences=source.config.max_sentences,
        max_paragraphs=source.config.max_paragraphs,
    )


def tokeniser_options(source: UnifarSource, task: Task) -> dict[str, Any]:
    """prefix, max_tokens and lowercase of a task."""
    base = source.base
    asked = task == "question"
    return {
        "prefix": base.query_prefix if asked else base.document_prefix,
        "max_tokens": base.max_query_tokens if asked else base.max_document_tokens,
        "lowercase": base.lowercase,
    }


def open_unifar(
    source: UnifarSource,
    lay_out: Callable[[Sequence[str]], list[TokenisedText]],
    reference: Callable[[], "UnifarNetwork"],
    *,
    threads: int,
) -> UnifarSession:
    """The session of a source, its graph written on first use; `reference` opens fp32 on torch for the gate.

    Raises GraphRefused with the reason, which is remembered until a library or this code changes.
    """

    def write_and_judge(made: Path) -> Verdict:
        network = reference()
        write_graph(made, source)
        return compare(UnifarSession(made / "model.onnx", threads), network, lay_out(LAYOUT_PROBES))

    folder = graph_folder(f"{source.graph_key} head {HEAD_VERSION}", write_and_judge)
    return UnifarSession(folder / "model.onnx", threads)


def write_graph(folder: Path, source: UnifarSource) -> None:
    """model.onnx and model.bin in an existing folder; `unifar_graph` says what goes in and out."""
    from facetrail.models.text.unifar_graph import write_unifar

    weights = read_unifar(source)
    write_unifar(folder, weights.network, weights.head, source.base.config, source.config)


def compare(session: UnifarSession, network: "UnifarNetwork", probes: Sequence[TokenisedText]) -> Verdict:
    """Whether a graph gives what torch gives, for the probes as questions and as documents."""
    found, expected = [], []
    for is_question in (True, False):
        for text in probes:
            query, made = session(text, is_question), network.encode([(text, is_question)])
            found.append((query.single, query.facets, query.prior, query.gate))
            expected.append((made.single[0], made.facets[0], made.prior[0], made.gate[0]))
    for start, stop in ((1, len(OUTPUTS)), (0, 1)):
        verdict = judge(
            _rows(expected, start, stop),
            _rows(found, start, stop),
            max_difference=MAX_DIFFERENCE,
            tie=MAX_DIFFERENCE,
            whole_ranking=True,
        )
        if not verdict.passed:
            break
    return verdict


def _rows(results: Sequence[tuple[Float32Array, ...]], start: int, stop: int) -> Float32Array:
    return np.stack([np.concatenate([part.ravel() for part in result[start:stop]]) for result in results])


def graph_inputs(text: TokenisedText, is_question: bool) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """What the graph wants to know of a text; see `unifar_graph`."""
    n_tokens, by_token = len(text.ids), is_question or text.n_sentences <= 1
    sentences = averages(text.sentence, text.n_sentences)
    hidden = -np.inf
    mask = [0, 0, 0 if text.n_sentences > 1 else hidden, 0 if text.n_paragraphs > 1 else hidden]
    return {
        "ids": text.ids[None],
        "sentences": sentences,
        "paragraphs": averages(text.paragraph, text.n_paragraphs),
        "units": np.eye(n_tokens, dtype=np.float32) if by_token else sentences,
        "sentence_places": np.zeros((n_tokens, N_PLACES), np.float32) if by_token else places(text),
        "sizes": np.log1p(np.asarray([[n_tokens, text.n_sentences, text.n_paragraphs]], np.float32)),
        "gate_mask": np.asarray([mask], np.float32),
        "is_question": np.asarray([[is_question]], np.float32),
    }


def averages(group: NDArray[np.int64], n_groups: int) -> Float32Array:
    """Rows that average the tokens of each group: (t,) → (groups, t); without a group, one row of zeros."""
    member = (group == np.arange(max(1, n_groups))[:, None]).astype(np.float32)
    averaged: Float32Array = member / np.maximum(member.sum(1, keepdims=True), 1)
    return averaged


def places(text: TokenisedText) -> Float32Array:
    """`unifar.sentence_places` of one text, without torch: (sentences, N_PLACES)."""
    titled = text.sentence[text.paragraph == 0] if text.n_paragraphs > 1 else text.sentence[:0]
    lead = int(titled.max(initial=-1)) + 1
    number = np.arange(text.n_sentences, dtype=np.float32)
    place = ((number - lead + np.float32(0.5)) / np.float32(max(1, text.n_sentences - lead))).clip(0, 1)
    shares: Float32Array = (1 - np.abs(place[:, None] * (N_PLACES - 1) - np.arange(N_PLACES, dtype=np.float32))).clip(0)
    return shares
