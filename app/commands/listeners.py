"""Listening sockets, closed without losing anybody.

The system answers callers before a program sees them: whoever has connected, and was not accepted when the listener
closes, is reset, though he may have sent his request already. So newcomers are kept out first, then those who are in
are accepted, then the listener closes. Who knocked meanwhile knocks again a second later and is refused, which every
proxy takes as leave to ask another gateway.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress

# Linux's asm-generic/socket.h; filters of the classic kind, see `man 7 socket`
_SO_ATTACH_FILTER = 26
_DROP, _PASS = 0, 0xFFFFFFFF
_TCP_FLAGS_OFFSET, _SYN = 13, 0x02
_LOAD_BYTE, _JUMP_IF_SET, _RETURN = 0x30, 0x45, 0x06
_NO_NEWCOMERS = (
    # operation, steps to jump if so, if not, operand
    (_LOAD_BYTE, 0, 0, _TCP_FLAGS_OFFSET),
    (_JUMP_IF_SET, 0, 1, _SYN),
    (_RETURN, 0, 0, _DROP),
    (_RETURN, 0, 0, _PASS),
)


def keep_newcomers_out(listener: socket.socket) -> None:
    """Lets nobody else begin to connect, as far as the system can do that; who has begun may finish."""
    if sys.platform != "linux":
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_NEWCOMERS)
    kept = ctypes.create_string_buffer(program, len(program))
    with suppress(OSError):  # a sandbox may forbid it: then a caller of this very moment may be lost
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_NEWCOMERS), ctypes.addressof(kept))
        )


def accepted(listeners: Sequence[socket.socket]) -> list[socket.socket]:
    """Whoever waits at these, which do not block."""
    found = []
    for listener in listeners:
        with suppress(OSError):  # nobody is left
            while True:
                found.append(listener.accept()[0])
    return found
