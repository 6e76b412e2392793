"""A worker that does not end does not keep its supervisor from ending."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from app.commands.draining_server import ENDING_S
from tests.e2e.test_workers import answers, is_alive, wait_until, workers_of
from tests.reliability.conftest import Shown
from tests.support.gateway import running_gateway
from tests.support.services import redis, redis_url

__all__ = ["redis", "redis_url"]


def test_worker_that_hangs_is_killed_once_its_time_is_up(tmp_path: Path, redis_url: str, shown: Shown) -> None:
    """A quarter of a minute: twice what a worker may take to end."""
    environment = {
        "TUWEN_WORKERS": "2",
        "TUWEN_REDIS_URL": redis_url,
        "TUWEN_DRAIN_S": "1",
        "TUWEN_DRAIN_NOTICE_S": "0",
    }
    with running_gateway(tmp_path, environment) as gateway:
        wait_until(lambda: answers(gateway))
        workers = workers_of(gateway)
        hanging = min(workers)
        os.kill(hanging, signal.SIGSTOP)
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_line(rf"workers that did not end are killed.*{hanging}", timeout_s=1 + 4 * ENDING_S)
        code = gateway.process.wait(10)
    assert not any(map(is_alive, workers))
    assert code == 1, "a supervisor hears of it"
    shown("a worker that hangs is killed", exit_code=code)
