"""The embedded OCR engine: answers with the text of the pictures of the newest turn, line by line, with no account.

The engine's records, one JSON object a frame, as `app/transports/local.py` writes them: a piece of text
`{"image": 0, "row": 2, "text": "…", "polygon": [[x, y], …], "confidence": 0.98}`, pieces of one visual line with the
same `row`; and after each picture `{"image": 0, "done": true}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Annotated

import msgspec
from pydantic import Field
from typing_extensions import override

from app.backends.base import BackendOptions, BackendSpec, Capabilities, Translator
from app.core.errors import BackendError, BackendProtocolError, BackendUnavailable, InvalidRequest
from app.core.events import Event, Finish, OcrRegion, OcrRegions, TextDelta, UsageReport
from app.core.types import ChatRequest, Context, Frame, Image, ImageRules, LocalCall

_HOW_TO_SEND = (
    'I read the text in pictures. Send one as a content part of your message: {"type": "image_url", "image_url": '
    '{"url": "data:image/jpeg;base64,..."}}.',
    "我只识别图片中的文字。请在消息中附上图片："
    '{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,..."}}。',
)
NO_TEXT = ("No text was found in the picture.", "图片中没有识别到文字。")

_CHARS_PER_TOKEN = 4
_FIRST_CJK = "\u2e80"


class OcrOptions(BackendOptions):
    """`[backends.NAME]` with `kind = "ocr"`.

    Attributes:
        text_score: how sure (0..1) the engine must be of a piece of text to count it.
    """

    text_score: Annotated[float, Field(ge=0, le=1)] = 0.5


class Record(msgspec.Struct, frozen=True):
    """One record of the engine."""

    image: int
    row: int = 0
    text: str = ""
    polygon: tuple[tuple[float, float], ...] = ()
    confidence: float = 0.0
    done: bool = False


_decoder = msgspec.json.Decoder(Record)


def count_tokens(text: str) -> int:
    """Tokens by our own rule, as the engine has none: one for each Chinese, Japanese or Korean character, one for every
    four others, rounded up."""
    wide = sum(char >= _FIRST_CJK for char in text)
    return wide + ceil((len(text) - wide) / _CHARS_PER_TOKEN)


def newest_turn(request: ChatRequest) -> tuple[str, tuple[Image, ...]]:
    """The text and the pictures of all user messages since the model last spoke."""
    texts: list[str] = []
    images: list[Image] = []
    for message in reversed(request.messages):
        if message.role == "assistant":
            break
        if message.role == "user":
            texts.insert(0, message.text)
            images[:0] = [part.fitted for part in message.images]
    return "\n".join(texts), tuple(images)


def wants_regions(request: ChatRequest) -> bool:
    """Reads the vendor field `{"ocr": {"regions": true}}`.

    Raises:
        InvalidRequest: it has another shape.
    """
    field = request.extra.get("ocr")
    if field is None:
        return False
    if not isinstance(field, Mapping):
        raise InvalidRequest('`ocr` must be an object, as {"regions": true}.', param="ocr")
    if field.keys() - {"regions"}:
        raise InvalidRequest("`ocr` has one field only, `regions`; remove the others.", param="ocr")
    regions = field.get("regions")
    if regions is not None and not isinstance(regions, bool):
        raise InvalidRequest("`ocr.regions` must be true or false.", param="ocr.regions")
    return bool(regions)


def region_in(image: Image, text: str, polygon: Sequence[tuple[float, float]], confidence: float) -> OcrRegion:
    """Places a piece of text in the caller's picture, which may be larger than the one that was read."""
    x_scale = image.source_width_px / image.width_px if image.source_width_px else 1.0
    y_scale = image.source_height_px / image.height_px if image.source_height_px else 1.0
    polygon_px = tuple((round(x * x_scale, 1), round(y * y_scale, 1)) for x, y in polygon)
    return OcrRegion(text, polygon_px, confidence)


def in_language_of(question: str, line: tuple[str, str]) -> str:
    """A line of our own, given in English and Chinese, in the language of the question; in both where there is none."""
    english, chinese = line
    if not question.strip():
        return f"{english} / {chinese}"
    return chinese if any(char >= _FIRST_CJK for char in question) else english


class OcrTranslator(Translator):
    """One answer of the engine.

    Text reads as on the page: pieces of one line parted by a blank, lines by a line break, pictures by an empty line.
    """

    def __init__(self, backend: str, options: OcrOptions, remote_model: str) -> None:
        self.backend_request_id = None
        self.notices = []
        self._backend = backend
        self._options = options
        self._question = ""
        self._images: tuple[Image, ...] = ()
        self._wants_regions = False
        self._images_done = 0
        self._last: Record | None = None
        self._regions: list[OcrRegion] = []
        self._said: list[str] = []

    @override
    def call(self, request: ChatRequest, context: Context) -> LocalCall:
        """Asks the engine to read the newest turn's pictures.

        Raises:
            InvalidRequest: the field `ocr` is malformed.
        """
        self._wants_regions = wants_regions(request)
        self._question, self._images = newest_turn(request)
        return LocalCall(engine="ocr", images=self._images, options={"text_score": self._options.text_score})

    @override
    def receive(self, frame: Frame) -> Iterator[Event]:
        try:
            record = _decoder.decode(frame.data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise self._unreadable(str(error)) from error
        if not 0 <= record.image < len(self._images):
            raise self._unreadable("it speaks of a picture that it was not given")
        if record.done:
            yield from self._picture_done(record)
        else:
            yield from self._piece(record)

    def _unreadable(self, detail: str) -> BackendProtocolError:
        words = "The OCR engine answered something that cannot be read."
        return BackendProtocolError(words, backend=self._backend, detail=detail)

    def _piece(self, record: Record) -> Iterator[Event]:
        if self._wants_regions:
            image = self._images[record.image]
            self._regions.append(region_in(image, record.text, record.polygon, record.confidence))
        yield self._text(record, record.text)

    def _picture_done(self, record: Record) -> Iterator[Event]:
        if self._last is None or self._last.image != record.image:
            yield self._text(record, in_language_of(self._question, NO_TEXT))
        if self._wants_regions:
            yield OcrRegions(record.image, tuple(self._regions))
            self._regions.clear()
        self._images_done += 1

    def _text(self, record: Record, text: str) -> TextDelta:
        """Text with what parts it from the text before."""
        last, self._last = self._last, record
        if last is None:
            gap = ""
        elif last.image != record.image:
            gap = "\n\n"
        else:
            gap = " " if last.row == record.row else "\n"
        return self._delta(gap + text)

    def _delta(self, text: str) -> TextDelta:
        self._said.append(text)
        return TextDelta(text)

    @override
    def receive_eof(self) -> Iterator[Event]:
        if self._images_done < len(self._images):
            raise BackendProtocolError(
                "The OCR engine stopped before the last picture was read.", backend=self._backend, retryable=True
            )
        if not self._images:
            yield self._delta(in_language_of(self._question, _HOW_TO_SEND))
        output_tokens = count_tokens("".join(self._said))
        yield UsageReport(output_tokens=output_tokens, image_count=len(self._images), source="counted")
        yield Finish("stop")

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """The engine speaks no HTTP; a status can only come from a transport that is not its own."""
        return BackendUnavailable(
            "The OCR engine is not available.", backend=self._backend, detail=f"unexpected status {status}"
        )


def _capabilities(options: OcrOptions, remote_model: str) -> Capabilities:
    """Pictures go to the engine as they are wherever it can decode them: it shrinks better than re-encoding would."""
    return Capabilities(
        streaming=True,
        system_role=True,
        max_images=50,
        newest_turn_only=True,
        image_rules=ImageRules(
            formats=("jpeg", "png", "webp"),
            max_image_bytes=20 * 1024 * 1024,
            max_side_px=16_384,
            min_side_px=1,
            max_pixels=25_000_000,
        ),
        extra=frozenset({"ocr"}),
    )


SPEC = BackendSpec(options=OcrOptions, capabilities=_capabilities, translator=OcrTranslator)
