"""Backends of kind `spark`: iFlytek Spark over WebSocket, «图片理解» and the text models.

xfyun.cn/doc/spark/ImageUnderstanding.html and Web.html, and the code of iFlytek's own SDK, read 2026-11-20. The wire: a
signed address per connection; one text frame with the whole request, pictures as bare base64, the picture first; frames
with pieces of the answer until `payload.choices.status` is 2, and that frame may hold text too; then the connection is
spent. Errors come as a frame without payload, before or after text; trouble with credentials as an HTTP status at the
handshake. Whoever asks twice under one `uid` may be made to wait, so that each request has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pybase64
from pydantic import Field, SecretStr, field_validator
from typing_extensions import override

from app.backends.base import BackendOptions, BackendSpec, Capabilities, Translator
from app.backends.openai_codes import MESSAGES, by_status
from app.backends.signing import spark_url
from app.backends.spark_errors import SKEWED, SPARK, UNAUTHORISED
from app.backends.spark_inspect import inspect
from app.backends.spark_models import IMAGE_TOKENS, TEXT_MODELS
from app.core.errors import BackendError, BackendProtocolError, ContentFiltered
from app.core.events import Event, Finish, ReasoningDelta, TextDelta, UsageReport
from app.core.types import ChatRequest, Context, Frame, ImageRules, Message, WsCall

IMAGE_URL = "wss://spark-api.cn-huabei-1.xf-yun.com/v2.1/image"
TEXT_URL = "wss://spark-api.xf-yun.com"

_IMAGE_PATH = "/v2.1/image"
_DEFAULT_TOKENS = 2048
_DEFAULT_TEMPERATURE = 0.5
_LEAST_TEMPERATURE = 0.01  # the range is (0, 1]
_TOP_K_MAX = 6
_DEFAULT_QUESTION = "请描述这张图片。"
_GO_ON = "请继续。"
_COUNT_MAX = 2**31

IMAGE_RULES = ImageRules(
    formats=("jpeg", "png"),
    max_image_bytes=4 * 1024 * 1024,
    max_side_px=12_800,
    min_side_px=1,
    min_pixels=50 * 50 + 1,
    max_pixels=6000 * 6000 - 1,
)


class SparkOptions(BackendOptions):
    """A `kind = "spark"` section.

    Args:
        app_id, api_key, api_secret: of the application, as iFlytek's console shows them.
        base_url: where pictures are asked about. text_base_url: the same of the text models, without their paths.
        auditing: how strictly iFlytek checks content. top_k: 1..6, where the caller does not say.
    """

    app_id: str
    api_key: SecretStr
    api_secret: SecretStr
    base_url: str = IMAGE_URL
    text_base_url: str = TEXT_URL
    auditing: str = "default"
    top_k: int | None = Field(default=None, ge=1, le=_TOP_K_MAX)

    @field_validator("base_url", "text_base_url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("an address as wss://host/path, without a query")
        return url.rstrip("/")

    @field_validator("base_url")
    @classmethod
    def _has_path(cls, url: str) -> str:
        return url if urlsplit(url).path else url + _IMAGE_PATH


class _Header(msgspec.Struct, frozen=True):
    code: int = 0
    message: Any = None
    sid: str | None = None
    status: int | None = None


class _Piece(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None


class _Choices(msgspec.Struct, frozen=True):
    status: int | None = None
    text: list[_Piece] | None = None


class _Counts(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Usage(msgspec.Struct, frozen=True):
    text: _Counts | None = None


class _Payload(msgspec.Struct, frozen=True):
    choices: _Choices | None = None
    usage: _Usage | None = None


class _Answer(msgspec.Struct, frozen=True):
    header: _Header
    payload: _Payload | None = None


_DECODER = msgspec.json.Decoder(_Answer)
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class SparkTranslator(Translator):
    """One request to Spark."""

    def __init__(self, backend: str, options: SparkOptions, model: str) -> None:
        self.backend_request_id: str | None = None
        self.notices: list[str] = []
        self._backend = backend
        self._options = options
        self._model = model
        self._spoke = False
        self._over = False

    @override
    def call(self, request: ChatRequest, context: Context) -> WsCall:
        options = self._options
        url = spark_url(
            address_of(options, self._model),
            api_key=options.api_key.get_secret_value(),
            api_secret=options.api_secret.get_secret_value(),
            now=context.now,
        )
        body = {
            "header": {"app_id": options.app_id, "uid": context.nonce[:32]},
            "parameter": {"chat": self._parameters(request)},
            "payload": {"message": {"text": _messages(request, sees=self._model not in TEXT_MODELS)}},
        }
        return WsCall(url, (msgspec.json.encode(body),))

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        text_model = TEXT_MODELS.get(self._model)
        most = text_model.max_output_tokens if text_model is not None else IMAGE_TOKENS
        parameters: dict[str, Any] = {
            "domain": self._model,
            "temperature": self._clamped("temperature", request.temperature, _LEAST_TEMPERATURE, 1.0),
            "max_tokens": min(max(request.max_output_tokens or _DEFAULT_TOKENS, 1), most),
        }
        if parameters["temperature"] is None:
            parameters["temperature"] = _DEFAULT_TEMPERATURE
        if text_model is None:
            parameters["auditing"] = self._options.auditing
        asked = request.extra.get("top_k", self._options.top_k)
        if isinstance(asked, int) and not isinstance(asked, bool):
            parameters["top_k"] = self._clamped("top_k", asked, 1, _TOP_K_MAX)
        return parameters

    def _clamped(self, name: str, asked: float | None, least: float, most: float) -> float | None:
        if asked is None:
            return None
        value = min(max(asked, least), most)
        if value != asked:
            self.notices.append(f"{name} sent as {value}")
        return value

    @override
    def receive(self, frame: Frame) -> Iterable[Event]:
        if self._over:
            return ()
        try:
            answer = _DECODER.decode(frame.data)
        except _FAULTS as fault:
            raise self._no_answer(f"not a frame of Spark's: {fault}") from fault
        header = answer.header
        self.backend_request_id = self.backend_request_id or header.sid
        if header.code != 0:
            return self._fault(header)
        return list(self._events(answer))

    def _events(self, answer: _Answer) -> Iterator[Event]:
        payload = answer.payload or _Payload()
        choices = payload.choices or _Choices()
        for piece in choices.text or ():
            if piece.reasoning_content:
                self._spoke = True
                yield ReasoningDelta(piece.reasoning_content)
            if piece.content:
                self._spoke = True
                yield TextDelta(piece.content)
        counts = payload.usage.text if payload.usage is not None else None
        if counts is not None and 0 < counts.prompt_tokens < _COUNT_MAX and 0 <= counts.completion_tokens < _COUNT_MAX:
            yield UsageReport(input_tokens=counts.prompt_tokens, output_tokens=counts.completion_tokens)
        status = choices.status if choices.status is not None else answer.header.status
        if status == 2:
            self._over = True
            yield Finish("stop")

    def _fault(self, header: _Header) -> Iterable[Event]:
        """The error of a frame; one of the content check after text ends the answer there instead: the text stands."""
        self._over = True
        row = SPARK.row(str(header.code))
        if self._spoke and issubclass(row.error, ContentFiltered):
            return (Finish("content_filter"),)
        raise row.raised(backend=self._backend, detail=str(header.message))

    @override
    def receive_eof(self) -> Iterable[Event]:
        if not self._over:
            raise self._no_answer("the connection ended before the last frame")
        return ()

    @override
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """Reads a handshake's refusal: 403 is a clock that is off, whatever the words; 401 anything about keys."""
        detail = f"HTTP {status}: {body[:500].decode('utf-8', 'replace')}"
        if str(status) in {UNAUTHORISED, SKEWED}:
            return SPARK.row(str(status)).raised(backend=self._backend, detail=detail)
        verdict = by_status(status) or BackendProtocolError
        english, chinese = MESSAGES[verdict]
        return verdict(english, chinese=chinese, backend=self._backend, backend_code=str(status), detail=detail)

    def _no_answer(self, detail: str) -> BackendProtocolError:
        english, chinese = MESSAGES[BackendProtocolError]
        return BackendProtocolError(
            english, chinese=chinese, backend=self._backend, detail=detail[:500], retryable=True
        )


def address_of(options: SparkOptions, model: str) -> str:
    """Where a model is asked: the picture service, but for the text models. What no table knows is a picture's."""
    text_model = TEXT_MODELS.get(model)
    if text_model is None:
        return options.base_url
    if text_model.path.startswith("/"):
        return options.text_base_url + text_model.path
    own_host = urlsplit(text_model.path)
    return text_model.path if options.text_base_url == TEXT_URL else options.text_base_url + own_host.path


def _messages(request: ChatRequest, *, sees: bool) -> list[dict[str, Any]]:
    """The conversation in Spark's order: the picture, then turns; the last is the user's."""
    images = [part.fitted for message in request.messages for part in message.images] if sees else []
    turns: list[dict[str, Any]] = []
    for message in request.messages:
        _add(turns, message)
    if not turns:
        turns.append({"role": "user", "content": _DEFAULT_QUESTION})
    elif turns[-1]["role"] != "user":
        turns.append({"role": "user", "content": _GO_ON})
    if not sees:
        return turns
    pictures = [
        # straight into the JSON: megabytes are neither scanned nor copied as a Python string
        {"role": "user", "content": msgspec.Raw(b'"' + pybase64.b64encode(image.data) + b'"'), "content_type": "image"}
        for image in images
    ]
    return [*pictures, *({**turn, "content_type": "text"} for turn in turns)]


def _add(turns: list[dict[str, Any]], message: Message) -> None:
    """Adds a message; neighbours of one role are joined, and an answer without a question before it is left out."""
    role, text = ("user" if message.role == "tool" else message.role), message.text
    if not text or (not turns and role == "assistant"):
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += "\n\n" + text
    else:
        turns.append({"role": role, "content": text})


def capabilities(options: SparkOptions, model: str) -> Capabilities:
    """What a model can do."""
    text_model = TEXT_MODELS.get(model)
    if text_model is not None:
        return Capabilities(
            streaming=True,
            system_role=text_model.system,
            knobs=frozenset({"temperature"}),
            extra=frozenset({"top_k"}),
            max_output_tokens=text_model.max_output_tokens,
            conversation_tokens=text_model.context_tokens,
            default_output_tokens=_DEFAULT_TOKENS,
        )
    return Capabilities(
        streaming=True,
        max_images=1,
        needs_image=True,
        image_rules=IMAGE_RULES,
        knobs=frozenset({"temperature"}),
        extra=frozenset({"top_k"}),
        max_output_tokens=IMAGE_TOKENS,
        conversation_tokens=IMAGE_TOKENS,
        default_output_tokens=_DEFAULT_TOKENS,
    )


SPEC = BackendSpec(
    options=SparkOptions,
    capabilities=capabilities,
    translator=SparkTranslator,
    errors=(SPARK,),
    addresses=lambda options, model: (address_of(options, model),),
    inspect=inspect,
)
