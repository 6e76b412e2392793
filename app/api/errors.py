"""Errors become HTTP here and nowhere else: one table, walked by a test for completeness.

The body is OpenAI's error object: `{"error": {"message", "type", "param", "code"}}`, all four always there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.language import language_for
from app.core import errors

_TABLE: dict[type[errors.GatewayError], tuple[int, str]] = {
    # class: HTTP status, OpenAI's error.type
    errors.InvalidRequest: (400, "invalid_request_error"),
    errors.ImageRejected: (400, "invalid_request_error"),
    errors.UnsupportedFeature: (400, "invalid_request_error"),
    errors.AuthenticationFailed: (401, "invalid_request_error"),
    errors.PermissionDenied: (403, "invalid_request_error"),
    errors.ModelNotFound: (404, "invalid_request_error"),
    errors.PathNotFound: (404, "invalid_request_error"),
    errors.MethodNotAllowed: (405, "invalid_request_error"),
    errors.RequestTooSlow: (408, "invalid_request_error"),
    errors.IdempotencyConflict: (409, "invalid_request_error"),
    errors.PayloadTooLarge: (413, "invalid_request_error"),
    errors.UnsupportedMediaType: (415, "invalid_request_error"),
    errors.RateLimited: (429, "rate_limit_error"),
    errors.QuotaExceeded: (429, "insufficient_quota"),
    errors.BackendRefused: (400, "invalid_request_error"),
    errors.ContextTooLong: (400, "invalid_request_error"),
    errors.ContentFiltered: (400, "invalid_request_error"),
    errors.BackendBusy: (429, "rate_limit_error"),
    errors.NoRoom: (429, "rate_limit_error"),
    errors.BackendUsedUp: (429, "insufficient_quota"),
    errors.BackendUnavailable: (503, "server_error"),
    errors.BackendTimeout: (504, "server_error"),
    errors.BackendProtocolError: (502, "server_error"),
    errors.BackendMisconfigured: (502, "server_error"),
    errors.InternalError: (500, "server_error"),
    errors.RecordsUnavailable: (503, "server_error"),
    errors.GatewayStopping: (503, "server_error"),
}
_LONGEST_RETRY_AFTER_S = 60
"""openai-node sleeps whatever it is told; nobody is told more than a minute."""

_HOPELESS = (errors.BackendMisconfigured, errors.BackendUsedUp, errors.InternalError, errors.QuotaExceeded)
"""Asking again changes nothing: SDKs are told not to."""

_PASSING = (errors.RecordsUnavailable, errors.GatewayStopping)
"""But here it does."""


def status_of(error: errors.GatewayError) -> int:
    """The HTTP status an error is answered with."""
    return _row(type(error))[0]


def answered_as(kind: type[errors.GatewayError]) -> tuple[int, str]:
    """The HTTP status and OpenAI's `error.type` of a class of errors."""
    return _row(kind)


def error_object(error: errors.GatewayError, language: errors.Language = "en") -> dict[str, Any]:
    """OpenAI's error object, its message in a language where the error knows it."""
    param = error.param if isinstance(error, errors.RequestError) else None
    message = error.said_in(language)
    return {"error": {"message": message, "type": _row(type(error))[1], "param": param, "code": error.code}}


def error_response(error: errors.GatewayError, language: errors.Language = "en") -> Response:
    """The whole answer."""
    said = "zh" if language == "zh" and error.chinese else "en"
    return Response(
        msgspec.json.encode(error_object(error, language)),
        status_code=status_of(error),
        media_type="application/json",
        headers={"content-language": said, "vary": "Accept-Language", **_headers(error)},
    )


def crash_response() -> Response:
    """The answer where we failed; the server drops the connection after it, and it says so beforehand."""
    answer = error_response(errors.InternalError("The gateway failed on this request; the operator's log says why."))
    answer.headers["connection"] = "close"
    return answer


def _row(error: type[errors.GatewayError]) -> tuple[int, str]:
    for kind in error.__mro__:
        if kind in _TABLE:
            return _TABLE[kind]
    return 500, "server_error"


def _wait_s(error: errors.GatewayError) -> float | None:
    """After what time asking again makes sense; `None` where that is not told."""
    match error:
        case errors.RateLimited() | errors.BackendBusy():
            return error.retry_after_s or 1.0
        case errors.BackendUnavailable() | errors.IdempotencyConflict():
            return error.retry_after_s
        case _:
            return None


def _headers(error: errors.GatewayError) -> dict[str, str]:
    headers: dict[str, str] = {}
    asked_s = _wait_s(error)
    hopeless = isinstance(error, errors.IdempotencyConflict) and asked_s is None
    if asked_s is not None:
        wait_s = min(max(asked_s, 1.0), _LONGEST_RETRY_AFTER_S)
        headers["retry-after"] = str(math.ceil(wait_s))
        headers["retry-after-ms"] = str(math.ceil(wait_s) * 1000)
    if isinstance(error, errors.RateLimited):
        headers |= error.rates
    spent = isinstance(error, errors.BackendError) and error.spent  # each repetition may be paid as well
    if isinstance(error, errors.GatewayStopping):
        headers["retry-after"] = "1"
    if hopeless or spent or (isinstance(error, _HOPELESS) and not isinstance(error, _PASSING)):
        headers["x-should-retry"] = "false"
    if isinstance(error, errors.AuthenticationFailed):
        headers["www-authenticate"] = "Bearer"
    return headers


def _from_http(error: HTTPException, path: str, method: str) -> errors.GatewayError:
    match error.status_code:
        case 404:
            return errors.PathNotFound(f"Nothing is served at {errors.shown(path)}; chat is at /v1/chat/completions.")
        case 405:
            return errors.MethodNotAllowed(f"{method[:16]} is not allowed here.")
        case 413:
            return errors.PayloadTooLarge("The body is too large.")
        case _:
            return errors.InvalidRequest("The request could not be read.")


def install(app: FastAPI) -> None:
    """Makes the app answer every error with an error object."""

    async def on_gateway_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, errors.GatewayError):  # pragma: no cover - registered for this class only
            raise error
        return error_response(error, language_for(request.scope))

    async def on_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):  # pragma: no cover - registered for this class only
            raise error
        answer = error_response(_from_http(error, request.url.path, request.method))
        _keep(answer, error.headers, "allow")
        return answer

    async def on_invalid(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):  # pragma: no cover - registered for this class only
            raise error
        first = error.errors()[0]
        param = errors.shown(".".join(str(step) for step in first["loc"][1:])) or None
        where = f"Invalid value for {param}" if param else "The request is not valid"
        words = errors.shown(f"{where}: {first['msg']}.", max_chars=300)
        return error_response(errors.InvalidRequest(words, param=param))

    async def on_anything(_: Request, __: Exception) -> Response:
        return crash_response()

    app.add_exception_handler(errors.GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_anything)


def _keep(answer: Response, headers: Mapping[str, str] | None, name: str) -> None:
    value = {key.lower(): text for key, text in (headers or {}).items()}.get(name)
    if value is not None:
        answer.headers[name] = value
