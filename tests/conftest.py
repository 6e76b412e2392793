"""What holds for every test. Sockets are limited to loopback by pytest-socket, see pyproject.toml."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# A busy machine makes single examples slow; that is no failure.
settings.register_profile("tuwen", deadline=None, print_blob=True)
settings.load_profile("tuwen")


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that ran in this process has set how the whole process logs; the next test is not to hear of it."""
    before, root = structlog.get_config(), logging.getLogger()
    level = root.level
    yield
    structlog.configure(**before)
    root.setLevel(level)
