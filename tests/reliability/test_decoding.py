"""Callers' pictures while decoders are killed; the largest there may be; and the gateway's own pace meanwhile."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import PIL.Image
import pytest

from app.core.types import ImageRules, ImageSource
from app.media.decode_process import DecodeBounds
from app.media.fit import PictureFitter
from app.media.image import PictureBounds
from tests.media.decoders import decode_pool
from tests.media.pictures import exif, file_of, noise
from tests.media.test_decode_pictures import Shelf, decoders_of
from tests.media.test_image_profiles import P3
from tests.reliability.conftest import Shown
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.metered import metered

_TIMEOUT_S = 120.0
_KILLS = int(os.environ.get("TUWEN_KILLS", "30"))
_AT_ONCE = 8
_LARGEST = (8184, 6104)  # in whole blocks, a little below 50 million pixels
_MOST_LAG_MS = 100.0


@contextmanager
def site(folder: Path) -> Iterator[RunningGateway]:
    with metered() as upstream:
        models = folder / "models.toml"
        models.write_text(
            f'[backends.m]\nkind = "openai"\nbase_url = "{upstream.base_url}"\n'
            '[models."m-*"]\nroutes = [{ backend = "m", model = "*" }]\n'
        )
        environment = {"TUWEN_MODELS_FILE": str(models), "TUWEN_OPEN_ACCESS": "true", "TUWEN_LOG_LEVEL": "error"}
        with running_gateway(folder / "data", environment) as gateway:
            yield gateway


def photo(number: int) -> bytes:
    """A picture of twelve million pixels that must be turned, and that no cache has seen."""
    drawn = noise(252, 189).resize((4032, 3024))
    drawn.putpixel((0, 0), (number % 256, number // 256, 0))
    return file_of(drawn, "JPEG", quality=60, exif=exif(6)) + number.to_bytes(4, "big")


def asking_about(data: bytes) -> dict[str, object]:
    url = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "m-0-0-1", "messages": [{"role": "user", "content": content}]}


async def test_a_killed_decoder_costs_one_request_each(tmp_path: Path, shown: Shown) -> None:
    """Kills decoders while eight callers send pictures without a pause."""
    killed = 0
    answers: list[httpx2.Response] = []
    with site(tmp_path) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.root_url, trust_env=False, timeout=_TIMEOUT_S) as client:
            numbers = iter(range(1_000_000))
            ending = asyncio.Event()

            async def ask() -> None:
                while not ending.is_set():
                    body = await asyncio.to_thread(lambda: asking_about(photo(next(numbers))))
                    answers.append(await client.post("/v1/chat/completions", json=body))

            askers = [asyncio.create_task(ask()) for _ in range(_AT_ONCE)]
            while killed < _KILLS:
                before = len(answers)
                while len(answers) < before + 2:
                    await asyncio.sleep(0.01)
                if busy := [pid for pid in decoders_of(gateway.pid) if is_running(pid)]:
                    os.kill(random.Random(killed).choice(busy), signal.SIGKILL)
                    killed += 1
            ending.set()
            await asyncio.gather(*askers)
            last = await client.post("/v1/chat/completions", json=asking_about(photo(next(numbers))))
    assert last.status_code == 200
    refused = [answer for answer in answers if answer.status_code != 200]
    for answer in refused:
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == ("messages[0].content[0].image_url.url", "invalid_image")
        assert "the decoder broke down over it" in error["message"]
    assert 0 < len(refused) <= killed
    shown("decoders killed amid pictures", kills=killed, requests=len(answers), refused=len(refused), other_errors=0)


def is_running(pid: int) -> bool:
    """Whether it uses the CPU at this moment."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "R"
    except (FileNotFoundError, ProcessLookupError):
        return False


@functools.cache
def largest(format_name: str) -> bytes:
    """A picture of the most pixels, turned, with a foreign colour profile, and transparent where its format can be."""
    drawn = noise(819, 610).resize(_LARGEST)
    marks: dict[str, Any] = {"exif": exif(6), "icc_profile": P3}
    if format_name != "JPEG":
        drawn.putalpha(PIL.Image.linear_gradient("L").resize(_LARGEST))
    options: dict[str, Any] = {
        "AVIF": {"quality": 20, "speed": 10},
        "HEIF": {"quality": 10},
        "JPEG": {"quality": 50, "progressive": True},
        "PNG": {"compress_level": 1},
        "WEBP": {"quality": 5, "method": 0},
    }[format_name]
    return file_of(drawn, format_name, **options, **marks)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF"])
async def test_the_largest_picture_is_decoded_within_the_default_bounds(format_name: str, shown: Shown) -> None:
    """Seconds, for writing fifty million pixels takes as long as reading them."""
    data = await asyncio.to_thread(largest, format_name)
    bounds = PictureBounds(max_image_bytes=1 << 30)  # noise makes a large file; the pixels are what takes memory
    rules = ImageRules(formats=("jpeg",))
    async with decode_pool(work="tests.media.odd_decoders:measured", workers=1) as pool:
        image = await PictureFitter(Shelf(data), bounds, pool).fit(ImageSource("x", "p"), rules)
    peak_mib, cpu_s = image.source_width_px, image.source_height_px / 1000
    assert peak_mib * 1024 * 1024 < DecodeBounds().memory_bytes
    assert cpu_s < DecodeBounds().cpu_s
    bound_mib = DecodeBounds().memory_bytes // (1024 * 1024)
    shown(f"the largest {format_name} is decoded", peak_MiB=peak_mib, of_MiB=bound_mib, cpu_s=round(cpu_s, 1))


@pytest.mark.alone
async def test_a_gateway_whose_decoders_are_busy_answers_at_once(tmp_path: Path, shown: Shown) -> None:
    """Asks for its health while eight callers send large pictures; wants a quiet machine."""
    bodies = [asking_about(photo(number)) for number in range(40)]
    took_ms: list[float] = []
    with site(tmp_path) as gateway:
        async with httpx2.AsyncClient(base_url=gateway.root_url, trust_env=False, timeout=_TIMEOUT_S) as client:
            room = asyncio.Semaphore(_AT_ONCE)

            async def ask(body: dict[str, object]) -> int:
                async with room:
                    return (await client.post("/v1/chat/completions", json=body)).status_code

            asking = asyncio.gather(*map(ask, bodies))
            began = time.monotonic()
            while not asking.done():
                sent = time.monotonic()
                assert (await client.get("/healthz")).status_code == 200
                took_ms.append(1000 * (time.monotonic() - sent))
                await asyncio.sleep(0.01)
            assert set(await asking) == {200}
            rate = len(bodies) / (time.monotonic() - began)
    p99 = statistics.quantiles(took_ms, n=100)[98]
    assert p99 < _MOST_LAG_MS
    shown(
        "health answered beside large pictures",
        probes=len(took_ms),
        p50_ms=round(statistics.median(took_ms), 1),
        p99_ms=round(p99, 1),
        pictures_a_second=round(rate, 1),
    )
