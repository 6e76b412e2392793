"""`tuwen serve` with a probe beside it: how late the event loop is. Every 5 ms a timer is due; each delay is noted, and
all of them are written when SIGUSR1 comes.

    python -m tests.reliability.probed LAGS.json serve
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import app.commands.serve as command
from app.cli import main

_EVERY_S = 0.005


def _probing(create_app: Callable[..., Any], file: Path) -> Callable[..., Any]:
    def create(*args: Any, **named: Any) -> Any:
        made = create_app(*args, **named)
        lifespan = made.router.lifespan_context

        @asynccontextmanager
        async def probed(app: Any) -> AsyncIterator[Any]:
            async with lifespan(app) as state:
                task = asyncio.create_task(_probe(file))
                yield state
                task.cancel()

        made.router.lifespan_context = probed
        return made

    return create


async def _probe(file: Path) -> None:
    loop = asyncio.get_running_loop()
    lags_ms = array("d")

    def write() -> None:
        file.with_suffix(".new").write_text(json.dumps(list(lags_ms)))
        file.with_suffix(".new").rename(file)
        del lags_ms[:]

    loop.add_signal_handler(signal.SIGUSR1, write)
    while True:
        due_s = loop.time() + _EVERY_S
        await asyncio.sleep(_EVERY_S)
        lags_ms.append((loop.time() - due_s) * 1000)


if __name__ == "__main__":
    command.create_app = _probing(command.create_app, Path(sys.argv.pop(1)))
    main()
