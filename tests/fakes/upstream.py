"""One scripted upstream for every kind of backend.

    async with Upstream(api_key="k") as up:
        up.answer(openai.stream("一只", "猫"))            # the next request gets this; more calls queue more answers
        ...                                             # point a backend at f"{up.url}/v1"
        assert up.requests[0].json["stream"] is True    # what arrived: .headers .json .pictures .key .peer_closed

* `answer(reply, …, expect=…)` queues answers, given in order. `expect` is called with the request; what it raises fails
  the test when the upstream closes, and so does a request nobody scripted. `otherwise(reply)` answers the rest.
* A reply is built by `tests.fakes.openai`, `tests.fakes.qianfan`, or by hand: `Reply(status, headers, steps)`. A step
  is bytes (one write), a `Gate` (waits until the test opens it) or a `Cut` (ends the connection). No sleeps.
* A WebSocket is answered by `tests.fakes.spark`, or by hand: `WsReply(["a text message", gate, close(1000)])`, see
  `tests.fakes.websocket`; it is refused by a plain `Reply`. `up.ws_url` is its address; `request.messages` is what came
  after the handshake, and `expect` is called once it came.
* With `api_key` set, every request must carry it as a bearer token, else it gets 401.
* With `tls` set, it speaks TLS; `url` and `ws_url` say so.
* `with Upstream().in_thread() as up:` runs it beside a test that has no event loop or blocks it.
* `python -m tests.fakes.upstream --port 9000` answers every chat request by a few words, for trying things by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TypeAlias

from tests.fakes import openai
from tests.fakes.http import Cut, Gate, Received, Reply, Step, cut, head_of, read_request
from tests.fakes.websocket import Conversation, WsReply

__all__ = ["Cut", "Gate", "Received", "Reply", "Upstream", "WsReply"]

AnyReply: TypeAlias = Reply | WsReply
Answering: TypeAlias = AnyReply | Callable[[Received], AnyReply]
Expectation: TypeAlias = Callable[[Received], None]


class Upstream:
    """A scripted HTTP and WebSocket server on 127.0.0.1."""

    def __init__(self, *, api_key: str | None = None, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.failures: list[str] = []
        self._api_key = api_key
        self._port = port
        self._tls = tls
        self._script: deque[tuple[Answering, Expectation | None]] = deque()
        self._otherwise: Answering | None = None
        self._arrived = threading.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """As `http://127.0.0.1:40123`, without a slash at its end."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def ws_url(self) -> str:
        """The same for WebSockets, as `ws://127.0.0.1:40123`."""
        return "ws" + self.url.removeprefix("http")

    def answer(self, *replies: Answering, expect: Expectation | None = None) -> None:
        """Queues answers; each goes to one request, in order. A callable makes the reply from the request."""
        self._script.extend((reply, expect) for reply in replies)

    def otherwise(self, reply: Answering | None) -> None:
        """Answers every request that finds the queue empty; `None`: nobody is to ask any more."""
        self._otherwise = reply

    def forget(self) -> None:
        """Drops what arrived and what is queued, for the next test."""
        self.requests.clear()
        self._script.clear()

    def wait_for_requests(self, count: int, timeout_s: float = 5.0) -> list[Received]:
        """Blocks until `count` requests have arrived; from a thread other than the upstream's."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout_s):
                raise AssertionError(f"{len(self.requests)} requests arrived, not {count}")
        return self.requests

    async def arrival(self, count: int = 1) -> list[Received]:
        """The same without blocking the loop."""
        return await asyncio.to_thread(self.wait_for_requests, count)

    def check(self) -> None:
        """Fails if a request was not as expected, or nobody had scripted it."""
        if self.failures:
            raise AssertionError("; ".join(self.failures))

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=2**26, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        if kind is None:
            self.check()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:  # closed, but what was not taken of an answer keeps some of them open
            writer.transport.abort()
        await asyncio.sleep(0)  # the loop lets go of sockets in its next round
        await self._server.wait_closed()

    @contextmanager
    def in_thread(self) -> Iterator[Upstream]:
        """Runs it on an event loop of its own, in a thread, until the block ends."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="upstream", daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(self.__aenter__(), loop).result(5)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(), loop).result(5)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)
            loop.close()
        self.check()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Notes a connection at once: a task that has not begun cannot say that it is there."""
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._converse(reader, writer, self.connections)
        except (ConnectionError, ssl.SSLError, asyncio.CancelledError):
            pass  # the gateway left, or the test is over
        finally:
            writer.close()
            if not writer.transport.get_write_buffer_size():
                self._writers.discard(writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        first = b""
        while (request := await read_request(reader, first, connection)) is not None:
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            reply, expect = self._reply_to(request)
            if isinstance(reply, WsReply):
                await self._talk(Conversation(reader, writer, request), reply, expect)
                return
            watch = asyncio.ensure_future(_next_byte(reader, request))
            answering = asyncio.ensure_future(_answer(reply, writer))
            try:
                await asyncio.wait({answering, watch}, return_when=asyncio.FIRST_COMPLETED)
                if request.peer_closed or not await answering:
                    return
            except ConnectionError:
                request.mark_closed()
                return
            finally:
                answering.cancel()
                watch.cancel()
                await asyncio.gather(answering, watch, return_exceptions=True)
            first = b"" if watch.cancelled() else watch.result()

    def _reply_to(self, request: Received) -> tuple[AnyReply, Expectation | None]:
        """The reply, and what is still to be expected of what the client says over its WebSocket."""
        if self._api_key is not None and request.key != self._api_key:
            return openai.error(401, code="invalid_api_key", message="Incorrect API key provided."), None
        answering, expect = self._script.popleft() if self._script else (self._otherwise, None)
        if answering is None:
            during = os.environ.get("PYTEST_CURRENT_TEST", "")  # this upstream may serve many tests
            self.failures.append(f"nobody scripted an answer to {request.method} {request.path} {during}")
            return openai.error(500, code="unscripted", message="nothing scripted"), None
        try:
            reply = answering if isinstance(answering, Reply | WsReply) else answering(request)
            if expect is not None and not isinstance(reply, WsReply):
                expect(request)
        except Exception as error:  # noqa: BLE001 - whatever the test's own check raises must reach the test
            self._blame(request, error)
            return openai.error(500, code="unexpected", message="not what the test expects"), None
        return reply, expect

    async def _talk(self, conversation: Conversation, reply: WsReply, expect: Expectation | None) -> None:
        try:
            await conversation.run(reply, expect)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - the same
            self._blame(conversation.request, error)

    def _blame(self, request: Received, error: Exception) -> None:
        self.failures.append(f"{request.method} {request.path}: {error!r}")


async def _next_byte(reader: asyncio.StreamReader, request: Received) -> bytes:
    """Waits for what the peer does while it is being answered: leave, or (too early) ask again."""
    try:
        byte = await reader.read(1)
    except ConnectionError:
        byte = b""
    if not byte:
        request.mark_closed()
    return byte


async def _answer(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Writes the reply; says whether the connection can carry another request."""
    if reply.body != "raw":
        writer.write(head_of(reply))
    for step in reply.steps:
        if not await _take(step, reply, writer):
            return False
    if reply.body == "chunked":
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return reply.body in {"chunked", "length"}


async def _take(step: Step, reply: Reply, writer: asyncio.StreamWriter) -> bool:
    match step:
        case Gate():
            await writer.drain()
            await step.pass_through()
        case Cut(reset):
            await writer.drain()
            if reset:
                cut(writer)
            return False
        case bytes() if step and reply.body == "chunked":
            writer.write(b"%x\r\n%b\r\n" % (len(step), step))
        case bytes():
            writer.write(step)
    await writer.drain()
    await asyncio.sleep(0)  # lets each write leave as a packet of its own
    return True


def _generic(request: Received) -> Reply:
    if request.path.endswith("/models"):
        return openai.reply({"object": "list", "data": [{"id": "fake", "object": "model", "owned_by": "fake"}]})
    words = ("这是", "一台", "没有", "眼睛", "的", "假", "上游", "。")
    return openai.stream(*words) if request.json.get("stream") else openai.answer("".join(words))


async def _main() -> None:
    parser = argparse.ArgumentParser(description="An upstream that answers every chat request by a few words.")
    parser.add_argument("--port", type=int, default=9000)
    async with Upstream(port=parser.parse_args().port) as up:
        up.otherwise(_generic)
        print(f"listening on {up.url}/v1", flush=True)  # noqa: T201 - a command prints
        await asyncio.Event().wait()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_main())
