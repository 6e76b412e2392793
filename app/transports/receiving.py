"""How much of a backend's answer waits in a process and its kernel for a caller who reads slowly.

The kernel's buffer is small; its size also bounds the rate of one answer to a buffer per round trip: far above what
models write. What it holds would still be handed over at once, so the process takes it sip by sip, and one that is not
asked for stays where it is.
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Callable

from aiohappyeyeballs import AddrInfoType, start_connection
from typing_extensions import override

_NEXT_ADDRESS_S = 0.25

RECEIVED_BYTES = 8 * 1024
"""Asked of the kernel, which takes twice as much to have room for its own."""

SIP_BYTES = 4 * 1024
"""What is taken from the kernel at once."""

BATCH_BYTES = 512
"""What is decoded at once; the rest of a sip waits as the bytes it came as."""


def _nothing() -> None:
    pass


class Sipping(asyncio.BufferedProtocol):
    """A protocol that is handed no more at once than `SIP_BYTES`."""

    _sip = memoryview(b"")

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        self._sip = memoryview(bytearray(SIP_BYTES))  # asyncio's TLS fills slices of it, which must be no copies
        return self._sip

    @override
    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(self._sip[:nbytes])
        del self._sip  # a connection that waits holds none
        self.data_received(data)

    @abstractmethod
    def data_received(self, data: bytes) -> None:
        """What came."""


class _Straw(Sipping):
    """Has a protocol that takes all at once sip."""

    def __init__(self, drinker: asyncio.Protocol) -> None:
        self._drinker = drinker
        self.lost: Callable[[], None] = _nothing

    @override
    def data_received(self, data: bytes) -> None:
        self._drinker.data_received(data)

    @override
    def eof_received(self) -> bool | None:
        return self._drinker.eof_received()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._drinker.connection_lost(exc)
        self.lost()

    @override
    def pause_writing(self) -> None:
        self._drinker.pause_writing()

    @override
    def resume_writing(self) -> None:
        self._drinker.resume_writing()


def sip(transport: asyncio.BaseTransport, lost: Callable[[], None] = _nothing) -> None:
    """From now on the connection's protocol is handed no more at once than `SIP_BYTES`.

    Args:
        lost: called once the connection is gone, after its protocol was told.
    """
    protocol = transport.get_protocol()
    if isinstance(protocol, asyncio.Protocol):
        protocol = _Straw(protocol)
        transport.set_protocol(protocol)
    if isinstance(protocol, _Straw):
        protocol.lost = lost


def narrow_socket(address: AddrInfoType) -> socket.socket:
    """A socket towards a backend, not yet connected: later its buffer cannot be made smaller without losing packets."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_BYTES)
    return made


async def connected_socket(host: str, port: int) -> socket.socket:
    """The same, connected to whichever of the host's addresses answers first.

    Raises:
        OSError: none does.
    """
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connection = await start_connection(addresses, socket_factory=narrow_socket, happy_eyeballs_delay=_NEXT_ADDRESS_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection
