"""Other processes on the same database, that begin together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PATIENCE_S = 60


def start(place: str | Path, task: str, *words: str | Path) -> subprocess.Popen[str]:
    """A worker that has its imports behind it, and waits to be told to go on."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.worker", str(place), task, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(*workers: subprocess.Popen[str]) -> None:
    """Lets the workers go on together, once all are ready."""
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()


def outputs(*workers: subprocess.Popen[str]) -> list[str]:
    """Lets the workers go on together; what each said."""
    let_go(*workers)
    said = [worker.communicate(timeout=PATIENCE_S)[0].strip() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * len(workers)
    return said


def said_until_killed(worker: subprocess.Popen[str], lines: int) -> list[str]:
    """Lets a worker go on, kills it after so many lines; all that it said."""
    let_go(worker)
    assert worker.stdout
    with worker:
        said = [worker.stdout.readline().strip() for _ in range(lines)]
        worker.kill()
        return said + worker.stdout.read().split()
