"""What the gateway and its OCR worker say to each other, through two pipes.

Each message is four bytes of length (big endian) and that much msgpack. Every message carries the job it belongs to, so
that what a dropped job still sends cannot be taken for the next one's. Both sides are always of one release: the form
may change with any.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

from app.transports.reading_order import Polygon

HEADER_BYTES = 4
MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Read(msgspec.Struct, tag=True, frozen=True):
    """To the worker: read this picture. Pieces surer than `text_score` (0..1) count as text."""

    job: int
    picture: bytes
    text_score: float


class Drop(msgspec.Struct, tag=True, frozen=True):
    """To the worker: nobody waits for this job any more."""

    job: int


Order: TypeAlias = Read | Drop


class Piece(msgspec.Struct, frozen=True):
    """A piece of text. Pieces of one visual line share their `row`.

    Args:
        polygon_px: in pixels of the picture sent, clockwise from the start of the text.
    """

    row: int
    text: str
    polygon_px: Polygon
    confidence: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the models are loaded."""


class Unusable(msgspec.Struct, tag=True, frozen=True):
    """From the worker, its last word: the engine is not installed, or its models are missing."""

    reason: str


class Pieces(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the next row, in reading order."""

    job: int
    pieces: list[Piece]


class Done(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the picture was read to its end."""

    job: int


class Unreadable(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the bytes are no picture it can decode."""

    job: int


Answer: TypeAlias = Ready | Unusable | Pieces | Done | Unreadable

_encoder = msgspec.msgpack.Encoder()
_order_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_length = struct.Struct(">I")


def encode(message: Order | Answer) -> bytes:
    """One message with its length."""
    body = _encoder.encode(message)
    return _length.pack(len(body)) + body


def body_bytes(header: bytes) -> int:
    """How many bytes follow this header."""
    size: int = _length.unpack(header)[0]
    return size


def decode_order(body: bytes | bytearray) -> Order:
    return _order_decoder.decode(body)


def decode_answer(body: bytes) -> Answer:
    """Reads a worker's message.

    Raises:
        msgspec.DecodeError: it is none of ours.
    """
    return _answer_decoder.decode(body)
