"""The endless upstream in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.services import mortal

_ROOT = Path(__file__).parents[2]
_STOP_S = 5


@dataclass(frozen=True, slots=True)
class Endless:
    """Where it listens."""

    port: int

    @property
    def models(self) -> str:
        """A catalogue: its models by their own names, and Spark's `lite` as `spark-endless`."""
        return f"""
[backends.endless]
kind = "openai"
base_url = "http://127.0.0.1:{self.port}/v1"

[backends.spark-endless]
kind = "spark"
app_id = "app"
api_key = "key"
api_secret = "secret"
text_base_url = "ws://127.0.0.1:{self.port}"

[models.spark-endless]
routes = [{{ backend = "spark-endless", model = "lite" }}]

[models."*"]
routes = [{{ backend = "endless", model = "*" }}]
"""

    @property
    def under_way(self) -> int:
        """Answers that it gives at this moment."""
        return self._counts()["open"]

    @property
    def asked(self) -> int:
        """Requests that were sent to it whole."""
        return self._counts()["asked"]

    def _counts(self) -> dict[str, int]:
        address = f"http://127.0.0.1:{self.port}/__admin/open"
        with urllib.request.urlopen(address, timeout=10) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


@contextmanager
def endless() -> Iterator[Endless]:
    """Starts it on a free port; ends it with the block."""
    process = subprocess.Popen(
        mortal([sys.executable, "-m", "tests.fakes.endless", "--port", "0"]),
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
            yield Endless(int(line.rsplit(":", 1)[1]))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
