"""Every error a caller can be told of.

    GatewayError                      str(error) is safe for the caller
    ├─ RequestError(param)            the caller's to fix
    │   ├─ InvalidRequest 400 ─ ImageRejected 400 · UnsupportedFeature 400
    │   ├─ AuthenticationFailed 401 · PermissionDenied 403 · ModelNotFound 404 · MethodNotAllowed 405
    │   ├─ RequestTooSlow 408 · IdempotencyConflict 409(retry_after_s)
    │   ├─ PayloadTooLarge 413 · UnsupportedMediaType 415
    │   └─ RateLimited 429(retry_after_s) · QuotaExceeded 429
    ├─ BackendError(backend, backend_code, detail)      detail goes to logs only; ↻ another route may be tried
    │   ├─ BackendUnavailable 503 ↻ · BackendTimeout 504 ↻ · BackendBusy 429 ↻(retry_after_s) ─ NoRoom 429 ↻
    │   ├─ BackendUsedUp 429 ↻
    │   ├─ BackendProtocolError 502 (↻ if cut short, empty or HTML; not if oversized or redirected)
    │   └─ BackendRefused 400 ─ ContextTooLong 400 · ContentFiltered 400     BackendMisconfigured 502
    └─ InternalError 500 ─ RecordsUnavailable 503 · GatewayStopping 503(retry after 1 s)

Raised once, where the cause is known; mapped to HTTP once, in `app/api/errors.py`. The statuses above are that table's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["en", "zh"]


def shown(text: str, max_chars: int = 100) -> str:
    """What a caller wrote, fit to be repeated in a message: one line, of bounded length."""
    return "".join(ch if ch.isprintable() else "?" for ch in text[:max_chars])


class GatewayError(Exception):
    """Base of all. `str(error)` is one line, safe for the caller: no vendor text, address, key or trace.

    Args:
        code: OpenAI's `error.code` where the class's default is too coarse.
        chinese: the same line in Chinese; empty where there is none.
    """

    code: str | None = None

    def __init__(self, message: str, *, code: str | None = None, chinese: str = "") -> None:
        super().__init__(message)
        self.chinese = chinese
        if code is not None:
            self.code = code

    def said_in(self, language: Language) -> str:
        """The line in a language, in English where there is no other."""
        return self.chinese if language == "zh" and self.chinese else str(self)


class RequestError(GatewayError):
    """The caller's to fix.

    Args:
        param: the path of the field at fault, as `messages[0].content[1].text`.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, chinese: str = "") -> None:
        super().__init__(message, code=code, chinese=chinese)
        self.param = param


class InvalidRequest(RequestError):
    """The request says something that cannot be meant."""


class ImageRejected(InvalidRequest):
    """A picture is broken, too large, of a kind we do not take, or could not be fetched."""

    code = "invalid_image"


class UnsupportedFeature(InvalidRequest):
    """The request is sound, but no backend of this model can do it."""

    code = "unsupported_feature"


class AuthenticationFailed(RequestError):
    """No key, or not one of ours."""

    code = "invalid_api_key"


class PermissionDenied(RequestError):
    """The key is ours but may not do this."""

    code = "permission_denied"


class ModelNotFound(RequestError):
    """No model of this name is configured."""

    code = "model_not_found"


class MethodNotAllowed(RequestError):
    """The path exists, the method does not."""

    code = "method_not_allowed"


class PathNotFound(RequestError):
    """Nothing is served at this path."""

    code = "not_found"


class RequestTooSlow(RequestError):
    """The request took too long to arrive."""

    code = "request_timeout"


class IdempotencyConflict(RequestError):
    """Another request with this Idempotency-Key was, or is being, answered.

    Args:
        retry_after_s: when asking again makes sense; `None`: never.
    """

    code = "idempotency_conflict"

    def __init__(
        self, message: str, *, retry_after_s: float | None = 1.0, code: str | None = None, chinese: str = ""
    ) -> None:
        super().__init__(message, code=code, chinese=chinese)
        self.retry_after_s = retry_after_s


class PayloadTooLarge(RequestError):
    """The body is over the bound."""

    code = "request_too_large"


class UnsupportedMediaType(RequestError):
    """The body is in a form we do not read."""

    code = "unsupported_media_type"


class RateLimited(RequestError):
    """The caller asks faster than its key, or this machine, may.

    Args:
        retry_after_s: when asking again makes sense.
        rates: how full the key's limits are, as `x-ratelimit-*` headers.
    """

    code = "rate_limit_exceeded"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        rates: Mapping[str, str] | None = None,
        code: str | None = None,
        chinese: str = "",
    ) -> None:
        super().__init__(message, code=code, chinese=chinese)
        self.retry_after_s = retry_after_s
        self.rates = rates or {}


class QuotaExceeded(RequestError):
    """The key's balance does not carry the request."""

    code = "insufficient_quota"


class BackendError(GatewayError):
    """A backend failed.

    Args:
        backend: its name in the catalogue; for logs and the ledger.
        backend_code: the vendor's own code, for logs.
        detail: what the vendor said; for logs only, never for callers.
        retryable: whether the call may be repeated, here or elsewhere; the class's default where `None`.
        spent: whether the backend may have billed us for it all the same; the class's default where `None`.

    Attributes:
        retry_after_s: what it asked us to wait; `None` where it did not say.
    """

    retryable: bool = False
    spent: bool = False
    retry_after_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        backend_code: str | None = None,
        detail: str = "",
        retryable: bool | None = None,
        spent: bool | None = None,
        code: str | None = None,
        chinese: str = "",
    ) -> None:
        super().__init__(message, code=code, chinese=chinese)
        self.backend = backend
        self.backend_code = backend_code
        self.detail = detail
        if retryable is not None:
            self.retryable = retryable
        if spent is not None:
            self.spent = spent


class BackendUnavailable(BackendError):
    """It could not be reached, or said that it cannot serve now."""

    code = "backend_unavailable"
    retryable = True


class BackendTimeout(BackendError):
    """It did not answer in time, or stopped answering."""

    code = "backend_timeout"
    retryable = True
    spent = True


class BackendBusy(BackendError):
    """It said: too many requests."""

    code = "rate_limit_exceeded"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        backend_code: str | None = None,
        detail: str = "",
        retry_after_s: float | None = None,
        chinese: str = "",
    ) -> None:
        super().__init__(message, backend=backend, backend_code=backend_code, detail=detail, chinese=chinese)
        self.retry_after_s = retry_after_s


class NoRoom(BackendBusy):
    """Our own queue before it is full, or too slow for the time that is left: it was not asked."""


class BackendUsedUp(BackendError):
    """What we bought there is used up for the day or for good: another route may serve, waiting does not help."""

    code = "insufficient_quota"
    retryable = True


class BackendProtocolError(BackendError):
    """It answered something that is no answer: cut short, empty, HTML, broken JSON, oversized, redirected."""

    code = "backend_protocol_error"
    spent = True


class BackendMisconfigured(BackendError):
    """Our credentials or configuration are wrong; never the caller's fault."""

    code = "backend_misconfigured"


class BackendRefused(BackendError):
    """It read the request and refused it; asking elsewhere or again would not help."""

    code = "backend_refused"


class ContextTooLong(BackendRefused):
    """The conversation is longer than the model takes."""

    code = "context_length_exceeded"


class ContentFiltered(BackendRefused):
    """The vendor's content check refused the request."""

    code = "content_filter"


class InternalError(GatewayError):
    """Our own fault."""

    code = "internal_error"


_AWAY = "The gateway cannot reach its records at the moment. Try again shortly."
_AWAY_CHINESE = "网关暂时无法访问其账目数据库，请稍后重试。"


class RecordsUnavailable(InternalError):
    """Keys and ledger cannot be reached: nothing is answered that could not be booked.

    Args:
        detail: what the database said; for logs only.
        unsure: whether what was to be written may have been written all the same.
    """

    code = "records_unavailable"

    def __init__(
        self,
        message: str = _AWAY,
        *,
        detail: str = "",
        unsure: bool = False,
        code: str | None = None,
        chinese: str = "",
    ) -> None:
        super().__init__(message, code=code, chinese=chinese or (_AWAY_CHINESE if message is _AWAY else ""))
        self.detail = detail
        self.unsure = unsure


_STOPPING = "The gateway is being restarted and could not finish this answer. Ask again."
_STOPPING_CHINESE = "网关正在重启，未能完成此次回答，请重试。"


class GatewayStopping(InternalError):
    """This process ends, and its time for answers is up; another, or its successor, can be asked."""

    code = "gateway_stopping"

    def __init__(self, message: str = _STOPPING, *, code: str | None = None, chinese: str = "") -> None:
        super().__init__(message, code=code, chinese=chinese or (_STOPPING_CHINESE if message is _STOPPING else ""))
