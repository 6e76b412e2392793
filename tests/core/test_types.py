from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from app.core.types import ChatRequest, HttpCall, Image, ImagePart, ImageSource, Message, TextPart

IMAGE = Image(data=b"\xff\xd8", media_type="image/jpeg", width_px=1, height_px=1, sha256="0" * 64)
TOOL = {"type": "function", "function": {"name": "zoom"}}


def test_a_message_tells_its_text_from_its_pictures() -> None:
    message = Message("user", (TextPart("看"), ImagePart(IMAGE), TextPart("这里")))
    assert message.text == "看\n这里"
    assert message.images == (ImagePart(IMAGE),)


def test_a_picture_not_yet_fitted_is_not_handed_out() -> None:
    assert ImagePart(IMAGE).fitted is IMAGE
    with pytest.raises(TypeError, match="not fitted"):
        _ = ImagePart(ImageSource("https://x.test/a.jpg", "messages[0].content[0]")).fitted


@pytest.mark.parametrize(
    ("tools", "choice", "demanded"),
    [
        ((TOOL,), "required", True),
        ((TOOL,), {"type": "function", "function": {"name": "zoom"}}, True),
        ((TOOL,), "auto", False),
        ((TOOL,), None, False),
        ((), "required", False),
    ],
)
def test_a_tool_is_demanded_only_where_there_is_one(tools: Any, choice: Any, demanded: bool) -> None:
    assert ChatRequest("m", (), tools=tools, tool_choice=choice).demands_tool is demanded


@pytest.mark.parametrize(
    ("response_format", "demanded"), [({"type": "json_schema"}, True), ({"type": "json_object"}, False), (None, False)]
)
def test_a_schema_is_demanded_only_by_its_name(response_format: Any, demanded: bool) -> None:
    assert ChatRequest("m", (), response_format=response_format).demands_json_schema is demanded


def test_nothing_of_a_request_can_be_changed_in_place() -> None:
    request = ChatRequest("m", ())
    with pytest.raises(FrozenInstanceError):
        request.model = "n"  # type: ignore[misc]  # the mistake the test is about


def test_pictures_and_keys_stay_out_of_logs() -> None:
    assert "data" not in repr(IMAGE)
    assert "base64" not in repr(ImageSource("data:image/png;base64,AAAA", "messages[0]"))
    assert "secret" not in repr(HttpCall("POST", "http://x.test", {"authorization": "secret"}, b"secret"))
