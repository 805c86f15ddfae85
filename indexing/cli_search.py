"""`facetrail search`. Light to import: the engines load inside the command."""

import sys
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from facetrail.indexing.cli_options import AsJson, Folder, parse_facet_options, parse_filter_option, print_json
from facetrail.models.errors import InvalidInput


def search(
    folder: Folder,
    text: Annotated[str | None, typer.Argument(help="What to look for.", metavar="TEXT")] = None,
    mode: Annotated[
        Literal["hybrid", "lexical", "dense", "facet"] | None,
        typer.Option(help="Default: hybrid where both indexes exist."),
    ] = None,
    like: Annotated[str | None, typer.Option(help="Find documents similar to this one.", metavar="ID")] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", help='For instance {"year": {"gte": 2020}}.', metavar="JSON")
    ] = None,
    limit: Annotated[int, typer.Option(help="Hits to show, 1 to 1,000.")] = 10,
    offset: Annotated[int, typer.Option(help="Hits to pass over.")] = 0,
    fusion: Annotated[Literal["z", "minmax", "rrf", "dbsf"], typer.Option(help="How hybrid joins its sources.")] = "z",
    facet: Annotated[
        list[str] | None,
        typer.Option(
            help="Weight of a facet, for instance method=.8; repeat for more. auto: the query's own intent.",
            metavar="NAME=WEIGHT",
        ),
    ] = None,
    rescore_depth: Annotated[
        int, typer.Option(help="Mode facet: documents scored again by their facets, 1 to 1,000.")
    ] = 200,
    explain: Annotated[bool, typer.Option(help="Show each source's, word's and facet's share.")] = False,
    as_json: AsJson = False,
) -> None:
    """Searches a collection by text or by document."""
    from pydantic import ValidationError

    from facetrail.indexing.request import FusionConfig, SearchRequest
    from facetrail.indexing.searcher import Searcher

    try:
        request = SearchRequest(
            query=text,
            like=like,
            mode=mode,
            filter=parse_filter_option(filter_),
            limit=limit,
            offset=offset,
            explain=explain,
            fusion=FusionConfig(method=fusion),
            facets=parse_facet_options(facet or []),
            rescore_depth=rescore_depth,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidInput(f"--{first['loc'][-1]}: {first['msg'][0].lower()}{first['msg'][1:]}") from error
    with Searcher.open(folder, verify=False) as searcher:
        result = searcher.search(request)
    if as_json:
        print_json(asdict(result))
    else:
        from facetrail.indexing.show import show_result

        show_result(result, stream=sys.stdout)
