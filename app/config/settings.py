"""What differs per machine: `TUWEN_*` in the environment, or in `.env` beside it. `.env.example` lists them all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, SupportsIndex
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.config.environment import DOTENV, read_environment
from app.config.errors import ConfigError
from app.config.memory import bodies_bytes, memory_bytes
from app.config.problems import plain_words
from app.config.publishing import endpoint_address, misfits, public_address, store_place

PREFIX = "TUWEN_"
_OF_COMMANDS = frozenset({"TUWEN_BASE_URL", "TUWEN_API_KEY"})
_MAX_SHOWN_CHARS = 60
_USER_INFO = re.compile(r"^([\w+.-]+://)?.*@", re.DOTALL)
_QUERY = re.compile(r"([?#]).*", re.DOTALL)
_MIB = 1024 * 1024


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _items(value: object) -> object:
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _network_and_port(text: str) -> str:
    network, _, port = text.rpartition(":")
    try:
        ip_network(network.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise ValueError(f'must be a list of CIDR:port, as "10.0.0.5/32:8080"; "{text}" is none') from error
    _port(port)
    return text


def _address_and_port(text: str) -> str:
    address, _, port = text.rpartition(":")
    try:
        ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise ValueError('must be ADDRESS:port, as "127.0.0.1:53"') from error
    _port(port)
    return text


def _redis_url(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        of_host = bool(parts.hostname) and "@" not in parts.path  # a password's slash would make a host of the user
        good = of_host if parts.scheme in {"redis", "rediss"} else parts.scheme == "unix"
        _ = parts.port  # read, for a port that is none raises
    except ValueError:
        good = False
    if not good:
        raise ValueError("must be as redis://:PASSWORD@HOST:6379/0; write / @ : # of a password as %2F %40 %3A %23")
    return url


def _port(text: str) -> None:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError("must end in a port from 1 to 65535")


RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
FetchAllow = Annotated[tuple[Annotated[str, AfterValidator(_network_and_port)], ...], NoDecode, BeforeValidator(_items)]
AddressAndPort = Annotated[str, AfterValidator(_address_and_port)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items), Field(min_length=1)]
Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The process's settings. Made by `load_settings`, which words what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    data_dir: Path = Field(Path("data"), description="Folder of the ledger and of the secret keys are digested with.")
    secret: SecretStr | None = Field(
        None, description="Secret that keys are digested with; unset: made once and kept in the data folder."
    )
    database_url: SecretStr | None = Field(
        None,
        description="Postgres of keys and ledger: postgresql://USER:PASSWORD@HOST:5432/NAME; unset: SQLite in the data "
        "folder.",
    )
    redis_url: RedisUrl | None = Field(
        None,
        description="Redis in which gateways share their limits: redis://HOST:6379/0; unset: each keeps its own.",
    )
    workers: Count = Field(1, description="Processes that serve; more than one need TUWEN_REDIS_URL.")
    models_file: Path | None = Field(
        None,
        description="Your own models.toml, laid over the built-in one; unset: ./models.local.toml if there is one.",
    )

    heartbeat_s: Seconds = Field(15, description="Silence after which a waiting stream gets its headers and a comment.")
    connect_s: Seconds = Field(10, description="Longest wait for a connection to a backend.")
    first_event_s: Seconds = Field(120, description="Longest wait for a backend's first word.")
    idle_s: Seconds = Field(60, description="Longest silence of a backend that has begun to answer.")
    deadline_s: Seconds = Field(600, description="Longest time for a whole answer.")
    attempts: Count = Field(
        4, description="Most attempts at backends for one request, until one answers; 1: nothing is tried twice."
    )

    drain_notice_s: float = Field(
        3,
        ge=0,
        allow_inf_nan=False,
        description="Told to stop, how long the gateway still takes connections while GET /readyz says that it will "
        "not.",
    )
    drain_s: Seconds = Field(
        30, description="Told to stop, how long answers under way may take before they are ended with an error."
    )

    arrival_s: Seconds = Field(
        60, description="Longest time for a request's head to arrive; over as long, its body must grow by 8 KiB/s."
    )
    stall_s: Seconds = Field(60, description="Longest time for a caller to take nothing of its answer.")

    queue_s: Seconds = Field(30, description="Longest wait for a backend that has no room for another request.")
    queue_length: Count = Field(200, description="Requests that may wait for one backend; more are told to come again.")

    open_access: bool = Field(
        False,
        description="true: nobody needs a key, nothing is limited or booked; for a machine of your own.",
    )
    answer_max_bytes: int = Field(
        _MIB, ge=0, description="Largest answer kept for an Idempotency-Key, encrypted, for 24 hours; 0: none."
    )
    answers_max_bytes: Count = Field(256 * _MIB, description="Most bytes of all answers that are kept.")
    details_days: Count = Field(
        30, description="Days for which refusals, notices and what backends said are kept beside the ledger."
    )

    max_body_bytes: Count = Field(30 * _MIB, description="Largest request body.")
    max_image_bytes: Count = Field(20_000_000, description="Largest picture as sent, before base64.")
    max_image_pixels: Count = Field(50_000_000, description="Most pixels of one picture.")
    max_image_side_px: Count = Field(16_384, description="Longest side of a picture.")
    max_images: Count = Field(50, description="Most pictures in one request.")
    intake_max_bytes: Count | None = Field(
        None,
        description="Most bytes of request bodies held at once; unset: an eighth of the memory there is, all workers "
        "together.",
    )
    image_cache_bytes: int = Field(
        64 * _MIB, ge=0, description="Memory for pictures already fitted to a backend; 0: none."
    )
    decode_workers: int = Field(0, ge=0, description="Processes that decode pictures; 0: as many as there are cores.")
    decode_memory_bytes: int = Field(
        1536 * _MIB, ge=256 * _MIB, description="Most memory, as address space, of a process that decodes pictures."
    )
    decode_cpu_s: Count = Field(20, description="Most CPU seconds for decoding one picture.")
    decode_s: Seconds = Field(60, description="Longest time for decoding one picture.")

    fetch_allow: FetchAllow = Field(
        (), description="Non-public addresses pictures may be fetched from: CIDR:port, separated by commas."
    )
    fetch_resolver: AddressAndPort | None = Field(
        None, description="DNS server for fetching pictures, ADDRESS:port; unset: the system's."
    )
    fetch_timeout_s: Seconds = Field(10, description="Longest time for fetching one picture.")

    public_url: Annotated[str, AfterValidator(public_address)] | None = Field(
        None,
        description="https address of this gateway, as backends reach it; set: pictures can be published under it.",
    )
    blob_store: Annotated[str, AfterValidator(store_place)] | None = Field(
        None,
        description="Where published pictures lie: a folder all gateways share, or s3://BUCKET/PREFIX; unset: blobs "
        "in the data folder.",
    )
    blob_endpoint: Annotated[str, AfterValidator(endpoint_address)] | None = Field(
        None, description="Address of the bucket's store, without the bucket; unset: that of AWS in the region."
    )
    blob_region: str | None = Field(
        None, description="Region that requests to the store are signed for; unset: us-east-1."
    )
    blob_access_key_id: str | None = Field(None, description="Id of the store's key.")
    blob_secret_access_key: SecretStr | None = Field(None, description="The store's key.")
    blob_virtual_host: bool = Field(
        False, description="true: the bucket's name goes into the host, as OSS wants it; false: into the path."
    )
    blob_ttl_s: float = Field(600, ge=1, le=86_400, description="How long a published picture can be fetched.")
    blob_max_bytes: Count = Field(
        512 * _MIB, description="Most bytes of published pictures in the folder; more are told to come again."
    )

    max_upstream_event_bytes: Count = Field(4 * _MIB, description="Largest single event of a backend's stream.")
    max_upstream_body_bytes: Count = Field(32 * _MIB, description="Largest whole answer of a backend.")

    ocr_queue: Count = Field(
        16, description="Requests that may wait for the built-in OCR; more are told to come again."
    )
    ocr_threads: int = Field(0, ge=0, description="Threads of the built-in OCR; 0: as many as there are cores.")
    ocr_idle_s: Seconds = Field(
        900, description="Idle time after which the OCR process ends and gives its memory back."
    )

    log_level: Level = Field("info", description="debug, info, warning or error.")
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = Field(
        "console", description="console for people, json for machines."
    )
    cors_origins: Names = Field(("*",), description="Origins browsers may call from, separated by commas; * for all.")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("Settings holds secrets and cannot be pickled")

    @property
    def database_address(self) -> str | None:
        """The database's address, its password in it."""
        return self.database_url.get_secret_value() if self.database_url else None

    @property
    def intake_bytes(self) -> int:
        """Most bytes of bodies that this process holds, said or derived."""
        return self.intake_max_bytes or bodies_bytes(self.workers, self.max_body_bytes, memory_bytes())

    @property
    def redis_address(self) -> str | None:
        """The same of Redis."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if lines := list(misfits(self)):
            raise ValueError("\n".join(lines))
        return self


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings from the environment and `.env`.

    Args:
        overrides: values that win over both, as from the command line.

    Raises:
        ConfigError: a value is wrong, one line for each, which names the variable; or `.env` cannot be
            read.
    """
    read_environment()  # for what may be wrong with the file itself
    try:
        return Settings(**overrides)
    except ValidationError as failure:
        raise ConfigError("\n".join(_line(error) for error in failure.errors(include_url=False))) from failure


def mistyped_variables(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Variables that are no setting but look like one, with the setting probably meant; for a warning."""
    known = [variable(name) for name in Settings.model_fields]
    unknown = [name for name in environ if name.startswith(PREFIX) and name not in {*known, *_OF_COMMANDS}]
    near = {name: get_close_matches(name, known, n=1, cutoff=0.8) for name in unknown}
    return {name: matches[0] for name, matches in near.items() if matches}


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def _line(error: Mapping[str, Any]) -> str:
    if not error["loc"]:  # of several settings: the text names them
        return plain_words(error)
    field = str(error["loc"][0])
    line = f"{variable(field)}: {plain_words(error)}"
    if "secret" in field or field in {"database_url", "redis_url"}:  # addresses with passwords
        return line
    return f"{line}; it is {_shown(str(error['input']))!r}"


def _shown(value: str) -> str:
    """A wrong value, without what may be credentials where an address is meant: before its last @, and behind a ?."""
    bare = _USER_INFO.sub(r"\1***@", value)
    return _QUERY.sub(r"\1***", bare)[:_MAX_SHOWN_CHARS]
