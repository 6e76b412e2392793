"""Server-sent events in: a network read goes in, the complete events in it come out. Sans I/O, bounded.

Follows the event stream format of the HTML standard (https://html.spec.whatwg.org/multipage/server-sent-events.html),
and one habit of real servers beyond it: an error sent as a bare JSON line, without `data:`.
"""

from __future__ import annotations

from app.core.types import Frame

BARE_EVENT = "bare"
"""`Frame.event` of a JSON line that came without a `data:` field."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than the bound."""


class SseDecoder:
    """Cuts a byte stream into events.

    Args:
        max_event_bytes: bound on one event, complete or not.

    Attributes:
        pending_bytes: of the event that is not complete.
    """

    def __init__(self, max_event_bytes: int = 4 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._pieces: list[bytes] = []  # of an event that is not complete, their line ends made alike
        self._held = b""  # of what came, a start or an end that means nothing without what follows
        self._at_start = True
        self.pending_bytes = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Takes one network read; gives the events it completed, often none, often several. What an event costs is in
        proportion to its size, however small the reads.

        Raises:
            EventTooLarge: an event exceeds the bound.
        """
        piece = self._line_ends_alike(self._held + data if self._held else data)
        if piece:
            ends = b"\n\n" in (self._pieces[-1][-1:] + piece if self._pieces else piece)
            self._pieces.append(piece)
            self.pending_bytes += len(piece)
            if ends:
                return self._cut()
        if self.pending_bytes > self._max_event_bytes:
            raise EventTooLarge
        return []

    def _line_ends_alike(self, data: bytes) -> bytes:
        self._held = b""
        if self._at_start and data:
            if len(data) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(data):
                self._held = data
                return b""
            data = data.removeprefix(BYTE_ORDER_MARK)
            self._at_start = False
        if b"\r" in data:
            if data.endswith(b"\r"):  # its line feed may come with the next read
                data, self._held = data[:-1], b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _cut(self) -> list[Frame]:
        blocks = b"".join(self._pieces).split(b"\n\n")
        rest = blocks.pop()
        if len(rest) > self._max_event_bytes:
            raise EventTooLarge
        self._pieces = [rest] if rest else []
        self.pending_bytes = len(rest)
        return self._frames(blocks)

    def end(self) -> list[Frame]:
        """The stream ended: gives an event whose closing blank line never came."""
        rest, self._pieces = b"".join(self._pieces), []
        return self._frames([rest])

    def _frames(self, blocks: list[bytes]) -> list[Frame]:
        frames = []
        for block in blocks:
            if len(block) > self._max_event_bytes:
                raise EventTooLarge
            if block.startswith(b"data: ") and b"\n" not in block:  # nearly every event there is
                frames.append(Frame(block[6:]))
            elif (frame := _parse_block(block)) is not None:
                frames.append(frame)
        return frames


def _parse_block(block: bytes) -> Frame | None:
    data: list[bytes] = []
    event = ""
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        if line.startswith(b"{"):
            return Frame(line, BARE_EVENT)
        if name == b"data":
            data.append(value.removeprefix(b" ") if colon else b"")
        elif name == b"event":
            event = value.removeprefix(b" ").decode("utf-8", "replace")
    return Frame(b"\n".join(data), event) if data else None
