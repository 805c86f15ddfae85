"""UniFAR for others: a folder that sentence-transformers opens, or an ONNX graph with its tokeniser.

Neither needs this package. What is written is run on probes first and refused where it does not give our vectors.
"""

import ast
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np
import torch

from facetrail.models.errors import Conflict, InvalidInput, Unavailable
from facetrail.models.text.facet_bulk import UnifarNetwork
from facetrail.models.text.facet_query import (
    LAYOUT_PROBES,
    UnifarSession,
    compare,
    layout_tokeniser,
    tokeniser_options,
    write_graph,
)
from facetrail.models.text.facets import GRANULARITIES, Task
from facetrail.models.text.gate import judge
from facetrail.models.text.local import tokeniser_file
from facetrail.models.text.locate import locate, unifar_folder
from facetrail.models.text.sentences import SPLITTER_VERSION
from facetrail.models.text.task import QUESTION_TOKENS
from facetrail.models.text.unifar_checkpoint import UnifarSource, find_unifar, read_unifar

MODULE = "facetrail_unifar"
SETTINGS_FILE, HEAD_FILE = "unifar.json", "head.safetensors"
MIN_COSINE = 0.9999
_PARTS = ("../errors.py", "sentences.py", "tokenise.py", "layout.py", "task.py", "unifar.py", "unifar_module.py")
"""What the module for sentence-transformers is made of, each below what it uses."""


def export_model(source: str, to: str, out: Path) -> dict[str, Any]:
    """Writes a UniFAR encoder into a new folder; returns its files and how near they come to ours.

    source: as `load_encoder` takes it · to: "sentence-transformers" or "onnx". Raises NotFound, InvalidInput (not a
    UniFAR model, no such form), Conflict (`out` holds something), Unavailable (what was written gives other vectors).
    """
    write = FORMS.get(to)
    if write is None:
        raise InvalidInput(f"there is no form {to!r} to export to; use {' or '.join(FORMS)}", pointer="/to")
    folder = unifar_folder(source)
    if folder is None:
        locate(source)  # says so where there is nothing of that name
        raise InvalidInput(f"{source!r} is not a UniFAR model and needs no export; use its folder as it is")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Conflict(f"{out} exists already and holds something; choose another place, or empty it first")
    found = find_unifar(source, folder)
    draft = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        figures = write(found, draft)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    return {"to": to, "out": str(out), "fingerprint": found.fingerprint, "bytes": files, **figures}


def _export_onnx(source: UnifarSource, folder: Path) -> dict[str, float]:
    from facetrail.models.text.unifar_graph import INPUTS, outputs

    network = UnifarNetwork(source, dtype=torch.float32, device=torch.device("cpu"))
    write_graph(folder, source)
    session = UnifarSession(folder / "model.onnx", threads=1)
    verdict = compare(session, network, layout_tokeniser(source, "document")(LAYOUT_PROBES))
    if not verdict.passed:
        raise Unavailable(
            f"the graph of {source.name!r} is not written, since it fails the equality gate: {verdict.reason}"
        )
    inputs = {name: {"shape": shape, "meaning": meaning} for name, (shape, meaning) in INPUTS.items()}
    _write_common(source, folder, {"inputs": inputs, "outputs": outputs(source.config)})
    return {"max_difference": verdict.max_difference}


def _export_library(source: UnifarSource, folder: Path) -> dict[str, float]:
    from safetensors.numpy import save_file

    weights = read_unifar(source)
    save_file(weights.network, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(weights.head, folder / HEAD_FILE)
    shutil.copy(source.base.modules / "config.json", folder / "config.json")
    (folder / f"{MODULE}.py").write_text(module_source(), encoding="utf-8")
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{MODULE}.UnifarModule"}]
    _write_json(folder / "modules.json", modules)
    settings = {"prompts": {"query": "", "document": ""}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(folder / "config_sentence_transformers.json", settings)
    _write_common(source, folder, {})
    (folder / "README.md").write_text(_card(source), encoding="utf-8")
    return {"min_cosine": _library_cosine(source, folder)}


FORMS: dict[str, Callable[[UnifarSource, Path], dict[str, float]]] = {
    "sentence-transformers": _export_library,
    "onnx": _export_onnx,
}


def _library_cosine(source: UnifarSource, folder: Path) -> float:
    """Smallest cosine of the written module's vectors to ours; raises Unavailable where they differ."""
    network = UnifarNetwork(source, dtype=torch.float32, device=torch.device("cpu"))
    written = _loaded(folder / f"{MODULE}.py").UnifarModule(str(folder)).eval()
    tasks: tuple[Task, ...] = ("question", "document")
    expected, found = [], []
    with torch.inference_mode():
        for task in tasks:
            laid_out = layout_tokeniser(source, task)(LAYOUT_PROBES)
            expected += [network.encode([(text, task == "question")]).single for text in laid_out]
            found.append(written(written.preprocess(LAYOUT_PROBES, task=task))["sentence_embedding"].numpy())
    verdict = judge(
        np.concatenate(expected), np.concatenate(found), min_cosine=MIN_COSINE, tie=1 - MIN_COSINE, whole_ranking=False
    )
    if not verdict.passed:
        raise Unavailable(
            f"{source.name!r} is not written, since sentence-transformers would give other vectors: {verdict.reason}; "
            f"report the installed versions of transformers and torch"
        )
    return verdict.min_cosine


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{MODULE}_check", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def module_source() -> str:
    """The one Python file of the sentence-transformers folder: our own code without its imports of this package."""
    here = Path(__file__).parent
    head = [
        f'"""UniFAR for sentence-transformers, written by facetrail {version("facetrail")}; Apache-2.0."""',
        "from __future__ import annotations",
        f"GRANULARITIES = {GRANULARITIES!r}",
    ]
    return "\n\n".join([*head, *(_without_own_imports((here / part).read_text(encoding="utf-8")) for part in _PARTS)])


def _without_own_imports(source: str) -> str:
    """Source code without docstring of the module, imports of this package and what only type checkers read."""
    tree, lines = ast.parse(source), source.splitlines()
    left_out = tree.body[:1] if ast.get_docstring(tree) is not None else []
    left_out += [node for node in ast.walk(tree) if _is_own_import(node)]
    for node in left_out:
        for number in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[number] = ""
    return "\n".join(lines).strip() + "\n"


def _is_own_import(node: ast.AST) -> TypeGuard[ast.stmt]:
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in ("facetrail", "__future__")
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _write_common(source: UnifarSource, folder: Path, form: dict[str, Any]) -> None:
    """The tokeniser, and unifar.json: what one has to know to use the files."""
    path = tokeniser_file(source.base)
    if path is not None:
        shutil.copy(path, folder / "tokenizer.json")
    settings = {
        **form,
        "encoder": source.config.model_dump(mode="json"),
        "question": tokeniser_options(source, "question"),
        "document": tokeniser_options(source, "document"),
        "question_tokens": QUESTION_TOKENS,
        "granularities": GRANULARITIES,
        "mixing": source.mixing,
        "sentence_rules": SPLITTER_VERSION,
        "base": {"name": source.base.name, "weights_sha256": source.base.weights_sha256},
        "fingerprint": source.fingerprint,
    }
    _write_json(folder / SETTINGS_FILE, settings)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _card(source: UnifarSource) -> str:
    return f"""# UniFAR on {source.base.name}

One encoder for documents and questions, with one vector for each of {", ".join(source.config.facets)}.

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder", trust_remote_code=True)  # the code is {MODULE}.py
documents = model.encode_document(["title\\ntext"])
questions = model.encode_query(["is a short text or one that ends with a question mark?"])
everything = model.encode_query(["and its facets?"], output_value=None)[0]  # facet_embeddings, facet_prior
```

Fingerprint `{source.fingerprint}`.
"""
