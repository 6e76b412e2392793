"""Several processes behind one address, as `tuwen serve` starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.support.gateway import RunningGateway, running_gateway
from tests.support.services import redis, redis_url

__all__ = ["redis", "redis_url"]

_SOON_S = 40
_TWO = {"TUWEN_WORKERS": "2"}


def workers_of(gateway: RunningGateway) -> set[int]:
    """The processes that serve."""
    found = subprocess.run(["pgrep", "-P", str(gateway.pid)], capture_output=True, text=True, check=False)
    return {int(pid) for pid in found.stdout.split()}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SOON_S
    while not condition():
        assert time.monotonic() < deadline, "that never came"
        time.sleep(0.05)


def answers(gateway: RunningGateway) -> bool:
    try:
        return httpx2.get(f"{gateway.root_url}/healthz", trust_env=False, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def test_worker_that_dies_is_replaced_and_all_end_with_their_parent(tmp_path: Path, redis_url: str) -> None:
    """Over five seconds: a gateway of two processes starts, and a third in the place of one."""
    with running_gateway(tmp_path / "data", {**_TWO, "TUWEN_REDIS_URL": redis_url}) as gateway:
        wait_until(lambda: answers(gateway))
        first = workers_of(gateway)
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        wait_until(lambda: len(workers_of(gateway)) == 2 and workers_of(gateway) != first)
        assert answers(gateway)
        second = workers_of(gateway)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(_SOON_S) == 0
    assert not any(is_alive(pid) for pid in second)


def test_workers_end_where_their_parent_was_killed(tmp_path: Path, redis_url: str) -> None:
    with running_gateway(tmp_path / "data", {**_TWO, "TUWEN_REDIS_URL": redis_url}) as gateway:
        wait_until(lambda: answers(gateway))
        orphans = workers_of(gateway)
        gateway.process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in orphans))


def test_workers_that_cannot_start_end_all_with_a_reason(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "data").mkdir()
    environment = {
        **os.environ, **_TWO, "TUWEN_REDIS_URL": redis_url, "TUWEN_PORT": "0", "TUWEN_OPEN_ACCESS": "true",
        "TUWEN_DATA_DIR": str(tmp_path / "data"), "TUWEN_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env=environment, capture_output=True, text=True, timeout=_SOON_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "127.0.0.1" in done.stdout + done.stderr


def test_workers_without_redis_are_refused_in_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, **_TWO, "TUWEN_PORT": "0", "TUWEN_DATA_DIR": str(tmp_path / "data")}
    environment.pop("TUWEN_REDIS_URL", None)
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "serve"],
        env=environment, capture_output=True, text=True, timeout=_SOON_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("TUWEN_WORKERS is 2, but")
    assert "TUWEN_REDIS_URL" in done.stderr


def is_alive(pid: int) -> bool:
    """Whether it runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
