"""A real gateway in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_START_S = 30
_STOP_S = 20


@dataclass
class RunningGateway:
    """Where it serves, and its admin key. `output` is all it has written so far."""

    process: subprocess.Popen[str]
    data_dir: Path
    port: int = 0
    key: str = ""
    output: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    def wait_for_line(self, pattern: str, *, after: int = 0, timeout_s: float = 15) -> str:
        """The first line written that matches, waiting for it if need be.

        Args:
            after: so many lines are passed over.
        """
        deadline = time.monotonic() + timeout_s
        seen = after
        while time.monotonic() < deadline:
            while seen < len(self.output):
                line = self.output[seen]
                seen += 1
                if re.search(pattern, line):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line like {pattern!r} in:\n{''.join(self.output)}")


def free_port(*, with_next: int = 0) -> int:
    """A port that nobody uses.

    Args:
        with_next: nor the one so many above.
    """
    while True:
        with socket.socket() as probe, socket.socket() as other:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + with_next if with_next else 0))
            except (OSError, OverflowError):
                continue
            return port


def wait_for_port(port: int, timeout_s: float = _START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def wait_until_closed(port: int, timeout_s: float = _STOP_S) -> None:
    """Waits until nobody takes new connections there."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        assert time.monotonic() < deadline, "the port is still open"
        time.sleep(0.02)


@contextmanager
def running_gateway(
    data_dir: Path,
    environment: Mapping[str, str],
    *,
    prefix: Sequence[str] = (),
    cwd: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    module: Sequence[str] = ("app.cli",),
) -> Iterator[RunningGateway]:
    """Starts `tuwen serve` on a free port; stops it as a supervisor would.

    Args:
        environment: settings and secrets beyond the port and the data folder; nothing of ours leaks in beside them.
        prefix: words before the command, as `taskset -c 0`.
        cwd: where it starts, with the `.env` and `models.local.toml` that lie there; `None`: here.
        module: what is run in place of the command line, and the words before `serve`.
        stdin: a file descriptor it gets as its own, as of a terminal.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TUWEN_") and not name.endswith("_API_KEY")
    }
    settings = {"TUWEN_PORT": "0", "TUWEN_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", *module, "serve"],
        cwd=cwd,
        stdin=stdin,
        env={**inherited, "PYTHONPATH": str(_ROOT), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    gateway = RunningGateway(process, data_dir)
    reader = threading.Thread(target=_collect, args=(process, gateway.output), daemon=True)
    reader.start()
    try:
        served = gateway.wait_for_line(r"serves on http", timeout_s=_START_S)
        gateway.port = int(re.search(r"serves on http://[^ ]+:(\d+)", served)[1])  # type: ignore[index]  # it matched
        minted = re.search(r"sk-tw-[\w-]+", "".join(gateway.output))
        gateway.key = minted[0] if minted else ""
        wait_for_port(gateway.port)
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            reader.join(timeout=5)
            if process.stdout is not None:
                process.stdout.close()


def _collect(process: subprocess.Popen[str], output: list[str]) -> None:
    for line in process.stdout or ():
        output.append(line)  # noqa: PERF402 - each line must be seen the moment it is there
