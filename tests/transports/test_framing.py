"""Server-sent events, cut out of reads of any size."""

from __future__ import annotations

import time

import pytest

from app.transports.framing import EventTooLarge, SseDecoder
from app.transports.receiving import BATCH_BYTES

_LARGE_BYTES = 2 * 1024 * 1024
_CPU_S = 2.0
"""A hundred times what it takes; put together anew with each read, the event takes four times as much."""


def fed(decoder: SseDecoder, wire: bytes, size: int) -> list[bytes]:
    """The data of all events, of reads of `size` bytes."""
    frames = [frame for at in range(0, len(wire), size) for frame in decoder.feed(wire[at : at + size])]
    return [frame.data for frame in [*frames, *decoder.end()]]


def test_large_event_does_not_hold_up_everybody_elses() -> None:
    text = b"a" * _LARGE_BYTES
    begun_s = time.process_time()
    assert fed(SseDecoder(), b"data: %b\n\ndata: b\n\n" % text, BATCH_BYTES) == [text, b"b"]
    assert time.process_time() - begun_s < _CPU_S


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks_may_be_split_over_reads(mark: bytes, end: bytes, size: int) -> None:
    wire = mark + end.join([b"data: 1", b"data: 2", b"", b": ping", b"", b"", b"data:3", b"", b"data: 4"])
    assert fed(SseDecoder(), wire, size) == [b"1\n2", b"3", b"4"]


@pytest.mark.parametrize("size", [1, 1000])
def test_event_over_the_bound_is_refused_before_its_end(size: int) -> None:
    with pytest.raises(EventTooLarge):
        fed(SseDecoder(max_event_bytes=100), b"data: " + b"a" * 200, size)
