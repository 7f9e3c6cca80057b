"""Settings: one frozen model a service, read from `A2A_*` once at the root.

Decides how a wrong setting is told: one line that names it, exit code 2. Passes nothing on; the
root hands plain values inward.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Never, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, IPvAnyNetwork, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from contracts.domain import MARKET_DOMAIN, Domain
from services.chassis import domains

EXIT_WRONG_SETTING = 2
_PREFIX = "A2A_"


def _nats_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname:
        raise ValueError("must be like nats://127.0.0.1:4222")
    return text


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address")
    return text


def _comma_list(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _domains(value: object) -> object:
    names = _comma_list(value)
    return domains.load(names) if isinstance(names, tuple) else names


NatsUrl = Annotated[str, AfterValidator(_nats_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_list)]
Networks = Annotated[tuple[IPvAnyNetwork, ...], NoDecode, BeforeValidator(_comma_list)]
Domains = Annotated[InstanceOf[Domain], NoDecode, BeforeValidator(_domains)]
Port = Annotated[int, Field(ge=0, le=65535)]


class ServiceSettings(BaseSettings):
    """What every service reads; a service adds its own fields in its `settings.py`."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    nats_url: NatsUrl = Field(default="nats://127.0.0.1:4222", description="NATS server to connect to")
    http_host: str = Field(default="127.0.0.1", description="address to listen on")
    http_port: Port = Field(default=0, description="port to listen on; 0 takes a free one")
    http_fd: int | None = Field(default=None, ge=3, description="listening socket inherited from a supervisor")
    region: str = Field(default="local", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="name of this site")
    hub_domain: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,32}$",
        description="JetStream domain of the hub, in a region; empty where this site is the hub",
    )
    declare: bool = Field(default=True, description="make the streams at start where they are missing")
    market_max_bytes: int | None = Field(default=None, ge=1, description="size reserved for the MARKET stream")
    stream_replicas: int = Field(default=1, ge=1, le=5, description="copies of each stream in a NATS cluster")
    domains: Domains = Field(
        default_factory=lambda: MARKET_DOMAIN,
        description="modules of further domains, comma-separated; see docs/new-domain.md",
    )
    log_level: str = Field(
        default="info", pattern=r"^(?i:debug|info|warning|error)$", description="debug, info, warning or error"
    )

    @property
    def declares(self) -> bool:
        """Whether to make the streams: never in a region, whose mirrors are the relay's."""
        return self.declare and not self.hub_domain


class TokenSettings(ServiceSettings):
    """What a service that takes tokens reads beside that: how they are verified."""

    jwt_hs256_secret: str | None = Field(default=None, min_length=1, description="shared secret for HS256")
    jwt_public_key: str | None = Field(
        default=None, min_length=1, description="PEM for RS256, ES256 or EdDSA, or a path to it"
    )
    jwks_url: HttpUrl | None = Field(default=None, description="JWKS for RS256, ES256 or EdDSA")
    jwt_issuer: str | None = Field(default=None, min_length=1, description="required `iss`")
    jwt_audience: str | None = Field(default=None, min_length=1, description="required `aud`")


class PublisherSettings(TokenSettings):
    """What a service that keeps aggregates reads beside that."""

    nats_monitor_url: HttpUrl | None = Field(
        default=None, description="the NATS server's monitoring port, as http://127.0.0.1:8222; tells its disk sync"
    )
    bodies_max_bytes: int = Field(default=32 * 1024**2, ge=1024, description="all request bodies held at once")
    body_timeout_s: float = Field(default=10, gt=0, description="time in which a request's body must have arrived")
    ack_timeout_s: float = Field(default=2, gt=0, le=30, description="time for one acknowledgement before another try")
    store_deadline_s: float = Field(default=10, gt=0, description="time in which a command is stored or refused")


Settings = TypeVar("Settings", bound=BaseSettings)


def load(kind: type[Settings]) -> Settings:
    """Read `kind` from the environment; on a wrong or missing setting print one line that names it and exit 2."""
    try:
        return kind()
    except ValidationError as error:
        first = error.errors()[0]
        told = first["msg"].removeprefix("Value error, ")
        refuse(f"{_PREFIX}{first['loc'][0]}".upper() + f": {told}" if first["loc"] else told)


def described(kind: type[BaseSettings]) -> str:
    """The settings of `kind` for `--help`: one line each, with its default."""
    names = {f"{_PREFIX}{name.upper()}": field for name, field in kind.model_fields.items()}
    width = max(map(len, names))
    return "\n".join(
        f"  {name:{width}}  {field.description or ''}{_default(field)}".rstrip() for name, field in names.items()
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return " (required)"
    is_told = field.default_factory is None and field.default not in (None, "", ())
    return f" (default {field.default})" if is_told else ""


def refuse(reason: str) -> Never:
    """Print one line on standard error and exit with the code of a wrong setting."""
    print(f"error: {' '.join(reason.split())}", file=sys.stderr)
    raise SystemExit(EXIT_WRONG_SETTING)


def require_one_of(given: Sequence[object | None], names: Sequence[str]) -> None:
    """Refuse to start where none of the settings called `names` is given."""
    if all(value is None for value in given):
        refuse(f"set one of {', '.join(_PREFIX + name for name in names)}")
