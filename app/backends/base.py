"""What a kind of backend is: capabilities, options, and a translator per request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NoReturn, Protocol, SupportsIndex, TypeAlias

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from app.backends.error_table import ErrorTable
from app.core.errors import BackendError
from app.core.events import Event
from app.core.types import Call, ChatRequest, Context, Frame, ImageRules

ImageInput: TypeAlias = Literal["bytes", "url", "either"]


def _none(options: Any, model: str) -> tuple[()]:
    return ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a route can do. Every default is the poorest backend.

    Args:
        streaming: it can answer as it goes; else the whole answer comes in one frame.
        tools: it can call tools; tools merely offered to one that cannot are dropped with a notice.
        json_schema: it holds answers to a JSON schema.
        json_object: it holds answers to JSON.
        max_images: pictures per request; 0 means it sees nothing.
        newest_turn_only: it looks at the pictures of the newest turn only; older ones are not even fetched.
        needs_image: it answers nothing without a picture; a request without one gets a blank sheet, with a notice.
        image_input: whether pictures travel as bytes, as addresses, or either.
        image_hosts: domains under which an address of a picture must lie; any where empty.
        knobs: the optional `ChatRequest` fields it understands; others are dropped with a notice.
        extra: vendor parameters a caller may pass through.
        conversation_tokens: what the conversation and its answer may take together; the oldest turns are dropped to
            fit, with a notice. `None`: how long is too long is the backend's to say.
        default_output_tokens: how long an answer may be where the caller does not say; room is kept for it.
    """

    streaming: bool = False
    system_role: bool = False
    tools: bool = False
    json_schema: bool = False
    json_object: bool = False
    reasoning: bool = False
    max_images: int = 0
    newest_turn_only: bool = False
    needs_image: bool = False
    image_input: ImageInput = "bytes"
    image_hosts: tuple[str, ...] = ()
    image_rules: ImageRules = field(default_factory=ImageRules)
    knobs: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    max_output_tokens: int | None = None
    conversation_tokens: int | None = None
    default_output_tokens: int | None = None


class BackendOptions(BaseModel):
    """A `[backends.NAME]` section of models.toml without `kind` and `limits`. Kinds add their fields.

    Every secret is a `pydantic.SecretStr`, written as `env::NAME`; where NAME is not set the backend is listed as not
    configured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _is_one_line(cls, value: Any) -> Any:
        """A secret goes out in a header or an address, and neither takes a line break."""
        if isinstance(value, SecretStr) and not value.get_secret_value().isprintable():
            raise ValueError("must be one line without control characters, as the vendor shows it")
        return value

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What must stand in no log, though backends repeat it. No field: neither `repr` nor a dump shows it."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled")


class Translator(Protocol):
    """One request's conversation with one backend. Made per request; does no I/O and reads no clock."""

    backend_request_id: str | None
    """The vendor's id of this request, once seen in the answer."""

    notices: list[str]
    """What was clamped or dropped, each a short ASCII phrase for the `x-tuwen-notice` header; filled by `call`."""

    def call(self, request: ChatRequest, context: Context) -> Call:
        """What to ask the backend. `request.model` is the backend's own name of the model; pictures are fitted.

        Raises:
            UnsupportedFeature: the request demands what this backend cannot do and `Capabilities` has no word for.
        """
        ...

    def receive(self, frame: Frame) -> Iterable[Event]:
        """Decodes one frame.

        Raises:
            BackendError: the frame is an error, or no sense can be made of it.
        """
        ...

    def receive_eof(self) -> Iterable[Event]:
        """The backend has nothing more to say: yields the terminal, or raises `BackendProtocolError` if cut short."""
        ...

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """Reads an answer whose HTTP status is not 200. `headers` have lower-case names."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at a section, without asking the backend, came to.

    Args:
        check: what was looked at, as `credentials`.
        english, chinese: one line; where it is not ok, what to do. Never repeats a secret.
    """

    check: Literal["credentials", "model"]
    ok: bool
    english: str
    chinese: str


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """A row of the registry.

    Args:
        options: the class of its section in models.toml.
        capabilities: of one remote model, from (options, remote model).
        translator: made per request from (backend name, options, remote model).
        errors: its error codes, one table per vendor page.
        addresses: the URLs its calls go to, from (options, remote model); none where it needs no network.
        inspect: what (options, remote model) look like: shapes of credentials, whether there is such a model.
    """

    options: type[BackendOptions]
    capabilities: Callable[[Any, str], Capabilities]
    translator: Callable[[str, Any, str], Translator]
    errors: tuple[ErrorTable, ...] = ()
    addresses: Callable[[Any, str], Iterable[str]] = _none
    inspect: Callable[[Any, str], Iterable[Finding]] = _none
