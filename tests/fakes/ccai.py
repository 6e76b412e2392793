"""Alibaba CCAI's GeneralAnalyzeImage, as strict as its pages: the signature, the clock, the nonce, the body.

    account = CcaiAccount("LTAI…", "secret", workspace_id="llm-…", app_id="…")
    async with Upstream() as up:
        up.otherwise(account.serving(ccai.says("图里", "有一只猫")))  # point base_url at up.url
        ...
        assert up.requests[0].json["customPrompt"] == "图里有什么？"

* `serving(a, b)` gives each request that passes all checks the next answer, the last one again and again; a request
  that does not pass is refused as the service refuses it. Not passing costs no answer. `up.answer(…)` takes it too.
* `says(…)` is streamed or whole, as the request asks; each event holds the whole text so far. Among the words a `Gate`
  waits and a `Cut` ends the connection. Any `Reply` is an answer too: `error("CCAI.Throttling.Qpm", retry_after_ms=…)`.
* With `fetches=True` every picture is read by its address before the answer, and kept in `account.fetched`; where that
  fails, the request is refused. The reading blocks: run the upstream `in_thread()` beside whoever serves the picture.
  Where an address stands for a server on another port, say so: `account.leads["https://public.test"] = up.url`.
* The vendor's SDKs work as clients, `endpoint=f"127.0.0.1:{port}", protocol="http"`: one event per chunk, a blank line
  after each.

The checks know nothing of the code they check: everything is worked out again from what arrived.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl, quote, unquote

from tests.fakes.http import Cut, Gate, Received, Reply, Step

REQUEST_ID = "2D718325-92F9-5588-803B-C4A69A5F0AE1"
HOST_ID = "contactcenterai.cn-shanghai.aliyuncs.com"
SSE = {"content-type": "text/event-stream;charset=UTF-8"}
MAX_SKEW_S = 15 * 60
ALGORITHM = "ACS3-HMAC-SHA256"

Word: TypeAlias = "str | Gate | Cut"
Unfinished: TypeAlias = Literal["null", "word", "absent"]

STATUSES = {
    "CCAI.InvalidParam.NotExist": 400,
    "CCAI.ParamInvalid.IllegalParamValue": 400,
    "CCAI.Throttling.Qpm": 400,
    "CCAI.Throttling.Qps": 400,
    "CCAI.ParamNotfound.MissParam": 403,
    "CCAI.TenantPermission.NoAuth": 403,
    "CCAI.IllegalPermission.NoAuth": 403,
    "CCAI.InternalError": 500,
    "SignatureDoesNotMatch": 400,
    "SignatureNonceUsed": 400,
    "InvalidTimeStamp.Format": 400,
    "InvalidTimeStamp.Expired": 400,
    "InvalidAccessKeyId.NotFound": 404,
    "InvalidSecurityToken.MismatchWithAccessKey": 400,
    "MissingSecurityToken": 400,
    "MissingParameter": 400,
    "InvalidAction.NotFound": 404,
    "Throttling.User": 400,
    "ServiceUnavailable": 503,
    "Forbidden.RAM": 403,
}
"""What each code comes with; 400 throttles, and 403 misses a parameter."""

_PATH = re.compile(r"(?P<prefix>.*)/(?P<workspace>[^/]+)/ccai/app/(?P<app>[^/]+)/generalanalyzeImage")
_MUST_BE_SIGNED = {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-content-sha256"}
_FIELDS: Mapping[str, type] = {
    "imageUrls": list,
    "stream": bool,
    "customPrompt": str,
    "templateIds": list,
}
_FETCH_S = 5.0


class Refused(Exception):
    """A request does not pass. `str()` is what the service says."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Says:
    """An answer in words, told as the request asks for it.

    Args:
        finish: the reason of the last event; `None`: none ever comes.
        unfinished: how the others say that they are not the last: null, the word "null", or not at all.
        deltas: each event holds only what is new, as some clients' tests have it.
        space: whether a space follows `data:`.
    """

    words: tuple[Word, ...]
    finish: str | None = "stop"
    unfinished: Unfinished = "null"
    deltas: bool = False
    space: bool = False
    input_tokens: int = 1000

    def reply(self, *, stream: bool) -> Reply:
        if stream:
            return Reply(200, SSE, self._steps())
        text = "".join(word for word in self.words if isinstance(word, str))
        return whole(self._body(text, self.finish))

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        said, number = "", 0
        last = max((at for at, word in enumerate(self.words) if isinstance(word, str)), default=-1)
        for at, word in enumerate(self.words):
            if not isinstance(word, str):
                steps.append(word)
                continue
            said, number = word if self.deltas else said + word, number + 1
            steps.append(event(self._body(said, self.finish if at == last else None), number, space=self.space))
        return steps

    def _body(self, text: str, finish: str | None) -> dict[str, Any]:
        output = max(len(text), 1)
        body: dict[str, Any] = {"requestId": REQUEST_ID, "success": True, "text": text, "finishReason": finish}
        if finish is None and self.unfinished == "word":
            body["finishReason"] = "null"
        elif finish is None and self.unfinished == "absent":
            del body["finishReason"]
        counts = {"inputTokens": self.input_tokens, "outputTokens": output, "totalTokens": self.input_tokens + output}
        return body | counts


Answer: TypeAlias = "Says | Reply"


def says(*words: Word, **how: Any) -> Says:
    """An answer; further keywords are those of `Says`."""
    return Says(words, **how)


def event(body: Mapping[str, Any], number: int = 1, *, space: bool = False) -> bytes:
    """One event in the vendor's framing."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{' ' * space}{data}\n\n".encode()


def whole(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """One JSON body."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, {"content-type": "application/json;charset=utf-8", **(headers or {})}, [data], "length")


def error(
    code: str, message: str = "scripted", *, status: int | None = None, retry_after_ms: int | None = None
) -> Reply:
    """A refusal, in the platform's casing."""
    headers = {} if retry_after_ms is None else {"x-acs-retry-after": str(retry_after_ms)}
    body = {
        "Code": code,
        "Message": message,
        "RequestId": REQUEST_ID,
        "HostId": HOST_ID,
        "Recommend": f"https://api.aliyun.com/troubleshoot?q={code}",
    }
    return whole(body, status or STATUSES[code], headers)


def failure(code: str | None, message: str = "scripted") -> Reply:
    """A refusal of the application's, which comes with status 200."""
    return whole({"requestId": REQUEST_ID, "success": False, "errorCode": code, "errorInfo": message})


@dataclass(frozen=True, slots=True)
class Fetched:
    """A picture as its address gave it. `status` is 0 where nobody answered."""

    url: str
    status: int
    media_type: str = ""
    data: bytes = field(default=b"", repr=False)


class CcaiAccount:
    """One AccessKey with its application, and the service that serves it.

    Args:
        security_token: of a temporary AccessKey; requests must carry it.
        clock: Unix time in seconds, against which dates are judged.
        fetches: whether pictures are read by their addresses.
    """

    def __init__(
        self,
        access_key_id: str,
        access_key_secret: str,
        *,
        workspace_id: str,
        app_id: str,
        security_token: str | None = None,
        clock: Callable[[], float] = time.time,
        fetches: bool = False,
    ) -> None:
        self.access_key_id = access_key_id
        self.access_key_secret = access_key_secret
        self.workspace_id = workspace_id
        self.app_id = app_id
        self.security_token = security_token
        self.fetched: list[Fetched] = []
        self.leads: dict[str, str] = {}
        self._clock = clock
        self._fetches = fetches
        self._nonces: set[str] = set()

    def serving(self, *answers: Answer) -> Callable[[Received], Reply]:
        """Answers requests that pass all checks, in order; the last answer serves those that come after."""
        waiting = list(answers)

        def answered(request: Received) -> Reply:
            try:
                self._authenticate(request)
                self._authorize(request)
                body = _checked(request)
                if self._fetches:
                    self._fetch(body["imageUrls"])
            except Refused as refused:
                return error(refused.code, str(refused))
            answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            return answer if isinstance(answer, Reply) else answer.reply(stream=body["stream"])

        return answered

    def _authenticate(self, request: Received) -> None:
        headers = request.headers
        parts = _authorization(headers.get("authorization", ""))
        if parts["Credential"] != self.access_key_id:
            raise Refused("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        self._check_token(headers)
        self._check_date(headers.get("x-acs-date", ""))
        names = parts["SignedHeaders"].split(";")
        unsigned = _must_be_signed(headers) - set(names)
        if unsigned or names != sorted(names) or not set(names) <= headers.keys():
            raise Refused("SignatureDoesNotMatch", f"SignedHeaders is not complete or not in order: {sorted(unsigned)}")
        digest = hashlib.sha256(request.body).hexdigest()
        if headers["x-acs-content-sha256"] != digest:
            raise Refused("SignatureDoesNotMatch", "x-acs-content-sha256 is not the digest of the body.")
        signed = _string_to_sign(request, names, digest)
        signature = hmac.new(self.access_key_secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if signature != parts["Signature"]:
            says = "Specified signature is not matched with our calculation. server string to sign is:"
            raise Refused("SignatureDoesNotMatch", f"{says}{signed} of {_canonical(request, names, digest)}")
        nonce = headers.get("x-acs-signature-nonce", "")
        if not nonce or nonce in self._nonces:
            raise Refused("SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces.add(nonce)

    def _check_token(self, headers: Mapping[str, str]) -> None:
        token = headers.get("x-acs-security-token")
        if self.security_token is not None and token is None:
            raise Refused("MissingSecurityToken", "SecurityToken is mandatory for this action.")
        if token != self.security_token:
            raise Refused("InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken is not of this key.")

    def _check_date(self, date: str) -> None:
        try:
            told = datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as fault:
            raise Refused("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.") from (
                fault
            )
        if abs(told.timestamp() - self._clock()) > MAX_SKEW_S:
            raise Refused("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")

    def _authorize(self, request: Received) -> None:
        called = (request.headers["x-acs-action"], request.headers["x-acs-version"])
        place = _PATH.fullmatch(request.path)
        if request.method != "POST" or place is None or called != ("GeneralAnalyzeImage", "2024-06-03"):
            raise Refused("InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
        if unquote(place["workspace"]) != self.workspace_id:
            raise Refused("CCAI.TenantPermission.NoAuth", "The current account does not have the permission.")
        if unquote(place["app"]) != self.app_id:
            raise Refused("CCAI.IllegalPermission.NoAuth", "User not authorized to operate on the specified resource.")

    def _fetch(self, urls: Sequence[str]) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for url in urls:
            begin = next((begin for begin in self.leads if url.startswith(begin)), "")
            self.fetched.append(_fetched(opener, url, self.leads.get(begin, "") + url.removeprefix(begin)))
            if self.fetched[-1].status != 200:
                raise Refused("CCAI.ParamInvalid.IllegalParamValue", "The parameter value is illegal: imageUrls.")


def _fetched(opener: urllib.request.OpenerDirector, url: str, place: str) -> Fetched:
    try:
        with opener.open(place, timeout=_FETCH_S) as response:
            return Fetched(url, response.status, response.headers.get("content-type", ""), response.read())
    except urllib.error.HTTPError as refused:
        with refused:
            return Fetched(url, refused.code)
    except OSError:
        return Fetched(url, 0)


def _authorization(header: str) -> dict[str, str]:
    algorithm, _, rest = header.partition(" ")
    parts = dict(pair.split("=", 1) for pair in rest.split(",") if "=" in pair)
    if not header or not {"Credential", "SignedHeaders", "Signature"} <= parts.keys():
        raise Refused("MissingParameter", "Authorization is mandatory for this action.")
    if algorithm != ALGORITHM:
        raise Refused("SignatureDoesNotMatch", "The algorithm of the signature is not supported.")
    return parts


def _must_be_signed(headers: Mapping[str, str]) -> set[str]:
    return _MUST_BE_SIGNED | {name for name in headers if name.startswith("x-acs-") or name == "content-type"}


def _canonical(request: Received, names: Sequence[str], digest: str) -> str:
    pairs = sorted((_encoded(key), _encoded(value)) for key, value in parse_qsl(request.query, keep_blank_values=True))
    query = "&".join(f"{key}={value}" for key, value in pairs)
    lines = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
    return f"{request.method}\n{request.path or '/'}\n{query}\n{lines}\n{';'.join(names)}\n{digest}"


def _string_to_sign(request: Received, names: Sequence[str], digest: str) -> str:
    return f"{ALGORITHM}\n{hashlib.sha256(_canonical(request, names, digest).encode()).hexdigest()}"


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def _checked(request: Received) -> dict[str, Any]:
    """The body, held to the page's table."""
    try:
        body = json.loads(request.body)
    except ValueError as fault:
        raise Refused("CCAI.ParamInvalid.IllegalParamValue", "The parameter value is illegal: body.") from fault
    if not isinstance(body, dict):
        raise Refused("CCAI.ParamInvalid.IllegalParamValue", "The parameter value is illegal: body.")
    for name in body.keys() - _FIELDS.keys():
        raise Refused("CCAI.InvalidParam.NotExist", f"The specified parameter {name} is not valid.")
    for name in ("imageUrls", "stream"):
        if body.get(name) in (None, []):
            raise Refused("CCAI.ParamNotfound.MissParam", f"The specified parameter {name} is missing.")
    wrong = [name for name, value in body.items() if not isinstance(value, _FIELDS[name])]
    wrong = wrong or ["imageUrls" for url in body["imageUrls"] if not _is_address(url)]
    wrong = wrong or ["templateIds" for item in body.get("templateIds", ()) if type(item) is not int]
    if wrong:
        raise Refused("CCAI.ParamInvalid.IllegalParamValue", f"The parameter value is illegal: {wrong[0]}.")
    return body


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and re.match("https?://[^/]", value) is not None


__all__ = ["CcaiAccount", "Cut", "Fetched", "Gate", "Says", "error", "event", "failure", "says", "whole"]
