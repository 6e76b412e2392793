"""What `--raw` shows of what goes over the wire."""

from __future__ import annotations

import pytest

from app.commands.raw import ShowingTransport, summary
from app.core.types import Call, HttpCall, Image, LocalCall, WsCall
from app.transports.http import HttpTransport
from tests.fakes import openai
from tests.fakes.http import Reply
from tests.fakes.upstream import Upstream

IMAGE = Image(data=b"", media_type="image/png", width_px=1, height_px=1, sha256="")


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            HttpCall("POST", "https://me:secret@vendor.example:8443/x?sign=secret#secret", {"k": "secret"}, b"secret"),
            "POST https://vendor.example:8443/x",
        ),
        (
            WsCall("wss://vendor.example/v2.1/image?authorization=secret", (b"secret",)),
            "WS wss://vendor.example/v2.1/image",
        ),
        (LocalCall("ocr", (IMAGE, IMAGE)), "LOCAL ocr, 2 picture(s)"),
    ],
)
def test_summary_of_a_call_holds_no_secret(call: Call, line: str) -> None:
    assert summary(call) == line


async def test_frames_pass_unchanged_and_are_shown_one_to_a_line_without_our_keys() -> None:
    lines: list[str] = []
    calls: list[str] = []
    wire = b'event: note\ndata: {"a":\ndata: 1}\n\ndata: {"b": 2, "key": "k-1234"}\n\n'
    async with Upstream() as upstream:
        upstream.answer(Reply(200, openai.SSE, [wire]))
        transport = ShowingTransport(HttpTransport(), lines.append, calls.append, secrets_of={"fake": ["k-1234"]}.get)
        call = HttpCall("POST", f"{upstream.url}/v1", {}, b"{}")
        async with transport.open(call, backend="fake", connect_s=5) as reply:
            frames = [frame.data async for batch in reply.frames() for frame in batch]
        await transport.aclose()
    assert frames == [b'{"a":\n1}', b'{"b": 2, "key": "k-1234"}']
    assert calls == [f"POST {upstream.url}/v1"]
    assert lines == ['note: {"a": 1}', '{"b": 2, "key": "***"}']
