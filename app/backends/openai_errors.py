"""Reads every shape in which OpenAI-compatible services write errors.

    {"error": {"code", "message", "type"}}        OpenAI, DashScope, Zhipu, Ark, Qianfan V2, LiteLLM, newer vLLM
    {"error": "…"}                                LM Studio
    {"object": "error", "message", "type", "code"}   SGLang, older vLLM
    {"code", "message", "data"}                   SiliconFlow, Qianfan AI search, iFlytek (`msg`); `code: 0` is success
    {"error_code", "error_msg"}                   Baidu V1, with status 200 as well
    "…", text, HTML, nothing                      whatever stands between
    data: {…}                                     any of these inside an event: DashScope, where a stream was asked for

Read in the vendors' error pages named in `app/backends/openai_codes.py`, on 2026-11-20.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from app.backends.error_table import ErrorRow
from app.backends.openai_codes import COARSE, MESSAGES, Verdict, by_code, by_status
from app.core.errors import BackendError, BackendProtocolError, BackendUnavailable
from app.core.secret import Censor

_DETAIL_CHARS = 500
_JSON_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a service said went wrong."""

    code: str | None = None
    type: str | None = None
    message: str = ""


def find_complaint(value: Any) -> Complaint | None:
    """The error in a JSON value; `None` where it is none."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, str):
        return Complaint(message=value)
    complaint = None
    match value:
        case {"error": {} as error} if error:
            complaint = _complaint(error, "code", "message")
        case {"error": str(message)} if message:
            complaint = Complaint(_word(value.get("code")), _word(value.get("type")), message)
        case {"error_code": code} if code:
            complaint = _complaint(value, "error_code", "error_msg")
        case {"code": 0 | "0"}:
            complaint = None  # iFlytek: success, whatever the message
        case {"message": _} | {"code": _} if value.get("message") or value.get("code"):
            complaint = _complaint(value, "code", "msg" if "msg" in value else "message")
        case {"detail": detail}:
            complaint = Complaint(message=str(detail))
    return complaint


def _complaint(value: Mapping[str, Any], code: str, message: str) -> Complaint:
    return Complaint(_word(value.get(code)), _word(value.get("type")), _word(value.get(message)) or "")


def _word(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


class ErrorReader:
    """Makes our errors of one backend's.

    Args:
        backend: its name in the catalogue.
        codes: its own code table.
        secrets: our keys, which vendors like to repeat; they are struck from what goes to the logs.
    """

    def __init__(self, backend: str, codes: Mapping[str, Verdict | ErrorRow], secrets: tuple[str, ...] = ()) -> None:
        self._backend = backend
        self._codes = codes
        self._censored = Censor(secrets)

    def of_response(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """Reads an answer whose status is not 200."""
        value = _json_of(body)
        complaint = find_complaint(value) or Complaint(message=self._censored(body.decode("utf-8", "replace")))
        return self.of_complaint(complaint, status=status, retry_after_s=retry_after_s(headers))

    def of_complaint(
        self, complaint: Complaint, *, status: int = 200, retry_after_s: float | None = None
    ) -> BackendError:
        """Names the class of an error.

        Args:
            status: of the HTTP answer; 200 where the error stood inside one.
        """
        verdict = (
            by_code(self._codes, complaint.code)
            or by_code(self._codes, complaint.type)
            or by_status(status)
            or by_status(_status_of(complaint.code))
        )
        if verdict is None:
            verdict = COARSE.get(complaint.type or "", BackendProtocolError)
        said = complaint.message or "nothing was said"
        detail = f"HTTP {status}: {said}" if status != 200 else said
        return self._error(verdict, complaint.code or complaint.type, detail, retry_after_s)

    def _error(
        self, verdict: Verdict | ErrorRow, code: str | None, detail: str, retry_after_s: float | None = None
    ) -> BackendError:
        detail = self._censored(detail)
        row = verdict if isinstance(verdict, ErrorRow) else ErrorRow(code or "", verdict, *MESSAGES[verdict])
        error = row.raised(backend=self._backend, detail=detail, retry_after_s=retry_after_s)
        error.backend_code = code
        return error

    def no_answer(self, detail: str) -> BackendError:
        """What came is cut short, empty, HTML or broken JSON: another route may do better."""
        english, chinese = MESSAGES[BackendProtocolError]
        return BackendProtocolError(
            english,
            chinese=chinese,
            backend=self._backend,
            detail=self._censored(detail)[:_DETAIL_CHARS],
            retryable=True,
        )

    def unavailable(self, code: str) -> BackendError:
        """The backend gave up in the middle, as its finish reason says."""
        return self._error(BackendUnavailable, code, "the backend gave up in mid-answer")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What the headers ask us to wait; the transport, which has a clock, made seconds of dates."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait_s = float(headers.get(name, "")) * unit_s
        except ValueError:
            continue
        if math.isfinite(wait_s) and wait_s >= 0:
            return wait_s
    return None


def _json_of(body: bytes) -> Any:
    """The JSON of a body, of its first `data:` line where it is framed as events; `None` where there is none."""
    lines = (line for line in body.splitlines() if line.startswith(b"data:"))
    payload = next(lines, body).removeprefix(b"data:")
    try:
        return msgspec.json.decode(payload)
    except _JSON_FAULTS:
        return None


def _status_of(code: str | None) -> int:
    return int(code) if code is not None and code.isascii() and code.isdecimal() and len(code) == 3 else 0
