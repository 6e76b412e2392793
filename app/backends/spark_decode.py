"""Decodes Spark's frames into events.

Text is incremental, and the last frame may carry some; usage comes on the last. The end is `payload.choices.status` 2:
the header's status counts only where choices have none, for the vendor's own sample ends with 0 there. An error is a
frame without a payload, as the first or after text was given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from app.backends.openai_decode import read_usage
from app.backends.spark_refusals import ErrorReader
from app.core.errors import ContentFiltered
from app.core.events import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta
from app.core.types import Frame

_LAST = 2


class _FunctionCall(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Text(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    function_call: _FunctionCall | None = None


class _Choices(msgspec.Struct):
    status: int | None = None
    text: list[_Text] | None = None


class _Payload(msgspec.Struct):
    choices: _Choices | None = None
    usage: Any = None


class _Header(msgspec.Struct):
    code: int | str = 0
    message: Any = None
    sid: Any = None
    status: int | None = None


class _Reply(msgspec.Struct):
    """The few members that matter of a frame."""

    header: _Header
    payload: _Payload | None = None

    @property
    def is_last(self) -> bool:
        choices = self.payload.choices if self.payload is not None else None
        status = choices.status if choices is not None and choices.status is not None else self.header.status
        return status == _LAST


_REPLY = msgspec.json.Decoder(_Reply)
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class AnswerDecoder:
    """Decodes one answer, frame by frame.

    Args:
        errors: makes errors of what Spark complains about.
        call_id_prefix: of tool calls, which have no ids here.
    """

    def __init__(self, errors: ErrorReader, *, call_id_prefix: str) -> None:
        self.sid: str | None = None
        self._errors = errors
        self._call_id_prefix = call_id_prefix
        self._calls = 0
        self._answered = False
        self._over = False

    def receive(self, frame: Frame) -> Iterable[Event]:
        """Decodes one frame.

        Raises:
            BackendError: it is an error, or no sense can be made of it.
        """
        if self._over or not frame.data.strip():
            return ()
        try:
            reply = _REPLY.decode(frame.data)
        except _FAULTS as fault:
            raise self._errors.no_answer(f"not a frame: {fault}") from fault
        if isinstance(reply.header.sid, str):
            self.sid = reply.header.sid
        if reply.header.code not in (0, "0"):
            return self._complaint(reply.header)
        events = [*self._said(reply.payload)] if reply.payload is not None else []
        self._answered = self._answered or bool(events)
        if reply.is_last:
            events.extend(self._end(reply.payload))
        return events

    def receive_eof(self) -> Iterable[Event]:
        """Ends the answer.

        Raises:
            BackendProtocolError: it was cut short.
        """
        if not self._over:
            raise self._errors.no_answer("the answer was cut short: the connection ended before its last frame")
        return ()

    def _complaint(self, header: _Header) -> Iterable[Event]:
        """The error a frame tells; where the content check withholds the rest of an answer, that is its end."""
        self._over = True
        error = self._errors.of_code(str(header.code), header.message, self.sid)
        if self._answered and isinstance(error, ContentFiltered):
            return (Finish("content_filter"),)
        raise error

    def _said(self, payload: _Payload) -> Iterable[Event]:
        texts = (payload.choices.text if payload.choices is not None else None) or ()
        for text in texts:
            if text.reasoning_content:
                yield ReasoningDelta(text.reasoning_content)
            if text.content:
                yield TextDelta(text.content)
            if text.function_call is not None and text.function_call.name:
                yield self._call(text.function_call)

    def _call(self, call: _FunctionCall) -> ToolCallDelta:
        index = self._calls
        self._calls += 1
        arguments = call.arguments
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        return ToolCallDelta(index, f"{self._call_id_prefix}{index}", call.name, arguments or "")

    def _end(self, payload: _Payload | None) -> Iterable[Event]:
        self._over = True
        usage = payload.usage.get("text") if payload is not None and isinstance(payload.usage, dict) else None
        if (report := read_usage(usage)) is not None:
            yield report
        yield Finish("tool_calls" if self._calls else "stop")
