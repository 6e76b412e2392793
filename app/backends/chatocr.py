"""Backends of kind `chatocr`: Baidu's 智慧图问, the plugin `uuid-chatocr` of a Qianfan application.

«智慧图问», cloud.baidu.com, Qianfan; read 2026-11-20. The vendor took the page offline on 2024-07-19 and moved plugins
to AppBuilder on 2024-07-31: what answers now is a service that kept the wire. That wire: a question of at most 1 000
characters, with earlier turns in a field of their own; one picture, by an address under bcebos.com; errors with status
200, also where a stream was asked for; a stream whose first packet repeats the request and says what was read in the
picture, and which ends with `is_end`, without `[DONE]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from pydantic import field_validator
from typing_extensions import override

from app.backends.baidu_auth import BaiduOptions, addresses_of, authorised, inspected_credentials
from app.backends.baidu_errors import JSON_FAULTS, TABLES, BaiduErrors
from app.backends.baidu_ocr import Rect
from app.backends.base import BackendSpec, Capabilities, Finding, Translator
from app.backends.chatocr_encode import encode_request, newest_image
from app.backends.ocr import region_in, wants_regions
from app.backends.signing import path_segment
from app.core.errors import BackendError
from app.core.events import Event, Finish, FinishReason, OcrRegions, TextDelta, UsageReport
from app.core.types import ChatRequest, Context, Frame, HttpCall, Image, ImageRules

_PATH = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/{}/"  # the slash at its end is part of what is signed
_BOS_HOSTS = ("bcebos.com",)
_REASONS: Mapping[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}
_ENDPOINT = re.compile(r"[A-Za-z0-9._~-]+")


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
        self._placed_in: Image | None = None  # without its bytes; none where nobody asked for places
        self._finished = False

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        """Asks the plugin.

        Raises:
            InvalidRequest: the question is too long, there is no picture, or a vendor field is malformed.
        """
        image = newest_image(request)
        self._placed_in = replace(image, data=b"") if wants_regions(request) else None
        call = HttpCall(
            method="POST",
            url=self._options.address(_PATH.format(path_segment(self._options.endpoint))),
            headers={"content-type": "application/json"},
            body=encode_request(request, image, self.notices),
            framing="sse" if request.stream else "json",
        )
        return authorised(call, self._options, self._backend, context)

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
        if str(packet.error_code or 0) != "0" or packet.error or packet.code:
            raise self._errors.of_response(200, {}, data)
        return packet

    def _read_in_picture(self, echo: _Response) -> Iterator[Event]:
        """The places of the text. The echo holds the answer as well, which comes once more: here it is not said."""
        if str(echo.error_no) != "0":
            raise self._errors.of_code(str(echo.error_no), str(echo.error_msg))
        image = self._placed_in
        if image is None:
            return
        try:
            reading = _readings.decode(echo.result)
        except JSON_FAULTS as error:
            raise self._errors.no_answer(f"ocr_result: {error}") from error
        items = (reading.ocr_result if reading else None) or []
        yield OcrRegions(0, tuple(region_in(image, item.word, item.rect.corners, 1.0) for item in items))

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
