"""A decode worker: a process that decodes callers' pictures, one at a time, and takes what they do to it upon itself.

    python -m app.media.decode_worker MEMORY_BYTES CPU_S LONGEST_S PARENT MODULE:FUNCTION

Standard input is a socket: orders come from it, answers go back. The worker ends when the other end closes, when its
parent dies, and when it is over a bound; what is left is for the gateway to tell. It holds none of the gateway's
secrets, and no socket but that one.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from PIL import AvifImagePlugin

from app.core.types import Image, ImageFormat
from app.media.containers.model import BrokenContainer
from app.media.decode_wire import Answer, At, Faulty, Line, Made, Order, RefusalCode, Refused, Rewrite, order_decoder
from app.media.decode_work import Work
from app.media.pixels import TOO_LARGE, prepare_pillow

_NICENESS = 5
"""The gateway's event loop goes first: a picture may wait a moment, a hundred streams may not."""
_MAX_FILES = 64
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SPARE_S = 5.0
"""What the worker leaves the gateway to end it first, which knows then why it ended."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one worker may take.

    Args:
        memory_bytes: of address space, the interpreter's some 100 MB included.
        cpu_s: for one picture.
        longest_s: for one picture, by the clock on the wall.
    """

    memory_bytes: int
    cpu_s: int
    longest_s: float

    def settle(self) -> None:
        """Bounds this process for good."""
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, _MAX_FILES)
        _limit(resource.RLIMIT_AS, self.memory_bytes)

    @contextmanager
    def of_one_picture(self) -> Iterator[None]:
        """Ends the process, by SIGXCPU or SIGALRM, where the block takes too long."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = int(used.ru_utime + used.ru_stime) + 1 + self.cpu_s
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
        signal.setitimer(signal.ITIMER_REAL, self.longest_s + _SPARE_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def are_near(self, order: Order) -> bool:
        """Whether another copy of the picture would have been too much for the memory. Libraries whose allocation
        fails often call the picture damaged."""
        pixels = order.container.width_px * order.container.height_px if isinstance(order, Rewrite) else 0
        return _peak_bytes() + 4 * pixels > self.memory_bytes


def serve(line: Line[Order], work: Work, bounds: Bounds) -> None:
    """Carries out one order after the other until the gateway is gone."""
    with suppress(EOFError, OSError):
        while True:
            order, body = line.receive()
            line.send(At(0))
            answer, picture = _answer(line, work, bounds, order, body)
            del order, body
            line.send(answer, picture)
            del answer, picture


def _answer(line: Line[Order], work: Work, bounds: Bounds, order: Order, body: bytes) -> tuple[Answer, bytes]:
    index = 0

    def tell(at: int) -> None:
        nonlocal index
        index = at
        line.send(At(at))

    try:
        with bounds.of_one_picture():
            image = work(order, body, tell)
    except MemoryError:
        return _too_large(index), b""
    except BrokenContainer as error:
        if error.code == "invalid_image" and bounds.are_near(order):
            return _too_large(index), b""
        return Refused(index, error.reason, cast("RefusalCode | None", error.code)), b""
    except Exception:  # noqa: BLE001 - whatever a picture makes a library raise, it costs that picture only
        return Faulty(index, traceback.format_exc()), b""
    return _made(image), image.data


def _too_large(index: int) -> Refused:
    reason, _ = TOO_LARGE
    return Refused(index, reason, "image_too_large")


def _made(image: Image) -> Made:
    return Made(
        format=cast("ImageFormat", image.media_type.removeprefix("image/")),
        width_px=image.width_px,
        height_px=image.height_px,
        sha256=image.sha256,
        source_width_px=image.source_width_px,
        source_height_px=image.source_height_px,
    )


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(OSError, ValueError):  # macOS knows RLIMIT_AS by name only
        resource.setrlimit(kind, (most, most))


def _peak_bytes() -> int:
    """The most address space this process ever had; 0 where the system does not tell."""
    with suppress(OSError):
        for row in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if row.startswith("VmPeak:"):
                return int(row.split()[1]) * 1024
    return 0


def _end_with(parent: int) -> None:
    """Makes the kernel end us with our parent, even amid a picture."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _claim_socket() -> socket.socket:
    """Takes standard input for messages. What decoders print of a caller's bytes goes nowhere from here on."""
    end = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return end


def _first_to_be_ended() -> None:
    """Where the machine runs out of memory, the kernel is to take this process, not the gateway."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def main() -> None:
    memory_bytes, cpu_s, longest_s, parent, work_name = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the gateway decides when we end
        signal.signal(number, signal.SIG_IGN)
    _end_with(int(parent))
    _first_to_be_ended()
    os.nice(_NICENESS)
    module, _, function = work_name.partition(":")
    work: Work = getattr(import_module(module), function)
    prepare_pillow()
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there are as many workers as cores, and each thread takes memory
    bounds = Bounds(int(memory_bytes), int(cpu_s), float(longest_s))
    line = Line(_claim_socket(), order_decoder)
    bounds.settle()
    serve(line, work, bounds)


if __name__ == "__main__":
    main()
