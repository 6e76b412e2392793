"""Decodes CCAI's answers, streamed and whole, into events.

Each event holds the whole text so far; the last one says why it ended and what it took. There is no `[DONE]`. An event
that does not continue the text so far is taken for a piece of it: the page does not say which it is, and the vendor's
samples and the tests of other clients differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from app.backends.ccai_errors import Complaint, ErrorReader, complaint_in, object_in
from app.core.events import Event, Finish, FinishReason, TextDelta, UsageReport
from app.core.types import Frame

_MAX_TEXT_CHARS = 2**20
_MAX_TOKENS = 2**31
_UNFINISHED_CHARACTER = "\ufffd"
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Reply(msgspec.Struct, rename="camel"):
    """One event, or a whole answer: the same members."""

    text: str | None = None
    finish_reason: str | None = None
    success: Any = None
    request_id: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    error_code: Any = None
    code: Any = None
    Code: Any = msgspec.field(default=None, name="Code")

    @property
    def complains(self) -> bool:
        return self.success is False or (self.success is not True and bool(self.error_code or self.code or self.Code))

    @property
    def usage(self) -> UsageReport | None:
        """What it took, where the numbers can be true: a prompt without tokens there is not."""
        counts = (self.input_tokens, self.output_tokens)
        if not all(type(count) is int and 0 <= count < _MAX_TOKENS for count in counts) or not self.input_tokens:
            return None
        return UsageReport(input_tokens=self.input_tokens, output_tokens=self.output_tokens)

    @property
    def finish(self) -> FinishReason | None:
        """`None` while it goes on, which may be null, absent or the word."""
        reason = (self.finish_reason or "null").lower()
        if reason == "null":
            return None
        return "length" if "length" in reason or "max_tokens" in reason else "stop"


_REPLY = msgspec.json.Decoder(_Reply)


class AnswerDecoder:
    """Decodes one answer, frame by frame.

    Args:
        streamed: whether a stream was asked for; else one text is whole, even if it does not say why it ended.
    """

    def __init__(self, errors: ErrorReader, *, streamed: bool) -> None:
        self.request_id: str | None = None
        self._errors = errors
        self._streamed = streamed
        self._said = ""
        self._frames = 0
        self._whole = False
        self._usage: UsageReport | None = None
        self._finish: FinishReason | None = None
        self._over = False

    def receive(self, frame: Frame) -> Iterable[Event]:
        """Decodes one frame.

        Raises:
            BackendError: it is an error, or no sense can be made of it.
        """
        if self._over or frame.data.strip() in (b"", b"[DONE]"):
            return ()
        reply = self._decoded(frame.data)
        self._frames += 1
        self._usage = reply.usage or self._usage
        self._finish = reply.finish or self._finish
        events: list[Event] = []
        if text := self._news(reply.text or "", last=reply.finish is not None):
            events.append(TextDelta(text))
        if self._finish is not None and reply.usage is not None:
            events.extend(self._end(self._finish))
        lone = self._frames == 1 and not frame.event  # a body has no event's name
        self._whole = lone and not self._streamed and reply.text is not None
        return events

    def receive_eof(self) -> Iterable[Event]:
        """Ends the answer.

        Raises:
            BackendProtocolError: it was cut short.
        """
        if self._over:
            return ()
        finish = self._finish or ("stop" if self._whole else None)
        if finish is None:
            raise self._errors.no_answer("the answer ended without a finish reason")
        return self._end(finish)

    def _decoded(self, data: bytes) -> _Reply:
        try:
            reply = _REPLY.decode(data)
        except _FAULTS as fault:
            raise self._errors.no_answer(f"not an answer: {fault}") from fault
        if isinstance(reply.request_id, str):
            self.request_id = reply.request_id
        if reply.complains:
            self._over = True
            complaint = complaint_in(object_in(data))
            raise self._errors.of_complaint(complaint if complaint.code else _nameless(complaint))
        return reply

    def _news(self, text: str, *, last: bool) -> str:
        """What an event adds. Its text is all that was said so far; one that does not begin with that is a piece.

        A character that is not whole yet is held back: the next event has it whole.
        """
        if not last:
            text = text.rstrip(_UNFINISHED_CHARACTER)
        if text.startswith(self._said):
            news = text[len(self._said) :]
            self._said = text
        else:
            news = text
            self._said += text
        if len(self._said) > _MAX_TEXT_CHARS:
            self._over = True
            raise self._errors.no_answer("the text is over the bound", retryable=False)
        return news

    def _end(self, reason: FinishReason) -> Iterable[Event]:
        self._over = True
        self._said = ""
        return (*([self._usage] if self._usage is not None else []), Finish(reason))


def _nameless(complaint: Complaint) -> Complaint:
    return Complaint("CCAI.InternalError", complaint.message or "success is false", complaint.request_id)
