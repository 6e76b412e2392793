"""How much of a backend's answer waits in a process and its kernel for a caller who reads slowly.

A read hands over whatever the kernel holds, up to a quarter of a megabyte, and a batch is what a read held; so the
kernel's buffer bounds all that comes after it. Its size also bounds the rate of one answer to a buffer per round trip:
far above what models write.
"""

from __future__ import annotations

import asyncio
import socket

from aiohappyeyeballs import AddrInfoType, start_connection

_NEXT_ADDRESS_S = 0.25

RECEIVED_BYTES = 8 * 1024
"""Asked of the kernel, which takes twice as much to have room for its own."""

BATCH_BYTES = 2 * 1024
"""What is decoded at once; the rest of a read waits as the bytes it came as."""


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
