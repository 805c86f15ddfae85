"""Where the service stands: environment variables `FACETRAIL_*`, read here and nowhere else."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from facetrail.models.errors import InvalidInput, NotFound

Names = Annotated[tuple[str, ...], NoDecode]
"""A comma list in the environment."""


class Settings(BaseSettings):
    """Every field is the environment variable `FACETRAIL_` + its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="FACETRAIL_", frozen=True, extra="ignore")

    # who may ask
    read_keys: SecretStr = SecretStr("")
    """Comma list of API keys that may search and read."""
    write_keys: SecretStr = SecretStr("")
    """Comma list of API keys that may also write and build."""
    read_keys_file: Path | None = None
    """A file with one read key a line, instead of or beside the list."""
    write_keys_file: Path | None = None
    allowed_hosts: Names = ()
    """Comma list of host names that the service answers to beside its own address; guards against DNS rebinding."""
    read_only: bool = False
    """True: no writer lock is taken and writes are refused."""

    # how much at once
    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1_024)
    max_header_bytes: int = Field(default=32 * 1024, ge=1_024)
    max_json_depth: int = Field(default=64, ge=4, le=180)
    """Nesting of filters and metadata."""
    max_documents: int = Field(default=1_000, ge=1)
    """Documents in one PUT, ids in one delete."""
    max_events: int = Field(default=10_000, ge=1)
    """Events in one POST."""
    max_impressions: int = Field(default=1_000, ge=1)
    """Logged impressions kept of each user, the newest; older ones are deleted as new ones are written."""
    max_queries: int = Field(default=100, ge=1)
    """Queries in one batch search."""
    max_texts: int = Field(default=256, ge=1)
    """Texts in one embeddings request, documents in one rerank request."""
    max_connections: int = Field(default=2_048, ge=8)
    max_in_flight: int = Field(default=256, ge=1)
    """Requests under way, uploads included; more are shed with 503 and Retry-After."""
    max_wait_ms: float = Field(default=75.0, gt=0)
    """A search expected to wait longer than this before it starts is shed with 503 and Retry-After."""
    search_workers: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=1, le=64)
    """Threads for searches that are too heavy to run between two socket reads."""
    inline_documents: int = Field(default=20_000, ge=0)
    """Lexical searches on collections below this size run without a thread hop."""

    # the language model
    language_model: str = Field(default="smollm2", min_length=1)
    """`smollm2`, a folder, or the http(s) URL of an OpenAI-compatible server, up to and including `/v1`."""
    language_model_name: str = ""
    """The server's model; needed with a URL."""
    language_api_key: SecretStr = SecretStr("")
    """For the server."""
    language_context: int = Field(default=4_096, ge=64)
    """Tokens that the server's model reads and writes together; a model in a folder knows its own."""
    language_prompt_tokens: int = Field(default=1_024, ge=32)
    """The most tokens that a question and its passages may make; fewer are read sooner."""
    language_workers: int = Field(default=1, ge=1, le=64)
    """Answers written at a time; more than one is for a server, not for weights on this machine."""
    language_queue: int = Field(default=8, ge=0)
    """Requests that may wait for the model; more are shed with 503 and Retry-After."""
    language_wait: float = Field(default=60.0, gt=0)
    """Seconds that a request may wait for its turn, the first one's loading of the model included."""
    language_timeout: float = Field(default=60.0, gt=0)
    """Seconds for one answer, and for a server's silence."""

    # how long
    request_timeout: float = Field(default=30.0, gt=0)
    """Seconds for a search, an embedding or a ranking."""
    write_timeout: float = Field(default=300.0, gt=0)
    """Seconds for a write, whose documents must be encoded."""
    header_timeout: float = Field(default=10.0, gt=0)
    """Seconds from the first byte of a request to the end of its header."""
    body_timeout: float = Field(default=30.0, gt=0)
    """Seconds for a request body to arrive."""
    keep_alive: int = Field(default=75, ge=1)
    """Seconds an idle connection stays open."""
    drain_delay: float = Field(default=0.0, ge=0)
    """Seconds between SIGTERM, when /readyz turns 503, and the end of accepting; a load balancer's notice."""
    drain_seconds: float = Field(default=20.0, gt=0)
    """Seconds that requests under way have to finish after accepting ended."""

    # what is written down
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_requests: bool = True
    log_queries: bool = False
    """True: query texts appear in the access log. They can be personal; off unless asked for."""

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(v.strip().lower() for v in value.split(",") if v.strip()) if isinstance(value, str) else value


def read_settings() -> Settings:
    """The settings of this process. Raises InvalidInput naming the variable that cannot be used."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "FACETRAIL_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(f"{variable} cannot be used: {first['msg'].lower()}; correct or unset it") from error


def keys_of(listed: SecretStr, file: Path | None) -> list[str]:
    """The API keys of a list and a file, without blanks and `#` comments. Raises NotFound for a missing file."""
    keys = listed.get_secret_value().split(",")
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(
                f"the key file {file} cannot be read ({error}); check the path and its permissions"
            ) from error
        keys += [line for line in lines if not line.lstrip().startswith("#")]
    return [key.strip() for key in keys if key.strip()]
