"""Several processes that serve on one address: started, watched and ended by this one, which serves nothing itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping

import structlog

_log = structlog.get_logger(__name__)

_ENDS = (signal.SIGTERM, signal.SIGINT)
_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_PROVEN_S = 20.0
"""Longer than a start takes. Before any worker has lived so long, one that fails to start does so for a reason that
another would meet as well."""
_AGAIN_S = 2.0
_LOOK_S = 0.2
_STDIN = 0


class Workers:
    """The processes.

    Args:
        listener: they all take connections from it.
        environment: theirs.
        stopping: whether we were told to end already.
    """

    def __init__(
        self, count: int, listener: socket.socket, environment: Mapping[str, str], *, stopping: bool = False
    ) -> None:
        self._listener = listener
        self._environment = dict(environment)
        self._stopping = stopping
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
        told = False
        while not self._stopping or self._running:
            self._reap()
            if self._stopping and not told:
                told = True
                self._tell(signal.SIGTERM)
            elif not self._stopping:
                self._pass_hangup_on()
                self._start_due()
            time.sleep(_LOOK_S)
        return self._code

    def _attend(self) -> None:
        """Signals only leave a note: the loop acts on it, when no worker is half started."""
        for number in _ENDS:
            signal.signal(number, lambda _number, _frame: setattr(self, "_stopping", True))
        if _HANGUP is not None:
            signal.signal(_HANGUP, lambda _number, _frame: setattr(self, "_hung_up", True))

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
        """A worker, deaf to SIGHUP until it attends to it: by default it would die of it."""
        before = signal.signal(_HANGUP, signal.SIG_IGN) if _HANGUP is not None else None
        try:
            return subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "app.cli", "serve-worker", str(self._listener.fileno())],
                stdin=subprocess.PIPE,  # closed when we die, however we do
                pass_fds=[self._listener.fileno()],
                env=self._environment,
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
