"""What the gateway and its decode workers say to each other, through a socket pair.

Each message is the lengths of its two halves (four bytes each, big endian), then msgpack, then a picture's bytes, which
are so never copied into a message. Neither side unpickles anything: what a decoder was made to say by a hostile picture
is read as data, within bounds. Both sides are always of one release: the form may change with any.
"""

from __future__ import annotations

import socket
import struct
from typing import Annotated, Generic, Literal, TypeAlias, TypeVar

import msgspec

from app.core.types import Image, ImageFormat, ImageRules
from app.media.containers.model import Container
from app.media.image import PictureBounds

MAX_HEAD_BYTES = 8 * 1024 * 1024
"""A colour profile travels in the head."""
MAX_BODY_BYTES = 256 * 1024 * 1024
"""Above any picture we write: a BMP of the most pixels, three bytes each, and room for operators who allow more."""

_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
_SourceSide: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]
_Sha256: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Reason: TypeAlias = Annotated[str, msgspec.Meta(max_length=300)]
RefusalCode: TypeAlias = Literal["image_too_large", "invalid_image", "unsupported_image_format"]

Message = TypeVar("Message")


class Rewrite(msgspec.Struct, tag=True, frozen=True):
    """To the worker: write this picture anew.

    Args:
        container: without its bytes, which are the body.
    """

    container: Container
    rules: ImageRules
    bounds: PictureBounds


class Draw(msgspec.Struct, tag=True, frozen=True):
    """To the worker: lay these pictures out on one sheet.

    Args:
        pictures: without their bytes, which are the body, one after the other.
        sizes_bytes: of each.
    """

    pictures: tuple[Image, ...]
    sizes_bytes: tuple[int, ...]
    rules: ImageRules


Order: TypeAlias = Rewrite | Draw


class At(msgspec.Struct, tag=True, frozen=True):
    """From the worker: it has the whole order, and now works on its picture of this index."""

    index: int


class Made(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the picture, as `Image` has it; its bytes are the body."""

    format: ImageFormat
    width_px: _Side
    height_px: _Side
    sha256: _Sha256
    source_width_px: _SourceSide
    source_height_px: _SourceSide


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the picture of this index cannot be used. `reason` and `code` as `BrokenContainer` has them."""

    index: int
    reason: _Reason
    code: RefusalCode | None


class Faulty(msgspec.Struct, tag=True, frozen=True):
    """From the worker: the picture of this index made a library raise what nobody expected; `trace` is for logs."""

    index: int
    trace: str


Answer: TypeAlias = At | Made | Refused | Faulty

order_decoder: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_encoder = msgspec.msgpack.Encoder()
_lengths = struct.Struct(">II")


class Nonsense(EOFError):
    """The other end is there, but says what none of ours would."""


class Line(Generic[Message]):
    """One end of the pair. Blocks: each call is one or two system calls, whatever the size, without Python's lock.

    Args:
        decoder: of what the other end says.
    """

    def __init__(self, end: socket.socket, decoder: msgspec.msgpack.Decoder[Message]) -> None:
        self._end = end
        self._decoder = decoder

    def send(self, message: Order | Answer, *bodies: bytes) -> None:
        """Says one thing.

        Raises:
            OSError: the other end is gone.
        """
        head = _encoder.encode(message)
        self._end.sendall(_lengths.pack(len(head), sum(map(len, bodies))) + head)
        for body in bodies:
            self._end.sendall(body)

    def receive(self) -> tuple[Message, bytes]:
        """The next thing said, and its body.

        Raises:
            EOFError: the other end is gone; `Nonsense`: it has lost its mind.
            OSError: the same.
        """
        head_bytes, body_bytes = _lengths.unpack(self._exactly(_lengths.size))
        if head_bytes > MAX_HEAD_BYTES or body_bytes > MAX_BODY_BYTES:
            raise Nonsense
        try:
            message = self._decoder.decode(self._exactly(head_bytes))
        except msgspec.DecodeError as error:
            raise Nonsense from error
        return message, self._exactly(body_bytes)

    def close(self) -> None:
        self._end.close()

    def _exactly(self, count: int) -> bytes:
        if not count:
            return b""
        data = self._end.recv(count, socket.MSG_WAITALL)
        while 0 < len(data) < count:  # a signal came between
            more = self._end.recv(count - len(data), socket.MSG_WAITALL)
            data = data + more if more else b""
        if not data:
            raise EOFError
        return data
