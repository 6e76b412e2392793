"""A changed file is taken into use as a whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from app.config.catalog import Catalog
from app.config.errors import ConfigError
from app.config.reload import CatalogHolder
from tests.config.conftest import Desk

MINE = '[models."mine"]\nroutes = [{ backend = "ocr", model = "x" }]\n'
_REPEAT_S = 0.3
_PATIENCE_S = 4.0


class Watch:
    """A holder, and what it told."""

    def __init__(self, desk: Desk, *, look_again_s: float = 60) -> None:
        self.told = asyncio.Event()
        self.refusals: list[str] = []
        self.holder = CatalogHolder(
            desk.load,
            files=[desk.operator],
            on_reload=self._reloaded,
            on_refused=self._refused,
            look_again_s=look_again_s,
        )

    def _reloaded(self, catalog: Catalog) -> None:
        self.told.set()

    def _refused(self, why: str) -> None:
        self.refusals.append(why)
        self.told.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.holder.watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def told_after(self, act: Callable[[], object]) -> None:
        """Acts until the holder has told of it: the kernel is silent about what was done before the watch stood."""
        self.told.clear()
        async with asyncio.timeout(_PATIENCE_S):
            while not self.told.is_set():
                act()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.told.wait(), _REPEAT_S)


def has_mine(watch: Watch) -> bool:
    return watch.holder.current.find("mine") is not None


async def test_reload_swaps_the_catalogue_and_leaves_the_old_one_whole(desk: Desk) -> None:
    watch = Watch(desk)
    before = watch.holder.current
    desk.operator.write_text(MINE, encoding="utf-8")
    watch.holder.reload()
    assert has_mine(watch)
    assert before.find("mine") is None
    assert watch.refusals == []


async def test_a_wrong_file_is_refused_with_its_line_and_the_old_catalogue_stays(desk: Desk) -> None:
    watch = Watch(desk)
    before = watch.holder.current
    desk.operator.write_text(MINE + 'alias = ["x"]\n', encoding="utf-8")
    watch.holder.reload()
    assert watch.holder.current is before
    assert watch.refusals == ["models.local.toml:3: models.mine.alias: unknown key; did you mean aliases?"]


async def test_a_wrong_first_file_is_an_error_at_once(desk: Desk) -> None:
    desk.operator.write_text("[nonsense", encoding="utf-8")
    with pytest.raises(ConfigError, match="not TOML"):
        Watch(desk)


async def test_a_file_that_appears_later_is_seen(desk: Desk) -> None:
    watch = Watch(desk)
    async with watch.running():
        await watch.told_after(lambda: desk.operator.write_text(MINE, encoding="utf-8"))
    assert has_mine(watch)


async def test_another_file_beside_it_is_let_be(desk: Desk) -> None:
    watch = Watch(desk)
    desk.operator.write_text("", encoding="utf-8")
    watch.holder.reload()  # what was read already is not read again
    texts = iter([*[("notes.txt", "notes")] * 3, *[(desk.operator.name, MINE)] * 10])

    def write_next() -> None:
        name, text = next(texts)
        desk.operator.with_name(name).write_text(text, encoding="utf-8")

    async with watch.running():
        await watch.told_after(write_next)
    assert has_mine(watch)  # had the notes been told of, nothing more would have been written


async def test_a_file_replaced_as_editors_do_is_seen(desk: Desk) -> None:
    desk.operator.write_text(MINE, encoding="utf-8")
    watch = Watch(desk)

    def replace() -> None:
        fresh = desk.operator.with_suffix(".swp")
        fresh.write_text(MINE.replace("mine", "yours"), encoding="utf-8")
        fresh.replace(desk.operator)

    async with watch.running():
        await watch.told_after(replace)
    assert not has_mine(watch)
    assert watch.holder.current.find("yours") is not None


async def test_where_there_is_no_folder_yet_the_file_is_looked_at_now_and_then(desk: Desk) -> None:
    desk.operator = desk.operator.parent / "not-there-yet" / "models.toml"
    watch = Watch(desk, look_again_s=0.05)

    def make_it() -> None:
        desk.operator.parent.mkdir(exist_ok=True)
        desk.operator.write_text(MINE, encoding="utf-8")

    async with watch.running():
        await asyncio.sleep(0)  # lets the watch begin, before there is a folder
        await watch.told_after(make_it)
    assert has_mine(watch)


async def test_where_the_system_has_no_watch_left_the_file_is_looked_at_now_and_then(desk: Desk) -> None:
    watch = Watch(desk, look_again_s=0.05)
    await anyio.sleep(0)  # loads what the watch would load
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY)
    os.close(probe)
    async with watch.running():
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))  # nothing more can be opened
        try:
            await asyncio.sleep(0)  # the watch tries to begin
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await watch.told_after(lambda: desk.operator.write_text(MINE, encoding="utf-8"))
    assert has_mine(watch)


async def test_a_link_led_elsewhere_is_seen(desk: Desk) -> None:
    """As Kubernetes changes a mounted ConfigMap: the file is a link through a folder that is itself a link."""
    for version, text in (("1", ""), ("2", MINE)):
        folder = desk.operator.parent / version
        folder.mkdir()
        (folder / desk.operator.name).write_text(text, encoding="utf-8")
    data = desk.operator.parent / "..data"
    data.symlink_to("1")
    desk.operator.symlink_to(f"..data/{desk.operator.name}")
    watch = Watch(desk)

    def lead_on() -> None:
        fresh = data.with_name("..tmp")
        fresh.symlink_to("2")
        fresh.replace(data)

    async with watch.running():
        await watch.told_after(lead_on)
    assert has_mine(watch)


async def test_a_file_that_goes_takes_its_models_with_it(desk: Desk) -> None:
    desk.operator.write_text(MINE, encoding="utf-8")
    watch = Watch(desk)

    def touch_and_take_away() -> None:
        desk.operator.touch()
        desk.operator.unlink()

    async with watch.running():
        await watch.told_after(touch_and_take_away)
    assert not has_mine(watch)


async def test_a_wrong_change_is_refused_and_the_mended_one_taken(desk: Desk) -> None:
    watch = Watch(desk)
    async with watch.running():
        await watch.told_after(lambda: desk.operator.write_text(MINE + "tarif = 1\n", encoding="utf-8"))
        assert not has_mine(watch)
        assert "did you mean tariff?" in watch.refusals[0]
        await watch.told_after(lambda: desk.operator.write_text(MINE, encoding="utf-8"))
    assert has_mine(watch)


async def test_a_hangup_reloads_and_is_ours_only_while_watching(desk: Desk) -> None:
    watch = Watch(desk)
    default = signal.getsignal(signal.SIGHUP)
    async with watch.running():
        await asyncio.sleep(0)  # lets the watch begin
        assert signal.getsignal(signal.SIGHUP) != default
        await watch.told_after(lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert signal.getsignal(signal.SIGHUP) == default
    assert watch.refusals == []


def test_outside_the_main_thread_files_are_still_watched(desk: Desk) -> None:
    seen: list[bool] = []

    async def watch_once() -> None:
        watch = Watch(desk)
        async with watch.running():
            await watch.told_after(lambda: desk.operator.write_text(MINE, encoding="utf-8"))
        seen.append(has_mine(watch))

    thread = threading.Thread(target=lambda: asyncio.run(watch_once()))
    thread.start()
    thread.join(timeout=_PATIENCE_S + 1)
    assert seen == [True]
