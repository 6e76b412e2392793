"""Server-sent events in: a network read goes in, the complete events in it come out. Sans I/O, bounded.

Follows the event stream format of the HTML standard (https://html.spec.whatwg.org/multipage/server-sent-events.html),
and one habit of real servers beyond it: an error sent as a bare JSON line, without `data:`.
"""

from __future__ import annotations

from app.core.types import Frame

BARE_EVENT = "bare"
"""`Frame.event` of a JSON line that came without a `data:` field."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than the bound."""


class SseDecoder:
    """Cuts a byte stream into events.

    Args:
        max_event_bytes: bound on one event, complete or not.
    """

    def __init__(self, max_event_bytes: int = 4 * 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = b""
        self._at_start = True

    def feed(self, data: bytes) -> list[Frame]:
        """Takes one network read; gives the events it completed, often none, often several.

        Raises:
            EventTooLarge: an event exceeds the bound.
        """
        buffer = self._rest + data if self._rest else data
        if self._at_start and buffer:
            if len(buffer) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(buffer):
                self._rest = buffer
                return []
            buffer = buffer.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        held = b""
        if b"\r" in buffer:
            if buffer.endswith(b"\r"):  # its line feed may come with the next read
                buffer, held = buffer[:-1], b"\r"
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        blocks = buffer.split(b"\n\n")
        rest = blocks.pop() + held
        if len(rest) > self._max_event_bytes:
            raise EventTooLarge
        self._rest = rest
        return self._frames(blocks)

    def end(self) -> list[Frame]:
        """The stream ended: gives an event whose closing blank line never came."""
        rest, self._rest = self._rest.removesuffix(b"\r"), b""
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
