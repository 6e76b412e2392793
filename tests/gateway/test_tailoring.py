"""A request cut to what a route takes. Tried on the pure function: its rules have many shapes and need no network."""

from __future__ import annotations

from typing import Any

from app.backends.base import Capabilities
from app.core.types import ChatRequest, ImagePart, ImageSource, Message, TextPart, ToolCall
from app.gateway.tailoring import retold, tailor

FUNCTION = {"type": "function", "function": {"name": "look"}}
RICH = Capabilities(
    system_role=True, tools=True, json_schema=True, json_object=True, max_images=9,
    knobs=frozenset({"temperature", "stop", "seed", "logprobs", "top_logprobs", "user"}), extra=frozenset({"top_k"}),
)  # fmt: skip
POOR = Capabilities(max_images=1)


def said(role: Any, text: str = "", *pictures: str, **fields: Any) -> Message:
    images = tuple(ImagePart(ImageSource(name, name)) for name in pictures)
    return Message(role, (*images, TextPart(text)) if text else images, **fields)


def cut(capabilities: Capabilities, *messages: Message, bound: int | None = None, **fields: Any) -> Any:
    request = ChatRequest("public", messages or (said("user", "hi"),), **fields)
    return tailor(request, capabilities, model="remote", max_output_tokens=bound)


def told(capabilities: Capabilities, *messages: Message) -> ChatRequest:
    return retold(ChatRequest("remote", messages), capabilities)


def pictures_of(request: ChatRequest) -> list[list[str]]:
    return [[part.image.url for part in message.images] for message in request.messages]  # type: ignore[misc]  # all are sources


def test_request_that_fits_is_only_renamed() -> None:
    request, notices = cut(RICH, temperature=0.5, stop=("x",), tools=(FUNCTION,), user="u")
    assert notices == []
    assert (request.model, request.temperature, request.stop, request.user) == ("remote", 0.5, ("x",), "u")


def test_knobs_the_route_lacks_are_dropped_and_named_once_each() -> None:
    request, notices = cut(POOR, temperature=0.5, top_p=0.1, seed=0, logprobs=True, logit_bias={"1": 1.0}, user="u")
    assert (request.temperature, request.top_p, request.seed, request.logprobs, request.user) == (None,) * 3 + (
        False,
        None,
    )
    assert notices == ["temperature dropped", "top_p dropped", "seed dropped", "logit_bias dropped", "logprobs dropped"]


def test_only_allowed_extra_fields_pass() -> None:
    request, _ = cut(RICH, extra={"top_k": 5, "api_base": "http://evil"})
    assert request.extra == {"top_k": 5}


def test_wish_for_length_is_cut_to_the_tighter_bound() -> None:
    assert cut(RICH, max_output_tokens=9000, bound=4096)[0].max_output_tokens == 4096
    tight = Capabilities(max_output_tokens=100)
    assert cut(tight, max_output_tokens=9000, bound=4096)[0].max_output_tokens == 100
    assert cut(RICH, max_output_tokens=50, bound=4096)[0].max_output_tokens == 50
    assert cut(RICH, bound=4096)[0].max_output_tokens is None


def test_offered_tools_are_dropped_where_the_route_has_none() -> None:
    request, notices = cut(POOR, tools=(FUNCTION,), tool_choice="auto", parallel_tool_calls=True)
    assert (request.tools, request.tool_choice, request.parallel_tool_calls) == ((), None, None)
    assert notices == ["tools dropped"]


def test_tools_that_are_no_functions_are_dropped_alone() -> None:
    request, notices = cut(RICH, tools=(FUNCTION, {"type": "web_search"}), tool_choice="auto")
    assert request.tools == (FUNCTION,)
    assert request.tool_choice == "auto"
    assert notices == ["tools that are no functions dropped"]


def test_choice_without_tools_goes() -> None:
    assert cut(RICH, tool_choice="none", parallel_tool_calls=False)[0].tool_choice is None


def test_response_format_is_dropped_where_the_route_cannot_hold_it() -> None:
    wanted = {"type": "json_object"}
    assert cut(RICH, response_format=wanted)[0].response_format == wanted
    assert cut(RICH, response_format={"type": "json_schema"})[1] == []
    request, notices = cut(POOR, response_format=wanted)
    assert request.response_format is None
    assert notices == ["response_format dropped"]


def test_unknown_response_format_is_the_backends_to_judge() -> None:
    assert cut(POOR, response_format={"type": "text"})[0].response_format == {"type": "text"}


def test_tool_talk_of_the_history_becomes_text_for_a_route_without_tools() -> None:
    call = ToolCall("c1", "look", '{"at":"cat"}')
    request = told(
        Capabilities(system_role=True),
        said("user", "go"),
        said("assistant", tool_calls=(call,)),
        said("tool", "a cat", tool_call_id="c1"),
    )
    assert [(message.role, message.text) for message in request.messages] == [
        ("user", "go"),
        ("assistant", '[tool call] look({"at":"cat"})'),
        ("user", "[tool result] a cat"),
    ]
    assert not any(message.tool_calls for message in request.messages)


def test_system_text_is_folded_into_the_first_user_text() -> None:
    request = told(POOR, said("system", "be brief"), said("system", "in Chinese"), said("user", "hi", "a.png"))
    assert [message.role for message in request.messages] == ["user"]
    assert request.messages[0].text == "be brief\nin Chinese\nhi"
    assert pictures_of(request) == [["a.png"]]


def test_system_text_alone_becomes_the_question() -> None:
    request = told(POOR, said("system", "say hi"))
    assert [(message.role, message.text) for message in request.messages] == [("user", "say hi")]


def test_roles_the_route_knows_are_left_alone() -> None:
    messages = (said("system", "be brief"), said("user", "go"), said("tool", "a cat", tool_call_id="c1"))
    assert told(RICH, *messages).messages == messages


def test_system_text_waits_to_be_folded_until_the_history_is_trimmed() -> None:
    request, _ = cut(POOR, said("system", "be brief"), said("user", "hi"), said("tool", "a cat", tool_call_id="c1"))
    assert [message.role for message in request.messages] == ["system", "user", "tool"]


def test_empty_system_messages_go_and_empty_user_messages_stay() -> None:
    request, _ = cut(RICH, said("system"), said("user"))
    assert [message.role for message in request.messages] == ["user"]


def test_pictures_of_older_turns_go_first_oldest_before_newer() -> None:
    talk = [
        said("user", "one", "1.png", "2.png"),
        said("assistant", "ok"),
        said("user", "two", "3.png"),
        said("assistant", "ok"),
        said("user", "three", "4.png"),
    ]
    request, notices = cut(Capabilities(max_images=3), *talk)
    assert pictures_of(request) == [["2.png"], [], ["3.png"], [], ["4.png"]]
    assert notices == ["1 picture(s) of older turns dropped"]


def test_engine_that_reads_the_newest_turn_gets_no_others_and_no_notice() -> None:
    engine = Capabilities(max_images=9, newest_turn_only=True)
    request, notices = cut(engine, said("user", "a", "1.png"), said("assistant", "x"), said("user", "b", "2.png"))
    assert pictures_of(request) == [[], [], ["2.png"]]
    assert notices == []
