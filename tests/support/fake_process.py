"""A fake upstream in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.services import mortal

_ROOT = Path(__file__).parents[2]
_STOP_S = 5


@contextmanager
def fake_process(module: str) -> Iterator[int]:
    """Starts it on a free port, which is given; ends it with the block, until when it may not have ended by itself.

    Args:
        module: its command takes `--port`, and prints where it listens.
    """
    process = subprocess.Popen(
        mortal([sys.executable, "-m", module, "--port", "0"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), "the upstream did not start"
            yield int(line.rsplit(":", 1)[1].partition("/")[0])
        finally:
            ended = process.poll()
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            assert ended is None, f"the upstream had ended by itself: {ended}"
