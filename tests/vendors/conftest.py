"""Every vendor, as its own SDK and its own server would have it. Each test adds to a claim; `make vendors-test` ends
with a line per claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SDKS = Path(sys.prefix) / "vendor-sdks"
_RUN_S = 60

Shown = Callable[..., None]


@pytest.fixture
def shown(record_property: Callable[[str, object], None]) -> Shown:
    """Notes what a test has shown: `shown("a claim", exchanges=3)`. Counts of one claim are added up."""

    def note(claim: str, **counts: int) -> None:
        record_property("claim", json.dumps([claim, counts]))

    return note


def run_sdk(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None, stdin: str = ""
) -> list[dict[str, Any]]:
    """Runs `tests/vendors/<script>` where the vendors' SDKs can be imported; the JSON lines it printed."""
    assert SDKS.is_dir(), "the vendors' SDKs are not there: run `make vendors-test`, it installs them"
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / script), *arguments],
        env={**inherited, "PYTHONPATH": str(SDKS), **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    claims: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for report in terminalreporter.stats.get("passed", []):
        for name, value in getattr(report, "user_properties", ()):
            if name == "claim":
                claim, counts = json.loads(value)
                for unit, count in counts.items():
                    claims[claim][unit] += count
    for claim, counts in sorted(claims.items()):
        figures = ", ".join(f"{count} {unit.replace('_', ' ')}" for unit, count in counts.items())
        terminalreporter.write_line(f"shown: {claim}: {figures}")
