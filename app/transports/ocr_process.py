"""The gateway's end of the OCR worker: starting it, talking to it, noticing its end."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import assert_never

import msgspec

import app
from app.core.errors import BackendMisconfigured, BackendRefused, BackendTimeout, BackendUnavailable
from app.transports.ocr_wire import (
    HEADER_BYTES,
    MAX_ANSWER_BYTES,
    Answer,
    Done,
    Drop,
    Order,
    Piece,
    Pieces,
    Read,
    Ready,
    Unreadable,
    Unusable,
    body_bytes,
    decode_answer,
    encode,
)

_GOODBYE_S = 2.0
_WORKER = "app.transports.ocr_worker"


class OcrProcess:
    """A running worker. It reads one picture at a time; the caller sees to that."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None  # noqa: S101 - both are pipes, the type does not know
        assert process.stdout is not None  # noqa: S101 - likewise
        self._process = process
        self._orders = process.stdin
        self._answers = process.stdout
        self._inbox: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._listener = asyncio.create_task(self._listen())
        self._last_job = 0
        self._running_job: int | None = None

    @classmethod
    async def start(cls, *, threads: int, start_s: float) -> OcrProcess:
        """Starts a worker and waits until its models are loaded.

        Args:
            threads: cores it may use; 0 means all this process may use.
            start_s: bound on loading.

        Raises:
            BackendMisconfigured: the engine is not installed.
            BackendUnavailable: the worker ended before it was ready.
            BackendTimeout: it was not ready in time.
        """
        threads = threads or _cores()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _WORKER, str(threads)), stdin=PIPE, stdout=PIPE, env=_environment(threads)
            )
        except OSError as error:
            words, detail = "The OCR engine could not be started.", str(error)
            raise BackendUnavailable(words, chinese="OCR 引擎无法启动。", detail=detail) from error
        worker = cls(process)
        try:
            async with asyncio.timeout(start_s):
                await worker._become_ready()
        except TimeoutError as error:
            await worker.kill()
            raise BackendTimeout("The OCR engine took too long to start.", chinese="OCR 引擎启动超时。") from error
        except BaseException:
            await worker.kill()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return not self._listener.done()

    async def _become_ready(self) -> None:
        match await self._inbox.get():
            case Ready():
                return
            case Unusable(reason):
                await self.stop()
                words = "The OCR engine is not installed completely."
                raise BackendMisconfigured(words, chinese="OCR 引擎未完整安装。", detail=reason)
            case _:
                words, detail = "The OCR engine ended while it was starting.", await self._last_words()
                raise BackendUnavailable(words, chinese="OCR 引擎在启动过程中退出。", detail=detail)

    async def read(self, picture: bytes, *, text_score: float, bound_s: float) -> AsyncGenerator[list[Piece], None]:
        """Has a picture read, row by row.

        Args:
            bound_s: after so long the worker counts as stuck and is killed.

        Raises:
            BackendUnavailable: the worker crashed.
            BackendTimeout: it got stuck.
            BackendRefused: it cannot decode the picture.
        """
        self._last_job += 1
        job = self._running_job = self._last_job
        deadline = asyncio.get_running_loop().time() + bound_s
        await self._drain(deadline)
        self._send(Read(job, picture, text_score))
        while True:
            match await self._next(job, deadline):
                case Pieces(_, pieces):
                    yield pieces
                case Done():
                    self._running_job = None
                    return
                case Unreadable():
                    self._running_job = None
                    words = "The OCR engine cannot decode this picture; send it as JPEG or PNG."
                    raise BackendRefused(words, chinese="OCR 引擎无法解码该图片，请以 JPEG 或 PNG 格式发送。")
                case None:
                    words, detail = "The OCR engine stopped unexpectedly; please try again.", await self._last_words()
                    raise BackendUnavailable(words, chinese="OCR 引擎意外停止，请重试。", detail=detail)
                case never:  # pragma: no cover - the type checker proves it cannot be reached
                    assert_never(never)

    async def _next(self, job: int, deadline: float) -> Pieces | Done | Unreadable | None:
        """The next answer to this job, past what earlier, dropped ones left behind."""
        async with self._bound(deadline):
            while True:
                answer = await self._inbox.get()
                if answer is None:
                    return None
                if isinstance(answer, Pieces | Done | Unreadable) and answer.job == job:
                    return answer

    async def _drain(self, deadline: float) -> None:
        """Waits until what was written is taken: the pictures of dropped jobs must not pile up before the pipe."""
        async with self._bound(deadline):
            with suppress(ConnectionError):
                await self._orders.drain()

    @asynccontextmanager
    async def _bound(self, deadline: float) -> AsyncIterator[None]:
        """Past the deadline, in the loop's time, the worker counts as stuck."""
        try:
            async with asyncio.timeout_at(deadline):
                yield
        except TimeoutError as error:
            await self.kill()
            words = "The OCR engine took too long over this picture."
            raise BackendTimeout(words, chinese="OCR 引擎识别该图片超时。") from error

    def drop(self) -> None:
        """Nobody waits for the running picture any more. The worker stops after the row it is at."""
        if self._running_job is not None:
            self._send(Drop(self._running_job))
            self._running_job = None

    def _send(self, order: Order) -> None:
        # Not waited for, so that a cancelled wait cannot cut a message. A broken pipe shows as the end of the answers.
        with suppress(ConnectionError):
            self._orders.write(encode(order))

    async def _listen(self) -> None:
        """Takes in all the worker says. Apart from the readers, so that a cancelled one cannot cut a message."""
        with suppress(asyncio.IncompleteReadError, ConnectionError, msgspec.DecodeError):
            while True:
                size = body_bytes(await self._answers.readexactly(HEADER_BYTES))
                if size > MAX_ANSWER_BYTES:
                    break
                self._inbox.put_nowait(decode_answer(await self._answers.readexactly(size)))
        self._inbox.put_nowait(None)

    async def _last_words(self) -> str:
        await self.stop()
        return f"worker {self.pid} ended with {self._process.returncode}"

    async def stop(self) -> None:
        """Ends the worker: kindly, and after a while not."""
        self._orders.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """Ends the worker at once, and its pipes with it."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._orders.close()
        await self._process.wait()
        with suppress(ConnectionError):
            await self._orders.wait_closed()
        await self._listener


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _environment(threads: int) -> dict[str, str]:
    """Ours, with the package found where it was found here, and no thread pools beside the engine's own."""
    home = str(Path(app.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    pools = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return os.environ | pools | {"PYTHONPATH": f"{home}{os.pathsep}{path}" if path else home}
