"""Decode workers as real processes: killed, crashed, starved and left amid their pictures."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from app.core.errors import InternalError
from app.core.types import Image, ImageRules
from app.media.decode_pool import Undecodable
from app.media.decode_process import DecodeBounds
from tests.media.decoders import ODD, counted, decode_pool, is_alive, odd, told, until

_MIB = 1024 * 1024


async def test_a_picture_is_decoded_in_a_process_of_the_pools() -> None:
    async with decode_pool(work=ODD) as pool:
        pid = (await odd(pool, "plain"))["pid"]
        assert pid != os.getpid()
        assert pid in pool.pids


async def test_a_worker_killed_amid_a_picture_costs_that_picture_alone(tmp_path: Path) -> None:
    async with decode_pool(work=ODD) as pool:
        victim = asyncio.create_task(odd(pool, "hang", told=str(tmp_path / "victim")))
        beside = asyncio.create_task(odd(pool, "hang", told=str(tmp_path / "beside")))
        pid, other = await told(tmp_path / "victim"), await told(tmp_path / "beside")
        queued = [asyncio.create_task(odd(pool, "plain")) for _ in range(8)]
        await until(lambda: counted(pool).get("tuwen_decode_waiting") == 8)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Undecodable, match="broke down over it") as refused:
            await victim
        assert refused.value.code == "invalid_image"
        served = {answer["pid"] for answer in await asyncio.gather(*queued)}
        assert not served & {pid, other}
        assert not beside.done()
        beside.cancel()
        assert counted(pool)["crashed"] == 1
        assert counted(pool)["made"] == 8


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGKILL"])
async def test_a_picture_that_crashes_the_decoder_is_refused_and_the_next_is_not(name: str) -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        with pytest.raises(Undecodable, match="export it again"):
            await odd(pool, "crash", signal=name)
        assert (await odd(pool, "plain"))["pid"] in pool.pids


@pytest.mark.parametrize("do", ["exit", "babble", "raise"])
async def test_a_decoder_that_ends_or_raises_or_says_nonsense_is_a_crash(do: str) -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        with pytest.raises(Undecodable, match="broke down over it"):
            await odd(pool, do)
        assert await odd(pool, "plain")
        assert counted(pool)["crashed"] == 1


async def test_many_crashes_among_many_pictures_cost_themselves_only() -> None:
    async with decode_pool(work=ODD) as pool:
        asked = [odd(pool, "crash", signal="SIGSEGV") if at % 3 == 0 else odd(pool, "plain") for at in range(24)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        crashed = [at for at, result in enumerate(results) if isinstance(result, Undecodable)]
        assert crashed == list(range(0, 24, 3))
        assert all(isinstance(result, dict) for at, result in enumerate(results) if at % 3)


async def test_a_crash_over_a_sheet_is_laid_at_the_door_of_the_picture_it_came_over() -> None:

    tiles = [Image(b"x", "image/png", 1, 1, "0")] * 3
    async with decode_pool(work=ODD) as pool:
        with pytest.raises(Undecodable) as refused:
            await pool.draw(tiles, ImageRules())
        assert refused.value.index == 2


async def test_memory_is_bounded_and_what_is_below_the_bound_is_there() -> None:
    async with decode_pool(DecodeBounds(memory_bytes=512 * _MIB), work=ODD, workers=1) as pool:
        with pytest.raises(Undecodable, match="too large to decode; send a smaller one") as refused:
            await odd(pool, "take", bytes=512 * _MIB)
        assert refused.value.code == "image_too_large"
        assert await odd(pool, "take", bytes=300 * _MIB) == {"taken": 300 * _MIB}
        assert counted(pool)["tuwen_decode_starts_total"] == 1


async def test_cpu_is_bounded_for_each_picture() -> None:
    """The bound is whole seconds of CPU: two of them pass at most."""
    async with decode_pool(DecodeBounds(cpu_s=1), work=ODD, workers=1) as pool:
        with pytest.raises(Undecodable, match="takes too long to decode; send a smaller one") as refused:
            await odd(pool, "spin")
        assert refused.value.code == "image_too_large"
        assert await odd(pool, "plain")
        assert counted(pool)["slow"] == 1


async def test_time_is_bounded_where_no_cpu_is_used() -> None:
    async with decode_pool(DecodeBounds(longest_s=0.3), work=ODD, workers=1) as pool:
        with pytest.raises(Undecodable, match="takes too long to decode"):
            await odd(pool, "hang")
        assert await odd(pool, "plain")


async def test_a_refusal_keeps_its_worker() -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        first = await odd(pool, "plain")
        with pytest.raises(Undecodable, match=r"^is refused$"):
            await odd(pool, "refuse")
        assert await odd(pool, "plain") == first


async def test_who_leaves_frees_the_worker(tmp_path: Path) -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        leaver = asyncio.create_task(odd(pool, "hang", told=str(tmp_path / "pid")))
        pid = await told(tmp_path / "pid")
        leaver.cancel()
        assert (await odd(pool, "plain"))["pid"] != pid
        assert not is_alive(pid)
        assert counted(pool)["left"] == 1


async def test_who_leaves_the_queue_is_never_worked_for(tmp_path: Path) -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        first = asyncio.create_task(odd(pool, "hang", told=str(tmp_path / "first")))
        pid = await told(tmp_path / "first")
        queued = asyncio.create_task(odd(pool, "plain", told=str(tmp_path / "queued")))
        await until(lambda: counted(pool).get("tuwen_decode_waiting") == 1)
        queued.cancel()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Undecodable):
            await first
        assert await odd(pool, "plain")
        assert not (tmp_path / "queued").exists()
        assert "tuwen_decode_waiting" not in counted(pool)


async def test_large_pictures_are_decoded_one_at_a_time_and_small_ones_beside_them(tmp_path: Path) -> None:
    async with decode_pool(work=ODD) as pool:
        one = asyncio.create_task(odd(pool, "hang", side_px=8000, told=str(tmp_path / "one")))
        pid = await told(tmp_path / "one")
        other = asyncio.create_task(odd(pool, "plain", side_px=8000, told=str(tmp_path / "other")))
        await until(lambda: counted(pool).get("tuwen_decode_waiting") == 1)
        assert await odd(pool, "plain")
        assert not (tmp_path / "other").exists()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Undecodable):
            await one
        assert await other


async def test_a_worker_that_dies_idle_costs_nobody() -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        for _ in range(5):
            pid = (await odd(pool, "plain"))["pid"]
            os.kill(pid, signal.SIGKILL)
        assert (await odd(pool, "plain"))["pid"] != pid
        assert "crashed" not in counted(pool)


async def test_workers_that_cannot_start_are_our_fault() -> None:
    async with decode_pool(work="tests.media.odd_decoders:missing") as pool:
        with pytest.raises(InternalError, match="cannot be decoded at the moment"):
            await odd(pool, "plain")


async def test_idle_workers_end_and_a_fresh_one_stays() -> None:
    async with decode_pool(work=ODD, idle_s=0.2) as pool:
        used = {answer["pid"] for answer in await asyncio.gather(odd(pool, "plain"), odd(pool, "plain"))}
        await until(lambda: len(pool.pids) == 1 and not used & set(pool.pids))
        await until(lambda: not any(map(is_alive, used)))


async def test_a_worker_ends_after_a_large_picture() -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        pid = (await odd(pool, "plain", side_px=8000))["pid"]
        assert (await odd(pool, "plain"))["pid"] != pid


async def test_a_warm_worker_is_there_before_the_first_picture_and_serves_it() -> None:
    async with decode_pool(work=ODD) as pool:
        pool.warm()
        [pid] = pool.pids
        assert (await odd(pool, "plain"))["pid"] == pid


async def test_a_worker_has_no_secret_no_foreign_socket_and_leaves_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUWEN_SECRET", "TUWEN_DATABASE_URL", "DASHSCOPE_API_KEY", "MY_OWN_NAME_OF_A_KEY"):
        monkeypatch.setenv(name, "x")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.set_inheritable(True)
        async with decode_pool(DecodeBounds(memory_bytes=700 * _MIB), work=ODD) as pool:
            found = await odd(pool, "look")
    names = set(found["environment"])
    known = {"LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PATH", "PYTHONHOME", "PYTHONPATH"}
    assert {name for name in names - known - {"TMPDIR", "TZ"} if not name.startswith("COVERAGE_")} == set()
    sockets = [leads_to for leads_to in found["descriptors"] if leads_to.startswith("socket:")]
    assert len(sockets) == 1
    assert found["descriptors"].count("/dev/null") == 3
    assert found["core"] == [0, 0]
    assert found["memory"] == [700 * _MIB, 700 * _MIB]
    assert found["oom"] == 1000
    assert found["nice"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_to_the_whole_group_leave_the_picture_to_be_finished(number: int, tmp_path: Path) -> None:
    async with decode_pool(work=ODD, workers=1) as pool:
        working = asyncio.create_task(odd(pool, "await", told=str(tmp_path / "pid"), go=str(tmp_path / "go")))
        pid = await told(tmp_path / "pid")
        os.kill(pid, number)
        (tmp_path / "go").touch()
        assert await working == {"pid": pid}


async def test_closing_ends_every_worker_also_amid_a_picture(tmp_path: Path) -> None:
    async with decode_pool(work=ODD) as pool:
        assert await odd(pool, "plain")
        working = asyncio.create_task(odd(pool, "hang", told=str(tmp_path / "pid")))
        await told(tmp_path / "pid")
        pids = pool.pids
    with pytest.raises(asyncio.CancelledError):
        await working
    assert pids
    assert not any(map(is_alive, pids))
    assert pool.pids == []


async def test_two_pools_share_nothing() -> None:
    async with decode_pool(work=ODD) as one:
        async with decode_pool(work=ODD) as other:
            assert await odd(other, "plain") != await odd(one, "plain")
        assert await odd(one, "plain")


async def test_megabytes_cross_whole_while_the_loop_turns() -> None:
    """As much of the time as it takes the loop turns: one that blocked would turn not at all."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with decode_pool(work=ODD) as pool:
        assert await odd(pool, "plain")
        turning = asyncio.create_task(turn())
        began = time.monotonic()
        assert await odd(pool, "plain", ballast="x" * 40_000_000)
        took_s = time.monotonic() - began
        turning.cancel()
        assert turns > 100 * took_s
