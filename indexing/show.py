"""Search results for people at a terminal."""

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from facetrail.indexing.request import Explanation, FacetExplanation, Highlight, Hit, SearchResult
from facetrail.models.records import Document

SNIPPET_CHARACTERS = 240


def show_result(result: SearchResult, *, stream: TextIO) -> None:
    """Numbered hits with title, the passage around the first match, and, if asked for, the explanation."""
    console = Console(file=stream, highlight=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(Text(f"note: {warning}", style="yellow"))
    if result.facets is not None:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in result.facets.items())
        console.print(Text(f"facets of this {result.task}: {weights}", style="dim"))
    if not result.hits:
        console.print("No document matches.")
    for position, hit in enumerate(result.hits, start=1):
        _show_hit(console, position, hit)


def _show_hit(console: Console, position: int, hit: Hit) -> None:
    highlights = hit.explanation.highlights if hit.explanation else ()
    title = Text(f"{position:>3}. ")
    if hit.payload is not None:
        title.append(_marked(hit.payload.title or hit.id, _of(highlights, "title")))
    title.append(f"  {hit.id}  {hit.score:.4f}", style="dim")
    console.print(title)
    if hit.payload is not None and hit.payload.text:
        console.print(Text("     ").append(_snippet(hit.payload.text, _of(highlights, "text"))))
    if hit.explanation is not None:
        console.print(Text(f"     {_why(hit.explanation)}", style="dim"))
        if hit.explanation.facets is not None:
            _show_facets(console, hit.explanation.facets, hit.payload)


def _show_facets(console: Console, facets: FacetExplanation, payload: Document | None) -> None:
    """The facet table: weight, score and the document's facet that matched, and the sentence that carried it."""
    console.print(
        Text(
            f"     facets {facets.s_k:.4f} × {facets.mixing:.2f} + single vector {facets.s_1:.4f} × "
            f"{1 - facets.mixing:.2f}",
            style="dim",
        )
    )
    sentences = {s.facet: s for s in facets.sentences}
    for match in facets.matches:
        line = Text(f"       {match.facet:<12}{match.weight:.2f} × {match.score:+.4f}", style="dim")
        line.append(f"  in {match.matched}" if match.matched != match.facet else "")
        sentence = sentences.get(match.matched)
        if sentence is not None and payload is not None:
            words = getattr(payload, sentence.field)[sentence.start : sentence.end]
            line.append(f"  “{_snippet(words, ())}” ({sentence.role})")
        console.print(line)


def _of(highlights: Sequence[Highlight], field: str) -> list[tuple[int, int]]:
    return [(h.start, h.end) for h in highlights if h.field == field]


def _marked(text: str, spans: Sequence[tuple[int, int]]) -> Text:
    marked = Text(text, style="bold")
    for start, end in spans:
        marked.stylize("underline", start, end)
    return marked


def _snippet(text: str, spans: Sequence[tuple[int, int]]) -> Text:
    begin = max(0, spans[0][0] - SNIPPET_CHARACTERS // 4) if spans else 0
    end = min(len(text), begin + SNIPPET_CHARACTERS)
    snippet = Text(text[begin:end].replace("\n", " "))
    for start, stop in spans:
        if begin <= start and stop <= end:
            snippet.stylize("bold", start - begin, stop - begin)
    return Text("…" if begin else "").append(snippet).append("…" if end < len(text) else "")


def _why(explanation: Explanation) -> str:
    sources = [
        f"{s.name} {s.raw:.4f} (rank {s.rank})" if s.raw is not None else f"{s.name} did not list it"
        for s in explanation.sources
    ]
    terms = [f"{t.term} {t.contribution:.2f}" for t in sorted(explanation.terms, key=lambda t: -t.contribution)[:6]]
    return "; ".join([*sources, *(["words: " + ", ".join(terms)] if terms else [])])
