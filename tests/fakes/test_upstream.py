"""The scripted upstream is what every other test leans on, so it has tests of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.fakes import openai, qianfan
from tests.fakes.http import Cut, Gate, Received
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsReply, close, fragments, ping, together

CHAT = "/v1/chat/completions"
UPGRADE = {"upgrade": "websocket", "connection": "Upgrade", "sec-websocket-version": "13"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_answers_go_out_in_the_order_they_were_queued(client: aiohttp.ClientSession) -> None:
    async with Upstream() as up:
        up.answer(openai.answer("一"), qianfan.answer("二"))
        said = []
        for _ in range(2):
            async with client.post(up.url + CHAT, json={"stream": False}) as response:
                said.append((await response.json())["choices"][0]["message"]["content"])
        assert said == ["一", "二"]
        assert up.connections == 1
        assert [request.json for request in up.requests] == [{"stream": False}] * 2


async def test_a_gate_holds_the_stream_until_the_test_opens_it(client: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with Upstream() as up:
        up.answer(openai.stream("早", gate, "晚"))
        async with client.post(up.url + CHAT, json={}) as response:
            await gate.reached()
            before = await response.content.readuntil("早".encode())
            gate.open()
            after = await response.read()
        assert "晚".encode() not in before
        assert after.endswith(openai.DONE)


async def test_a_client_that_leaves_is_seen(client: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with Upstream() as up:
        up.answer(openai.stream("早", gate))
        async with client.post(up.url + CHAT, json={}) as response:
            await gate.reached()
            assert not up.requests[0].peer_closed
            response.close()
        await up.requests[0].closed()
        assert up.requests[0].peer_closed


@pytest.mark.parametrize("reset", [False, True])
async def test_a_cut_ends_the_connection_in_mid_answer(client: aiohttp.ClientSession, reset: bool) -> None:
    async with Upstream() as up:
        up.answer(openai.stream("早").split(7).until(Cut(reset)))
        with pytest.raises(aiohttp.ClientError):
            async with client.post(up.url + CHAT, json={}) as response:
                await response.read()


async def test_the_key_is_checked(client: aiohttp.ClientSession) -> None:
    async with Upstream(api_key="right") as up:
        up.answer(openai.answer("好"))
        for key, status in (("wrong", 401), ("right", 200)):
            headers = {"authorization": f"Bearer {key}"}
            async with client.post(up.url + CHAT, json={}, headers=headers) as response:
                assert response.status == status


async def test_a_request_nobody_scripted_fails_the_test(client: aiohttp.ClientSession) -> None:
    with pytest.raises(AssertionError, match="nobody scripted"):
        async with Upstream() as up, client.post(up.url + CHAT, json={}):
            pass


async def test_a_request_other_than_expected_fails_the_test(client: aiohttp.ClientSession) -> None:
    def asks_for_a_cat(request: Received) -> None:
        assert request.json["model"] == "cat"

    up = Upstream()
    up.answer(openai.answer("猫"), expect=asks_for_a_cat)
    with pytest.raises(AssertionError, match="POST /v1/chat/completions"):
        async with up, client.post(up.url + CHAT, json={"model": "dog"}):
            pass


async def test_pictures_arrive_decoded(client: aiohttp.ClientSession) -> None:
    urls = ["data:image/png;base64,QUJD", "REVG", "https://x.test/a.jpg"]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    async with Upstream() as up:
        up.otherwise(lambda request: openai.reply({"saw": len(request.pictures)}))
        async with client.post(up.url + CHAT, json={"messages": [{"content": parts}]}) as response:
            assert await response.json() == {"saw": 2}
        assert up.requests[0].pictures == [b"ABC", b"DEF"]


async def test_chunked_requests_are_read(client: aiohttp.ClientSession) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"a":'
        yield b"1}"

    async with Upstream() as up:
        up.answer(openai.answer("好"))
        async with client.post(up.url + CHAT, data=pieces()):
            pass
        assert up.requests[0].json == {"a": 1}


async def test_it_runs_beside_other_loops_in_a_thread(client: aiohttp.ClientSession) -> None:
    gate = Gate()
    with Upstream().in_thread() as up:
        up.answer(openai.stream("早", gate))
        async with client.post(up.url + CHAT, json={}) as response:
            gate.wait_reached()
            gate.open()
            body = await response.read()
        assert json.loads(body.split(b"\n")[0].removeprefix(b"data: "))["object"] == "chat.completion.chunk"
        assert len(up.wait_for_requests(1)) == 1


async def test_websocket_steps_go_out_once_the_message_is_there(client: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with Upstream() as up:
        up.answer(WsReply(["一", gate, fragments("二", "三", between=ping(b"?")), together("四", "五"), close(1001)]))
        async with client.ws_connect(up.ws_url + "/chat?a=b") as socket:
            await socket.send_str("问")
            assert await socket.receive_str() == "一"
            await gate.reached()
            gate.open()
            assert [await socket.receive_str() for _ in range(3)] == ["二三", "四", "五"]
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1001
        request = up.requests[0]
        await request.closed()
        assert (request.path, request.query, request.messages) == ("/chat", "a=b", ["问".encode()])
        assert (request.pongs, request.close_codes) == ([b"?"], [1000])


async def test_websocket_steps_may_be_made_from_what_came(client: aiohttp.ClientSession) -> None:
    async with Upstream() as up:
        up.otherwise(WsReply(lambda request: [f"{len(request.json)} things"]))
        async with client.ws_connect(up.ws_url) as socket:
            await socket.send_str("[1, 2]")
            assert await socket.receive_str() == "2 things"
        await up.requests[0].closed()
        assert up.requests[0].close_codes == [1000]


async def test_websocket_client_that_vanishes_is_seen(client: aiohttp.ClientSession) -> None:
    gate = Gate()
    async with Upstream() as up:
        up.answer(WsReply([gate], asks=0))
        response = await client.get(up.url, headers={**UPGRADE, "sec-websocket-key": "MDEyMzQ1Njc4OWFiY2RlZg=="})
        assert response.headers["sec-websocket-accept"] == "BACScCJPNqyz+UBoqMH89VmURoA="
        await gate.reached()
        assert not up.requests[0].peer_closed
        response.close()
        await up.requests[0].closed()
        assert up.requests[0].close_codes == []


@pytest.mark.parametrize(
    ("wire", "blame"),
    [
        (b"\x81\x01a", "must mask"),
        (b"\xc1\x81aaaaa", "reserved bits"),
        (b"\x82\x81aaaaa", "sends text, not frames of kind 2"),
        (b"\x81\x81\x00\x00\x00\x00\xff", "UnicodeDecodeError"),
    ],
)
async def test_wrong_framing_of_a_client_fails_the_test(wire: bytes, blame: str) -> None:
    async with Upstream() as up:
        up.answer(WsReply())
        reader, writer = await asyncio.open_connection("127.0.0.1", int(up.url.rpartition(":")[2]))
        head = {**UPGRADE, "sec-websocket-key": "MDEyMzQ1Njc4OWFiY2RlZg=="}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"GET / HTTP/1.1\r\n{lines}\r\n".encode() + wire)
        await reader.read()
        writer.close()
        with pytest.raises(AssertionError, match=blame):
            up.check()
        up.failures.clear()


async def test_message_other_than_expected_fails_the_test(client: aiohttp.ClientSession) -> None:
    def asks_for_a_cat(request: Received) -> None:
        assert request.messages == [b"cat"]

    async with Upstream() as up:
        up.answer(WsReply(["miaow"]), expect=asks_for_a_cat)
        async with client.ws_connect(up.ws_url + "/pets") as socket:
            await socket.send_str("dog")
            await socket.receive()
        with pytest.raises(AssertionError, match="GET /pets"):
            up.check()
        up.failures.clear()


@pytest.mark.parametrize("reset", [False, True])
async def test_websocket_may_be_cut(client: aiohttp.ClientSession, reset: bool) -> None:
    async with Upstream() as up:
        up.answer(WsReply(["半", Cut(reset)], asks=0))
        async with client.ws_connect(up.ws_url) as socket:
            assert await socket.receive_str() == "半"
            assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
            assert socket.close_code == 1006


async def test_websocket_may_be_refused(client: aiohttp.ClientSession) -> None:
    async with Upstream() as up:
        up.answer(openai.error(403, code="no", message="no"))
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect(up.ws_url)
        assert caught.value.status == 403
