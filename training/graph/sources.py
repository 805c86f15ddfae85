"""What `--source` and `--target` may name: a graph file, a corpus folder with references, or a collection."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from facetrail.eval.graph_data import LabelRule, load_graph
from facetrail.indexing.collection import Collection
from facetrail.indexing.corpus import read_corpus
from facetrail.models.errors import InvalidInput, NotFound
from facetrail.models.graph.features import DocumentFeatures, EncoderFeatures, Tfidf, graph_from_documents
from facetrail.models.graph.graph_data import GraphData
from facetrail.models.records import Document

DocumentKind = Literal["tfidf", "encoder"]
LINKS_FILE = "links.tsv"
REFERENCES = "references"
"""Metadata field that lists the ids a document refers to."""
_GRAPH_SUFFIXES = (".npz", ".mat", ".edgelist")


def open_pair(
    source: Path, target: Path, *, labels: LabelRule, field: str, documents: DocumentKind
) -> tuple[GraphData, GraphData]:
    """The labelled source and the target without labels.

    field: metadata of the source's documents that names their class. documents: features where both are documents.
    Raises InvalidInput for a file of labels in the target's place, and for a graph beside documents.
    """
    if target.name.startswith("labels-") or target.suffix == ".txt":
        raise InvalidInput(f"{target} is a file of labels, which the target must not have in training; give its graph")
    are_graphs = [path.suffix in _GRAPH_SUFFIXES for path in (source, target)]
    if all(are_graphs):
        return load_graph(source, labels=labels), load_graph(target, labels=labels).unlabelled()
    if any(are_graphs):
        raise InvalidInput(f"one of {source} and {target} is a graph and one holds documents; give two of one kind")
    ours, theirs = _documents(source), _documents(target)
    features = _features(documents, ours, theirs)
    classes = [_class(document, field) for document in ours]
    if not any(classes):
        raise InvalidInput(
            f"no document of {source} names its class in the metadata field {field!r}; name it by --field"
        )
    return (
        graph_from_documents(ours, _references(source, ours), features, labels=classes),
        graph_from_documents(theirs, _references(target, theirs), features),
    )


def graph_sha256(graph: GraphData) -> str:
    """Of all that training reads, whatever it was read from: ids, features, edges, labels."""
    digest = hashlib.sha256("\0".join((graph.feature_space, *graph.ids)).encode())
    x = sparse.csr_array(graph.x)
    parts = (graph.adjacency.indptr, graph.adjacency.indices, x.indptr, x.indices, x.data)
    for part in parts if graph.y is None else (*parts, graph.y):
        digest.update(f"{part.shape} {part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _documents(path: Path) -> list[Document]:
    if not path.exists():
        raise NotFound(f"{path} does not exist; give a graph file, a corpus folder or a collection")
    if not Collection.exists(path):
        return list(read_corpus(path))
    with Collection.open(path) as collection:
        return [document for batch in collection.documents() for document in batch]


def _features(kind: DocumentKind, ours: list[Document], theirs: list[Document]) -> DocumentFeatures:
    if kind == "tfidf":
        return Tfidf.of(ours, theirs)
    from facetrail.models.text.encoder import load_encoder

    return EncoderFeatures(load_encoder())


def _class(document: Document, field: str) -> str | None:
    value = document.metadata.get(field)
    return None if value is None or value == "" else str(value)


def _references(path: Path, documents: list[Document]) -> Iterator[tuple[str, str]]:
    """From the metadata, and from the citations of a `links.tsv` (from, kind, to) in the folder."""
    for document in documents:
        listed = document.metadata.get(REFERENCES) or ()
        if not isinstance(listed, list | tuple):
            raise InvalidInput(f"document {document.id!r}: the metadata field {REFERENCES!r} must be a list of ids")
        for to in listed:
            yield document.id, str(to)
    links = path / LINKS_FILE
    if links.is_file():
        for number, line in enumerate(links.read_text(encoding="utf-8").split("\n")[1:], start=2):
            if not line:
                continue
            cells = line.split("\t")
            if len(cells) != 3:
                raise InvalidInput(f"{links}:{number} has {len(cells)} columns; a row is from, kind and to")
            if cells[1] == "citation":
                yield cells[0], cells[2]
