"""Several processes that serve on one address: started, watched and ended by this one, which serves nothing itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import structlog

from app.commands.draining_server import ENDING_S

_log = structlog.get_logger(__name__)

_ENDS = (signal.SIGTERM, signal.SIGINT)
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_PROVEN_S = 20.0
"""Longer than a start takes. Before any worker has lived so long, one that fails to start does so for a reason that
another would meet as well."""
_AGAIN_S = 2.0
_LOOK_S = 0.2
_STDIN = 0
_KILLED_AFTER_S = 2 * ENDING_S
"""Longer than a worker takes to end once its time for answers is over. One that hangs must not outlive us."""


class Workers:
    """The processes.

    Args:
        listener: they all take connections from it.
        environment: theirs.
        drain_s: how long their answers may take once they were told to end.
        told: the signals that told us to end already.
    """

    def __init__(
        self,
        count: int,
        listener: socket.socket,
        environment: Mapping[str, str],
        *,
        drain_s: float,
        told: Sequence[int] = (),
    ) -> None:
        self._listener = listener
        self._environment = dict(environment)
        self._drain_s = drain_s
        self._signals = list(told)
        self._stopping = bool(told)
        self._hung_up = False
        self._proven = False
        self._code = 0
        self._running: dict[subprocess.Popen[bytes], float] = {}
        self._due_s = [time.monotonic()] * count
        self._attended = os.isatty(_STDIN)

    def run(self) -> int:
        """Starts them and watches until all have ended; the exit code. One that dies is replaced; where none can start
        at all, all end."""
        self._attend()
        while not self._stopping:
            self._reap()
            self._pass_hangup_on()
            if not self._stopping:
                self._start_due()
            time.sleep(_LOOK_S)
        self._end()
        return self._code

    def _end(self) -> None:
        """Passes on what we are told until all have ended; kills whoever does not."""
        self._listener.close()  # theirs are open for as long as they take connections
        self._signals = self._signals or [signal.SIGTERM]
        told, give_up_s = 0, time.monotonic() + self._drain_s + _KILLED_AFTER_S
        while self._running:
            for number in self._signals[told:]:
                told += 1
                self._tell(number)
            if time.monotonic() > give_up_s:
                _log.error("workers that did not end are killed", pids=[process.pid for process in self._running])
                self._code, give_up_s = 1, float("inf")
                self._tell(signal.SIGKILL)
            self._reap()
            time.sleep(_LOOK_S)

    def _attend(self) -> None:
        """Signals only leave a note: the loop acts on it, when no worker is half started."""
        for number in _ENDS:
            signal.signal(number, self._told)
        if _HANGUP is not None:
            signal.signal(_HANGUP, lambda _number, _frame: setattr(self, "_hung_up", True))

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
        self._stopping = True

    def _reap(self) -> None:
        now_s = time.monotonic()
        self._proven = self._proven or any(now_s - since_s > _PROVEN_S for since_s in self._running.values())
        for process in [each for each in self._running if each.poll() is not None]:
            del self._running[process]
            if process.returncode > 0 and not self._proven and not self._stopping:
                self._code = 1
                self._stopping = True
            elif not self._stopping:
                _log.error("a worker died and is replaced", pid=process.pid, code=process.returncode)
                self._due_s.append(now_s + _AGAIN_S)

    def _start_due(self) -> None:
        now_s = time.monotonic()
        due = [at_s for at_s in self._due_s if at_s <= now_s]
        self._due_s = [at_s for at_s in self._due_s if at_s > now_s]
        for _ in due:
            self._running[self._started()] = now_s

    def _started(self) -> subprocess.Popen[bytes]:
        """A worker, deaf to SIGHUP until it attends to it: by default it would die of it. In a group of its own, for
        Ctrl-C is to reach it by us alone: two signals are one that hurries."""
        before = signal.signal(_HANGUP, signal.SIG_IGN) if _HANGUP is not None else None
        try:
            return subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "app.cli", "serve-worker", str(self._listener.fileno())],
                stdin=subprocess.PIPE,  # closed when we die, however we do
                pass_fds=[self._listener.fileno()],
                env=self._environment,
                process_group=0,
            )
        finally:
            if _HANGUP is not None:
                signal.signal(_HANGUP, before)

    def _pass_hangup_on(self) -> None:
        """A reload for all; but where our terminal was closed, the end: nobody is there who could ask for one."""
        if self._hung_up and _HANGUP is not None:
            self._hung_up = False
            if self._attended and not os.isatty(_STDIN):
                self._stopping = True
            else:
                self._tell(_HANGUP)

    def _tell(self, number: int) -> None:
        for process in self._running:
            process.send_signal(number)


def end_with_parent(end: Callable[[], None]) -> None:
    """Calls `end` once the process that started this one is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        end()

    threading.Thread(target=watch, name="tuwen-parent", daemon=True).start()
