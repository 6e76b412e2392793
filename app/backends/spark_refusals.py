"""Makes our errors of what Spark refuses: frames with a code, and handshakes answered by HTTP.

«图片理解 API 文档», read 2026-11-20: a handshake is refused with 401 where the signature or its key is wrong, with 403
where the clocks differ by more than 300 s. The status decides; the words, which change, only tell the operator where to
look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.backends.error_table import ErrorRow
from app.backends.openai_codes import MESSAGES, Verdict
from app.backends.openai_errors import retry_after_s
from app.backends.spark_errors import SKEWED, SPARK, UNAUTHORISED
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.secret import Censor

_SAID_CHARS = 300
_JSON_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)

_UNAUTHORIZED: tuple[tuple[str, str], ...] = (
    # what the body holds, what it means; the first that is found counts. No comma after an option: the log takes what
    # follows for its value.
    ("retrieve credential", "iFlytek knows no such API key: check api_key and whether the application still exists"),
    ("does not match", "the signature does not match: check api_secret and whether it and api_key are swapped"),
    ("cannot be verified", "the authorization cannot be read: check api_key and api_secret for stray characters"),
    ("Unauthorized", "no authorization arrived: something between strips the query of addresses"),
)
_SOME_CREDENTIAL = "some credential is wrong: check app_id, api_key and api_secret"


@dataclass(frozen=True, slots=True)
class ErrorReader:
    """Makes our errors of one backend's.

    Args:
        backend: its name in the catalogue.
        secrets: what must stand in no log, though the vendor repeats it.
    """

    backend: str
    secrets: tuple[str, ...] = field(repr=False)

    def of_code(self, code: str, message: Any, sid: str | None) -> BackendError:
        """The error of a frame.

        Args:
            message: what Spark said, of whatever type.
            sid: the vendor's id of the exchange, which its support asks for.
        """
        said = self._said(message if isinstance(message, str) else "")
        return SPARK.row(code).raised(backend=self.backend, detail=f"{code}: {said} (sid {sid or 'none'})")

    def of_handshake(self, status: int, headers: Mapping[str, str], body: bytes) -> BackendError:
        """The error of a handshake that was answered by HTTP; `headers` have lower-case names.

        Nothing of the caller's has left us then: what is wrong is ours or the service's.
        """
        said = self._said(_message_in(body))
        hint = _hint(status, headers, said)
        detail = f"HTTP {status}: {hint}{said}"
        row = SPARK.rows.get(str(status)) or _row_by_status(status)
        error = row.raised(backend=self.backend, detail=detail, retry_after_s=retry_after_s(headers))
        error.spent = False
        return error

    def no_answer(self, detail: str) -> BackendError:
        """What came is cut short or broken: another route may do better."""
        english, chinese = MESSAGES[BackendProtocolError]
        return BackendProtocolError(
            english, chinese=chinese, backend=self.backend, detail=self._said(detail), retryable=True
        )

    def _said(self, text: str) -> str:
        return Censor(self.secrets)(text)[:_SAID_CHARS] or "nothing was said"


def _hint(status: int, headers: Mapping[str, str], said: str) -> str:
    """What the operator of the gateway should look at."""
    if str(status) == UNAUTHORISED:
        means = next((meaning for words, meaning in _UNAUTHORIZED if words in said), _SOME_CREDENTIAL)
        return f"{means}: "
    if str(status) == SKEWED:
        date = headers.get("date", "")[:_SAID_CHARS]
        told = f" (its date is {date})" if date else ""
        return f"this machine's clock and iFlytek's differ by more than 300 s{told}; let NTP set it: "
    return ""


def _row_by_status(status: int) -> ErrorRow:
    if status == 429:
        verdict: Verdict = BackendBusy
    elif status in {408, 504}:
        verdict = BackendTimeout
    elif status >= 500:
        verdict = BackendUnavailable
    else:
        verdict = BackendMisconfigured
    return ErrorRow(str(status), verdict, *MESSAGES[verdict])


def _message_in(body: bytes) -> str:
    """What a body says: its JSON's message, or itself."""
    try:
        value = msgspec.json.decode(body)
    except _JSON_FAULTS:
        value = None
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else body.decode("utf-8", "replace")
