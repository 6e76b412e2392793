"""Baidu's AI services as their pages describe them: tokens, the plugin 智慧图问, OCR.

    baidu = Baidu()                              # an application's keys and an account's, both good
    async with Upstream() as up:
        up.otherwise(baidu)                      # answers whatever comes, or refuses it as Baidu would
        ...                                      # base_url = up.url, and `baidu.application` or `baidu.account`

What arrives is judged from its fields alone: signatures are computed anew here, from the published rules, and what is
wrong gets Baidu's own answer. `refuse(code, …)` makes the next calls fail; `end_tokens()` ends those given out.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from PIL import Image

from tests.fakes.http import Received, Reply, Step

PLUGIN_PATH = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/"
OCR_PATH = "/rest/2.0/ocr/v1/"
LOG_ID = 4600912345678908777
"""Beyond 2^53, as Baidu's are."""

_OCR_BYTES = {"general_basic": 4_000_000, "general": 8_000_000, "accurate": 10_000_000, "accurate_basic": 10_000_000}
_OCR_SIDES = {"general_basic": 4096, "general": 4096, "accurate": 8192, "accurate_basic": 8192}
_AUTHORIZATION = re.compile(r"bce-auth-v1/([^/]+)/([^/]+)/(\d+)/([^/]*)/([0-9a-f]{64})")
_SKEW_S = 900
_PLUGIN_SIDE_PX = 80
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

ErrorPlace = Literal["json", "bare", "packet", "echo"]


class Refused(Exception):
    """What Baidu answers instead of an answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A whole answer."""
    return Reply(status, {"content-type": "application/json", **(headers or {})}, [json.dumps(value).encode()])


def error(code: int, message: str = "scripted") -> Reply:
    """A refusal, with status 200 as always."""
    return json_reply({"error_code": code, "error_msg": message, "log_id": LOG_ID})


def cloud_error(status: int, code: str, message: str) -> Reply:
    """What the cloud says of a signature: in headers and in the body."""
    headers = {"x-bce-error-code": code, "x-bce-error-message": message, "x-bce-request-id": "r-1"}
    return json_reply({"code": code, "message": message, "requestId": "r-1"}, status, headers)


def data(value: Any) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


@dataclass
class Baidu:
    """A server of all of them.

    Args:
        says: what the plugin answers, piece by piece.
        reads: the lines of text in each picture, with left, top, width and height.
        echo_key: how the echo calls the request: the pages say both.
        bos_only: whether pictures must lie under bcebos.com.
        fetches: whether the plugin fetches its picture, and looks how large it is.
        split_bytes: streams leave in writes of so many bytes; 0: event by event.
    """

    api_key: str = "k" * 24
    secret_key: str = "s" * 32
    access_key_id: str = "ALTAKfakefakefakefake01"
    secret_access_key: str = "0123456789abcdef0123456789abcdef"
    endpoint: str = "testxxx"
    says: tuple[str, ...] = ("通知书上的大学是", "某某大学。")
    reads: tuple[tuple[str, int, int, int, int], ...] = (("某某大学", 399, 304, 291, 92),)
    echo_key: Literal["request", "requests"] = "requests"
    bos_only: bool = True
    fetches: bool = False
    split_bytes: int = 0
    now: Callable[[], float] = time.time
    tokens: dict[str, int] = field(default_factory=dict)
    """Given out → 0 while good, else the code they are refused with."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    """What good calls said: the plugin's body, or the OCR form without its picture."""
    pictures: list[bytes] = field(default_factory=list)
    """What OCR was given, and what the plugin fetched."""
    _refusals: deque[tuple[int, ErrorPlace]] = field(default_factory=deque)

    @property
    def application(self) -> dict[str, str]:
        """The options of a section that uses tokens."""
        return {"api_key": self.api_key, "secret_key": self.secret_key}

    @property
    def account(self) -> dict[str, str]:
        """The options of a section that signs."""
        return {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}

    def refuse(self, *codes: int, place: ErrorPlace = "json") -> None:
        """The next calls, one each, fail with these codes.

        Args:
            place: where a stream says it: instead of itself, as a bare line, in a packet after text, in the echo.
        """
        self._refusals.extend((code, place) for code in codes)

    def end_tokens(self, code: int = 111) -> None:
        """All tokens given out so far are refused from now on: 110 as invalid, 111 as expired."""
        self.tokens = dict.fromkeys(self.tokens, code)

    def __call__(self, request: Received) -> Reply:
        try:
            if request.path == "/oauth/2.0/token":
                return self._token(request)
            if request.path.startswith(PLUGIN_PATH):
                return self._plugin(request)
            if request.path.startswith(OCR_PATH):
                return self._ocr(request)
        except Refused as refused:
            return refused.reply
        return error(3, "Unsupported openapi method")

    def _token(self, request: Received) -> Reply:
        asked = dict(parse_qsl(request.query))
        if request.method not in {"POST", "GET"} or asked.get("grant_type") != "client_credentials":
            return json_reply({"error": "invalid_request", "error_description": "grant type"}, 400)
        if asked.get("client_id") != self.api_key:
            return json_reply({"error": "invalid_client", "error_description": "unknown client id"}, 401)
        if asked.get("client_secret") != self.secret_key:
            return json_reply({"error": "invalid_client", "error_description": "Client authentication failed"}, 401)
        token = f"24.fake{len(self.tokens)}.2592000.{int(self.now()) + 2592000}.282335-8574074"
        self.tokens[token] = 0
        answer = {"refresh_token": "25.x", "expires_in": 2592000, "access_token": token, "scope": "public"}
        return json_reply(answer)

    def _judge(self, request: Received) -> None:
        """Raises what is wrong with a call's credentials."""
        if "authorization" in request.headers:
            self._judge_signature(request)
            return
        code = self.tokens.get(dict(parse_qsl(request.query)).get("access_token", ""), 110)
        if code:
            words = {110: "Access token invalid or no longer valid", 111: "Access token expired"}
            raise Refused(error(code, words[code]))

    def _judge_signature(self, request: Received) -> None:
        parts = _AUTHORIZATION.fullmatch(request.headers["authorization"])
        if parts is None:
            raise Refused(cloud_error(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid."))
        key_id, timestamp, expires_s, names, signature = parts.groups()
        if key_id != self.access_key_id:
            raise Refused(cloud_error(403, "403", "NotFound, cause: Could not find credential."))
        signed_at = datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        if not signed_at - _SKEW_S <= self.now() <= signed_at + int(expires_s):
            raise Refused(cloud_error(400, "RequestExpired", f"Request has expired. Timestamp date is {timestamp}."))
        if request.headers.get("x-bce-date", timestamp) != timestamp or "host" not in self._signed(request, names):
            raise Refused(cloud_error(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid."))
        prefix = f"bce-auth-v1/{key_id}/{timestamp}/{expires_s}"
        key = hmac.new(self.secret_access_key.encode(), prefix.encode(), hashlib.sha256).hexdigest()
        canonical = canonical_request(request, self._signed(request, names))
        if not hmac.compare_digest(hmac.new(key.encode(), canonical.encode(), hashlib.sha256).hexdigest(), signature):
            raise Refused(
                cloud_error(403, "403", "SignatureDoesNotMatch, cause: Fail to authn user: Signature does not match")
            )

    def _signed(self, request: Received, names: str) -> list[str]:
        if names:
            return names.split(";")
        usual = {"host", "content-length", "content-type", "content-md5"}
        return [name for name in request.headers if name in usual or name.startswith("x-bce-")]

    def _plugin(self, request: Received) -> Reply:
        if request.path != f"{PLUGIN_PATH}{self.endpoint}/":
            return error(3, "Unsupported openapi method")
        if request.method != "POST":
            return error(336101, "invalid HTTP method")
        self._judge(request)
        body = _json(request)
        code, place = self._refusals.popleft() if self._refusals else (0, "json")
        if code and place == "json":
            return error(code)
        self._judge_question(body)
        self._judge_picture(body["fileurl"])
        self.asked.append(body)
        return self._streamed(body, code, place) if body.get("stream") else self._whole(body)

    def _judge_question(self, body: dict[str, Any]) -> None:
        query, plugins = body.get("query"), body.get("plugins")
        if not isinstance(query, str) or not query or len(query) > 1000:
            raise Refused(error(336003, "the length of query must be from 1 to 1000"))
        if not isinstance(plugins, list) or len(plugins) > 3 or plugins != ["uuid-chatocr"]:
            raise Refused(error(337008, "invalid plugin id"))
        if not all(isinstance(body.get(flag, False), bool) for flag in ("stream", "verbose")):
            raise Refused(error(216100, "invalid param"))
        if not all(isinstance(body.get(name, {}), dict) for name in ("llm", "input_variables")):
            raise Refused(error(216100, "invalid param"))
        roles = [turn.get("role") for turn in body.get("history", [])]
        if roles != [("user", "assistant")[at % 2] for at in range(len(roles))] or len(roles) % 2:
            raise Refused(error(336003, "history must alternate, from user to assistant"))

    def _judge_picture(self, address: Any) -> None:
        where = urlsplit(address if isinstance(address, str) else "")
        if not where.netloc or not where.path.lower().endswith((".jpg", ".jpeg", ".png")):
            raise Refused(error(216100, "invalid fileurl"))
        if self.bos_only and not f".{where.hostname}".endswith(".bcebos.com"):
            raise Refused(error(216100, "fileurl must be on bos"))
        if self.fetches:
            self.pictures.append(_fetched(address))

    def _answer_of(self, body: dict[str, Any], error_no: int = 0) -> dict[str, Any]:
        lines = [
            {"rect": {"left": left, "top": top, "width": width, "height": height}, "word": word}
            for word, left, top, width, height in self.reads
        ]
        name = urlsplit(body["fileurl"]).path.rpartition("/")[2]
        return {
            "plugin_id": "uuid-chatocr",
            self.echo_key: {"query": body["query"], "filename": name},
            "response": {
                "error_no": error_no,
                "error_msg": "failed" if error_no else "success",
                "format": "json",
                "result": {"llm_result": "".join(self.says), "ocr_result": lines, "classify_ret": None},
                "logid": 2796978908,
            },
        }

    def _whole(self, body: dict[str, Any]) -> Reply:
        answer = {"log_id": LOG_ID, "result": "".join(self.says)}
        return json_reply(answer | ({"meta_info": self._answer_of(body)} if body.get("verbose") else {}))

    def _streamed(self, body: dict[str, Any], code: int, place: ErrorPlace) -> Reply:
        steps: list[Step] = list(self._packets(body, code, place))
        reply = Reply(200, {"content-type": "text/event-stream"}, steps)
        return reply.split(self.split_bytes) if self.split_bytes else reply

    def _packets(self, body: dict[str, Any], code: int, place: ErrorPlace) -> Iterator[bytes]:
        wrong = {"error_code": code, "error_msg": "scripted"}
        if code and place == "bare":
            yield json.dumps(wrong).encode() + b"\n"
            return
        if body.get("verbose"):
            yield data(self._answer_of(body, code if place == "echo" else 0))
        for at, piece in enumerate((*self.says, "")):
            if code and place == "packet" and at == 1:
                yield data(wrong)
                return
            yield data({"result": piece, "sentence_id": at, "is_end": at == len(self.says), "log_id": LOG_ID})

    def _ocr(self, request: Received) -> Reply:
        service = request.path.removeprefix(OCR_PATH)
        if service not in _OCR_BYTES:
            return error(3, "Unsupported openapi method")
        self._judge(request)
        if self._refusals:
            return error(self._refusals.popleft()[0])
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return error(216100, "invalid param")
        form = dict(parse_qsl(request.body.decode()))
        self.pictures.append(_judged(form.pop("image", ""), len(request.body), service))
        self.asked.append(form)
        lines = [self._line(service, form, read) for read in self.reads]
        return json_reply({"log_id": LOG_ID, "words_result_num": len(lines), "words_result": lines})

    def _line(self, service: str, form: dict[str, str], read: tuple[str, int, int, int, int]) -> dict[str, Any]:
        word, left, top, width, height = read
        line: dict[str, Any] = {"words": word}
        if not service.endswith("_basic"):
            line["location"] = {"left": left, "top": top, "width": width, "height": height}
        if form.get("probability") == "true":
            line["probability"] = {"average": 0.97, "min": 0.9, "variance": 0.01}
        return line


def canonical_request(request: Received, names: list[str]) -> str:
    """What Baidu signs of a request as it arrived."""
    pairs = [f"{_escaped(key)}={_escaped(value)}" for key, value in parse_qsl(request.query, keep_blank_values=True)]
    kept = sorted(pair for pair in pairs if not pair.lower().startswith("authorization="))
    values = {name: request.headers.get(name, "").strip() for name in names}
    lines = sorted(f"{_escaped(name)}:{_escaped(value)}" for name, value in values.items() if value)
    path = "/".join(_escaped(unquote(part)) for part in request.path.split("/"))
    return "\n".join([request.method, path, "&".join(kept), "\n".join(lines)])


def _escaped(text: str) -> str:
    return quote(text, safe="-._~")


def _json(request: Received) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or "json" not in request.headers.get("content-type", ""):
        raise Refused(error(336002, "Invalid JSON"))
    return body


def _fetched(address: str) -> bytes:
    try:
        with _DIRECT.open(address, timeout=5) as answer:
            picture: bytes = answer.read()
        with Image.open(io.BytesIO(picture)) as image:
            size, kind = image.size, image.format
    except OSError as failure:
        raise Refused(error(216203, "image processing failed")) from failure
    if min(size) < _PLUGIN_SIDE_PX or kind not in {"JPEG", "PNG"}:
        raise Refused(error(216203, "image processing failed"))
    return picture


def _judged(encoded: str, body_bytes: int, service: str) -> bytes:
    """The picture of an OCR form."""
    if not encoded:
        raise Refused(error(216200, "empty image"))
    if body_bytes > _OCR_BYTES[service]:
        raise Refused(error(216202, "image size error"))
    try:
        picture = base64.b64decode(encoded, validate=True)
        with Image.open(io.BytesIO(picture)) as image:
            size, kind = image.size, image.format
    except (ValueError, OSError) as failure:
        raise Refused(error(216201, "image format error")) from failure
    if kind not in {"JPEG", "PNG", "BMP"}:
        raise Refused(error(216201, "image format error"))
    if min(size) < 15 or max(size) > _OCR_SIDES[service]:
        raise Refused(error(216202, "image size error"))
    return picture
