"""The gateway's end of one decode worker: starting it, handing it an order, noticing its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import app
from app.core.types import Image
from app.media.decode_wire import Answer, At, Faulty, Line, Made, Nonsense, Order, Refused, answer_decoder

WORK = "app.media.decode_work:carry_out"
_WORKER = "app.media.decode_worker"
_GOODBYE_S = 2.0
_OVER_TIME = frozenset({-signal.SIGXCPU, -signal.SIGALRM})

_PASSED_ON = frozenset({"LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR", "TZ"})
_PASSED_ON_PREFIX = "COVERAGE_"  # so that a report knows what ran in workers


@dataclass(frozen=True, slots=True)
class DecodeBounds:
    """What a decode worker may take; the defaults let the largest picture taken by default through.

    Args:
        memory_bytes: of address space. A transparent WebP of 50 million pixels, to be turned and converted, took
            1,303 MiB; the rest is room for other builds of the libraries.
        cpu_s: for one picture. The slowest of that size took 4 s.
        longest_s: for one picture, by the clock on the wall.
    """

    memory_bytes: int = 1536 * 1024 * 1024
    cpu_s: int = 20
    longest_s: float = 60.0


class NotTaken(Exception):
    """The worker ended before it had the order: no picture is to blame."""


class DecoderEnded(Exception):
    """The worker ended over an order.

    Args:
        index: of the picture it worked on.
        returncode: as of `subprocess`.
    """

    def __init__(self, index: int, returncode: int) -> None:
        super().__init__(f"returncode {returncode} over picture {index}")
        self.index = index
        self.returncode = returncode

    @property
    def over_time(self) -> bool:
        """Whether it was over its bound of time."""
        return self.returncode in _OVER_TIME


class DecodeProcess:
    """A running worker. It serves one order at a time; the caller sees to that. All but `kill` and the properties
    block, and belong in a thread.

    Args:
        work: MODULE:FUNCTION of what it does with an order.
    """

    def __init__(self, bounds: DecodeBounds, work: str = WORK) -> None:
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-P", "-m", _WORKER, *_arguments(bounds, work)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._line: Line[Answer] = Line(ours, answer_decoder)
        self._killed = False
        self.pictures = 0
        self.at = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_usable(self) -> bool:
        return not self._killed and self._process.poll() is None

    def hand_over(self, order: Order, *bodies: bytes) -> None:
        """Gives the worker an order, and waits until it has begun.

        Raises:
            NotTaken: it ended before.
        """
        self.pictures += 1
        self.at = 0
        try:
            self._line.send(order, *bodies)
            self._line.receive()
        except (EOFError, OSError) as error:
            raise NotTaken(f"returncode {self._ended()}") from error

    def answer(self) -> Image | Refused | Faulty:
        """What becomes of the order that was handed over.

        Raises:
            DecoderEnded: the worker ended over it.
        """
        try:
            while True:
                answer, body = self._line.receive()
                if isinstance(answer, At):
                    self.at = answer.index
                elif isinstance(answer, Made):
                    return _image(answer, body)
                else:
                    return answer
        except (EOFError, OSError) as error:
            if isinstance(error, Nonsense):
                self.kill()
            raise DecoderEnded(self.at, self._ended()) from error

    def kill(self) -> None:
        """Ends the worker at once; whoever waits for it is told."""
        self._killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """Ends the worker: kindly where it has been of use, and after a while not."""
        self._line.close()
        if not self.pictures:
            self.kill()
        self._ended()

    def _ended(self) -> int:
        """The return code, waiting for it. A worker that hung up and stays is killed."""
        try:
            return self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()


def _image(made: Made, data: bytes) -> Image:
    return Image(
        data,
        f"image/{made.format}",
        made.width_px,
        made.height_px,
        made.sha256,
        source_width_px=made.source_width_px,
        source_height_px=made.source_height_px,
    )


def _arguments(bounds: DecodeBounds, work: str) -> list[str]:
    return [str(bounds.memory_bytes), str(bounds.cpu_s), str(bounds.longest_s), str(os.getpid()), work]


def _environment() -> dict[str, str]:
    """Of ours only what a bare interpreter needs, so that no key is in a process that decodes callers' bytes; and the
    package found where it was found here."""
    passed_on = {
        name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIX)
    }
    home = str(Path(app.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    # each arena of glibc's takes 64 MiB of address space, which is bounded
    return passed_on | {"PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home, "MALLOC_ARENA_MAX": "2"}
