"""The page at `/` and its static files, under a strict content security policy."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from facetrail.app.deps import PlainRoute
from facetrail.models.errors import NotFound

router = APIRouter(route_class=PlainRoute, include_in_schema=False)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Trusted types make the browser itself refuse every assignment of markup, such as `innerHTML`, by the page's code."""
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # asked for again each time, answered by 304: no release mixes with another's files
}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file as it is sent."""

    content: bytes
    kind: str
    etag: str


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


@router.get("/static/{name}")
async def static(request: Request) -> Response:
    """One of its files. A name is looked up among the package's own files and never becomes a path."""
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise NotFound(f"there is no file {name!r} in the page")
    headers = {**HEADERS, "etag": file.etag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.kind)


@cache
def page_files() -> Mapping[str, PageFile]:
    """The page's files by name; read once, they are a few kilobytes each."""
    found = {}
    for entry in files("facetrail.app.web").iterdir():
        kind = TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            content = entry.read_bytes()
            found[entry.name] = PageFile(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return found
