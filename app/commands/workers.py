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
from types import FrameType

import structlog

_log = structlog.get_logger(__name__)

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM))
_HOPELESS_S = 5.0
"""A worker that fails sooner fails for a reason that another would meet as well."""
_LOOK_S = 0.2


class Workers:
    """The processes.

    Args:
        listener: they all take connections from it.
        environment: theirs.
    """

    def __init__(self, count: int, listener: socket.socket, environment: Mapping[str, str]) -> None:
        self._listener = listener
        self._environment = dict(environment)
        self._stopping = False
        self._started: dict[subprocess.Popen[bytes], float] = {}
        for number in {*_PASSED_ON}:
            signal.signal(number, self._pass_on)
        for _ in range(count):
            self._start()

    def run(self) -> int:
        """Watches until all have ended; the exit code. One that dies is replaced, one that cannot start ends all."""
        code = 0
        while self._started:
            for process in [each for each in self._started if each.poll() is not None]:
                lived_s = time.monotonic() - self._started.pop(process)
                if self._stopping:
                    continue
                if process.returncode and lived_s < _HOPELESS_S:
                    code = process.returncode if process.returncode > 0 else 1
                    self._stop()
                else:
                    _log.error("a worker died and is replaced", pid=process.pid, code=process.returncode)
                    self._start()
            time.sleep(_LOOK_S)
        return code

    def _start(self) -> None:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-m", "app.cli", "serve-worker", str(self._listener.fileno())],
            stdin=subprocess.PIPE,  # closed when we die, however we do
            pass_fds=[self._listener.fileno()],
            env=self._environment,
        )
        self._started[process] = time.monotonic()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._stop()
        else:
            self._tell(number)

    def _stop(self) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _tell(self, number: int) -> None:
        for process in self._started:
            process.send_signal(number)


def end_with_parent(end: Callable[[], None]) -> None:
    """Calls `end` once the process that started this one is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        end()

    threading.Thread(target=watch, name="tuwen-parent", daemon=True).start()
