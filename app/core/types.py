"""Requests, pictures and calls: the nouns a request is made of on its way through the gateway.

All are frozen and hold plain data; none shows in its `repr` what callers said, or what proves who asks. A picture is a
source (`ImageSource`: what the caller wrote, nothing fetched) until `media` fitted it to a route; then it is an
`Image`. Translators see only fitted pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from app.core.secret import Guarded

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Detail: TypeAlias = Literal["auto", "low", "high"]
Framing: TypeAlias = Literal["sse", "json"]
ImageFormat: TypeAlias = Literal["jpeg", "png", "webp", "gif", "bmp"]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """A picture as the caller named it: a data URL, bare base64 or an http(s) URL; nothing was read yet.

    Args:
        param: where it stands in the caller's request, as `messages[0].content[1].image_url.url`; errors name it.
        min_side_px: the least the caller's API takes; what backends take at least is theirs to say.
    """

    url: str = field(repr=False)
    param: str
    min_side_px: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as a backend gets it: upright, opaque, sRGB, without metadata.

    Args:
        media_type: what the bytes are, as `image/jpeg`.
        sha256: hexadecimal digest of `data`.
        url: where the backend can fetch it, for backends that take addresses only.
        source_width_px, source_height_px: size of the caller's picture, upright, before any fitting; 0 where it is the
            same. Regions found in the fitted picture are scaled back to it.
    """

    data: bytes = field(repr=False)
    media_type: str
    width_px: int
    height_px: int
    sha256: str
    url: str | None = field(default=None, repr=False)
    source_width_px: int = 0
    source_height_px: int = 0


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What pictures a backend takes. Every default is the poorest backend; `None` means no bound.

    Args:
        formats: what it decodes; the first is what we re-encode to when we must.
        max_image_bytes: of one encoded picture (before base64).
        max_aspect_ratio: longer side over shorter side.
    """

    formats: tuple[ImageFormat, ...] = ("jpeg", "png")
    max_image_bytes: int | None = 4 * 1024 * 1024
    max_side_px: int | None = 4096
    min_side_px: int = 28
    max_pixels: int | None = 12_000_000
    min_pixels: int = 0
    max_aspect_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImagePart:
    image: Image | ImageSource
    detail: Detail = "auto"

    @property
    def fitted(self) -> Image:
        """The picture as the route takes it.

        Raises:
            TypeError: the picture was not fitted yet; a translator was called too early.
        """
        if isinstance(self.image, ImageSource):
            raise TypeError("the picture was not fitted to the route yet")
        return self.image


Part: TypeAlias = TextPart | ImagePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model asked for. `arguments` is JSON text as the model wrote it, valid or not."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """All text parts, joined by line breaks."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question, in no vendor's dialect.

    Args:
        model: the id the caller asked for, or, once routed, the backend's own name of the model.
        max_output_tokens: `None` means the model's default.
        stream: whether the caller reads the answer as it comes.
        extra: fields outside OpenAI's; a translator forwards what its backend's allow-list names, nothing else.
    """

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = field(default=(), repr=False)
    seed: int | None = None
    n: int = 1
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    user: str | None = field(default=None, repr=False)
    tools: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: Mapping[str, Any] | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def demands_tool(self) -> bool:
        """True when an answer without a tool call would be wrong: `required`, or a tool named."""
        return bool(self.tools) and (self.tool_choice == "required" or isinstance(self.tool_choice, Mapping))

    @property
    def demands_json_schema(self) -> bool:
        return self.response_format is not None and self.response_format.get("type") == "json_schema"


@dataclass(frozen=True, slots=True)
class Context:
    """All that a translator may know of the world; made per attempt, at dispatch.

    Args:
        attempt: 1 for the first.
        now: Unix time in seconds.
        deadline: Unix time in seconds after which nobody waits for the answer.
        nonce: 32 hexadecimal digits, fresh per attempt.
    """

    request_id: str
    attempt: int
    now: float
    deadline: float
    nonce: str


@dataclass(frozen=True, slots=True)
class HttpCall(Guarded):
    """One HTTP exchange. `framing` is what we asked for; what came back is told by its content type.

    Args:
        url: where it holds escapes it goes out as it stands, for it may be signed.
        cumulative: each event of the answer says again all that was said before, so that a long answer takes many
            times its length; then each event is bounded, but not their sum.
        token: how the token it needs is had; `None`: it needs none.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    framing: Framing = "sse"
    cumulative: bool = False
    token: TokenFlow | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AccessToken(Guarded):
    """A token that a vendor gave out.

    Args:
        expires_in_s: from when it was asked for.
    """

    value: str = field(repr=False)
    expires_in_s: float


class TokenFlow(Protocol):
    """How calls to one account get their token. The transport keeps the token and shares it among calls."""

    @property
    def account(self) -> str:
        """Whose token it is: calls of one account share it. Holds no secret in the clear."""
        ...

    def ask(self) -> HttpCall:
        """The call that gets a new token."""
        ...

    def read(self, status: int, body: bytes) -> AccessToken:
        """The token in the answer.

        Raises:
            BackendError: there is none; the vendor says why.
        """
        ...

    def with_token(self, call: HttpCall, token: str) -> HttpCall:
        """The call, carrying the token."""
        ...

    def refuses(self, body: bytes) -> bool:
        """Whether an answer in JSON says that the token is no longer good: then one new token is tried."""
        ...


@dataclass(frozen=True, slots=True)
class WsCall(Guarded):
    """One WebSocket exchange: the handshake at `url`, then all `messages` as text, then frames until the end."""

    url: str = field(repr=False)
    messages: tuple[bytes, ...] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LocalCall:
    """Work for an engine in this machine: pictures in, frames out."""

    engine: str
    images: tuple[Image, ...]
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


Call: TypeAlias = HttpCall | WsCall | LocalCall


@dataclass(frozen=True, slots=True)
class Frame:
    """One unit of a backend's answer: one SSE event, one WebSocket message, one JSON body, one engine record.

    Args:
        data: the payload; for SSE the `data:` lines joined by line breaks.
        event: the SSE `event:` field, else empty.
    """

    data: bytes = field(repr=False)
    event: str = ""
