"""Histories cut to fit. Tried on the pure function: what must hold for every conversation needs many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.base import Capabilities
from app.config.catalog import Model
from app.core.types import ChatRequest, Image, ImagePart, Message, Role, TextPart, ToolCall
from app.gateway.estimates import Prompt, cautious, within_context
from app.gateway.history import trimmed, turns_of

FAMILY = "spark-general"
NOTE = "oldest turn(s) dropped"


def image(name: str) -> ImagePart:
    return ImagePart(Image(b"", "image/png", 64, 48, name))


def said(role: Role, text: str, *pictures: str) -> Message:
    return Message(role, (*map(image, pictures), TextPart(text)))


def cut(room: int, *messages: Message, wish: int | None = 1) -> tuple[tuple[Message, ...], list[str]]:
    """Trimmed to `room` tokens for the prompt; of fewer than 3 none would be kept for the answer."""
    request = ChatRequest("m", messages, max_output_tokens=wish)
    shorter, notices = trimmed(request, Capabilities(conversation_tokens=room + (wish or 0)), FAMILY)
    return shorter.messages, notices


def pictures_of(messages: tuple[Message, ...]) -> list[str]:
    return [part.fitted.sha256 for message in messages for part in message.images]


WORDS = st.text("长a ", max_size=60)
PICTURES = st.lists(st.sampled_from("pqr"), max_size=2)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns of user, answer and now and then tool talk; system text anywhere."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(said("system", draw(WORDS)))
    if draw(st.booleans()):
        messages.append(said("assistant", "welcome"))
    for _ in range(draw(st.integers(0, 6))):
        messages += [said("user", draw(WORDS), *draw(PICTURES)) for _ in range(draw(st.integers(1, 2)))]
        if draw(st.booleans()):
            messages.append(Message("assistant", tool_calls=(ToolCall("c", "look", draw(WORDS)),)))
            messages.append(said("tool", draw(WORDS)))
        if draw(st.integers(0, 5)) == 5:
            messages.append(said("system", draw(WORDS)))
        messages.append(said("assistant", draw(WORDS)))
    return (*messages, said("user", draw(WORDS), *draw(PICTURES)))


@given(conversations(), st.integers(3, 1500))
def test_what_is_left_fits_or_is_the_newest_turn_alone(messages: tuple[Message, ...], room: int) -> None:
    kept, notices = cut(room, *messages)
    left = {turn for turn in turns_of(kept) if turn is not None}
    assert cautious(Prompt.of(ChatRequest("m", kept)).tokens(FAMILY)) <= room or len(left) == 1
    assert (kept == messages) == (not notices)


@given(conversations(), st.integers(3, 1500))
def test_system_text_newest_turn_and_pictures_always_stay(messages: tuple[Message, ...], room: int) -> None:
    kept, _ = cut(room, *messages)
    assert [m.text for m in kept if m.role == "system"] == [m.text for m in messages if m.role == "system"]
    assert kept[-1].text == messages[-1].text
    assert pictures_of(kept) == pictures_of(messages)


@given(conversations(), st.integers(3, 1500))
def test_what_is_left_is_the_end_of_the_conversation_in_order(messages: tuple[Message, ...], room: int) -> None:
    kept = [(m.role, m.text, m.tool_calls) for m in cut(room, *messages)[0] if m.role != "system"]
    told = [(m.role, m.text, m.tool_calls) for m in messages if m.role != "system"]
    assert told[-len(kept) :] == kept
    if len(kept) < len(told):
        assert kept[0][0] == "user"
        assert told[-len(kept) - 1][0] == "assistant"  # no turn is torn


@given(conversations(), st.integers(3, 1500))
def test_no_more_goes_than_must(messages: tuple[Message, ...], room: int) -> None:
    _, notices = cut(room, *messages)
    if not notices:
        return
    dropped = int(notices[0].split()[0])
    turns = turns_of(messages)
    one_more = tuple(m for m, turn in zip(messages, turns, strict=True) if turn is None or turn >= dropped - 1)
    texts = Prompt.of(ChatRequest("m", one_more)).texts
    tokens = Prompt(texts, Prompt.of(ChatRequest("m", messages)).pictures).tokens(FAMILY)
    assert cautious(tokens) > room


def test_oldest_turns_go_first_with_their_answers() -> None:
    talk = [said("user", "甲" * 15), said("assistant", "a"), said("user", "乙" * 15), said("assistant", "b")]
    kept, notices = cut(25, *talk, said("user", "丙" * 15))
    assert [message.text for message in kept] == ["乙" * 15, "b", "丙" * 15]
    assert notices == [f"1 {NOTE}"]


def test_tool_talk_goes_with_its_turn() -> None:
    call = Message("assistant", tool_calls=(ToolCall("c", "look", "{}"),))
    talk = [said("user", "甲" * 15), call, said("tool", "r"), said("assistant", "a"), said("user", "b")]
    kept, notices = cut(10, *talk)
    assert [message.role for message in kept] == ["user"]
    assert notices == [f"1 {NOTE}"]


def test_tool_calls_of_the_history_are_counted() -> None:
    long_call = Message("assistant", tool_calls=(ToolCall("c", "look", "长" * 300),))
    _, notices = cut(100, said("user", "a"), long_call, said("tool", "r"), said("user", "b"))
    assert notices == [f"1 {NOTE}"]


def test_a_picture_moves_to_the_oldest_turn_that_stays() -> None:
    talk = [said("user", "甲" * 300, "p"), said("assistant", "a"), said("user", "b", "q")]
    kept, _ = cut(700, *talk)
    assert len(kept) == 1
    assert pictures_of(kept) == ["p", "q"]
    assert kept[0].parts[-1] == TextPart("b")


def test_a_route_that_names_no_bound_gets_all() -> None:
    request = ChatRequest("m", (said("user", "长" * 99_999), said("assistant", "a"), said("user", "b")))
    assert trimmed(request, Capabilities(), FAMILY) == (request, [])


@pytest.mark.parametrize(
    ("wish", "usual", "stays"),
    [
        (None, 10, True),  # the backend's usual length is little
        (None, None, False),  # nobody says how long: a quarter is kept
        (5, None, True),
        (999, 10, False),  # who asks for more than a quarter gets a quarter
    ],
)
def test_room_is_kept_for_the_answer(wish: int | None, usual: int | None, stays: bool) -> None:
    talk = (said("user", "甲" * 30), said("assistant", "a" * 40), said("user", "乙" * 45))
    able = Capabilities(conversation_tokens=76, default_output_tokens=usual)  # 67 tokens, cautiously; a quarter is 19
    _, notices = trimmed(ChatRequest("m", talk, max_output_tokens=wish), able, FAMILY)
    assert (notices == []) == stays


def model(context: int | None) -> Model:
    return Model("m", "m", (), None, context_tokens=context, image_tokens=FAMILY)


@pytest.mark.parametrize(
    ("wish", "context", "able", "cut_to"),
    [
        (5000, None, Capabilities(), 5000),
        (None, 2000, Capabilities(), None),
        (5000, 2000, Capabilities(), 1900),
        (5000, None, Capabilities(conversation_tokens=2000), 1890),
        (5000, 1500, Capabilities(conversation_tokens=2000), 1400),
        (5000, 2000, Capabilities(conversation_tokens=1500), 1390),
        (300, 2000, Capabilities(conversation_tokens=1500), 300),
        (5000, 100, Capabilities(), 256),  # a little room is always asked for
        (None, None, Capabilities(conversation_tokens=1000, default_output_tokens=2048), 890),
        (None, None, Capabilities(conversation_tokens=8192, default_output_tokens=2048), None),
        (None, None, Capabilities(conversation_tokens=1000), None),
    ],
)
def test_a_wish_for_length_is_cut_to_the_tighter_room(
    wish: int | None, context: int | None, able: Capabilities, cut_to: int | None
) -> None:
    request = ChatRequest("m", (said("user", "长" * 150),), max_output_tokens=wish)  # 100 tokens, 110 cautiously
    assert within_context(request, model(context), able).max_output_tokens == cut_to


@pytest.mark.parametrize("text", ["图里的总金额是多少？" * 30, "The quick brown fox jumps over the lazy dog. " * 30])
def test_the_estimate_is_not_below_what_spark_says_of_its_tokens(text: str) -> None:
    """1.5 Chinese characters or 0.8 English words a token: its documentation."""
    vendors = len(text) / 1.5 if " " not in text else len(text.split()) / 0.8
    assert vendors <= cautious(Prompt((text,), ()).tokens(FAMILY)) <= 1.2 * vendors
