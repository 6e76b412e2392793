"""More bodies at once than there is memory for: the excess is told to come again, at once, and gets to read that."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from app.api.intake import FREE_BYTES
from tests.api.conftest import MODELS, UPSTREAM_KEY
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

ROOM = 1_000_000
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def _narrow(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = MODELS.format(url=_upstream.url, key=UPSTREAM_KEY)
    with serving(tmp_path_factory.mktemp("narrow"), models, intake_max_bytes=ROOM, heartbeat_s=60) as site:
        yield site


@pytest.fixture
def narrow(_narrow: Served, upstream: Upstream) -> Served:
    """A gateway with room for a megabyte of bodies."""
    return _narrow


def body(size: int, *, stream: bool = False) -> bytes:
    plain = json.dumps({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}).encode()
    return plain[:-1] + b',"skipped":"' + b"x" * (size - len(plain) - 14) + b'"}'


def head(served: Served, *lines: str) -> bytes:
    first = f"POST {CHAT} HTTP/1.1"
    return "\r\n".join((first, "Host: x", f"Authorization: Bearer {served.key}", *lines, "", "")).encode()


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), timeout=10)


def begun(served: Served) -> socket.socket:
    """A request whose body of nearly all the room is on its way."""
    connection = connected(served)
    connection.sendall(head(served, f"Content-Length: {ROOM - 1000}") + b"{")
    eventually(lambda: held(served) > 0)
    return connection


def eventually(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline_s


def held(served: Served) -> int:
    return reading(served, "tuwen_intake_bytes")


def reading(served: Served, name: str) -> int:
    text = served.client.get("/metrics", headers=served.headers).text
    return int(float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"{name} "))))


def answer_of(connection: socket.socket) -> tuple[bytes, bytes]:
    said = b""
    while b"\r\n\r\n" not in said or not said.endswith(b"}"):
        said += connection.recv(65536)
    header, _, rest = said.partition(b"\r\n\r\n")
    return header, rest


def test_excess_gets_429_before_it_has_sent_its_body(narrow: Served, upstream: Upstream) -> None:
    refused = reading(narrow, "tuwen_intake_refused_total")
    with begun(narrow), connected(narrow) as connection:
        connection.sendall(head(narrow, "Content-Length: 500000", "Accept-Language: zh"))
        header, said = answer_of(connection)
    assert header.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nretry-after: 1" in header
    error = json.loads(said)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "请在" in error["message"]
    assert upstream.requests == []
    assert reading(narrow, "tuwen_intake_refused_total") == refused + 1


@pytest.mark.parametrize("ending", ["Connection: close", "Connection: keep-alive"])
def test_who_reads_only_after_sending_all_gets_429_too(narrow: Served, ending: str) -> None:
    with begun(narrow), connected(narrow) as connection:
        connection.sendall(head(narrow, "Content-Length: 20000000", ending))
        for _ in range(200):
            connection.sendall(b"x" * 100_000)
        header, _ = answer_of(connection)
    assert header.startswith(b"HTTP/1.1 429 ")
    eventually(lambda: held(narrow) == 0)


def test_connection_goes_on_after_a_refusal(narrow: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    small = body(1000)
    with begun(narrow) as first, connected(narrow) as connection:
        connection.sendall(head(narrow, "Content-Length: 500000") + b"x" * 500_000)
        assert answer_of(connection)[0].startswith(b"HTTP/1.1 429 ")
        first.close()
        connection.sendall(head(narrow, f"Content-Length: {len(small)}") + small)
        assert answer_of(connection)[0].startswith(b"HTTP/1.1 200 ")


def test_body_of_unsaid_size_is_counted_as_it_comes(narrow: Served) -> None:
    with begun(narrow), connected(narrow) as connection:
        connection.sendall(head(narrow, "Transfer-Encoding: chunked"))
        for _ in range(4):
            connection.sendall(b"%x\r\n%b\r\n" % (FREE_BYTES, b"x" * FREE_BYTES))
        assert answer_of(connection)[0].startswith(b"HTTP/1.1 429 ")


def test_small_bodies_always_pass(narrow: Served, upstream: Upstream) -> None:
    upstream.answer(openai.answer("ok"))
    with begun(narrow):
        assert narrow.post(body(FREE_BYTES)).status_code == 200


def test_room_is_given_back_when_the_answer_begins(narrow: Served, upstream: Upstream) -> None:
    gate = Gate()
    upstream.answer(openai.stream("first", gate, "last"), openai.answer("ok"))
    large = body(ROOM - 1000, stream=True)
    with connected(narrow) as connection:
        connection.sendall(head(narrow, f"Content-Length: {len(large)}") + large)
        said = b""
        while b"first" not in said:
            said += connection.recv(65536)
        assert held(narrow) == 0
        assert narrow.post(body(ROOM - 1000)).status_code == 200
        gate.open()


@pytest.mark.parametrize("reply", [openai.answer("ok"), openai.error(400, code="x", message="no")])
def test_room_is_given_back_at_the_end(narrow: Served, upstream: Upstream, reply: object) -> None:
    upstream.answer(reply)  # type: ignore[arg-type]  # a reply
    narrow.post(body(ROOM - 1000))
    assert narrow.post(b"nonsense" * 20_000).status_code == 400
    assert held(narrow) == 0


def test_room_is_given_back_when_the_caller_leaves(narrow: Served) -> None:
    begun(narrow).close()
    eventually(lambda: held(narrow) == 0)


def test_served_plugin_and_bills_are_counted_too(narrow: Served) -> None:
    path = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/x/"
    access_token = narrow.key
    picture = json.dumps({"query": "?", "data": base64.b64encode(b"x" * 500_000).decode()}).encode()
    with begun(narrow):
        plugin = narrow.client.post(path, content=picture, headers={"authorization": f"Bearer {access_token}"})
        bill = narrow.client.post(
            "/admin/reconcile",
            params={"backend": "fake", "id_column": "a", "amount_column": "b"},
            content=b"a,b\n" + b"1,2\n" * 200_000,
            headers=narrow.headers,
        )
    assert plugin.json()["error_code"] == 18, plugin.text
    assert bill.status_code == 429, bill.text


def test_administrators_bodies_are_bounded(narrow: Served) -> None:
    answer = narrow.client.post("/admin/keys", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert "64 KiB" in answer.json()["error"]["message"]
