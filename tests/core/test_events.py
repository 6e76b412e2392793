from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BackendUnavailable, InternalError
from app.core.events import (
    AnswerFold,
    Event,
    Failure,
    Finish,
    OcrRegion,
    OcrRegions,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    collect,
)
from app.core.types import ToolCall

REGION = OcrRegion("行", ((0.0, 0.0), (9.0, 0.0), (9.0, 3.0), (0.0, 3.0)), 0.98)

deltas = st.one_of(
    st.builds(TextDelta, st.text(max_size=5)),
    st.builds(ReasoningDelta, st.text(max_size=5)),
    st.builds(
        ToolCallDelta, st.integers(0, 3), st.none() | st.text(max_size=3), st.none() | st.text(max_size=3), st.text()
    ),
    st.builds(OcrRegions, st.integers(0, 3), st.just((REGION,))),
    st.builds(UsageReport, st.integers(0, 9), st.integers(0, 9)),
)
finishes = st.builds(Finish, st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
terminals = finishes | st.just(Failure(BackendUnavailable("gone")))


def test_a_whole_answer_is_the_folded_stream() -> None:
    answer = collect(
        [
            ReasoningDelta("想"),
            TextDelta("一只"),
            UsageReport(1, 1),
            ToolCallDelta(1, "b", "crop", "{}"),
            ToolCallDelta(0, "a", "zoom", '{"x"'),
            TextDelta("猫"),
            ToolCallDelta(0, None, None, ":1}"),
            OcrRegions(0, (REGION,)),
            UsageReport(120, 3),
            Finish("tool_calls"),
        ]
    )
    assert answer.text == "一只猫"
    assert answer.reasoning == "想"
    assert answer.tool_calls == (ToolCall("a", "zoom", '{"x":1}'), ToolCall("b", "crop", "{}"))
    assert answer.regions == (OcrRegions(0, (REGION,)),)
    assert answer.usage == UsageReport(120, 3)
    assert answer.finish_reason == "tool_calls"


def test_an_empty_answer_is_an_answer() -> None:
    answer = collect([Finish("stop")])
    assert (answer.text, answer.tool_calls, answer.usage) == ("", (), None)


def test_a_failure_is_raised_as_it_came() -> None:
    error = BackendUnavailable("gone")
    with pytest.raises(BackendUnavailable) as caught:
        collect([TextDelta("一"), Failure(error)])
    assert caught.value is error


def test_an_answer_without_an_end_is_our_fault() -> None:
    with pytest.raises(InternalError, match="without a finish"):
        collect([TextDelta("一")])


@pytest.mark.parametrize("late", [TextDelta("x"), Finish("stop"), Failure(BackendUnavailable("gone"))])
def test_nothing_may_follow_the_end(late: Event) -> None:
    fold = AnswerFold()
    fold.add(Finish("stop"))
    with pytest.raises(InternalError, match="after the end"):
        fold.add(late)


@given(st.lists(deltas, max_size=12), finishes)
def test_every_sentence_of_the_grammar_folds(events: list[Event], end: Finish) -> None:
    answer = collect([*events, end])
    assert answer.text == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert answer.reasoning == "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert len(answer.tool_calls) == len({call.index for call in calls})
    assert sum(len(call.arguments) for call in answer.tool_calls) == sum(len(call.arguments) for call in calls)
    reports = [event for event in events if isinstance(event, UsageReport)]
    assert answer.usage == (reports[-1] if reports else None)


@given(st.lists(deltas, max_size=4), terminals, st.lists(deltas | terminals, min_size=1, max_size=3))
def test_no_sentence_outside_the_grammar_folds(before: list[Event], end: Event, after: list[Event]) -> None:
    with pytest.raises((InternalError, BackendUnavailable)):
        collect([*before, end, *after])
    with pytest.raises(InternalError):
        collect(before)
