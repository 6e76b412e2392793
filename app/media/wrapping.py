"""How much may come over a connection around the picture it carries.

A bound on the picture bounds what we keep, not what we take: heads of answers that are not the last, the sizes of
chunks and what may stand beside them, blank lines before an answer carry nothing, and a host can send them for as long
as we listen. So a connection is left that takes far more than it brings.
"""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.tracing import Trace
from typing_extensions import override

_AHEAD_BYTES = 1024 * 1024  # more than heads take together with what aiohttp reads ahead of us, half a MiB at most
_WRAPPING_SHARE = 8  # an eighth: chunks of 64 bytes and more are within it


class _Metered(asyncio.Protocol):
    """Passes on what comes to another protocol, until it is too much."""

    def __init__(self, inner: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self._inner = inner
        self._transport = transport
        self._left_bytes = _AHEAD_BYTES

    def allow(self, count_bytes: int) -> None:
        """So much of the picture was taken: as much again may come, and what it comes wrapped in."""
        self._left_bytes += count_bytes + count_bytes // _WRAPPING_SHARE

    @override
    def data_received(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.abort()  # which the inner protocol takes for a connection that broke
        elif not self._transport.is_closing():
            self._inner.data_received(data)

    @override
    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        self._inner.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._inner.resume_writing()


class MeteredConnector(aiohttp.TCPConnector):
    """aiohttp's, whose connections are left by themselves where too little of what comes is a picture."""

    @override
    async def _create_connection(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        inner = await super()._create_connection(req, traces, timeout)
        if inner.transport is not None:
            inner.transport.set_protocol(_Metered(inner, inner.transport))
        return inner


def allow_for(response: aiohttp.ClientResponse, count_bytes: int) -> None:
    """Tells the connection of a response that so many bytes of its body were taken."""
    connection = response.connection
    if connection is None or connection.transport is None:  # all of it has come
        return
    meter = connection.transport.get_protocol()
    if isinstance(meter, _Metered):
        meter.allow(count_bytes)
