"""Backends of kind `chatocr`: Baidu's 智慧图问, the plugin `uuid-chatocr` of a Qianfan application.

«智慧图问», cloud.baidu.com, Qianfan; read 2026-11-20. The vendor took the page offline on 2024-07-19 and moved plugins
to AppBuilder on 2024-07-31: what answers now is a service that kept the wire. That wire: a question of at most 1 000
characters, with earlier turns in a field of their own; one picture, by an address under bcebos.com; errors with status
200, also where a stream was asked for; a stream whose first packet repeats the request and says what was read in the
picture, and which ends with `is_end`, without `[DONE]`.

The page gives no bounds for `llm`. Sent are ERNIE's, on which the plugin ran: temperature above 0 and at most 1, top_p
0 to 1, penalty_score 1 to 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from pydantic import field_validator
from typing_extensions import override

from app.backends.baidu_auth import BaiduOptions, addresses_of, authorised, inspected_credentials
from app.backends.baidu_errors import JSON_FAULTS, TABLES, BaiduErrors
from app.backends.baidu_ocr import Rect
from app.backends.base import BackendSpec, Capabilities, Finding, Translator
from app.backends.ocr import region_in, wants_regions
from app.backends.signing import path_segment
from app.core.errors import BackendError, InvalidRequest
from app.core.events import Event, Finish, FinishReason, OcrRegions, TextDelta, UsageReport
from app.core.types import ChatRequest, Context, Frame, HttpCall, Image, ImageRules, Message

_PLUGIN = "uuid-chatocr"
_PATH = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/{}/"  # the slash at its end is part of what is signed
_BOS_HOSTS = ("bcebos.com",)
_MAX_QUERY_CHARS = 1000
_DEFAULT_QUESTION = "请描述这张图片的内容。"
_UNDERSTOOD = "好的。"
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "temperature": (0.01, 1.0),
    "top_p": (0.0, 1.0),
    "penalty_score": (1.0, 2.0),
}
_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
_ENDPOINT = re.compile(r"[A-Za-z0-9._~-]+")

Turn = dict[str, str]


class ChatOcrOptions(BaiduOptions):
    """A `kind = "chatocr"` section.

    Args:
        endpoint: the last part of the service's address, as the console shows it; the whole address does as well.
        bos_only: whether pictures must lie in Baidu's object storage; false for services that take any address.
    """

    endpoint: str
    bos_only: bool = True

    @field_validator("endpoint")
    @classmethod
    def _last_part(cls, endpoint: str) -> str:
        return endpoint.strip().rstrip("/").rpartition("/")[2]


class _Item(msgspec.Struct, frozen=True):
    word: str
    rect: Rect


class _Reading(msgspec.Struct, frozen=True):
    ocr_result: list[_Item] | None = None


class _Response(msgspec.Struct, frozen=True):
    error_no: int | str = 0
    error_msg: Any = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Meta(msgspec.Struct, frozen=True):
    response: _Response | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Packet(msgspec.Struct, frozen=True):
    """One event of a stream, or the whole answer, or an error. All fields are told apart by whether they are there."""

    error_code: Any = None
    error: Any = None
    code: Any = None
    result: str | None = None
    sentence_id: int | None = None
    is_end: bool | None = None
    is_truncated: bool | None = None
    finish_reason: str | None = None
    log_id: int | str | None = None
    usage: _Usage | None = None
    response: _Response | None = None
    meta_info: _Meta | None = None

    @property
    def echo(self) -> _Response | None:
        """What the plugin read, wherever it stands."""
        return self.response or (self.meta_info.response if self.meta_info else None)

    @property
    def last(self) -> bool:
        """Whether the answer ends here: as the packet says, or because it is the whole."""
        whole = self.result is not None and self.is_end is None and self.sentence_id is None
        return bool(self.is_end) or whole


_packets = msgspec.json.Decoder(_Packet)
_readings = msgspec.json.Decoder(_Reading | None)


class ChatOcrTranslator(Translator):
    """One question about one picture."""

    def __init__(self, backend: str, options: ChatOcrOptions, model: str) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._backend = backend
        self._options = options
        self._errors = BaiduErrors(backend, options.secrets)
        self._image: Image | None = None
        self._wants_regions = False
        self._finished = False

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        """Asks the plugin.

        Raises:
            InvalidRequest: the question is too long, there is no picture, or a vendor field is malformed.
        """
        self._wants_regions = wants_regions(request)
        self._image = _newest_image(request)
        query, history = self._conversation(request)
        body: dict[str, Any] = {
            "query": query,
            "plugins": [_PLUGIN],
            "fileurl": self._image.url,
            "stream": request.stream,
            "verbose": True,
        }
        optional = {"llm": self._llm(request), "input_variables": _input_variables(request), "history": history}
        call = HttpCall(
            method="POST",
            url=self._options.address(_PATH.format(path_segment(self._options.endpoint))),
            headers={"content-type": "application/json"},
            body=msgspec.json.encode(body | {name: value for name, value in optional.items() if value}),
            framing="sse" if request.stream else "json",
        )
        return authorised(call, self._options, self._backend, context)

    def _conversation(self, request: ChatRequest) -> tuple[str, list[Turn]]:
        """What has been asked since the model last spoke, and the turns before it, which the user begins.

        System text goes before the first turn there is. Before a question that has none ahead of it, it stands in the
        question where both fit, else in a turn of its own.
        """
        messages = request.messages
        answered = max((at for at, message in enumerate(messages, 1) if message.role == "assistant"), default=0)
        system = "\n\n".join(message.text for message in messages if message.role == "system" and message.text)
        query = _question(messages, answered)
        history = _turns(messages[:answered])
        if not system:
            if history and history[0]["role"] == "assistant":
                del history[0]
                self.notices.append("an assistant message before the first question was dropped")
            return query, history
        if not history:
            both = f"{system}\n\n{query}"
            if len(both) <= _MAX_QUERY_CHARS:
                return both, []
            return query, [_turn("user", system), _turn("assistant", _UNDERSTOOD)]
        if history[0]["role"] == "user":
            return query, [_turn("user", f"{system}\n\n{history[0]['content']}"), *history[1:]]
        return query, [_turn("user", system), *history]

    def _llm(self, request: ChatRequest) -> dict[str, float]:
        asked = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "penalty_score": _penalty_score(request),
        }
        sent = {}
        for name, value in asked.items():
            if value is None:
                continue
            low, high = _BOUNDS[name]
            sent[name] = min(max(value, low), high)
            if sent[name] != value:
                self.notices.append(f"{name} sent as {sent[name]}")
        return sent

    @override
    def receive(self, frame: Frame) -> Iterator[Event]:
        if self._finished:
            return
        packet = self._decoded(frame.data)
        if packet.log_id is not None:
            self.backend_request_id = str(packet.log_id)
        if packet.echo is not None:
            yield from self._read_in_picture(packet.echo)
        elif packet.result is None and not packet.last:
            raise self._errors.no_answer(f"a packet of no known form: {frame.data[:200]!r}")
        if packet.result:
            yield TextDelta(packet.result)
        if packet.last:
            yield from self._end(packet)

    def _decoded(self, data: bytes) -> _Packet:
        try:
            packet = _packets.decode(data)
        except JSON_FAULTS:
            raise self._errors.of_response(200, {}, data) from None
        if packet.error_code or packet.error or packet.code:
            raise self._errors.of_response(200, {}, data)
        return packet

    def _read_in_picture(self, echo: _Response) -> Iterator[Event]:
        """The places of the text. The echo holds the answer as well, which comes once more: here it is not said."""
        if str(echo.error_no) != "0":
            raise self._errors.of_code(str(echo.error_no), str(echo.error_msg))
        if not self._wants_regions or self._image is None:
            return
        try:
            reading = _readings.decode(echo.result)
        except JSON_FAULTS as error:
            raise self._errors.no_answer(f"ocr_result: {error}") from error
        items = (reading.ocr_result if reading else None) or []
        yield OcrRegions(0, tuple(region_in(self._image, item.word, item.rect.corners, 1.0) for item in items))

    def _end(self, packet: _Packet) -> Iterator[Event]:
        if packet.usage is not None:
            yield UsageReport(max(packet.usage.prompt_tokens, 0), max(packet.usage.completion_tokens, 0))
        self._finished = True
        yield Finish("length" if packet.is_truncated else _REASONS.get(packet.finish_reason or "", "stop"))

    @override
    def receive_eof(self) -> Iterable[Event]:
        if not self._finished:
            raise self._errors.cut_short()
        return ()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        return self._errors.of_response(status, headers, body)


def _newest_image(request: ChatRequest) -> Image:
    images = [part.fitted for message in request.messages for part in message.images]
    if not images or images[-1].url is None:
        raise InvalidRequest(
            "This model answers questions about a picture: send one.",
            chinese="此模型回答关于图片的问题：请附上图片。",
            param="messages",
        )
    return images[-1]


def _question(messages: Sequence[Message], answered: int) -> str:
    newest = [(at, message.text) for at, message in enumerate(messages) if at >= answered and message.role == "user"]
    query = "\n".join(text for _, text in newest if text.strip()) or _DEFAULT_QUESTION
    if len(query) > _MAX_QUERY_CHARS:
        raise InvalidRequest(
            f"The question is {len(query)} characters long, and this model takes at most {_MAX_QUERY_CHARS}; shorten "
            "it, or say the longer part in an earlier turn.",
            chinese=f"问题有 {len(query)} 个字符，此模型最多接受 {_MAX_QUERY_CHARS} 个；"
            "请缩短，或将较长的部分放到之前的消息中。",
            param=f"messages[{newest[-1][0]}].content",
        )
    return query


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _turns(messages: Iterable[Message]) -> list[Turn]:
    """User and assistant by turns; what one says in several messages is one turn."""
    turns: list[Turn] = []
    for message in messages:
        text = message.text.strip() or (_DEFAULT_QUESTION if message.role == "user" else "")
        if message.role not in {"user", "assistant"} or not text:
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += f"\n\n{text}"
        else:
            turns.append(_turn(message.role, text))
    return turns


def _penalty_score(request: ChatRequest) -> float | None:
    value = request.extra.get("penalty_score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(
            "`penalty_score` must be a number from 1 to 2.",
            chinese="`penalty_score` 必须是 1 到 2 之间的数字。",
            param="penalty_score",
        )
    return value


def _input_variables(request: ChatRequest) -> Mapping[str, Any] | None:
    value = request.extra.get("input_variables")
    if value is not None and not isinstance(value, Mapping):
        raise InvalidRequest(
            '`input_variables` must be an object, as {"name": "value"}.',
            chinese='`input_variables` 必须是对象，如 {"name": "value"}。',
            param="input_variables",
        )
    return value


def _capabilities(options: ChatOcrOptions, model: str) -> Capabilities:
    return Capabilities(
        streaming=True,
        system_role=True,
        max_images=1,
        needs_image=True,
        image_input="url",
        image_hosts=_BOS_HOSTS if options.bos_only else (),
        image_rules=ImageRules(
            formats=("jpeg", "png"),
            max_image_bytes=10_000_000,
            max_side_px=None,
            min_side_px=80,
            max_pixels=None,
        ),
        knobs=frozenset({"temperature", "top_p"}),
        extra=frozenset({"ocr", "input_variables", "penalty_score"}),
    )


def _addresses(options: ChatOcrOptions, model: str) -> tuple[str, ...]:
    return addresses_of(options, _PATH.format(path_segment(options.endpoint)))


def _inspect(options: ChatOcrOptions, model: str) -> Iterator[Finding]:
    yield from inspected_credentials(options)
    known = _ENDPOINT.fullmatch(options.endpoint) is not None
    yield Finding(
        "model",
        known,
        "the endpoint is one part of a path"
        if known
        else "endpoint must be the last part of the service's address in Baidu's console, as testxxx",
        "endpoint 格式正确" if known else "endpoint 应为百度控制台中服务地址的最后一段，如 testxxx",
    )


SPEC = BackendSpec(
    options=ChatOcrOptions,
    capabilities=_capabilities,
    translator=ChatOcrTranslator,
    errors=TABLES,
    addresses=_addresses,
    inspect=_inspect,
)
