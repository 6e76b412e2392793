"""The catalogue in use, swapped as a whole when its files change. Each process watches for itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from watchfiles import awatch

from app.config.catalog import Catalog
from app.config.errors import ConfigError

_Stamp: TypeAlias = tuple[int, int, int] | None

_STDIN = 0
_SETTLE_MS = 200  # editors write a file in several steps


class CatalogHolder:
    """Keeps the catalogue in use.

    Args:
        load: reads and checks the catalogue.
        files: what it reads; they need not exist.
        on_reload: told of each catalogue taken into use after the first.
        on_refused: told why a changed file was not taken into use.
        look_again_s: how often the files are looked at unprompted; network file systems announce nothing.

    Raises:
        ConfigError: the first catalogue is wrong.
    """

    current: Catalog
    """Requests take it once, at their start, and so see one catalogue from start to end."""

    def __init__(
        self,
        load: Callable[[], Catalog],
        *,
        files: Sequence[Path],
        on_reload: Callable[[Catalog], None],
        on_refused: Callable[[str], None],
        look_again_s: float = 5.0,
    ) -> None:
        self._load = load
        self._files = tuple(files)
        self._on_reload = on_reload
        self._on_refused = on_refused
        self._look_again_s = look_again_s
        self._stamps = self._look()
        self.current = load()

    def reload(self) -> None:
        """Reads the files again. Wrong ones are refused as a whole, and what was in use stays in use."""
        self._stamps = self._look()
        try:
            catalog = self._load()
        except ConfigError as error:
            self._on_refused(str(error))
            return
        self.current = catalog
        self._on_reload(catalog)

    async def watch(self) -> None:
        """Reloads on SIGHUP and when a file changes, is replaced, appears or goes; runs until cancelled.

        The SIGHUP of a terminal that goes away ends the process in order instead.
        """
        with _on_hangup(self.reload):
            async for _ in self._occasions():
                if self._look() != self._stamps:
                    self.reload()

    async def _occasions(self) -> AsyncIterator[None]:
        """When to look at the files: soon after something moved beside them, and now and then in any case."""
        folders = {folder for file in self._files if (folder := file.absolute().parent).is_dir()}
        pause_ms = int(self._look_again_s * 1000)
        try:
            async for _ in awatch(
                *folders, recursive=False, step=_SETTLE_MS, rust_timeout=pause_ms, yield_on_timeout=True
            ):
                yield
        except (OSError, RuntimeError):  # no folder yet, or the system's count of watches is used up
            while True:
                await asyncio.sleep(self._look_again_s)
                yield

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(file) for file in self._files)


def _stamp(file: Path) -> _Stamp:
    """Changes when the file does, also by replacing it or a link on the way to it, as Kubernetes does."""
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size)


@contextmanager
def _on_hangup(action: Callable[[], None]) -> Iterator[None]:
    loop, ours, attended = asyncio.get_running_loop(), False, os.isatty(_STDIN)

    def hung_up() -> None:
        if attended and not os.isatty(
            _STDIN
        ):  # the window was closed: nobody asks for a reload, we must not stay behind
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            action()

    # Windows has no SIGHUP, and a loop outside the main thread gets no signals; changed files are seen all the same
    with suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
        loop.add_signal_handler(signal.SIGHUP, hung_up)
        ours = True
    try:
        yield
    finally:
        if ours:
            loop.remove_signal_handler(signal.SIGHUP)
