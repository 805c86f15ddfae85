"""`facetrail reason`. Light to import: the engines load inside the command."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from facetrail.indexing.cli_options import AsJson, Folder, parse_facet_options, parse_filter_option, print_json
from facetrail.models.errors import InvalidInput

if TYPE_CHECKING:
    from facetrail.indexing.reason_request import Answer


def reason(
    folder: Folder,
    question: Annotated[str, typer.Argument(help="What to answer.", metavar="QUESTION")],
    mode: Annotated[
        Literal["hybrid", "lexical", "dense", "facet"] | None,
        typer.Option(help="Of the search for passages; default: hybrid where both indexes exist."),
    ] = None,
    facet: Annotated[
        list[str] | None,
        typer.Option(
            help="Weight of a facet, for instance method=.8; repeat for more. auto: the question's own intent.",
            metavar="NAME=WEIGHT",
        ),
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help='For instance {"year": {"gte": 2020}}.', metavar="JSON")
    ] = None,
    limit: Annotated[int, typer.Option(help="Passages to retrieve, 1 to 20.")] = 5,
    max_tokens: Annotated[int, typer.Option(help="The most that the model may write.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: the likeliest token each time.")] = 0.0,
    about: Annotated[
        Literal["documents", "recommendations"], typer.Option(help="What the question is about.")
    ] = "documents",
    user: Annotated[str | None, typer.Option(help="About recommendations: whose.", metavar="ID")] = None,
    model: Annotated[
        str, typer.Option(help="smollm2, a transformers folder, or the URL of an OpenAI-compatible server.")
    ] = "smollm2",
    served_model: Annotated[str, typer.Option(help="The server's model, where --model is a URL.", metavar="NAME")] = "",
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file with the server's API key.", metavar="FILE", exists=True, dir_okay=False)
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the answer.", min=0.1)] = 120.0,
    as_json: AsJson = False,
) -> None:
    """Answers a question from a collection, with citations that are checked."""
    from pydantic import ValidationError

    from facetrail.indexing.answering import Answering
    from facetrail.indexing.reason_request import Answer, ReasonRequest, Token
    from facetrail.indexing.searcher import Searcher
    from facetrail.models.language.speakers import open_speaker

    try:
        request = ReasonRequest(
            question=question,
            mode=mode,
            facets=parse_facet_options(facet or []),
            filter=parse_filter_option(filter_),
            limit=limit,
            max_tokens=max_tokens,
            temperature=temperature,
            about=about,
            user=user,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise InvalidInput(f"--{name}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    api_key = api_key_file.read_text(encoding="utf-8").strip() if api_key_file is not None else ""
    with Searcher.open(folder, verify=False) as searcher:
        speaker = open_speaker(model, model=served_model, api_key=api_key, timeout=timeout)
        answer: Answer | None = None
        for event in Answering(searcher, speaker, timeout=timeout).events(request):
            if isinstance(event, Token) and not as_json:
                typer.echo(event.text, nl=False)
            answer = event if isinstance(event, Answer) else answer
    assert answer is not None
    if as_json:
        print_json(asdict(answer))
    else:
        _show(answer)


def _show(answer: "Answer") -> None:
    """What stands below the answer, which has been printed as it came."""
    typer.echo("\n")
    for cited in answer.citations:
        typer.echo(f"[{cited.number}] {cited.id}  {cited.title}\n    “{cited.quote}”")
    for sentence in answer.sentences:
        if not sentence.is_supported:
            typer.echo(f"not supported by what it cites: {sentence.text}")
        elif sentence.attributed == "afterwards":
            numbers = ", ".join(map(str, sentence.citations))
            typer.echo(f"found afterwards in [{numbers}]: {sentence.text}")
    if answer.dropped:
        typer.echo(f"not read, for want of room: {', '.join(answer.dropped)}")
    spoke = answer.model
    typer.echo(f"{spoke.name} ({spoke.kind}) answered in {answer.took_ms / 1e3:.1f} s: {spoke.limits}")
