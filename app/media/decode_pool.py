"""Decode workers as they come and go: as many as there are cores, each a process that may be killed over a picture.

A crash, or a bound that was met, costs the picture it happened over and no other: what waits gets another worker. Who
leaves frees the worker at once, or a moment later where the picture is all but done.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

import structlog
from typing_extensions import override

from app.core.errors import InternalError
from app.core.types import Image, ImageRules
from app.media.containers.model import BrokenContainer, Container
from app.media.decode_process import WORK, DecodeBounds, DecodeProcess, DecoderEnded, NotTaken
from app.media.decode_wire import Draw, Faulty, Order, Refused, Rewrite
from app.media.image import PictureBounds
from app.observe.metrics import Reading

Result = TypeVar("Result")

_LARGE_PIXELS = 12_500_000
"""Larger pictures are decoded one at a time, for each may take a gigabyte; and by a worker that then ends."""
_PICTURES_MAX = 1000
"""Per worker; a fresh one has leaked nothing."""
_STARTS_MAX = 3
_START_S = 60.0
_LEFT_S = 0.5
"""How long a picture nobody waits for is worked on: cheaper than another worker where it is all but done."""
_SLOW = "takes too long to decode; send a smaller one, or save it as a plain JPEG or PNG"
_CRASHED = "cannot be decoded: the decoder broke down over it; export it again, smaller or as JPEG or PNG"
_NO_WORKER, _NO_WORKER_CHINESE = "Pictures cannot be decoded at the moment.", "网关暂时无法解码图片。"
_log = structlog.get_logger(__name__)


class Undecodable(BrokenContainer):
    """A picture of the order cannot be used.

    Args:
        index: which.
    """

    def __init__(self, index: int, reason: str, code: str | None = None) -> None:
        super().__init__(reason, code=code)
        self.index = index


class Decoders(Protocol):
    """What decodes and writes pictures, elsewhere."""

    async def rewrite(self, container: Container, rules: ImageRules, bounds: PictureBounds) -> Image:
        """As `image.rewritten`.

        Raises:
            Undecodable: the picture cannot be used.
        """
        ...

    async def draw(self, pictures: Sequence[Image], rules: ImageRules) -> Image:
        """As `sheet.drawn`.

        Raises:
            Undecodable: the pixels of one cannot be had.
        """
        ...


class DecodePool(Decoders):
    """The workers.

    Args:
        workers: how many at most; 0: as many as this process has cores.
        idle_s: after so long without a picture a worker ends and gives its memory back; one stays ready.
        work: MODULE:FUNCTION of what a worker does with an order.
    """

    def __init__(
        self,
        bounds: DecodeBounds | None = None,
        *,
        workers: int = 0,
        idle_s: float = 300.0,
        work: str = WORK,
    ) -> None:
        count = workers or _cores()
        self._bounds = bounds or DecodeBounds()
        self._work = work
        self._idle_s = idle_s
        self._slots = asyncio.Semaphore(count)
        self._large = asyncio.Semaphore(1)
        self._threads = ThreadPoolExecutor(2 * count, thread_name_prefix="tuwen-decode")  # some say goodbye meanwhile
        self._idle: list[tuple[DecodeProcess, float]] = []
        self._busy: set[DecodeProcess] = set()
        self._tasks: set[asyncio.Task[Image]] = set()
        self._farewells: set[asyncio.Future[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._waiting = 0
        self._starts = 0
        self._outcomes: Counter[str] = Counter()

    @property
    def pids(self) -> list[int]:
        """The processes that run, those that work first."""
        return [worker.pid for worker in (*self._busy, *(worker for worker, _ in self._idle))]

    def readings(self) -> Iterator[Reading]:
        """What the workers have done, for whoever looks after the gateway."""
        yield Reading("tuwen_decode_workers", "Decode workers that run.", len(self._busy) + len(self._idle))
        yield Reading("tuwen_decode_waiting", "Pictures that wait for a decode worker.", self._waiting)
        yield Reading("tuwen_decode_starts_total", "Decode workers started.", self._starts)
        for outcome in ("made", "refused", "slow", "crashed", "left"):
            of_outcome = (("outcome", outcome),)
            yield Reading("tuwen_decodes_total", "Pictures decoded.", self._outcomes[outcome], of_outcome)

    def warm(self) -> None:
        """Starts a worker, if none runs, so that the next picture need not wait for it."""
        if not (self._closed or self._idle or self._busy):
            with suppress(InternalError):  # whoever needs it will meet it
                self._rest(self._started())

    @override
    async def rewrite(self, container: Container, rules: ImageRules, bounds: PictureBounds) -> Image:
        order = Rewrite(replace(container, clean=b""), rules, bounds)
        return await self._run(order, [container.clean], container.width_px * container.height_px)

    @override
    async def draw(self, pictures: Sequence[Image], rules: ImageRules) -> Image:
        bodies = [picture.data for picture in pictures]
        bare = tuple(replace(picture, data=b"") for picture in pictures)
        pixels = max(picture.width_px * picture.height_px for picture in pictures)
        return await self._run(Draw(bare, tuple(map(len, bodies)), rules), bodies, pixels)

    async def _run(self, order: Order, bodies: Sequence[bytes], pixels: int) -> Image:
        """Waits for a worker, then for its answer. Who leaves meanwhile leaves the picture a moment to be done."""
        large = pixels > _LARGE_PIXELS
        places = [self._large, self._slots] if large else [self._slots]
        await self._taken(places)
        task = asyncio.create_task(self._decoded(order, bodies, large=large))
        self._tasks.add(task)
        task.add_done_callback(partial(self._over, places))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(_LEFT_S, task.cancel)
            raise

    async def _taken(self, places: Sequence[asyncio.Semaphore]) -> None:
        held = []
        self._waiting += 1
        try:
            for place in places:
                await place.acquire()
                held.append(place)
        except BaseException:
            for place in held:
                place.release()
            raise
        finally:
            self._waiting -= 1

    def _over(self, places: Sequence[asyncio.Semaphore], task: asyncio.Task[Image]) -> None:
        self._tasks.discard(task)
        for place in places:
            place.release()
        if not task.cancelled():
            task.exception()  # looked at, for whoever waited may have left

    async def _decoded(self, order: Order, bodies: Sequence[bytes], *, large: bool) -> Image:
        """Has a worker decode; another, where one ended before it had the order."""
        for _ in range(_STARTS_MAX):
            with self._working(large=large) as worker:
                try:
                    await self._in_thread(worker, partial(worker.hand_over, order, *bodies), _START_S)
                except (NotTaken, TimeoutError) as error:
                    _log.warning("a decode worker ended before its picture; another is asked", detail=str(error))
                    continue
                return await self._answer(worker)
        raise InternalError(_NO_WORKER, chinese=_NO_WORKER_CHINESE)

    @contextmanager
    def _working(self, *, large: bool) -> Iterator[DecodeProcess]:
        """A worker, which rests again afterwards, or ends: where it was killed, broke down, or has done enough."""
        worker = self._worker()
        self._busy.add(worker)
        try:
            yield worker
        finally:
            self._busy.discard(worker)
            if worker.is_usable and not large and worker.pictures < _PICTURES_MAX:
                self._rest(worker)
            else:
                self._retire(worker)

    def _worker(self) -> DecodeProcess:
        """The worker that rested last, so that the others may end; or a new one."""
        while self._idle:
            worker, _ = self._idle.pop()
            if worker.is_usable:
                return worker
            self._retire(worker)
        return self._started()

    def _started(self) -> DecodeProcess:
        try:
            worker = DecodeProcess(self._bounds, self._work)
        except OSError as error:
            _log.error("no decode worker can be started", detail=str(error))
            raise InternalError(_NO_WORKER, chinese=_NO_WORKER_CHINESE) from error
        self._starts += 1
        return worker

    async def _answer(self, worker: DecodeProcess) -> Image:
        try:
            answer = await self._in_thread(worker, worker.answer, self._bounds.longest_s)
        except TimeoutError as error:
            raise self._too_slow(worker.at) from error
        except DecoderEnded as end:
            raise (self._too_slow(end.index) if end.over_time else self._crash(end.index, str(end))) from end
        except asyncio.CancelledError:
            self._outcomes["left"] += 1
            raise
        if isinstance(answer, Faulty):
            worker.kill()
            raise self._crash(answer.index, answer.trace)
        if isinstance(answer, Refused):
            self._outcomes["refused"] += 1
            raise Undecodable(answer.index, answer.reason, answer.code)
        self._outcomes["made"] += 1
        return answer

    def _too_slow(self, index: int) -> Undecodable:
        self._outcomes["slow"] += 1
        return Undecodable(index, _SLOW, "image_too_large")

    def _crash(self, index: int, detail: str) -> Undecodable:
        self._outcomes["crashed"] += 1
        _log.error("a decode worker broke down over a picture", detail=detail)
        return Undecodable(index, _CRASHED, "invalid_image")

    async def _in_thread(self, worker: DecodeProcess, call: Callable[[], Result], bound_s: float) -> Result:
        """Runs what blocks. Where it takes too long, or nobody waits for it any more, the worker is killed, which ends
        it.

        Raises:
            TimeoutError: it took too long.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        future.add_done_callback(_look_at_result)
        try:
            async with asyncio.timeout(bound_s):
                return await asyncio.shield(future)
        except (TimeoutError, asyncio.CancelledError):
            worker.kill()
            raise

    def _rest(self, worker: DecodeProcess) -> None:
        if self._closed:
            self._retire(worker)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((worker, loop.time()))
        if self._sweep is None:
            self._sweep = loop.call_later(self._idle_s, self._end_idle)

    def _end_idle(self) -> None:
        """Ends workers that idled for long; the last one stays, or makes room for a fresh one."""
        self._sweep = None
        now_s = asyncio.get_running_loop().time()
        stale = [each for each in self._idle if each[1] + self._idle_s <= now_s]
        if len(stale) == len(self._idle) and not self._busy:
            stale = [each for each in stale if each[0].pictures] or stale[1:]
        self._idle = [each for each in self._idle if each not in stale]
        for worker, _ in stale:
            self._retire(worker)
        self.warm()
        if self._sweep is None and self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)

    def _retire(self, worker: DecodeProcess) -> None:
        farewell = asyncio.get_running_loop().run_in_executor(self._threads, worker.close)
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        if not (self._closed or self._waiting):
            self.warm()

    async def aclose(self) -> None:
        """Ends all workers, whatever they do."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for worker, _ in self._idle:
            self._retire(worker)
        self._idle.clear()
        if self._farewells:
            await asyncio.wait(self._farewells)
        self._threads.shutdown()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _look_at_result(future: asyncio.Future[Result]) -> None:
    """Keeps asyncio from complaining of an error that nobody waited for."""
    if not future.cancelled():
        future.exception()
