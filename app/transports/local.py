"""Carries calls to the engine in this machine: a bounded queue before one worker process.

The worker starts at the first picture and ends after a while without one. Requests are served in the order they came.
Who leaves frees its place at once; a crash of the worker costs the request it was serving and no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import MappingProxyType

import msgspec
from typing_extensions import override

from app.core.errors import BackendError, NoRoom
from app.core.types import Frame, LocalCall
from app.transports.base import Reply, Transport
from app.transports.ocr_process import OcrProcess
from app.transports.ocr_wire import Piece

_DEFAULT_TEXT_SCORE = 0.5
_TYPICAL_PICTURE_S = 1.0
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Queue:
    """A line of bounded length before one counter. First come, first served.

    Args:
        max_waiting: how many may stand behind the one being served.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._line: deque[Place] = deque()

    def __len__(self) -> int:
        """How many are in it, the one being served included."""
        return len(self._line)

    def join(self) -> Place | None:
        """A place at the end, or `None` where the queue is full."""
        if len(self._line) > self._max_waiting:
            return None
        place = Place(self)
        self._line.append(place)
        self._call()
        return place

    def leave(self, place: Place) -> None:
        self._line.remove(place)
        self._call()

    def _call(self) -> None:
        if self._line:
            self._line[0].called.set()


class Place:
    """One request's place in the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self.called = asyncio.Event()

    def leave(self) -> None:
        self._queue.leave(self)


class OcrEngine:
    """The worker process as it comes and goes. Serves one request at a time; the queue sees to that."""

    def __init__(self, *, threads: int, idle_s: float, start_s: float, picture_s: float) -> None:
        self._threads = threads
        self._idle_s = idle_s
        self._start_s = start_s
        self._picture_s = picture_s
        self._start: asyncio.Task[OcrProcess] | None = None
        self._retirement: asyncio.TimerHandle | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self.usual_picture_s = _TYPICAL_PICTURE_S

    @property
    def worker(self) -> OcrProcess | None:
        """The process, if one runs."""
        start = self._start
        if start is None or not start.done() or start.cancelled() or start.exception() is not None:
            return None
        return start.result() if start.result().is_alive else None

    async def read(self, picture: bytes, text_score: float) -> AsyncGenerator[list[Piece], None]:
        """Reads a picture row by row, with a fresh worker if the last is gone."""
        worker = await self._running_worker()
        began = asyncio.get_running_loop().time()
        async with aclosing(worker.read(picture, text_score=text_score, bound_s=self._picture_s)) as rows:
            async for row in rows:
                yield row
        took_s = asyncio.get_running_loop().time() - began
        self.usual_picture_s += (took_s - self.usual_picture_s) / 4

    async def _running_worker(self) -> OcrProcess:
        self._keep()
        worker = self.worker
        if worker is not None:
            return worker
        if self._start is not None and self._start.done():
            await self.stop()  # it crashed, or never came up
        if self._start is None:
            self._start = asyncio.create_task(OcrProcess.start(threads=self._threads, start_s=self._start_s))
        # A caller who leaves while it loads leaves it loading, for the next one.
        return await asyncio.shield(self._start)

    def rest(self) -> None:
        """The request being served is over: what it left unread is dropped, and idling begins."""
        worker = self.worker
        if worker is not None:
            worker.drop()
        self._keep()
        if self._start is not None:
            self._retirement = asyncio.get_running_loop().call_later(self._idle_s, self._retire)

    def _keep(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None

    def _retire(self) -> None:
        start, self._start = self._start, None  # at once, so that the next picture cannot get the one that leaves
        farewell = asyncio.create_task(_ended(start))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    async def stop(self) -> None:
        """Ends the worker; the next picture starts another."""
        self._keep()
        start, self._start = self._start, None
        await _ended(start)

    async def aclose(self) -> None:
        """Ends the worker, and waits for one that is on its way out."""
        await self.stop()
        if self._farewells:
            await asyncio.wait(self._farewells)


async def _ended(start: asyncio.Task[OcrProcess] | None) -> None:
    """Ends a worker, or its start."""
    if start is None:
        return
    start.cancel()
    await asyncio.wait([start])
    if not start.cancelled() and start.exception() is None:
        await start.result().stop()


class LocalReply(Reply):
    """The rows of all pictures of one call, one JSON record each piece, and one more at the end of each picture."""

    def __init__(self, call: LocalCall, engine: OcrEngine, backend: str) -> None:
        self.status = 200
        self.headers = _NO_HEADERS
        self._call = call
        self._engine = engine
        self._backend = backend

    @override
    async def body(self) -> bytes:
        return b""

    @override
    async def frames(self) -> AsyncGenerator[Sequence[Frame], None]:
        """One batch per visual row, as it is read.

        Raises:
            BackendUnavailable: the worker could not start, or crashed over this call.
            BackendTimeout: it got stuck and was killed.
            BackendMisconfigured: the engine is not installed.
            BackendRefused: it cannot decode a picture.
        """
        text_score = float(self._call.options.get("text_score", _DEFAULT_TEXT_SCORE))
        try:
            for index, image in enumerate(self._call.images):
                async with aclosing(self._engine.read(image.data, text_score)) as rows:
                    async for pieces in rows:
                        yield [_piece_frame(index, piece) for piece in pieces]
                yield [Frame(msgspec.json.encode({"image": index, "done": True}))]
        except BackendError as error:
            error.backend = self._backend
            raise


def _piece_frame(image_index: int, piece: Piece) -> Frame:
    record = {
        "image": image_index,
        "row": piece.row,
        "text": piece.text,
        "polygon": piece.polygon_px,
        "confidence": piece.confidence,
    }
    return Frame(msgspec.json.encode(record))


class LocalTransport(Transport):
    """Carries `LocalCall`s to the OCR engine.

    Args:
        ocr_queue: requests that may wait for the one being served; more are told to come back.
        ocr_threads: cores the engine may use; 0 means all this process may use.
        ocr_idle_s: after so long without a picture the worker ends and gives its memory back.
        ocr_start_s: bound on loading the models.
        ocr_picture_s: after so long over one picture the worker counts as stuck and is killed.
    """

    queues = True

    def __init__(
        self,
        *,
        ocr_queue: int = 16,
        ocr_threads: int = 0,
        ocr_idle_s: float = 900.0,
        ocr_start_s: float = 60.0,
        ocr_picture_s: float = 60.0,
    ) -> None:
        self._queue = Queue(ocr_queue)
        self._engine = OcrEngine(threads=ocr_threads, idle_s=ocr_idle_s, start_s=ocr_start_s, picture_s=ocr_picture_s)

    @property
    def waiting(self) -> int:
        """Requests in the queue, the one being served included."""
        return len(self._queue)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, `None` while none runs."""
        worker = self._engine.worker
        return None if worker is None else worker.pid

    @override
    @asynccontextmanager
    async def open(self, call: LocalCall, *, backend: str, connect_s: float) -> AsyncIterator[Reply]:
        """Waits for its turn in the queue, where its place is free again when the block ends.

        `connect_s` bounds nothing here: there is no one to connect to.

        Raises:
            NoRoom: the queue is full.
        """
        if not call.images:  # there is nothing to read
            yield LocalReply(call, self._engine, backend)
            return
        place = self._queue.join()
        if place is None:
            raise self._busy(backend)
        try:
            await place.called.wait()
            yield LocalReply(call, self._engine, backend)
        finally:
            if place.called.is_set():
                self._engine.rest()
            place.leave()

    def _busy(self, backend: str) -> NoRoom:
        whole_queue_s = len(self._queue) * self._engine.usual_picture_s
        return NoRoom(
            "The OCR engine has as many requests waiting as it takes; please try again shortly.",
            chinese="OCR 引擎的排队已满，请稍后重试。",
            backend=backend,
            retry_after_s=round(min(5.0, max(1.0, whole_queue_s)), 1),
        )

    @override
    async def aclose(self) -> None:
        await self._engine.aclose()
