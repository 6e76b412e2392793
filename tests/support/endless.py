"""The endless upstream in a process of its own."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.fake_process import fake_process


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
    with fake_process("tests.fakes.endless") as port:
        yield Endless(port)
