"""Two hundred pictures of four megabytes at once, before a gateway that has two gibibytes of memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.reliability.conftest import Shown
from tests.support.endless import endless
from tests.support.gateway import RunningGateway, running_gateway

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 2 * 1024**3
CALLERS = 200
ROUNDS = 3
MOST_LAG_MS = 20
MOST_WAIT_S = 2
MIB = 1024 * 1024


class Cage:
    """What bounds a process's memory: a control group where one can be made, else the limit on its data."""

    def __init__(self, name: str) -> None:
        version_1 = Path("/sys/fs/cgroup/memory")
        self._folder = (version_1 if version_1.is_dir() else Path("/sys/fs/cgroup")) / name
        self._limit = "memory.limit_in_bytes" if version_1.is_dir() else "memory.max"
        self.is_group = False

    def __enter__(self) -> Cage:
        with suppress(OSError):
            self._folder.mkdir()
            (self._folder / self._limit).write_text(str(MEMORY_BYTES))
            self.is_group = True
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._folder.rmdir()

    @property
    def prefix(self) -> list[str]:
        """Words before a command that is to run within."""
        if not self.is_group:
            return ["prlimit", f"--data={MEMORY_BYTES}", "--"]
        return ["sh", "-c", f'echo $$ > {self._folder}/cgroup.procs && exec "$@"', "--"]

    @property
    def kills(self) -> int:
        """How often the kernel ended something within for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):
                words = (self._folder / name).read_text(encoding="utf-8").split()
                return int(words[words.index("oom_kill") + 1])
        return 0


@contextmanager
def probed_gateway(folder: Path, models: str, cage: Cage) -> Iterator[RunningGateway]:
    """The gateway within the cage; SIGUSR1 makes it write how late its loop was."""
    (folder / "models.toml").write_text(models)
    environment = {"TUWEN_MODELS_FILE": str(folder / "models.toml"), "TUWEN_LOG_LEVEL": "warning"}
    with running_gateway(
        folder / "data", environment, prefix=cage.prefix, module=("tests.reliability.probed", str(folder / "lags.json"))
    ) as gateway:
        httpx2.get(f"{gateway.root_url}/healthz", timeout=30, trust_env=False)  # it has started once it answers
        yield gateway


def lags_ms(gateway: RunningGateway, folder: Path) -> list[float]:
    """The delays noted since this was last asked, least first."""
    file = folder / "lags.json"
    file.unlink(missing_ok=True)
    os.kill(gateway.pid, signal.SIGUSR1)
    deadline_s = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return sorted(json.loads(file.read_text()))


def crowd(gateway: RunningGateway) -> list[tuple[int, int, float]]:
    """Status, Retry-After and time of each answer."""
    words = [str(gateway.port), gateway.key, str(CALLERS), "brief-300"]
    command = [sys.executable, "-m", "tests.reliability.crowd", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=300)
    return [(status, retry, after) for status, retry, after in json.loads(done.stdout)]


def peak_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0])


def test_crowd_of_large_pictures_is_borne(tmp_path: Path, shown: Shown) -> None:
    with (
        endless() as upstream,
        Cage(f"tuwen-{os.getpid()}") as cage,
        probed_gateway(tmp_path, upstream.models, cage) as gateway,
    ):
        lags_ms(gateway, tmp_path)
        answers = [answer for _ in range(ROUNDS) for answer in crowd(gateway)]
        lags = lags_ms(gateway, tmp_path)
        peak_mib = peak_kib(gateway.pid) // 1024
        assert cage.kills == 0
    statuses = Counter(status for status, _, _ in answers)
    refused = sorted(after for status, _, after in answers if status == 429)
    retries = {retry for status, retry, _ in answers if status == 429}
    p99_ms, worst_ms = lags[int(len(lags) * 0.99)], lags[-1]
    shown(
        f"{ROUNDS} times {CALLERS} pictures of 4 MB at once within 2 GiB",
        answered=statuses[200],
        refused=statuses[429],
        s_to_the_last_refusal=round(refused[-1], 2),
        MiB_at_most=peak_mib,
        ms_of_lag_p99=round(p99_ms, 1),
        ms_at_worst=round(worst_ms, 1),
    )
    assert set(statuses) == {200, 429}, statuses
    assert statuses[200] >= ROUNDS * 20
    assert retries <= {1, 2, 3, 4, 5}
    assert refused[-1] < MOST_WAIT_S
    assert p99_ms <= MOST_LAG_MS
