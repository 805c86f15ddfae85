"""API keys with a read and a write scope, and the guards of a service that runs without keys on loopback.

Keys are kept and compared as SHA-256 digests; every configured key is compared in constant time, found or not.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal

from facetrail.app.errors import Refused
from facetrail.app.settings import Settings, keys_of
from facetrail.models.errors import InvalidInput

Scope = Literal["open", "read", "write"]

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
OPEN_PREFIXES = ("/static/",)
READING_POSTS = frozenset(
    {
        "/v1/search",
        "/v1/search/batch",
        "/v1/recommend",
        "/v1/reason",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/rerank",
    }
)


def scope_needed(method: str, path: str) -> Scope:
    """What a request needs. Unknown paths and methods count as the stricter kind."""
    if method in ("GET", "HEAD"):
        return "open" if path in OPEN_PATHS or path.startswith(OPEN_PREFIXES) else "read"
    return "read" if method == "POST" and path in READING_POSTS else "write"


class Keys:
    """The configured keys. A write key may also read; with any key configured, every data route needs one."""

    def __init__(self, read: Iterable[str], write: Iterable[str]) -> None:
        self._write = [hashlib.sha256(key.encode()).digest() for key in write]
        self._read = [*(hashlib.sha256(key.encode()).digest() for key in read), *self._write]

    @classmethod
    def of(cls, settings: Settings) -> "Keys":
        """The keys that the settings name. Raises NotFound for a key file that cannot be read."""
        return cls(
            keys_of(settings.read_keys, settings.read_keys_file), keys_of(settings.write_keys, settings.write_keys_file)
        )

    def __bool__(self) -> bool:
        return bool(self._read)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises Refused 401 (no or unknown key) or 403 (a read key on a write route)."""
        if scope == "open" or not self._read:
            return
        presented = headers.get(b"x-api-key")
        if presented is None:
            kind, _, credentials = headers.get(b"authorization", b"").partition(b" ")
            presented = credentials.strip() if kind.lower() == b"bearer" else b""
        digest = hashlib.sha256(presented).digest()
        if scope == "write" and _among(digest, self._write):
            return
        may_read = _among(digest, self._read)
        if scope == "read" and may_read:
            return
        if may_read:
            raise Refused(403, "this API key may read only; use a write key")
        raise Refused(
            401,
            "this route needs an API key; send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"www-authenticate": 'Bearer realm="facetrail"'},
        )


def _among(digest: bytes, known: list[bytes]) -> bool:
    found = False
    for other in known:  # no early exit: the time must not tell which key came close
        found |= hmac.compare_digest(digest, other)
    return found


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, keys: Keys) -> None:
    """Raises InvalidInput when a service without keys would be reachable from other machines."""
    if not keys and not is_loopback(host):
        raise InvalidInput(
            f"refusing to listen on {host} without an API key: set FACETRAIL_READ_KEYS and FACETRAIL_WRITE_KEYS, "
            "or listen on 127.0.0.1"
        )


class HostGuard:
    """Without keys a web page elsewhere must not reach the service through the visitor's browser.

    A rebound DNS name shows in the Host header, a form sent across sites in Origin; both are refused.
    """

    def __init__(self, allowed_hosts: Iterable[str], *, open_to_all: bool) -> None:
        self._allowed = {"localhost", "127.0.0.1", "[::1]", *allowed_hosts}
        self._open_to_all = open_to_all

    @classmethod
    def of(cls, settings: Settings, keys: Keys, host: str) -> "HostGuard":
        """Names are checked where none but the visitor's address protects the service, or where names are listed."""
        name = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return cls((*settings.allowed_hosts, name.lower()), open_to_all=bool(keys) and not settings.allowed_hosts)

    def check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        """Raises Refused 421 (foreign Host) or 403 (a write from another site's page)."""
        if self._open_to_all:
            return
        host = headers.get(b"host", b"")
        if host and _without_port(host) not in self._allowed:
            raise Refused(421, "this service does not answer to that host name; add it to FACETRAIL_ALLOWED_HOSTS")
        origin = headers.get(b"origin")
        if origin is not None and method not in ("GET", "HEAD") and origin.partition(b"://")[2] != host:
            raise Refused(403, "requests from another site's page are refused; call the service from its own page")


def _without_port(host: bytes) -> str:
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
