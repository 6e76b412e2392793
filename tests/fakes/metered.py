"""A fast OpenAI-compatible upstream that bills what it was sent, in a process of its own, and remembers all of it.

    python -m tests.fakes.metered --port 9000

The model's name sets the pace: `m-20-5-40` waits 20 ms, then sends 40 deltas, 5 ms apart; `m-20-5-40-silent` never says
what it used. `max_tokens` cuts the number of deltas, or raises it. Each delta is one short word, and billed as a token;
the prompt is billed by its characters, four to a token. What follows a further `-x` in the name tells requests apart:
`m-20-5-40-x17`.

    GET  /__admin/log      what arrived, as a list of `Seen`
    POST /__admin/reset    forgets it

It knows nothing of the gateway's code.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import uvloop

_CHARACTERS_PER_TOKEN = 4
_MODEL = re.compile(r"m-(\d+)-(\d+)-(\d+)(-silent)?(-x.*)?")
_MARKER = re.compile(r"marker-[\w-]+")
_WORDS = ("one ", "two ", "three ", "four ", "five ", "six ", "seven ")
_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Seen:
    """One chat request.

    Args:
        marker: the word `marker-…` of the last message, if there is one.
        request_id: the header x-request-id, if it came.
        response_id: as the answer says.
        arrived_at, ended_at: Unix time in seconds; `ended_at` is `None` while it is being answered.
        prompt_tokens: billed for the prompt.
        deltas: how many the whole answer has.
        events_sent: how many of them were sent; of an answer that is no stream, none until all.
        finished: whether all was sent; false: the caller left.
    """

    marker: str | None
    model: str
    stream: bool
    request_id: str | None
    response_id: str
    arrived_at: float
    prompt_tokens: int
    deltas: int
    events_sent: int = 0
    ended_at: float | None = None
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How a model answers."""

    first_s: float
    interval_s: float
    deltas: int
    reports_usage: bool

    @classmethod
    def of(cls, model: str) -> Pace | None:
        """What the name says; `None`: there is no such model."""
        said = _MODEL.fullmatch(model)
        if said is None:
            return None
        return cls(int(said[1]) / 1000, int(said[2]) / 1000, int(said[3]), not said[4])


@dataclass(frozen=True, slots=True)
class Asked:
    """A request's head and body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer:
    """One answer under way: timers, and what was sent so far.

    Args:
        write: sends bytes to the caller.
        done: called once all was sent.
    """

    def __init__(
        self, body: dict[str, Any], pace: Pace, seen: Seen, write: Callable[[bytes], None], done: Callable[[], None]
    ) -> None:
        self._pace = pace
        self._seen = seen
        self._write = write
        self._done = done
        options = body.get("stream_options") or {}
        self._reports_usage = pace.reports_usage and (not seen.stream or options.get("include_usage") is True)
        self._loop = asyncio.get_running_loop()
        wait_s = pace.first_s if seen.stream else pace.first_s + pace.interval_s * seen.deltas
        self._next_s = self._loop.time() + wait_s
        self._timer = self._loop.call_at(self._next_s, self._begin if seen.stream else self._whole)

    def cancel(self) -> None:
        """The caller left."""
        self._timer.cancel()
        self._seen.ended_at = self._seen.ended_at or time.time()

    def _whole(self) -> None:
        message = {"role": "assistant", "content": "".join(map(_word, range(self._seen.deltas)))}
        value = {
            **self._envelope("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            **({"usage": self._usage()} if self._reports_usage else {}),
        }
        self._write(answer_of(200, value))
        self._seen.events_sent = self._seen.deltas
        self._end()

    def _begin(self) -> None:
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
            b"x-request-id: " + self._seen.response_id.encode() + b"\r\n\r\n"
        )
        self._go_on()

    def _go_on(self) -> None:
        """Sends what is due by now."""
        seen, due = self._seen, []
        while seen.events_sent < seen.deltas and self._next_s <= self._loop.time():
            due.append(self._chunk({"role": "assistant", "content": _word(seen.events_sent)}, None))
            seen.events_sent += 1
            self._next_s += self._pace.interval_s
        if seen.events_sent < seen.deltas:
            self._write(b"".join(due))
            self._timer = self._loop.call_at(self._next_s, self._go_on)
            return
        due.append(self._chunk({}, "stop"))
        if self._reports_usage:
            due.append(_event({**self._envelope("chat.completion.chunk"), "choices": [], "usage": self._usage()}))
        self._write(b"".join([*due, _chunked(_DONE), b"0\r\n\r\n"]))
        self._end()

    def _end(self) -> None:
        self._seen.finished = True
        self._seen.ended_at = time.time()
        self._done()

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._envelope("chat.completion.chunk"), "choices": [choice]})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self._seen.response_id, "object": kind, "created": 1763600000, "model": self._seen.model}

    def _usage(self) -> dict[str, int]:
        prompt, completion = self._seen.prompt_tokens, self._seen.deltas
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class Connection(asyncio.Protocol):
    """One connection of a caller; requests on it are answered one after the other."""

    def __init__(self, log: list[Seen]) -> None:
        self._log = log
        self._received = b""
        self._transport: asyncio.Transport
        self._answer: Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._take()

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None:
            self._answer.cancel()

    def _take(self) -> None:
        while self._answer is None and (asked := self._next_request()) is not None:
            self._reply_to(asked)

    def _next_request(self) -> Asked | None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", 0))
        if len(rest) < size:
            return None
        self._received = rest[size:]
        method, path, _ = first.split(" ", 2)
        return Asked(method, path, headers, rest[:size])

    def _reply_to(self, asked: Asked) -> None:
        match asked.method, asked.path:
            case "GET", "/__admin/log":
                self._write(answer_of(200, [asdict(seen) for seen in self._log]))
            case "POST", "/__admin/reset":
                self._log.clear()
                self._write(answer_of(200, {}))
            case "GET", "/v1/models":
                self._write(answer_of(200, {"object": "list", "data": [{"id": "m-0-0-5", "object": "model"}]}))
            case "POST", "/v1/chat/completions":
                self._chat(asked)
            case _:
                self._write(_error(404, f"no such path: {asked.path}"))

    def _chat(self, asked: Asked) -> None:
        body = json.loads(asked.body)
        pace = Pace.of(str(body.get("model")))
        if pace is None:
            self._write(_error(404, f"no such model: {body.get('model')}"))
            return
        texts = list(_texts(body["messages"]))
        marker = _MARKER.search(texts[-1])
        wish = body.get("max_completion_tokens") or body.get("max_tokens")
        seen = Seen(
            marker=marker[0] if marker else None,
            model=body["model"],
            stream=body.get("stream") is True,
            request_id=asked.headers.get("x-request-id"),
            response_id=f"chatcmpl-{uuid.uuid4().hex}",
            arrived_at=time.time(),
            prompt_tokens=max(1, -(-sum(map(len, texts)) // _CHARACTERS_PER_TOKEN)),
            deltas=pace.deltas if wish is None else wish,
        )
        self._log.append(seen)
        self._answer = Answer(body, pace, seen, self._write, self._answered)

    def _answered(self) -> None:
        self._answer = None
        self._take()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)


def answer_of(status: int, value: object) -> bytes:
    """A whole JSON answer."""
    body = _json(value)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _error(status: int, message: str) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return answer_of(status, {"error": error})


def _texts(messages: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The text of each message, in order."""
    for message in messages:
        content = message.get("content") or ""
        parts = content if isinstance(content, list) else [{"text": content}]
        yield "".join(part.get("text", "") for part in parts)


def _word(number: int) -> str:
    return _WORDS[number % len(_WORDS)]


def _event(value: object) -> bytes:
    return _chunked(b"data: " + _json(value) + b"\n\n")


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def _serve(port: int) -> None:
    log: list[Seen] = []
    server = await asyncio.get_running_loop().create_server(lambda: Connection(log), "127.0.0.1", port, backlog=1024)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)  # noqa: T201 - a command prints
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="An upstream that bills what it was sent.")
    parser.add_argument("--port", type=int, default=9000, help="0 takes any free one")
    uvloop.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
