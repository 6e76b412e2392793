"""iFlytek Spark over WebSocket, as strict as its pages: the signature, the handshake's refusals, the request's schema.

    account = SparkAccount("a1b2c3d4", "key", "secret")
    async with Upstream() as up:
        up.otherwise(account.serving(spark.stream("你", "好")))  # point a backend at f"{up.ws_url}/v2.1/image"
        ...
        assert up.requests[0].json["parameter"]["chat"]["domain"] == "imagev3"
        assert spark.picture_of(up.requests[0]) == jpeg

* `serving(a, b)` gives each request that passes all checks the next answer, the last one again and again; a request
  that does not pass is refused as the service refuses it. Not passing costs no answer. `up.answer(…)` takes it too.
* Answers are steps, see `tests.fakes.websocket`: `stream(…)`, `whole("…")`, `error(10013)`, or by hand from `said(…)`.
  Put together: `[*stream("你", finish=False), *error(10014)]`, `[*stream("你", finish=False), Cut(reset=True)]`.
* Among the words of a stream, `None` is a frame whose list of texts is empty, and a `Gate` waits.
* What it refuses it refuses by these codes: 10003 no JSON, 10004 fields or types, 10005 values and their order, 10029 a
  side, 10041 the pixels, 10404 domain and address do not belong together, 10907 too long, 11200 not this account's app.

The checks know nothing of the code they check: everything is worked out again from what arrived.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs

from tests.fakes.http import Cut, Gate, Received, Reply
from tests.fakes.spark_request import Fault, check
from tests.fakes.websocket import Steps, WsReply, WsStep

SID = "cht000704fa@dx16ade44e4d87a1c802"
USAGE = {"question_tokens": 9, "prompt_tokens": 282, "completion_tokens": 14, "total_tokens": 296}
MAX_SKEW_S = 300

UNVERIFIED = "HMAC signature cannot be verified"
BAD_DATE = f"{UNVERIFIED}, a valid date or x-date header is required for HMAC Authentication"

_FIELD = re.compile(r'(\w+)\s*=\s*"([^"]*)"')
_DATE = re.compile(r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|UTC)")


def said(
    status: int,
    content: str | None,
    *,
    seq: int = 0,
    usage: Mapping[str, int] | None = None,
    header_status: int | None = None,
) -> str:
    """One frame of an answer.

    Args:
        status: 0 for the first, 1 for those between, 2 for the last.
        content: `None`: the list of texts is empty.
        header_status: where the header's differs.
    """
    texts = [] if content is None else [{"content": content, "role": "assistant", "index": 0}]
    payload: dict[str, Any] = {"choices": {"status": status, "seq": seq, "text": texts}}
    if usage is not None:
        payload["usage"] = {"text": dict(usage)}
    head_status = status if header_status is None else header_status
    header = {"code": 0, "message": "Success", "sid": SID, "status": head_status}
    return json.dumps({"header": header, "payload": payload}, ensure_ascii=False)


def stream(
    *words: str | Gate | None,
    usage: Mapping[str, int] | None = USAGE,
    finish: bool = True,
    header_status: int | None = None,
) -> list[WsStep]:
    """An answer in as many frames as words; the last of them is the last of the answer.

    Args:
        finish: whether the last frame says that it is.
        header_status: what the last frame's header says instead of 2.
    """
    steps: list[WsStep] = []
    last = max((number for number, word in enumerate(words) if not isinstance(word, Gate)), default=-1)
    seq = 0
    for number, word in enumerate(words):
        if isinstance(word, Gate):
            steps.append(word)
            continue
        if finish and number == last:
            steps.append(said(2, word, seq=seq, usage=usage, header_status=header_status))
        else:
            steps.append(said(min(seq, 1), word, seq=seq))
        seq += 1
    return steps


def whole(text: str, *, usage: Mapping[str, int] | None = USAGE) -> list[WsStep]:
    """A whole answer in one frame."""
    return stream(text, usage=usage)


def error(code: int, message: str = "scripted", *, status: int | None = 2) -> list[WsStep]:
    """The frame of an error: no payload."""
    header: dict[str, Any] = {"code": code, "message": message, "sid": SID}
    if status is not None:
        header["status"] = status
    return [json.dumps({"header": header}, ensure_ascii=False)]


def refusal(status: int, message: str) -> Reply:
    """A handshake refused: JSON that calls itself plain text."""
    body = json.dumps({"message": message}).encode()
    return Reply(status, {"content-type": "text/plain; charset=utf-8"}, [body], "length")


def picture_of(request: Received) -> bytes:
    """The picture that came, decoded."""
    first = request.json["payload"]["message"]["text"][0]
    assert first["content_type"] == "image", first.get("content_type")
    return base64.b64decode(first["content"], validate=True)


class SparkAccount:
    """One application of the console, and the service that serves it.

    Args:
        clock: Unix time in seconds, against which dates are judged.
    """

    def __init__(self, app_id: str, api_key: str, api_secret: str, *, clock: Callable[[], float] = time.time) -> None:
        self.app_id = app_id
        self.api_key = api_key
        self.api_secret = api_secret
        self._clock = clock

    def serving(self, *answers: Steps) -> Callable[[Received], Reply | WsReply]:
        """Answers requests that pass all checks, in order; the last answer serves those that come after."""
        waiting = list(answers)

        def handshake(request: Received) -> Reply | WsReply:
            return self._refused(request) or WsReply(lambda asked: self._answered(asked, waiting))

        return handshake

    def _answered(self, request: Received, waiting: list[Steps]) -> Sequence[WsStep]:
        try:
            check(request.path, request.messages[0], self.app_id)
        except Fault as fault:
            return error(fault.code, fault.message)
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def _refused(self, request: Received) -> Reply | None:
        query = {name: values[0] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
        if "authorization" not in query:
            return refusal(401, "Unauthorized")
        fields = _fields(query["authorization"])
        if fields is None or "host" not in query:
            return refusal(401, UNVERIFIED)
        if not self._dated(query.get("date", "")):
            return refusal(403, BAD_DATE)
        if fields["key"] != self.api_key:
            return refusal(401, f"{UNVERIFIED}: fail to retrieve credential")
        signed = f"host: {query['host']}\ndate: {query['date']}\n{request.method} {request.path} HTTP/1.1"
        digest = hmac.new(self.api_secret.encode(), signed.encode(), hashlib.sha256).digest()
        if base64.b64encode(digest).decode() != fields["signature"]:
            return refusal(401, "HMAC signature does not match")
        return None if request.wants_websocket else refusal(426, "Upgrade Required")

    def _dated(self, date: str) -> bool:
        if not _DATE.fullmatch(date):
            return False
        told = parsedate_to_datetime(date).replace(tzinfo=UTC)
        return abs(told - datetime.fromtimestamp(self._clock(), UTC)).total_seconds() <= MAX_SKEW_S


def _fields(authorization: str) -> dict[str, str] | None:
    """The fields of what was signed, `key` among them by either of its names; `None` where they do not make sense."""
    try:
        origin = base64.b64decode(authorization, validate=True).decode()
    except ValueError:
        return None
    fields = dict(_FIELD.findall(origin))
    named = "username" if origin.startswith("hmac ") else "api_key"
    if not {named, "algorithm", "headers", "signature"} <= fields.keys():
        return None
    if fields["algorithm"] != "hmac-sha256" or fields["headers"] != "host date request-line":
        return None
    return {**fields, "key": fields[named]}


__all__ = ["Cut", "Gate", "SparkAccount", "error", "picture_of", "refusal", "said", "stream", "whole"]
