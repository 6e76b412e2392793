"""Backends of kind `baidu_ocr`: Baidu's OCR, `POST /rest/2.0/ocr/v1/{general|general_basic|accurate|accurate_basic}`.

Read 2026-11-20 on ai.baidu.com: «通用文字识别» (standard and high precision, with and without places). One picture, as
base64 in a form; answers with its lines of text, whatever was asked, as the embedded engine does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec
import pybase64
from typing_extensions import override

from app.backends.baidu_auth import BaiduOptions, addresses_of, authorised, inspected_credentials
from app.backends.baidu_errors import JSON_FAULTS, TABLES, BaiduErrors
from app.backends.base import BackendSpec, Capabilities, Finding, Translator
from app.backends.ocr import NO_TEXT, count_tokens, in_language_of, newest_turn, region_in, wants_regions
from app.backends.signing import path_segment
from app.core.errors import BackendError, InvalidRequest
from app.core.events import Event, Finish, OcrRegions, TextDelta, UsageReport
from app.core.types import ChatRequest, Context, Frame, HttpCall, Image, ImageRules

_PATH = "/rest/2.0/ocr/v1/"
_NO_PICTURE = ("Send a picture: this model reads the text in it.", "请附上图片：此模型识别图片中的文字。")


@dataclass(frozen=True, slots=True)
class _Service:
    """One of the four.

    Args:
        max_form_bytes: of the picture as it stands in the form.
        places: whether it says where each line stands.
    """

    max_form_bytes: int
    max_side_px: int
    places: bool

    @property
    def max_image_bytes(self) -> int:
        """Base64 adds a third, and its `+` and `/` take three characters each in a form: a sixteenth more."""
        return self.max_form_bytes * 7 // 10


_SERVICES: Mapping[str, _Service] = {
    "general": _Service(8_000_000, 4096, places=True),
    "general_basic": _Service(4_000_000, 4096, places=False),
    "accurate": _Service(10_000_000, 8192, places=True),
    "accurate_basic": _Service(10_000_000, 8192, places=False),
}
_POOREST = _SERVICES["general_basic"]


_Pixels = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]  # beyond, it is no place in a picture


class Rect(msgspec.Struct, frozen=True):
    """Where a line of text stands, in pixels from the top left."""

    left: _Pixels
    top: _Pixels
    width: _Pixels
    height: _Pixels

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Clockwise from the top left."""
        right, bottom = self.left + self.width, self.top + self.height
        return (self.left, self.top), (right, self.top), (right, bottom), (self.left, bottom)


class _Probability(msgspec.Struct, frozen=True):
    average: float = 1.0


class _Line(msgspec.Struct, frozen=True):
    words: str
    location: Rect | None = None
    probability: _Probability | None = None


class _Answer(msgspec.Struct, frozen=True):
    words_result: list[_Line]
    log_id: int | str | None = None


_answers = msgspec.json.Decoder(_Answer)


class BaiduOcrOptions(BaiduOptions):
    """A `kind = "baidu_ocr"` section."""


class BaiduOcrTranslator(Translator):
    """One picture read by Baidu."""

    def __init__(self, backend: str, options: BaiduOcrOptions, model: str) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._backend = backend
        self._options = options
        self._service = _SERVICES.get(model, _POOREST)
        self._errors = BaiduErrors(backend, options.secrets)
        self._placed_in: Image | None = None  # without its bytes; none where nobody asked for places
        self._question = ""
        self._finished = False

    @override
    def call(self, request: ChatRequest, context: Context) -> HttpCall:
        """Asks for the text of the newest turn's picture.

        Raises:
            InvalidRequest: there is none, or the field `ocr` is malformed.
        """
        self._question, images = newest_turn(request)
        wants_places = wants_regions(request)
        if not images:
            raise InvalidRequest(_NO_PICTURE[0], chinese=_NO_PICTURE[1], param="messages")
        image = images[-1]
        if wants_places and self._service.places:
            self._placed_in = replace(image, data=b"")
        elif wants_places:
            self.notices.append("ocr.regions dropped")
        call = HttpCall(
            method="POST",
            url=self._options.address(_PATH + path_segment(request.model)),
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=_form(image),
            framing="json",
        )
        return authorised(call, self._options, self._backend, context)

    @override
    def receive(self, frame: Frame) -> Iterator[Event]:
        if self._finished:
            return
        try:
            answer = _answers.decode(frame.data)
        except JSON_FAULTS:
            raise self._errors.of_response(200, {}, frame.data) from None
        self.backend_request_id = None if answer.log_id is None else str(answer.log_id)
        text = "\n".join(line.words for line in answer.words_result) or in_language_of(self._question, NO_TEXT)
        yield TextDelta(text)
        if self._placed_in is not None:
            yield _regions(self._placed_in, answer.words_result)
        yield UsageReport(output_tokens=count_tokens(text), image_count=1, source="counted")
        self._finished = True
        yield Finish("stop")

    @override
    def receive_eof(self) -> Iterator[Event]:
        if not self._finished:
            raise self._errors.no_answer("no answer came")
        return iter(())

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        return self._errors.of_response(status, headers, body)


def _form(image: Image) -> bytes:
    encoded = pybase64.b64encode(image.data)
    for char, escape in ((b"+", b"%2B"), (b"/", b"%2F"), (b"=", b"%3D")):
        encoded = encoded.replace(char, escape)
    return b"image=" + encoded + b"&detect_direction=true&probability=true"


def _regions(image: Image, lines: list[_Line]) -> OcrRegions:
    return OcrRegions(
        0,
        tuple(
            region_in(
                image,
                line.words,
                line.location.corners if line.location else (),
                line.probability.average if line.probability else 1.0,
            )
            for line in lines
        ),
    )


def _capabilities(options: BaiduOcrOptions, model: str) -> Capabilities:
    service = _SERVICES.get(model, _POOREST)
    return Capabilities(
        system_role=True,  # taken, and not listened to
        max_images=1,
        newest_turn_only=True,
        needs_image=True,
        image_rules=ImageRules(
            formats=("jpeg", "png", "bmp"),
            max_image_bytes=service.max_image_bytes,
            max_side_px=service.max_side_px,
            min_side_px=15,
            max_pixels=None,
        ),
        extra=frozenset({"ocr"}),
    )


def _addresses(options: BaiduOcrOptions, model: str) -> tuple[str, ...]:
    return addresses_of(options, _PATH + path_segment(model))


def _inspect(options: BaiduOcrOptions, model: str) -> Iterator[Finding]:
    yield from inspected_credentials(options)
    known = model in _SERVICES
    names = ", ".join(_SERVICES)
    yield Finding(
        "model",
        known,
        f"{model} is one of Baidu's OCR services" if known else f"no such OCR service; Baidu has {names}",
        f"{model} 是百度的文字识别服务" if known else f"没有这个文字识别服务；可用：{names}",
    )


SPEC = BackendSpec(
    options=BaiduOcrOptions,
    capabilities=_capabilities,
    translator=BaiduOcrTranslator,
    errors=TABLES,
    addresses=_addresses,
    inspect=_inspect,
)
