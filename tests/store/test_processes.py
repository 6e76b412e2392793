"""Several processes on one file, and one that dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.accounts.keys import Authenticator
from app.core.clock import Clock
from app.store.secret import server_secret
from app.store.sql import SqlStore


def start(path: Path, task: str, name: str = "") -> subprocess.Popen[str]:
    """A worker that has its imports behind it as soon as it is told to go on."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.worker", str(path), task, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def outputs(*workers: subprocess.Popen[str]) -> list[str]:
    """Lets the workers go on together; what each said."""
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    said = [worker.communicate(timeout=30)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tuwen.db"


async def test_row_is_there_after_the_process_that_booked_it_was_killed(path: Path) -> None:
    worker = start(path, "until-killed")
    assert worker.stdin
    assert worker.stdout
    with worker:
        worker.stdin.write("go\n")
        worker.stdin.flush()
        booked = [worker.stdout.readline().strip() for _ in range(20)]
        worker.kill()
        booked += worker.stdout.read().split()
    store = await SqlStore.open(path)
    rows = await store.rows(since=0, limit=1_000_000)
    await store.aclose()
    assert len(booked) >= 20
    assert set(booked) <= {row.request_id for row in rows}


async def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    outputs(start(path, "many", "a"), start(path, "many", "b"))
    store = await SqlStore.open(path)
    assert len(await store.rows(since=0, limit=1000)) == 600
    await store.aclose()


async def test_of_processes_that_start_together_one_mints_the_first_key(path: Path) -> None:
    keys = outputs(*(start(path, "first-key") for _ in range(3)))
    minted = [key for key in keys if key != "None"]
    assert len(minted) == 1
    store = await SqlStore.open(path)
    authenticator = Authenticator(store, server_secret(path.parent, None), clock=Clock())
    assert (await authenticator.caller(minted[0])).admin
    assert len(await store.keys()) == 1
    await store.aclose()
