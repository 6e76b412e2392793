"""A listener that closes loses nobody: who has connected is served, who comes too late is refused and not reset."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

from app.commands.listeners import accepted, keep_newcomers_out


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def test_who_has_connected_is_found(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()) as early:
        early.sendall(b"question")
        keep_newcomers_out(listener)
        (found,) = accepted([listener])
        listener.close()
        with found:
            found.setblocking(True)
            assert found.recv(100) == b"question"
            found.sendall(b"answer")
            assert early.recv(100) == b"answer"


def test_nobody_waits_at_a_listener_that_is_closed(listener: socket.socket) -> None:
    assert accepted([listener]) == []
    listener.close()
    assert accepted([listener]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such filters")
def test_newcomer_is_refused_and_not_reset(listener: socket.socket) -> None:
    """It knocks again after a second."""
    keep_newcomers_out(listener)
    with socket.socket() as late:
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(listener.getsockname())
        assert accepted([listener]) == []
    address = listener.getsockname()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
