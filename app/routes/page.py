"""The page at `/` and its static files, under a strict content security policy."""

from importlib.resources import files

from fastapi import APIRouter, Request, Response

from facetrail.app.deps import PlainRoute
from facetrail.models.errors import NotFound

router = APIRouter(route_class=PlainRoute, include_in_schema=False)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache"}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _file("index.html")


@router.get("/static/{name}")
async def static(request: Request) -> Response:
    """One of its files. A name is looked up among the package's own files and never becomes a path."""
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    kind = TYPES.get(name.rpartition(".")[2])
    for entry in files("facetrail.app.web").iterdir():
        if entry.name == name and kind is not None and entry.is_file():
            return Response(entry.read_bytes(), headers=HEADERS, media_type=kind)
    raise NotFound(f"there is no file {name!r} in the page")
