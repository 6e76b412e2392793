"""A lab for `tuwen ask`, and a gateway that answers as a test says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.ask.lab import KEY, Lab, ScriptedGateway
from tests.fakes.upstream import Upstream
from tests.support.gateway import free_port


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Nothing of the machine's own settings leaks in."""
    for name in list(os.environ):
        if name.startswith("TUWEN_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Lab(tmp_path, {"TUWEN_PORT": str(free_port())})


@pytest.fixture
def gateway(lab: Lab) -> Iterator[ScriptedGateway]:
    """The lab's environment leads to it."""
    with Upstream(api_key=KEY).in_thread() as upstream:
        lab.environment |= {"TUWEN_BASE_URL": upstream.url, "TUWEN_API_KEY": KEY}
        yield ScriptedGateway(upstream)
