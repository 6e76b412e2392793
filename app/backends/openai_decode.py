"""Decodes answers of OpenAI-compatible services, streamed and whole, into events.

Tolerates what their pages and issue trackers show (read 2026-11-20): `finish_reason: ""`, null or absent members, a
JSON body where a stream was asked for, tool calls without `index` or `id`, usage anywhere or nonsense, errors inside
an answer of status 200.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.backends.openai_errors import ErrorReader, find_complaint
from app.core.events import Event, Finish, FinishReason, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from app.core.types import Frame

FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "normal": "stop",  # Qianfan, older pages
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Zhipu
}
"""What is not named here, and is no breakdown either, counts as `stop`: the backend did say that it ended."""

BREAKDOWNS = frozenset({"network_error", "abort", "error"})
"""Finish reasons that mean the answer is not whole: Zhipu's, and those of vLLM and SGLang."""

_MAX_TOKENS = 2**31


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None  # some write an object where others write the text
    thinking: Any = None
    tool_calls: list[_Call] | _Call | None = None  # iFlytek: a single call, not in a list


class _Choice(msgspec.Struct):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    flag: Any = None


class _Chunk(msgspec.Struct):
    """The few members that matter, of a chunk or of a whole answer."""

    id: str | int | None = None
    sid: str | int | None = None  # iFlytek's, where there is no id
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    error_code: int | str | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)
_DONE = b"[DONE]"


class AnswerDecoder:
    """Decodes one answer, frame by frame.

    Args:
        errors: makes errors of what the backend complains about.
        call_id_prefix: of tool calls that came without an id.
        hidden_flags: values of a choice's `flag` after which nothing may be shown.
    """

    def __init__(self, errors: ErrorReader, *, call_id_prefix: str, hidden_flags: tuple[int, ...]) -> None:
        self.response_id: str | None = None
        self._errors = errors
        self._calls = _CallJoiner(call_id_prefix)
        self._hidden_flags = hidden_flags
        self._hidden = False
        self._answered = False
        self._finish: FinishReason | None = None
        self._over = False

    def receive(self, frame: Frame) -> Iterable[Event]:
        """Decodes one frame.

        Raises:
            BackendError: it is an error, or no sense can be made of it.
        """
        if self._over:
            return ()
        try:
            chunk = _CHUNK.decode(frame.data)
        except _FAULTS as fault:
            return self._receive_other(frame, fault)
        if self.response_id is None and (chunk.id is not None or chunk.sid is not None):
            self.response_id = str(chunk.id if chunk.id is not None else chunk.sid)
        if not chunk.choices or chunk.error_code or chunk.error:
            self._raise_complaint(frame)
        events: list[Event] = []
        if chunk.choices:
            self._receive_choice(chunk.choices[0], events)
        if chunk.usage and (usage := read_usage(chunk.usage)) is not None:
            events.append(usage)
        return events

    def receive_eof(self) -> Iterable[Event]:
        """Ends the answer.

        Raises:
            BackendProtocolError: it was cut short.
        """
        if self._over:
            return ()
        if self._finish is None:
            raise self._errors.no_answer("the answer ended without a finish reason")
        return self._end(self._finish)

    def _receive_other(self, frame: Frame, fault: Exception) -> Iterable[Event]:
        data = frame.data.strip()
        if data == _DONE:
            if self._finish is None and not self._answered:
                raise self._errors.no_answer("the answer is empty")
            return self._end(self._finish or "stop")
        if not data:
            return ()
        self._raise_complaint(frame)
        raise self._errors.no_answer(f"not a chunk: {fault}") from fault

    def _end(self, reason: FinishReason) -> Iterable[Event]:
        self._over = True
        if self._hidden:
            reason = "content_filter"
        elif self._calls.any and reason == "stop":
            reason = "tool_calls"
        return (Finish(reason),)

    def _raise_complaint(self, frame: Frame) -> None:
        """Raises the error in a frame if there is one; the slow way, off the path of good chunks."""
        try:
            value = msgspec.json.decode(frame.data)
        except _FAULTS:
            return
        complaint = find_complaint(value)
        if complaint is not None:
            self._over = True
            raise self._errors.of_complaint(complaint)

    def _receive_choice(self, choice: _Choice, events: list[Event]) -> None:
        if choice.flag and choice.flag in self._hidden_flags and not self._hidden:
            self._hidden, self._finish = True, "content_filter"
        said = choice.delta or choice.message
        if said is not None and not self._hidden:
            self._receive_said(said, events)
        if choice.finish_reason:
            self._receive_finish(choice.finish_reason)
        elif choice.delta is None and events:
            self._finish = "stop"  # a whole message is whole, even if its finish reason is null

    def _receive_said(self, said: _Said, events: list[Event]) -> None:
        thought = said.reasoning_content or said.reasoning or said.thinking
        if thought and isinstance(thought, str):
            events.append(ReasoningDelta(thought))
        if said.content:
            events.append(TextDelta(said.content))
        if said.tool_calls:
            events.extend(self._calls.join(said.tool_calls if isinstance(said.tool_calls, list) else [said.tool_calls]))
        self._answered = self._answered or bool(events)

    def _receive_finish(self, reason: str) -> None:
        if reason in BREAKDOWNS:
            self._over = True
            raise self._errors.unavailable(reason)
        self._finish = FINISH_REASONS.get(reason, "stop")


class _CallJoiner:
    """Gives each piece of a tool call its place, whatever the backend left out."""

    def __init__(self, id_prefix: str) -> None:
        self._id_prefix = id_prefix
        self._ids: dict[int, str | None] = {}
        self._named: set[int] = set()
        self._last = -1

    @property
    def any(self) -> bool:
        return bool(self._ids)

    def join(self, calls: list[_Call]) -> Iterable[ToolCallDelta]:
        return [self._join(call) for call in calls]

    def _join(self, call: _Call) -> ToolCallDelta:
        index = self._index_of(call)
        function = call.function or _Function()
        call_id = None
        if index not in self._ids:
            self._ids[index] = call.id
            call_id = call.id or f"{self._id_prefix}{index}"
        name = None
        if function.name and index not in self._named:
            self._named.add(index)
            name = function.name
        self._last = index
        return ToolCallDelta(index, call_id, name, _argument_text(function.arguments))

    def _index_of(self, call: _Call) -> int:
        """Its index; else that of its id; with neither, a name begins a call and anything else continues the last."""
        if call.index is not None:
            return call.index
        if call.id:
            known = (index for index, known_id in self._ids.items() if known_id == call.id)
            return next(known, self._last + 1)
        return self._last + 1 if call.function and call.function.name else max(self._last, 0)


def _argument_text(arguments: str | dict[str, Any] | None) -> str:
    if isinstance(arguments, dict):
        return msgspec.json.encode(arguments).decode()
    return arguments or ""


def read_usage(usage: Any) -> UsageReport | None:
    """The usage a backend reports; `None` where its numbers cannot be true, so that they are estimated instead."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not prompt or completion is None:  # no prompt is of no tokens
        return None
    return UsageReport(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=min(_count(usage.get("prompt_tokens_details"), "cached_tokens") or 0, prompt),
        reasoning_tokens=min(_count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0, completion),
    )


def _count(counts: Any, name: str) -> int | None:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if type(value) is int and 0 <= value < _MAX_TOKENS else None
