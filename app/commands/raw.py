"""Shows what goes over the wire to the backends: each call in one line, then its frames as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import assert_never
from urllib.parse import urlsplit

from typing_extensions import override

from app.core.secret import Censor
from app.core.types import Call, Frame, HttpCall, LocalCall, WsCall
from app.gateway.discretion import proofs_in
from app.observe.logs import redact
from app.transports.base import Reply, Transport

ShowLine = Callable[[str], None]


class ShowingTransport(Transport):
    """Another transport, watched.

    Args:
        show: gets each frame, as a line that holds nothing but what came; without our credentials, if they did.
        show_call: gets each call, as a line.
        secrets_of: the credentials for a backend.
    """

    def __init__(
        self, inner: Transport, show: ShowLine, show_call: ShowLine, *, secrets_of: Callable[[str], Iterable[str]]
    ) -> None:
        self.queues = inner.queues
        self._inner = inner
        self._show = show
        self._show_call = show_call
        self._secrets_of = secrets_of

    @override
    @asynccontextmanager
    async def open(self, call: Call, *, backend: str, connect_s: float) -> AsyncIterator[Reply]:
        self._show_call(summary(call))
        proofs = () if isinstance(call, LocalCall) else proofs_in(call.url, call.headers)
        secrets = [*self._secrets_of(backend), *proofs]
        async with self._inner.open(call, backend=backend, connect_s=connect_s) as reply:
            censor = Censor([*secrets, *reply.secrets])
            yield _ShowingReply(reply, lambda line: self._show(redact(censor(line))))

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


class _ShowingReply(Reply):
    def __init__(self, inner: Reply, show: ShowLine) -> None:
        self.status = inner.status
        self.headers: Mapping[str, str] = inner.headers
        self.secrets = inner.secrets
        self._inner = inner
        self._show = show

    @override
    async def body(self) -> bytes:
        data = await self._inner.body()
        self._show(f"HTTP {self.status} {_one_line(data)}")
        return data

    @override
    async def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        async with aclosing(self._inner.frames()) as batches:
            async for batch in batches:
                for frame in batch:
                    self._show(f"{frame.event}: {_one_line(frame.data)}" if frame.event else _one_line(frame.data))
                yield batch


def summary(call: Call) -> str:
    """A call in one line. Neither headers nor the address's user and query are in it: they may hold credentials."""
    match call:
        case HttpCall(method=method, url=url):
            return f"{method} {_place(url)}"
        case WsCall(url=url):
            return f"WS {_place(url)}"
        case LocalCall(engine=engine, images=images):
            return f"LOCAL {engine}, {len(images)} picture(s)"
        case _:  # pragma: no cover - the type checker proves it cannot be reached
            assert_never(call)


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _one_line(data: bytes) -> str:
    """A frame as it came, but for its line breaks: in JSON they are blanks."""
    return " ".join(data.decode("utf-8", "replace").splitlines())
