"""The metered upstream in a process of its own, and its log."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.fakes.metered import Seen
from tests.support.fake_process import fake_process

_ENDED_S = 10
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Metered:
    """A running upstream."""

    port: int

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    def log(self) -> list[Seen]:
        """All requests that arrived, in order."""
        return [Seen(**row) for row in self._admin("GET", "/__admin/log")]

    def ended(self) -> list[Seen]:
        """The same, once all of them are answered or left."""
        deadline = time.monotonic() + _ENDED_S
        while True:
            log = self.log()
            if all(seen.ended_at is not None for seen in log):
                return log
            assert time.monotonic() < deadline, "the upstream is still being asked"
            time.sleep(_LOOK_S)

    def forget(self) -> None:
        self._admin("POST", "/__admin/reset")

    def _admin(self, method: str, path: str) -> Any:
        request = urllib.request.Request(self.root_url + path, method=method)  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own address
            return json.load(answer)


@contextmanager
def metered() -> Iterator[Metered]:
    """Starts it on a free port; ends it with the block."""
    with fake_process("tests.fakes.metered") as port:
        yield Metered(port)
