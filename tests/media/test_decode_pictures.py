"""Real pictures through real decode workers: none is decoded here, and a bound that is met is told as what it is."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import PIL.Image
import pytest
from typing_extensions import override

from app.core.errors import ImageRejected
from app.core.types import ImageRules, ImageSource
from app.media.decode_process import DecodeBounds
from app.media.fit import PictureFitter, SourceReader
from app.media.image import PictureBounds
from app.media.sheet import tile_rules
from app.media.sheet_drawer import SheetDrawer
from tests.media.decoders import ODD, SOON_S, counted, decode_pool, is_alive, told, until
from tests.media.pictures import PARAM, assert_shows_four_colours, exif, file_of, fit, four_colours, stored_as
from tests.support.gateway import running_gateway

_MIB = 1024 * 1024
_RULES = ImageRules(formats=("jpeg", "png"), min_side_px=1)
_ROOT = Path(__file__).parents[2]


class Shelf(SourceReader):
    """Serves one picture."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @override
    async def read(self, source: ImageSource) -> bytes:
        return self._data


@functools.cache
def wide(format_name: str) -> bytes:
    """Millions of pixels, mostly in few bytes; a decoder needs 36 MB for each copy of them; of fewer, many copies."""
    side_px = {"BMP": 2500, "HEIF": 2000}.get(format_name, 3000)  # a BMP is as large as its pixels; HEIF takes long
    mode = {"JPEG": "RGB", "BMP": "RGB", "GIF": "P", "TIFF": "RGB"}.get(format_name, "RGBA")
    options = {
        "AVIF": {"speed": 10},
        "JPEG": {"exif": exif(6)},
        "TIFF": {"compression": "tiff_deflate"},
        "WEBP": {"method": 0},
    }.get(format_name, {})
    return file_of(PIL.Image.new(mode, (side_px, side_px)), format_name, **options)


def unopened(*_: object, **__: object) -> None:
    raise AssertionError("a caller's bytes met a decoder in this process")


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
async def test_no_format_is_decoded_in_this_process(format_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = {"exif": exif(6)} if format_name == "JPEG" else {}
    drawn = stored_as(6) if turned else four_colours()
    data = file_of(drawn.convert("RGBA") if format_name in ("PNG", "WEBP") else drawn, format_name, **turned)
    async with decode_pool() as pool:
        monkeypatch.setattr(PIL.Image, "open", unopened)
        monkeypatch.setattr(PIL.Image.Image, "load", unopened)
        rules = ImageRules(formats=("png",), min_side_px=1)
        image = await PictureFitter(Shelf(data), PictureBounds(), pool).fit(ImageSource("x", PARAM), rules)
        monkeypatch.undo()
        passed_on = format_name == "PNG" and image.data == data
        assert counted(pool).get("made") == (None if passed_on else 1)
    assert_shows_four_colours(image, within=20)


async def test_no_sheet_is_drawn_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [fit(file_of(four_colours(160, 120), "PNG"), tile_rules(2, _RULES))] * 2
    async with decode_pool() as pool:
        monkeypatch.setattr(PIL.Image, "open", unopened)
        sheet = await SheetDrawer(pool).draw(tiles, [ImageSource("x", "a"), ImageSource("x", "b")], _RULES)
        monkeypatch.undo()
    shown = PIL.Image.open(io.BytesIO(sheet.data))
    assert shown.size == (sheet.width_px, sheet.height_px)


async def test_a_sheet_names_the_picture_whose_pixels_are_damaged() -> None:
    good = fit(file_of(four_colours(), "PNG"), tile_rules(2, _RULES))
    data = file_of(four_colours(), "PNG")
    at = data.index(b"IDAT") + 8
    broken = type(good)(data[:at] + bytes(20) + data[at + 20 :], "image/png", 64, 48, "0" * 64)
    async with decode_pool() as pool:
        with pytest.raises(ImageRejected) as refused:
            await SheetDrawer(pool).draw([good, broken], [ImageSource("x", "a"), ImageSource("x", "b")], _RULES)
    assert refused.value.param == "b"


async def test_equal_pictures_at_the_same_time_are_decoded_once_and_then_kept() -> None:
    async with decode_pool() as pool:
        fitter = PictureFitter(Shelf(file_of(four_colours(), "BMP")), PictureBounds(), pool)
        images = await asyncio.gather(*(fitter.fit(ImageSource("x", PARAM), _RULES) for _ in range(16)))
        assert await fitter.fit(ImageSource("x", PARAM), _RULES) is images[0]
        assert counted(pool)["made"] == 1


async def test_twins_of_a_picture_that_crashes_are_each_told_of_their_own_part() -> None:
    async with decode_pool(work=ODD) as pool:  # which takes no picture, and raises
        fitter = PictureFitter(Shelf(file_of(four_colours(), "BMP")), PictureBounds(), pool)
        asked = [fitter.fit(ImageSource("x", f"messages[{at}]"), _RULES) for at in range(3)]
        for at, error in enumerate(await asyncio.gather(*asked, return_exceptions=True)):
            assert isinstance(error, ImageRejected)
            assert (error.param, error.code) == (f"messages[{at}]", "invalid_image")
            assert str(error).startswith(f"The picture in messages[{at}] cannot be decoded: the decoder broke down")
        assert counted(pool)["crashed"] == 1


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF"])
async def test_a_picture_that_meets_the_bound_of_memory_is_too_large(format_name: str) -> None:
    """Whatever the library says of an allocation that failed. With room, the same picture is decoded."""
    rules = ImageRules(formats=("jpeg",), min_side_px=1)
    source = ImageSource("x", PARAM)
    async with decode_pool(DecodeBounds(memory_bytes=100 * _MIB), workers=1) as pool:  # 73 of them a worker's own
        with pytest.raises(ImageRejected) as refused:
            await PictureFitter(Shelf(wide(format_name)), PictureBounds(), pool).fit(source, rules)
        assert (refused.value.code, refused.value.param) == ("image_too_large", PARAM)
        assert str(refused.value) == f"The picture in {PARAM} is too large to decode; send a smaller one."
        small = PictureFitter(Shelf(file_of(four_colours(), "BMP")), PictureBounds(), pool)
        assert_shows_four_colours(await small.fit(source, _RULES))
    async with decode_pool(workers=1) as pool:
        assert await PictureFitter(Shelf(wide(format_name)), PictureBounds(), pool).fit(source, rules)


_HOST = """
import asyncio, signal, sys
from tests.media.decoders import ODD, decode_pool, odd

async def main():
    async with decode_pool(work=ODD) as pool:
        hanging = [asyncio.create_task(odd(pool, "hang", told=name)) for name in sys.argv[1:]]
        await asyncio.wait(hanging)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its jobs in the background ignore it
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_workers_amid_a_picture_end_with_the_process_that_started_them(
    number: signal.Signals, tmp_path: Path
) -> None:
    files = [tmp_path / "one", tmp_path / "other"]
    host = subprocess.Popen([sys.executable, "-c", _HOST, *map(str, files)], cwd=_ROOT, stderr=subprocess.DEVNULL)
    try:
        pids = [await told(file) for file in files]
        assert all(map(is_alive, pids))
        host.send_signal(number)
        await asyncio.to_thread(host.wait, SOON_S)
    finally:
        host.kill()
        host.wait()
    await until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_gateways_workers_end_with_it(number: signal.Signals, tmp_path: Path) -> None:
    """Over five seconds on a busy machine: a gateway starts and ends."""
    with running_gateway(tmp_path, {}) as gateway:
        await until(lambda: bool(decoders_of(gateway.pid)))
        pids = decoders_of(gateway.pid)
        gateway.process.send_signal(number)
        await asyncio.to_thread(gateway.process.wait, SOON_S)
        await until(lambda: not any(map(is_alive, pids)))


def decoders_of(pid: int) -> list[int]:
    """The decode workers of a gateway."""
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return [child for child in children if "decode_worker" in Path(f"/proc/{child}/cmdline").read_text("ascii")]


async def test_a_caller_is_told_of_the_bound_and_the_gateway_goes_on(tmp_path: Path) -> None:
    """Over five seconds on a busy machine: a gateway starts and ends."""
    settings = {"TUWEN_OPEN_ACCESS": "true", "TUWEN_DECODE_MEMORY_BYTES": str(256 * _MIB)}
    with running_gateway(tmp_path, settings) as gateway:
        big = file_of(PIL.Image.new("RGBA", (6000, 6000)), "PNG")
        async with httpx2.AsyncClient(base_url=gateway.root_url, trust_env=False, timeout=SOON_S) as client:
            answer = await client.post("/v1/chat/completions", json=asking_about(big))
            assert answer.status_code == 400
            error = answer.json()["error"]
            assert error["param"] == "messages[0].content[0].image_url.url"
            assert error["code"] == "image_too_large"
            assert error["message"].endswith("is too large to decode; send a smaller one.")
            answer = await client.get("/healthz")
            assert answer.status_code == 200


def asking_about(data: bytes) -> dict[str, object]:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "local-ocr-vision", "messages": [{"role": "user", "content": content}]}
