"""Event loops for tests of sockets that this code meddles with: the gateway's, and the one of commands and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    on_both = item.path.name.startswith("test_fetch_wrapping")
    return both if on_both else {"asyncio": asyncio.new_event_loop}
