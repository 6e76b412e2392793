"""Bugs, planted into a gateway that finds this folder on its path: CANARY_PLANT names them.

crash: a translator fails with all that it holds in its words, once where its caller waits and once in a task that
nobody awaits. leak: a key is printed by mistake.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

_TASKS = set()


def _plant(kinds: list[str]) -> None:
    from app.backends.openai_chat import ChatTranslator  # noqa: PLC0415 - only where something is planted

    call = ChatTranslator.call

    async def lost(made: Any, translator: Any) -> None:
        local = made.headers  # noqa: F841 - where a traceback would show locals
        raise RuntimeError(f"nobody hears of {made!r} {translator!r} {made}")

    def crashing(self: Any, request: Any, context: Any) -> Any:
        made = call(self, request, context)
        if request.user == "leak" and "leak" in kinds:
            sys.stdout.write(f"asked with {made.headers['authorization'].removeprefix('Bearer ')}\n")
            sys.stdout.flush()
        if request.user == "crash" and "crash" in kinds:
            task = asyncio.get_running_loop().create_task(lost(made, self))
            _TASKS.add(task)
            task.add_done_callback(_TASKS.discard)
            raise RuntimeError(f"{made} {self!r} {context!r} {request!r}") from ValueError(f"{made!r}")
        return made

    ChatTranslator.call = crashing  # type: ignore[method-assign]  # a planted leak


if os.environ.get("CANARY_PLANT"):
    _plant(os.environ["CANARY_PLANT"].split())
