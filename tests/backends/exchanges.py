"""Reads the exchanges of `tests/backends/wire/<kind>/*.json` and plays them against a backend.

    name, source     what it shows, and the vendor page or recording it comes from
    options          the `[backends.NAME]` section, without `kind`
    request          a `ChatRequest`; `content` is text or parts: {"text"}, or {"picture": base64, "media_type", …}
    call             what must go out: `url`, `headers` (those named), `body` (exactly), `framing`, `notices`; over
                     WebSocket `messages`, and of a signed `url` what stands before the query, with its `query`
    reply            what comes back: `status`, `headers`, and `wire`: lines, joined by line feeds (or `wire_base64`);
                     over WebSocket `frames`: JSON, or text for what is none
    events           what must come of it, each as [kind, …]; with `error` they precede it
    error            {"class", …}: the class, and any attributes of it
    request_id       the vendor's id, once the answer was read

`call`, `request_id` and `error` are left out where an exchange is not about them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.backends.base import Translator
from app.backends.registry import spec_of
from app.core.errors import BackendError
from app.core.events import Event, Finish, OcrRegions, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from app.core.types import (
    Call,
    ChatRequest,
    Context,
    Frame,
    HttpCall,
    Image,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    WsCall,
)
from app.transports.framing import SseDecoder
from tests.fakes.http import Reply

WIRE = Path(__file__).parent / "wire"
CONTEXT = Context(request_id="req_1", attempt=1, now=1763600000.0, deadline=1763600060.0, nonce="0123456789abcdef" * 2)
Cutter = Callable[[bytes], Sequence[bytes]]


@dataclass(frozen=True)
class Exchange:
    kind: str
    name: str
    options: dict[str, Any]
    request: dict[str, Any]
    reply: dict[str, Any]
    source: str
    call: dict[str, Any] | None = None
    events: list[list[Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    request_id: str | None = None

    @property
    def wire(self) -> bytes:
        if "wire_base64" in self.reply:
            return base64.b64decode(self.reply["wire_base64"])
        return "\n".join(self.reply["wire"]).encode()

    @property
    def frames(self) -> list[Frame]:
        """The messages of a WebSocket."""
        return [
            Frame((frame if isinstance(frame, str) else json.dumps(frame, ensure_ascii=False)).encode())
            for frame in self.reply["frames"]
        ]

    @property
    def streamed(self) -> bool:
        return "text/event-stream" in self.reply.get("headers", {}).get("content-type", "")

    @property
    def status(self) -> int:
        return int(self.reply.get("status", 200))

    def over_http(self) -> Reply:
        """The reply for a scripted upstream to give."""
        return Reply(self.status, self.reply.get("headers", {}), [self.wire])

    def translator(self) -> Translator:
        spec = spec_of(self.kind)
        options = spec.options.model_validate(self.options)
        return spec.translator("test-backend", options, self.request["model"])

    def called(self, translator: Translator) -> Call:
        return translator.call(chat_request(self.request), CONTEXT)

    def asked(self, translator: Translator) -> HttpCall:
        call = self.called(translator)
        assert isinstance(call, HttpCall)
        return call

    def asked_over_ws(self, translator: Translator) -> WsCall:
        call = self.called(translator)
        assert isinstance(call, WsCall)
        return call


@dataclass(frozen=True)
class Outcome:
    """What a backend's answer came to: events, and the error that ended them, if one did."""

    events: tuple[Event, ...]
    error: BackendError | None
    translator: Translator


def load(*kinds: str) -> list[Exchange]:
    paths = sorted(path for kind in kinds for path in (WIRE / kind).glob("*.json"))
    return [Exchange(kind=path.parent.name, **json.loads(path.read_text("utf-8"))) for path in paths]


def whole(wire: bytes) -> Sequence[bytes]:
    return [wire]


def byte_by_byte(wire: bytes) -> Sequence[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


def cut_at(at: int) -> Cutter:
    """In two pieces."""
    return lambda wire: [wire[:at], wire[at:]]


def ended_at(at: int) -> Cutter:
    """The rest never comes."""
    return lambda wire: [wire[:at]]


def play(exchange: Exchange, cut: Cutter = whole) -> Outcome:
    """Asks, and sends the reply through framing and translator, in the pieces that `cut` makes of it."""
    translator = exchange.translator()
    exchange.called(translator)
    if exchange.status >= 400:
        headers = exchange.reply.get("headers", {})
        return Outcome((), translator.refused(exchange.status, headers, exchange.wire), translator)
    events: list[Event] = []
    error = None
    try:
        for frame in _frames(exchange, cut):
            events.extend(translator.receive(frame))
        events.extend(translator.receive_eof())
    except BackendError as raised:
        error = raised
    return Outcome(tuple(events), error, translator)


def _frames(exchange: Exchange, cut: Cutter) -> list[Frame]:
    if "frames" in exchange.reply:
        return exchange.frames
    if not exchange.streamed:
        return [Frame(exchange.wire)]
    decoder = SseDecoder(max_event_bytes=2**20)
    return [frame for piece in cut(exchange.wire) for frame in decoder.feed(piece)] + decoder.end()


def described(event: Event) -> list[Any]:
    """An event as the exchanges write it."""
    match event:
        case TextDelta(text):
            return ["text", text]
        case ReasoningDelta(text):
            return ["reasoning", text]
        case ToolCallDelta(index, call_id, name, arguments):
            return ["tool_call", index, call_id, name, arguments]
        case OcrRegions(index, regions):
            places = [
                [region.text, [list(corner) for corner in region.polygon_px], region.confidence] for region in regions
            ]
            return ["regions", index, places]
        case UsageReport():
            return _counts(event)
        case Finish(reason):
            return ["finish", reason]
        case _:
            raise AssertionError(f"no exchange of this suite ends in {event!r}")


def _counts(usage: UsageReport) -> list[Any]:
    if usage.source == "counted":
        return ["counted", usage.output_tokens, usage.image_count]
    assert usage.source == "upstream"
    return ["usage", usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens]


def chat_request(body: dict[str, Any]) -> ChatRequest:
    fields = dict(body)
    fields["messages"] = tuple(_message(message) for message in body["messages"])
    for name in ("stop", "tools"):
        fields[name] = tuple(body.get(name, ()))
    return ChatRequest(**fields)


def _message(message: dict[str, Any]) -> Message:
    content = message["content"]
    parts = (TextPart(content),) if isinstance(content, str) else tuple(_part(part) for part in content)
    calls = tuple(ToolCall(**call) for call in message.get("tool_calls", ()))
    return Message(message["role"], parts, calls, message.get("tool_call_id"))


def _part(part: dict[str, Any]) -> Part:
    if "text" in part:
        return TextPart(part["text"])
    image = Image(
        data=base64.b64decode(part["picture"]),
        media_type=part.get("media_type", "image/jpeg"),
        width_px=2,
        height_px=2,
        sha256="0" * 64,
        url=part.get("url"),
    )
    return ImagePart(image, part.get("detail", "auto"))
