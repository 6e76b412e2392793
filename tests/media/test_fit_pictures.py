from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest
from typing_extensions import override

from app.core.errors import ImageRejected
from app.core.types import Image, ImageRules, ImageSource
from app.media.fit import PictureCache, PictureFitter, SourceReader
from app.media.image import PictureBounds
from app.media.workbench import Workbench
from tests.media.decoders import decode_pool
from tests.media.pictures import assert_shows_four_colours, file_of, four_colours, noise

RULES = ImageRules(formats=("jpeg", "png"), min_side_px=1)
PHOTO = file_of(noise(300, 300), "JPEG", quality=95)  # over 64 KiB: worked on in a thread
DRAWING = file_of(four_colours(), "BMP")


class Shelf(SourceReader):
    """Serves bytes by name and counts how often."""

    def __init__(self, **files: bytes) -> None:
        self.files = files
        self.reads = 0

    @override
    async def read(self, source: ImageSource) -> bytes:
        self.reads += 1
        return self.files[source.url]


def source(name: str, param: str = "messages[0].content[0].image_url.url") -> ImageSource:
    return ImageSource(name, param)


class FitterOf(Protocol):
    def __call__(self, cache_bytes: int = 1 << 20, **files: bytes) -> PictureFitter: ...


@pytest.fixture
async def fitter() -> AsyncIterator[FitterOf]:
    async with decode_pool() as decoders:

        def of(cache_bytes: int = 1 << 20, **files: bytes) -> PictureFitter:
            return PictureFitter(Shelf(**files), PictureBounds(), decoders, cache_bytes)

        yield of


async def test_clean_picture_passes_without_a_copy(fitter: FitterOf) -> None:
    assert len(PHOTO) > 64 * 1024
    image = await fitter(photo=PHOTO).fit(source("photo"), RULES)
    assert image.data is PHOTO
    assert (image.media_type, image.width_px, image.height_px) == ("image/jpeg", 300, 300)


async def test_small_clean_picture_passes_without_a_copy(fitter: FitterOf) -> None:
    small = file_of(four_colours(), "PNG")
    assert (await fitter(small=small).fit(source("small"), RULES)).data is small


async def test_digest_is_that_of_the_bytes_handed_on(fitter: FitterOf) -> None:
    dirty = PHOTO + b"trailing"
    clean = await fitter(photo=PHOTO).fit(source("photo"), RULES)
    cleaned = await fitter(photo=dirty).fit(source("photo"), RULES)
    assert cleaned.data == clean.data
    assert cleaned.sha256 == clean.sha256


async def test_same_picture_in_the_next_turn_is_not_worked_on_again(fitter: FitterOf) -> None:
    fit = fitter(first=DRAWING, again=bytes(DRAWING)).fit
    one = await fit(source("first"), RULES)
    assert_shows_four_colours(one)
    assert await fit(source("again"), RULES) is one


async def test_other_rules_are_other_work(fitter: FitterOf) -> None:
    fit = fitter(drawing=DRAWING).fit
    one = await fit(source("drawing"), RULES)
    other = await fit(source("drawing"), ImageRules(formats=("png",), min_side_px=1))
    assert (one.media_type, other.media_type) == ("image/jpeg", "image/png")


async def test_same_picture_at_the_same_time_is_worked_on_once(fitter: FitterOf) -> None:
    fit = fitter(0, drawing=DRAWING).fit
    images = await asyncio.gather(*(fit(source("drawing"), RULES) for _ in range(8)))
    assert all(image is images[0] for image in images)


async def test_every_caller_is_told_of_its_own_field(fitter: FitterOf) -> None:
    fit = fitter(broken=PHOTO[:-5]).fit
    results = await asyncio.gather(
        *(fit(source("broken", f"messages[{turn}]"), RULES) for turn in range(3)), return_exceptions=True
    )
    for turn, error in enumerate(results):
        assert isinstance(error, ImageRejected)
        assert error.param == f"messages[{turn}]"
        assert f"messages[{turn}]" in str(error)


async def test_small_broken_picture_is_refused_too(fitter: FitterOf) -> None:
    with pytest.raises(ImageRejected, match="cut short") as caught:
        await fitter(broken=DRAWING[:-5]).fit(source("broken", "messages[7]"), RULES)
    assert caught.value.param == "messages[7]"


def picture(name: str, size_bytes: int) -> Image:
    return Image(data=bytes(size_bytes), media_type="image/png", width_px=1, height_px=1, sha256=name)


def test_cache_drops_the_least_recently_used() -> None:
    cache = PictureCache(4000)
    for name in ("a", "b", "c"):
        cache.put((name, RULES), picture(name, 600))
    assert cache.get(("a", RULES)) is not None
    cache.put(("d", RULES), picture("d", 600))
    assert cache.get(("b", RULES)) is None
    assert [name for name in "acd" if cache.get((name, RULES))] == ["a", "c", "d"]


def test_cache_keeps_nothing_larger_than_itself() -> None:
    cache = PictureCache(1000)
    cache.put(("a", RULES), picture("a", 900))
    assert cache.get(("a", RULES)) is None


def test_cache_counts_a_picture_once() -> None:
    cache = PictureCache(2500)
    first = picture("a", 600)
    for image in (first, picture("a", 600), picture("a", 600)):
        cache.put(("a", RULES), image)
    cache.put(("b", RULES), picture("b", 600))
    assert cache.get(("a", RULES)) is first


class Gate:
    """Work that tells when it begins and ends only when let."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.begun = asyncio.Event()
        self._open = threading.Event()
        self.runs = 0

    def work(self, result: str) -> Callable[[], str]:
        def run() -> str:
            self.runs += 1
            self._loop.call_soon_threadsafe(self.begun.set)
            self._open.wait(5)
            return result

        return run

    def open(self) -> None:
        self._open.set()


async def test_slot_of_a_caller_who_left_is_taken_until_the_thread_ends() -> None:
    bench: Workbench[str] = Workbench(slots=1)
    gate = Gate(asyncio.get_running_loop())
    leaver = asyncio.create_task(bench.do("a", gate.work("a")))
    await gate.begun.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    second = asyncio.create_task(bench.do("b", lambda: "b"))
    done, _ = await asyncio.wait([second], timeout=0.05)
    assert not done
    gate.open()
    assert await second == "b"


async def test_queued_work_nobody_waits_for_is_never_begun() -> None:
    bench: Workbench[str] = Workbench(slots=1)
    gate, never = Gate(asyncio.get_running_loop()), Gate(asyncio.get_running_loop())
    first = asyncio.create_task(bench.do("a", gate.work("a")))
    await gate.begun.wait()
    queued = asyncio.create_task(bench.do("b", never.work("b")))
    await asyncio.sleep(0)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    gate.open()
    assert await first == "a"
    assert await bench.do("c", lambda: "c") == "c"
    assert never.runs == 0


async def test_work_goes_on_while_one_of_two_callers_waits() -> None:
    bench: Workbench[str] = Workbench(slots=1)
    gate = Gate(asyncio.get_running_loop())
    leaver = asyncio.create_task(bench.do("a", gate.work("a")))
    stayer = asyncio.create_task(bench.do("a", gate.work("a")))
    await gate.begun.wait()
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    gate.open()
    assert await stayer == "a"
    assert gate.runs == 1


async def test_failed_work_fails_every_caller_and_frees_the_slot() -> None:
    bench: Workbench[str] = Workbench(slots=1)

    def fail() -> str:
        raise ValueError("broken")

    results = await asyncio.gather(bench.do("a", fail), bench.do("a", fail), return_exceptions=True)
    assert [str(result) for result in results] == ["broken", "broken"]
    assert await bench.do("a", lambda: "sound") == "sound"
