"""Token states of the frozen lower layers, computed once and kept on disk.

Training the top layers needs the layers below only for their output, which never changes: each text is encoded once and
its states are kept as float16 in one memory-mapped file. A folder is named by a hash of all that moves a state. Texts
are encoded in blocks, longest first; a killed run goes on with the first block that was not finished.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facetrail.models.errors import Damaged, InvalidInput, Unavailable
from facetrail.models.text.bert import PackedBert
from facetrail.models.text.bulk import CPU_TOKENS, GPU_TOKENS, plan_batches
from facetrail.models.text.cache import cache_folder, locked, read_verdict, replacing, write_verdict
from facetrail.models.text.layout import LayoutTokeniser, Span
from facetrail.models.text.local import tokeniser_file
from facetrail.models.text.networks import open_network
from facetrail.models.text.pooling import unit_rows
from facetrail.models.text.source import EncoderSource
from facetrail.models.text.unifar import Layout

FORMAT = 1
"""Raised when the files change their form, so that older ones are made anew."""
BLOCK = 1_024
"""Texts between two progress marks: what a kill may cost."""
WINDOW = 8_192
"""Texts tokenised at a time."""
_LAYOUT = {"ids": np.int32, "sentence": np.int16, "paragraph": np.int16}

Progress = Callable[[int, int], None]
"""Hears how many texts are done, and of how many."""


class StateStore:
    """The finished states of n texts, read from disk as they are asked for."""

    def __init__(self, folder: Path) -> None:
        """Raises Damaged where a file is missing or does not fit the others."""
        self.folder = folder
        try:
            self._first, self._sentence, self._paragraph, self.base, self._states = (
                np.load(folder / f"{name}.npy", mmap_mode="r" if name == "states" else None)
                for name in ("first", "sentence", "paragraph", "base", "states")
            )
        except (OSError, ValueError) as error:
            raise Damaged(f"cached states in {folder} cannot be read ({error}); delete that folder") from error
        self.lengths: NDArray[np.int64] = np.diff(self._first)
        n_tokens = len(self._states)
        if not (len(self._sentence) == len(self._paragraph) == n_tokens and len(self.base) == len(self.lengths)):
            raise Damaged(f"the files of cached states in {folder} do not belong together; delete that folder")
        self.n_sentences, self._n_paragraphs = (
            np.maximum.reduceat(owner, self._first[:-1]).astype(np.int64) + 1 if n_tokens else self.lengths
            for owner in (self._sentence, self._paragraph)
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def dim(self) -> int:
        """Width of a state."""
        return int(self._states.shape[1])

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the tokens of texts stand, text after text."""
        return np.concatenate([np.arange(self._first[row], self._first[row + 1]) for row in rows])

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """States of tokens by place, (tokens, d)."""
        return np.asarray(self._states[places])

    def batch(self, rows: Sequence[int] | NDArray[np.int64], *, is_question: bool) -> tuple[Tensor, Layout]:
        """Texts by row, padded: states (b, t, d) float32, zeros at padding, and their layout."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        shape = (len(rows), int(lengths.max(initial=0)))
        mask = np.arange(shape[1]) < lengths[:, None]
        states = np.zeros((*shape, self.dim), np.float16)
        sentence, paragraph = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        for place, (row, n) in enumerate(zip(rows, lengths, strict=True)):
            tokens = slice(self._first[row], self._first[row + 1])
            states[place, :n] = self._states[tokens]
            sentence[place, :n], paragraph[place, :n] = self._sentence[tokens], self._paragraph[tokens]
        layout = Layout(
            mask=torch.from_numpy(mask),
            sentence=torch.from_numpy(sentence),
            paragraph=torch.from_numpy(paragraph),
            n_sentences=torch.from_numpy(self.n_sentences[rows]),
            n_paragraphs=torch.from_numpy(self._n_paragraphs[rows]),
            is_question=torch.full(shape[:1], is_question),
        )
        return torch.from_numpy(states).float(), layout


class StateBuilder:
    """Makes stores of one frozen encoder; its network is opened when first needed."""

    def __init__(
        self,
        source: EncoderSource,
        *,
        max_sentences: int = 32,
        max_paragraphs: int = 8,
        device: torch.device | None = None,
        root: Path | None = None,
    ) -> None:
        """root: where stores are kept; None: the cache folder. Raises InvalidInput for an encoder that is no BERT."""
        path = tokeniser_file(source)
        if path is None:
            raise InvalidInput(f"the encoder {source.name!r} has modules of its own and no states of ours; take a BERT")
        self.source, self._path, self._root = source, path, root
        self._sizes = {"max_sentences": max_sentences, "max_paragraphs": max_paragraphs}
        self._device = device or torch.device("cpu")

    @cached_property
    def network(self) -> PackedBert:
        """The frozen encoder in float32; bf16 is no faster on the processors we train on."""
        network = open_network(self.source, dtype=torch.float32, device=self._device)
        if not isinstance(network, PackedBert):
            raise InvalidInput(f"the layers of the encoder {self.source.name!r} cannot be run apart; take a BERT")
        return network

    def build(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int,
        layer: int,
        spans: Sequence[Sequence[Span]] | None = None,
        progress: Progress | None = None,
    ) -> StateStore:
        """States of the texts after layers [0, layer), and the whole encoder's vectors; from the cache if complete.

        spans: the texts' sentences where they are known. Memory: a block's states, whatever the number of texts.
        Raises Unavailable where the disk is too small.
        """
        if not 0 <= layer <= self.network.n_layers:
            raise InvalidInput(f"layer {layer} is outside 0 to {self.network.n_layers}, which is what the encoder has")
        about = {"format": FORMAT, "encoder": self.source.fingerprint, "max_tokens": max_tokens, "layer": layer}
        about |= {**self._sizes, "texts": _digest(texts, spans)}
        key = hashlib.sha256(repr(sorted(about.items())).encode()).hexdigest()[:32]
        folder = cache_folder("states") / key if self._root is None else self._root / key
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            if not (folder / "first.npy").is_file():
                write_verdict(folder / "about.json", {**about, "n_texts": len(texts)})
                self._lay_out(folder, texts, spans, max_tokens)
            self._encode(folder, layer, progress)
        return StateStore(folder)

    def continued(self, store: StateStore, layer: int, *, progress: Progress | None = None) -> StateStore:
        """The last states of a store's texts, from its states after `layer` layers: no layer runs twice.

        They differ from those of `build` by what float16 rounded away in between.
        """
        folder = store.folder.with_name(f"{store.folder.name}-last")
        folder.mkdir(exist_ok=True)
        with locked(folder / "lock"):
            if not (folder / "progress.json").is_file():
                states = np.lib.format.open_memmap(
                    folder / "states.npy", mode="w+", dtype=np.float16, shape=(int(store.lengths.sum()), store.dim)
                )
                order = np.argsort(-store.lengths, kind="stable")
                for done, batch in enumerate(plan_batches(store.lengths.tolist(), CPU_TOKENS), start=1):
                    self._continue(store, batch, layer, states)
                    if progress is not None:
                        progress(min(done * len(batch), len(order)), len(order))
                states.flush()
                for name in ("first", "sentence", "paragraph", "base"):
                    shutil.copyfile(store.folder / f"{name}.npy", folder / f"{name}.npy")
                write_verdict(folder / "progress.json", {"texts": len(order)})
        return StateStore(folder)

    @torch.inference_mode()
    def _continue(self, store: StateStore, rows: NDArray[np.int64], layer: int, states: NDArray[np.float16]) -> None:
        places = store.places(rows)
        below = torch.from_numpy(store.rows(places)).to(self._device)
        last = self.network.upper(below.float(), store.lengths[rows].tolist(), layer)
        states[places] = last.half().cpu().numpy()

    def _lay_out(
        self, folder: Path, texts: Sequence[str], spans: Sequence[Sequence[Span]] | None, max_tokens: int
    ) -> None:
        tokens = LayoutTokeniser(
            self._path,
            prefix=self.source.document_prefix,
            max_tokens=max_tokens,
            lowercase=self.source.lowercase,
            **self._sizes,
        )
        lengths: list[int] = []
        parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, dtype)] for name, dtype in _LAYOUT.items()}
        for start in range(0, len(texts), WINDOW):
            window = slice(start, start + WINDOW)
            laid_out = tokens(texts[window], None if spans is None else spans[window])
            lengths += [len(text.ids) for text in laid_out]
            for name, dtype in _LAYOUT.items():
                parts[name].append(np.concatenate([getattr(text, name) for text in laid_out]).astype(dtype))
        for name, arrays in parts.items():
            _save(folder / f"{name}.npy", np.concatenate(arrays))
        _save(folder / "first.npy", np.cumsum([0, *lengths], dtype=np.int64))  # last: it says that the others are whole

    def _encode(self, folder: Path, layer: int, progress: Progress | None) -> None:
        first: NDArray[np.int64] = np.load(folder / "first.npy")
        ids = np.load(folder / "ids.npy", mmap_mode="r")
        lengths = np.diff(first)
        order = np.argsort(-lengths, kind="stable")
        marked = read_verdict(folder / "progress.json") or {"texts": 0}
        is_begun = all((folder / f"{name}.npy").is_file() for name in ("states", "base"))
        done = int(marked["texts"]) if is_begun else 0
        if is_begun and done == len(order):
            return
        states, base = self._files(folder, int(first[-1]), len(order), is_new=done == 0)
        budget = CPU_TOKENS if self._device.type == "cpu" else GPU_TOKENS
        while done < len(order):
            block = order[done : done + BLOCK]
            for batch in plan_batches(lengths[block].tolist(), budget):
                rows = block[batch]
                below, vectors = self._states([ids[first[i] : first[i + 1]] for i in rows], layer)
                start = 0
                for row in rows:
                    stop = start + int(lengths[row])
                    states[first[row] : first[row + 1]] = below[start:stop]
                    start = stop
                base[rows] = vectors
            done += len(block)
            states.flush()
            base.flush()
            write_verdict(folder / "progress.json", {"texts": done})  # only now: what it counts is on disk
            if progress is not None:
                progress(done, len(order))
        write_verdict(folder / "progress.json", {"texts": done})

    @torch.inference_mode()
    def _states(
        self, texts: Sequence[NDArray[np.int32]], layer: int
    ) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """(tokens, d) after `layer` layers, and the unit vectors (texts, d)."""
        lengths = [len(text) for text in texts]
        below = self.network.lower(texts, layer)
        vectors = unit_rows(self.network.pooled(self.network.upper(below, lengths, layer), lengths))
        half = below.half()
        if not bool(half.isfinite().all()):
            raise InvalidInput(f"states of {self.source.name!r} are too large for float16; take another encoder")
        return half.cpu().numpy(), vectors.cpu().numpy()

    def _files(self, folder: Path, n_tokens: int, n_texts: int, *, is_new: bool) -> "tuple[np.memmap[Any, Any], ...]":
        shapes = {"states": (n_tokens, self.source.dim), "base": (n_texts, self.source.dim)}
        types = {"states": np.float16, "base": np.float32}
        if is_new:
            needed = sum(int(np.prod(shape)) * np.dtype(types[name]).itemsize for name, shape in shapes.items())
            # A memory map that outgrows the disk kills the process instead of raising.
            if needed > 0.95 * shutil.disk_usage(folder).free:
                raise Unavailable(
                    f"cached states need {needed / 1e9:.1f} GB in {folder}; free some or set FACETRAIL_CACHE to another"
                )
        mode = "w+" if is_new else "r+"
        return tuple(
            np.lib.format.open_memmap(folder / f"{name}.npy", mode=mode, dtype=types[name], shape=shapes[name])
            for name in shapes
        )


def _digest(texts: Sequence[str], spans: Sequence[Sequence[Span]] | None) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    if spans is not None:
        digest.update(repr([[tuple(span) for span in text] for text in spans]).encode())
    return digest.hexdigest()


def _save(path: Path, array: NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)
