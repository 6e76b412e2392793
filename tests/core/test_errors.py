from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.core import errors
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendProtocolError,
    BackendUnavailable,
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    RateLimited,
    RequestError,
)


def below(parent: type[GatewayError]) -> Iterator[type[GatewayError]]:
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


@pytest.mark.parametrize("kind", sorted(below(GatewayError), key=str))
def test_every_error_says_its_sentence_and_may_be_given_a_finer_code(kind: type[GatewayError]) -> None:
    error = kind("Say what to do.")
    assert str(error) == "Say what to do."
    assert isinstance(error, RequestError | BackendError | errors.InternalError)
    if not issubclass(kind, BackendBusy):
        assert kind("x", code="finer").code == "finer"


def test_a_request_error_names_the_field_at_fault() -> None:
    assert InvalidRequest("Wrong.", param="messages[0].content").param == "messages[0].content"


def test_a_finer_code_is_the_instances_alone() -> None:
    assert RateLimited("Slow down.", code="tokens").code == "tokens"
    assert RateLimited("Slow down.").code == "rate_limit_exceeded"
    assert RateLimited("Slow down.", retry_after_s=3.5).retry_after_s == 3.5


def test_what_the_vendor_said_stays_out_of_the_sentence() -> None:
    error = BackendUnavailable("Try later.", backend="qwen", backend_code="500", detail="stack trace")
    assert str(error) == "Try later."
    assert (error.backend, error.backend_code, error.detail) == ("qwen", "500", "stack trace")


def test_the_class_says_whether_another_route_may_be_tried_unless_told_otherwise() -> None:
    assert BackendUnavailable("x").retryable
    assert not ContextTooLong("x").retryable
    assert not BackendProtocolError("x").retryable
    assert BackendProtocolError("x", retryable=True).retryable
    assert not BackendUnavailable("x", retryable=False).retryable


def test_a_busy_backend_may_say_how_long() -> None:
    assert BackendBusy("x", retry_after_s=2.0).retry_after_s == 2.0
    assert BackendBusy("x").retry_after_s is None
    assert BackendBusy("x").retryable
