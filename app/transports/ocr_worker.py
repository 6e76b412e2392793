"""The OCR worker: a process of its own, which reads pictures off one pipe and writes rows of text to another.

    python -m app.transports.ocr_worker THREADS

It holds the models' hundreds of MiB, so that the gateway need not, and takes crashes in native code upon itself. It
ends when its input ends, so it cannot outlive the gateway. What it does not expect it does not catch: it ends, with
the trace on standard error, and the next request gets a fresh one.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from app.transports.ocr_wire import (
    HEADER_BYTES,
    Answer,
    Done,
    Order,
    Piece,
    Pieces,
    Read,
    Ready,
    Unreadable,
    Unusable,
    body_bytes,
    decode_order,
    encode,
)

_NICENESS = 5
"""The gateway's event loop goes first: a picture may wait a moment, a hundred streams may not."""


class Reader(Protocol):
    """What can read a picture row by row."""

    def read(self, picture: bytes, text_score: float) -> Iterator[list[Piece] | None]:
        """Yields rows in reading order; `None` once, and nothing more, where the bytes are no picture."""
        ...


class EngineUnusable(Exception):
    """The engine is not installed, or not wholly; another try would not help."""


class Pipes:
    """Both ends the worker holds. Reads are unbuffered, so that `select` tells the truth about what is left to read."""

    def __init__(self, orders_fd: int, answers_fd: int) -> None:
        self._orders_fd = orders_fd
        self._answers_fd = answers_fd

    def receive(self) -> Order | None:
        """The next order; `None` when the gateway is gone."""
        header = self._read_exactly(HEADER_BYTES)
        body = self._read_exactly(body_bytes(header)) if header else b""
        return decode_order(body) if body else None

    def has_order(self) -> bool:
        """Whether an order waits, or the end."""
        readable, _, _ = select.select([self._orders_fd], [], [], 0)
        return bool(readable)

    def send(self, answer: Answer) -> None:
        rest = memoryview(encode(answer))
        while rest:
            rest = rest[os.write(self._answers_fd, rest) :]

    def _read_exactly(self, count: int) -> bytes:
        """`count` bytes, or none where the input ends before."""
        buffer = bytearray(count)
        view, filled = memoryview(buffer), 0
        while filled < count:
            got = os.readv(self._orders_fd, [view[filled:]])
            if got == 0:
                return b""
            filled += got
        return bytes(buffer)


def serve(pipes: Pipes, load: Callable[[], Reader]) -> None:
    """Loads the engine, then reads one picture after the other until the input ends."""
    try:
        reader = load()
    except EngineUnusable as error:
        pipes.send(Unusable(str(error)))
        return
    pipes.send(Ready())
    order = pipes.receive()
    while order is not None:
        # A drop here crossed our last word on its job.
        order = _answer(pipes, reader, order) if isinstance(order, Read) else pipes.receive()


def _answer(pipes: Pipes, reader: Reader, order: Read) -> Order | None:
    """Reads one picture; gives the order that comes next."""
    for row in reader.read(order.picture, order.text_score):
        if row is None:
            pipes.send(Unreadable(order.job))
            return pipes.receive()
        if pipes.has_order():  # a drop, or the end: in both nobody waits for the rest
            return pipes.receive()
        pipes.send(Pieces(order.job, row))
    pipes.send(Done(order.job))
    return pipes.receive()


def load_engine(threads: int) -> Reader:
    """Imports and loads RapidOCR.

    onnxruntime since 1.29 sends usage reports to Microsoft and keeps an identifier on disk unless this variable is set
    before its first import: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md. Pictures are read in
    this machine, and nobody is told.

    Raises:
        EngineUnusable: a package or a model is missing.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        from app.transports.ocr_engine import Engine, ModelsMissing  # noqa: PLC0415 - 400 MiB, for this process only
    except ImportError as error:
        raise EngineUnusable(f"the packages of the OCR engine cannot be imported: {error}") from error
    try:
        return Engine(threads)
    except ModelsMissing as error:
        raise EngineUnusable(str(error)) from error


def claim_pipes() -> Pipes:
    """Takes standard input and output for messages. What libraries print goes to standard error from here on."""
    orders_fd, answers_fd = os.dup(0), os.dup(1)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.close(null_fd)
    os.dup2(2, 1)
    return Pipes(orders_fd, answers_fd)


def main() -> None:
    pipes = claim_pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the gateway decides when we end
    os.nice(_NICENESS)
    threads = int(sys.argv[1])
    serve(pipes, lambda: load_engine(threads))


if __name__ == "__main__":
    main()
