"""What goes over the wire of Baidu's 智慧图问: its request read, its answers and errors written.

The vendor's page «智慧图问», WENXINWORKSHOP (offline since 2024-07-19), read 2026-11-20, field by field. Where it and
its samples disagree, either is read and both are written: `request` (table, SDK) beside `requests` (HTTP samples).

Ours, beyond the page: `fileurl` may be any http(s) address, or a data URL, not only an object on bcebos.com with a
picture's extension; the vendor fetched from its own storage, we fetch with a guard. Variables: the vendor fills
`{name}` and `{{name}}` in the prompt that its console keeps; there is no console here, so they are filled in `query`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil, floor
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import msgspec

from app.api.body import top_level_keys
from app.core import errors
from app.core.errors import GatewayError, InvalidRequest, Language, shown
from app.core.events import OcrRegion, OcrRegions
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, Role, TextPart

PLUGIN_ID: Final = "uuid-chatocr"
MIN_SIDE_PX: Final = 80

_QUERY_MAX_CHARS = 1000
_FILLED_MAX_CHARS = 100_000
_FILENAME_MAX_CHARS = 255
_LONGEST_DELTA_CHARS = 8192  # asyncio and aiohttp readers give up on lines of 64 and 128 KiB

_INVALID_JSON = 336002
_BAD_ARGUMENT = 216100
_BAD_PLUGINS = 337008

_WORDS: Mapping[int, str] = {
    3: "Unsupported openapi method",
    6: "No permission to access data",
    18: "Open api qps request limit reached",
    19: "Open api total request limit reached",
    110: "Access token invalid or no longer valid",
    216100: "请求参数错误",
    216203: "图片处理失败",
    216400: "服务处理异常错误",
    336000: "Internal error",
    336002: "Invalid JSON",
    336100: "the server is currently overloaded, please try again later",
    337008: "插件id输入错误",
}
"""The vendor's words for its codes; ours follow."""

_CODES: Mapping[type[GatewayError], int] = {
    errors.InvalidRequest: _BAD_ARGUMENT,
    errors.ImageRejected: 216203,
    errors.UnsupportedFeature: _BAD_ARGUMENT,
    errors.AuthenticationFailed: 110,
    errors.PermissionDenied: 6,
    errors.ModelNotFound: 3,
    errors.PathNotFound: 3,
    errors.MethodNotAllowed: 3,
    errors.PayloadTooLarge: _BAD_ARGUMENT,
    errors.UnsupportedMediaType: _INVALID_JSON,
    errors.RequestTooSlow: _BAD_ARGUMENT,
    errors.RateLimited: 18,
    errors.IdempotencyConflict: 18,
    errors.QuotaExceeded: 19,
    errors.BackendRefused: _BAD_ARGUMENT,
    errors.ContextTooLong: _BAD_ARGUMENT,
    errors.ContentFiltered: _BAD_ARGUMENT,
    errors.BackendBusy: 336100,
    errors.BackendUsedUp: 19,
    errors.BackendUnavailable: 216400,
    errors.BackendTimeout: 216400,
    errors.BackendProtocolError: 216400,
    errors.BackendMisconfigured: 216400,
    errors.InternalError: 336000,
    errors.RecordsUnavailable: 336100,
    errors.GatewayStopping: 336100,
}
"""18 and 336100 are what the vendor's SDK asks again after."""

_encode = msgspec.json.Encoder().encode
_VARIABLE = re.compile(r"\{\{([^{}]+)\}\}|\{([^{}]+)\}")
_AT_PATH = re.compile(r" - at `\$\.?([^`]*)`$")
_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}


class PluginFault(Exception):
    """A request that cannot be meant, by the vendor's code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Llm(msgspec.Struct, frozen=True):
    temperature: float | None = None
    top_p: float | None = None
    penalty_score: float | None = None


class _Said(msgspec.Struct, frozen=True):
    role: str
    content: str | None = None


class PluginBody(msgspec.Struct, frozen=True):
    """The request's body; fields that the page does not know are ignored."""

    query: str
    fileurl: str
    plugins: Any = None
    stream: bool | None = None
    llm: _Llm | None = None
    input_variables: dict[str, Any] | None = None
    history: Any = None
    verbose: bool | None = None

    @property
    def filename(self) -> str:
        """What a log or an echo calls the picture: the end of its path; nothing of a data URL."""
        if self.fileurl[:5].lower() == "data:":
            return ""
        try:
            path = urlsplit(self.fileurl).path
        except ValueError:
            return ""
        return unquote(path.rpartition("/")[2])[:_FILENAME_MAX_CHARS]


_DECODER = msgspec.json.Decoder(PluginBody)


def read_plugin_body(data: bytes) -> PluginBody:
    """The request.

    Raises:
        PluginFault: it is no JSON, or not what the page asks for.
    """
    try:
        top_level_keys(data)
        body = _DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise PluginFault(_BAD_ARGUMENT, _explained(str(error))) from error
    except InvalidRequest as error:
        raise PluginFault(_INVALID_JSON, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PluginFault(_INVALID_JSON, "The request body is not valid JSON.") from error
    _check(body)
    return body


def _explained(message: str) -> str:
    at = _AT_PATH.search(message)
    reason = (message[: at.start()] if at else message).replace("`", "").replace(" | null", "")
    return shown(f"{at.group(1)}: {reason}" if at and at.group(1) else reason)


def _check(body: PluginBody) -> None:
    if not 0 < len(body.query) <= _QUERY_MAX_CHARS or not body.query.strip():
        raise PluginFault(_BAD_ARGUMENT, f"query must have 1 to {_QUERY_MAX_CHARS} characters.")
    if not body.fileurl.strip():
        raise PluginFault(_BAD_ARGUMENT, "fileurl is required: the address of a picture.")
    if body.plugins not in (None, [], [PLUGIN_ID]):
        raise PluginFault(_BAD_PLUGINS, f'plugins must be ["{PLUGIN_ID}"].')
    llm = body.llm or _Llm()
    for name, value, low, high in (
        ("temperature", llm.temperature, 0, 2),
        ("top_p", llm.top_p, 0, 1),
        ("penalty_score", llm.penalty_score, 1, 2),
    ):
        if value is not None and not low <= value <= high:
            raise PluginFault(_BAD_ARGUMENT, f"llm.{name} must be from {low} to {high}.")


def to_request(body: PluginBody, model: str) -> ChatRequest:
    """The request in the gateway's words.

    Args:
        model: which answers.

    Raises:
        PluginFault: the history cannot be read, or the query with its variables is too long.
    """
    llm = body.llm or _Llm()
    picture = ImagePart(ImageSource(body.fileurl.strip(), "fileurl", min_side_px=MIN_SIDE_PX))
    question = Message("user", (picture, TextPart(_filled(body.query, body.input_variables or {}))))
    extra: dict[str, Any] = {"ocr": {"regions": True}} if body.verbose else {}
    if llm.penalty_score is not None:
        extra["penalty_score"] = llm.penalty_score
    return ChatRequest(
        model=model,
        messages=(*_history(body.history), question),
        stream=bool(body.stream),
        temperature=llm.temperature,
        top_p=llm.top_p,
        extra=extra,
    )


def _filled(query: str, variables: Mapping[str, Any]) -> str:
    """The query with its variables filled in, all at once: what is filled in is not read again.

    The length is bounded while it grows: a query can name one value hundreds of times.
    """
    left = _FILLED_MAX_CHARS

    def value(match: re.Match[str]) -> str:
        nonlocal left
        name = match[1].strip() if match[1] else match[2]
        if not name or name not in variables:
            return match[0]
        given = variables[name]
        text = given if isinstance(given, str) else _encode(given).decode()
        left -= len(text)
        if left < 0:
            words = f"query must have at most {_FILLED_MAX_CHARS} characters with its variables filled in."
            raise PluginFault(_BAD_ARGUMENT, words)
        return text

    return _VARIABLE.sub(value, query)


def _history(given: Any) -> list[Message]:
    """Earlier turns: the page's table says an object, its example and clients send a list. An object may be one turn,
    or hold the list."""
    if isinstance(given, Mapping):
        lists = [value for value in given.values() if isinstance(value, list)]
        given = lists[0] if lists else [given] if given else []
    try:
        said = msgspec.convert(given or [], list[_Said])
    except msgspec.ValidationError as error:
        raise PluginFault(_BAD_ARGUMENT, f"history: {_explained(str(error))}") from error
    for turn in said:
        if turn.role not in _ROLES:
            raise PluginFault(_BAD_ARGUMENT, "history: role must be user or assistant.")
    return [Message(_ROLES[turn.role], (TextPart(turn.content),)) for turn in said if turn.content]


def log_id_of(request_id: str) -> int:
    """Our request id as the vendor writes ids: a 63-bit number, its first 63 bits. In hexadecimal, doubled, it is again
    how the request id begins."""
    return int(request_id[:16], 16) >> 1


def error_body(error: GatewayError | PluginFault, log_id: int, language: Language = "zh") -> bytes:
    """An error as the vendor says it, with HTTP status 200 or within a stream."""
    if isinstance(error, PluginFault):
        code, reason = error.code, str(error)
    else:
        code, reason = code_of(error), error.said_in(language)
    return vendor_error(code, f"{_WORDS[code]}: {reason}", log_id)


def vendor_error(code: int, message: str, log_id: int) -> bytes:
    """An error in just these words."""
    return _encode({"error_code": code, "error_msg": message, "log_id": log_id})


def code_of(error: GatewayError) -> int:
    """The vendor's code of an error."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), 336000)


class AnswerWriter:
    """Writes the answer to one request.

    Args:
        request_id: 24 hexadecimal digits.
    """

    def __init__(self, body: PluginBody, request_id: str) -> None:
        self._asked = {"query": body.query, "filename": body.filename}
        self.log_id = log_id_of(request_id)
        self._logid = int(request_id[-8:], 16)
        self._sentence_id = 0

    def whole(self, text: str, regions: Iterable[OcrRegions] | None) -> bytes:
        """The answer in one piece.

        Args:
            regions: for `meta_info`; `None` leaves it out.
        """
        answer: dict[str, Any] = {"log_id": self.log_id, "result": text}
        if regions is not None:
            answer["meta_info"] = self._meta(text, regions)
        return _encode(answer)

    def echo(self, text: str, regions: Iterable[OcrRegions]) -> bytes:
        """The first packet of a verbose stream: what `meta_info` holds, at the top level."""
        return _packet({**self._meta(text, regions), "log_id": self.log_id})

    def delta(self, text: str) -> bytes:
        """A piece of the answer."""
        pieces = (text[at : at + _LONGEST_DELTA_CHARS] for at in range(0, len(text), _LONGEST_DELTA_CHARS))
        return b"".join(self._sentence(piece, is_end=False) for piece in pieces)

    def end(self) -> bytes:
        """The packet that says the answer is whole."""
        return self._sentence("", is_end=True)

    def error(self, error: GatewayError, language: Language) -> bytes:
        """The packet that says it is not."""
        return b"data: " + error_body(error, self.log_id, language) + b"\n\n"

    def _sentence(self, text: str, *, is_end: bool) -> bytes:
        packet = {"result": text, "sentence_id": self._sentence_id, "is_end": is_end, "log_id": self.log_id}
        self._sentence_id += 1
        return _packet(packet)

    def _meta(self, text: str, regions: Iterable[OcrRegions]) -> dict[str, Any]:
        words = [word for event in regions for word in map(_word, event.regions)]
        return {
            "plugin_id": PLUGIN_ID,
            "request": self._asked,
            "requests": self._asked,
            "response": {
                "error_no": 0,
                "error_msg": "success",
                "format": "json",
                "result": {"llm_result": text, "ocr_result": words, "classify_ret": None},
                "logid": self._logid,
            },
        }


def _packet(fields: Mapping[str, Any]) -> bytes:
    return b"data: " + _encode(fields) + b"\n\n"


def _word(region: OcrRegion) -> dict[str, Any]:
    """A line of text and the upright rectangle around it."""
    across, down = zip(*region.polygon_px, strict=True) if region.polygon_px else ((0,), (0,))
    left, top = max(floor(min(across)), 0), max(floor(min(down)), 0)
    rect = {"left": left, "top": top, "width": ceil(max(across)) - left, "height": ceil(max(down)) - top}
    return {"rect": rect, "word": region.text}
