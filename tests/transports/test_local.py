"""The queue and the worker process behind it, with the real engine.

Starting a worker takes about a second on two free cores, and tests that end one start another. It gives way to
everything else, so that on a busy machine some tests take over five.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
)
from app.core.types import Image, LocalCall
from app.transports.local import LocalTransport
from app.transports.ocr_process import OcrProcess
from app.transports.ocr_wire import Done, Piece, Pieces, Ready, encode
from tests.transports.drawn import lines, png

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICTURES = Path(__file__).parents[2] / "samples" / "pictures"
PAGE = (PICTURES / "page.jpg").read_bytes()
CARD = png(lines("Settings", size_px=(240, 72))[0])


def call(*pictures: bytes) -> LocalCall:
    return LocalCall("ocr", tuple(Image(data, "image/jpeg", 1, 1, sha256="") for data in pictures))


@asynccontextmanager
async def transport(**settings: Any) -> AsyncIterator[LocalTransport]:
    local = LocalTransport(**settings)
    try:
        yield local
    finally:
        await local.aclose()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ocr() -> AsyncGenerator[LocalTransport, None]:
    """One worker for the tests that leave it alive."""
    async with transport(ocr_queue=2) as local:
        yield local


async def records(local: LocalTransport, *pictures: bytes) -> AsyncGenerator[dict[str, Any], None]:
    async with local.open(call(*pictures), backend="local", connect_s=1) as reply, aclosing(reply.frames()) as batches:
        async for batch in batches:
            assert batch
            for frame in batch:
                yield json.loads(frame.data)


async def whole(local: LocalTransport, *pictures: bytes) -> list[dict[str, Any]]:
    async with aclosing(records(local, *pictures)) as rest:
        return [record async for record in rest]


def text(answer: list[dict[str, Any]]) -> str:
    return "\n".join(record["text"] for record in answer if "text" in record)


async def ended(pid: int) -> None:
    """Waits for the end of a process, ours or not."""
    descriptor = os.pidfd_open(pid)
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(10):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def test_the_first_line_comes_long_before_the_last(ocr: LocalTransport) -> None:
    await whole(ocr, CARD)
    clock = asyncio.get_running_loop().time
    began = clock()
    async with aclosing(records(ocr, PAGE)) as answer:
        arrivals = [clock() - began async for _ in answer]
    assert len(arrivals) == 23
    assert arrivals[0] < 0.8 * arrivals[-1]


async def test_records_name_picture_row_place_and_confidence(ocr: LocalTransport) -> None:
    answer = await whole(ocr, PAGE, CARD)
    assert [record["image"] for record in answer if record.get("done")] == [0, 1]
    title = answer[0]
    assert (title["image"], title["row"], title["text"]) == (0, 0, "The Lighthouse at Marrow Point")
    assert title["confidence"] > 0.9
    (left, top), _, (right, bottom), _ = title["polygon"]
    assert (left + right) / 2 == pytest.approx(500, abs=8)  # it is drawn around x = 500, y = 120
    assert (top + bottom) / 2 == pytest.approx(120, abs=8)


async def test_a_call_without_pictures_starts_no_worker_and_needs_no_place() -> None:
    async with transport(ocr_queue=0) as local:
        async with local.open(call(PAGE), backend="local", connect_s=1):
            assert await whole(local) == []
        async with local.open(call(), backend="local", connect_s=1) as reply:
            assert (reply.status, dict(reply.headers), await reply.body()) == (200, {}, b"")
        assert local.worker_pid is None


async def test_a_full_queue_says_when_to_come_back(ocr: LocalTransport) -> None:
    async with ocr.open(call(PAGE), backend="local", connect_s=1):
        waiting = [asyncio.create_task(whole(ocr, CARD)) for _ in range(2)]
        await asyncio.sleep(0)  # lets both take their places
        assert ocr.waiting == 3
        with pytest.raises(BackendBusy) as busy:
            await whole(ocr, PAGE)
        assert busy.value.backend == "local"
        assert busy.value.retry_after_s is not None
        assert 1 <= busy.value.retry_after_s <= 5
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
    assert ocr.waiting == 0


async def test_who_leaves_the_queue_frees_a_place(ocr: LocalTransport) -> None:
    async with ocr.open(call(PAGE), backend="local", connect_s=1) as first:
        running = first.frames()
        await anext(running)
        waiting = [asyncio.create_task(whole(ocr, CARD)) for _ in range(2)]
        await asyncio.sleep(0)  # lets both take their places
        with pytest.raises(BackendBusy):
            await whole(ocr, PAGE)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        assert ocr.waiting == 2
        late = asyncio.create_task(whole(ocr, PAGE))
        await running.aclose()
    assert text(await waiting[1]) == "Settings"
    assert "Lighthouse" in text(await late)


async def test_a_request_that_leaves_in_mid_picture_spoils_no_other(ocr: LocalTransport) -> None:
    pid = ocr.worker_pid
    expected = await whole(ocr, CARD)
    for _ in range(2):
        async with aclosing(records(ocr, PAGE, PAGE)) as answer:
            await anext(answer)
        assert await whole(ocr, CARD) == expected
    assert ocr.worker_pid == pid


async def test_a_request_cancelled_while_it_waits_for_a_line_frees_the_worker(ocr: LocalTransport) -> None:
    leaving = asyncio.create_task(whole(ocr, PAGE))
    staying = asyncio.create_task(whole(ocr, CARD))
    await asyncio.sleep(0)
    leaving.cancel()
    assert text(await staying) == "Settings"


async def test_bytes_that_are_no_picture_are_refused_and_the_worker_lives_on(ocr: LocalTransport) -> None:
    pid = ocr.worker_pid
    for data in (b"", b"no picture"):
        with pytest.raises(BackendRefused):
            await whole(ocr, data)
    assert text(await whole(ocr, CARD)) == "Settings"
    assert ocr.worker_pid == pid


async def test_a_crash_costs_one_request(ocr: LocalTransport) -> None:
    await whole(ocr, CARD)
    crashed_pid = ocr.worker_pid
    assert crashed_pid is not None
    async with aclosing(records(ocr, PAGE, PAGE, PAGE)) as running:
        await anext(running)
        waiting = asyncio.create_task(whole(ocr, CARD))
        os.kill(crashed_pid, signal.SIGKILL)
        with pytest.raises(BackendUnavailable) as crash:
            [record async for record in running]
    assert crash.value.retryable
    assert crash.value.backend == "local"
    assert "-9" in crash.value.detail
    assert text(await waiting) == "Settings"
    assert ocr.worker_pid not in {None, crashed_pid}


async def test_a_worker_killed_while_idle_costs_nothing(ocr: LocalTransport) -> None:
    await whole(ocr, CARD)
    pid = ocr.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    while ocr.worker_pid is not None:
        await asyncio.sleep(0)  # until the loop has seen the end of its pipe
    assert text(await whole(ocr, CARD)) == "Settings"


async def test_a_stuck_worker_is_killed_and_replaced() -> None:
    async with transport(ocr_picture_s=3.0) as local:
        await whole(local, CARD)
        pid = local.worker_pid
        assert pid is not None
        local._engine._picture_s = 0.2  # so that loading above had its time
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(BackendTimeout):
            await whole(local, CARD)
        assert local.worker_pid is None


async def test_an_idle_worker_gives_its_memory_back_and_comes_again_when_needed() -> None:
    async with transport(ocr_idle_s=0.05) as local:
        pids = set()
        for _ in range(2):
            async with aclosing(records(local, CARD)) as answer:
                await anext(answer)
                pid = local.worker_pid
                assert pid is not None
                pids.add(pid)
            await ended(pid)
            assert local.worker_pid is None
        assert len(pids) == 2


async def test_a_caller_who_leaves_while_the_models_load_leaves_them_loading() -> None:
    async with transport() as local:
        leaving = asyncio.create_task(whole(local, CARD))
        while local._engine._start is None:
            await asyncio.sleep(0)
        start = local._engine._start
        leaving.cancel()
        await asyncio.wait([leaving])
        assert not start.done()
        assert text(await whole(local, CARD)) == "Settings"
        assert local._engine._start is start


async def test_closing_while_the_models_load_ends_the_worker() -> None:
    local = LocalTransport()
    leaving = asyncio.create_task(whole(local, CARD))
    while local._engine._start is None:
        await asyncio.sleep(0)
    await local.aclose()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert local.worker_pid is None


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named rapidocr that the worker finds before the real one."""
    package = tmp_path / "rapidocr"
    package.mkdir()
    (package / "main.py").write_text("class RapidOCRError(Exception): ...\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return package / "__init__.py"


@pytest.mark.parametrize(
    ("package", "error", "detail"),
    [
        ("print('noise on standard output')\nraise ImportError('gone')", BackendMisconfigured, "gone"),
        ("", BackendMisconfigured, "PP-OCRv6_det_small.onnx"),
        ("import os; os._exit(3)", BackendUnavailable, "ended with"),
        ("import time; time.sleep(60)", BackendTimeout, ""),
    ],
    ids=["not installed", "without models", "crashes", "hangs"],
)
async def test_a_worker_that_cannot_start_says_why(
    stand_in: Path, package: str, error: type[BackendError], detail: str
) -> None:
    stand_in.write_text(package)
    async with transport(ocr_start_s=3.0 if error is not BackendTimeout else 0.3, ocr_threads=1) as local:
        for _ in range(2):  # the second finds the first's ruins
            with pytest.raises(error) as failure:
                await whole(local, CARD)
            assert detail in failure.value.detail


async def test_a_machine_that_cannot_run_the_worker_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with transport() as local:
        with pytest.raises(BackendUnavailable):
            await whole(local, CARD)


@pytest.mark.parametrize("noise", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1"], ids=["oversized", "no message"])
async def test_a_worker_that_talks_nonsense_is_ended(noise: bytes) -> None:
    program = f"import os, sys; os.write(1, {noise!r}); sys.stdin.read()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    worker = OcrProcess(process)
    with pytest.raises(BackendUnavailable):
        [row async for row in worker.read(PAGE, text_score=0.5, bound_s=5)]
    assert not worker.is_alive
    await worker.stop()


async def test_what_a_dropped_job_left_behind_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    left = Piece(0, "left behind", ((0, 0), (1, 0), (1, 1), (0, 1)), 0.9)
    said = tmp_path / "said"
    said.write_bytes(b"".join(encode(message) for message in (Ready(), Pieces(0, [left]), Done(0), Done(1))))
    process = await asyncio.create_subprocess_exec(
        "/bin/cat", str(said), "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    worker = OcrProcess(process)
    assert [row async for row in worker.read(b"", text_score=0.5, bound_s=5)] == []
    await worker.stop()


async def test_the_worker_inherits_no_descriptor_and_writes_nothing_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    ours = os.pipe()
    os.set_inheritable(ours[0], True)
    async with transport() as local:
        await whole(local, CARD)
        theirs = {path.readlink() for path in Path(f"/proc/{local.worker_pid}/fd").iterdir()}
        assert Path(f"/proc/self/fd/{ours[0]}").readlink() not in theirs
        assert not [link for link in theirs if str(link).startswith("socket:")]
    for descriptor in ours:
        os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


_GATEWAY = """
import asyncio, os, sys
from pathlib import Path
from app.core.types import Image, LocalCall
from app.transports.local import LocalTransport

async def main():
    image = Image(Path(sys.argv[1]).read_bytes(), "image/png", 1, 1, "")
    local = LocalTransport()
    async with local.open(LocalCall("ocr", (image,)), backend="b", connect_s=1) as reply:
        async for batch in reply.frames():
            heavy = {"rapidocr", "onnxruntime", "cv2", "numpy", "PIL"} & set(sys.modules)
            print(local.worker_pid, sorted(heavy), flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_gateway_stays_light_and_its_sudden_death_ends_the_worker() -> None:
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _GATEWAY, str(PICTURES / "screenshot.png"), stdout=subprocess.PIPE
    )
    assert gateway.stdout is not None
    pid, heavy = (await gateway.stdout.readline()).decode().split(maxsplit=1)
    assert heavy.strip() == "[]"
    gateway.kill()
    await gateway.wait()
    await ended(int(pid))
    await gateway.communicate()
