"""What the fetcher takes from a host it reached."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from aiohttp import web

from app.core.errors import ImageRejected
from app.media.fetch import Fetcher
from tests.media.fetch_lab import PARAM, fetch_lab
from tests.media.picture_host import ALLOWED_HOST, PNG, Page, picture_host

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "::1"])  # the picture host is 127.0.0.2


def answer(body: bytes = PNG, status: int = 200, **headers: str) -> Page:
    async def page(_: web.BaseRequest) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=body, status=status, headers={"Content-Type": "image/png"} | named)

    return page


@pytest.mark.parametrize("label", ["image/png", "image/jpeg", "application/octet-stream", "text/plain", "nonsense"])
async def test_a_picture_is_known_by_its_bytes_not_by_its_label(label: str) -> None:
    async with fetch_lab({"/a": answer(Content_Type=label)}) as lab:
        assert await lab.fetcher.get(lab.url("/a"), PARAM) == PNG


@pytest.mark.parametrize(
    "head",
    [
        b"\xff\xd8\xff\xe0",
        b"GIF87a",
        b"GIF89a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x18ftypheic",
        b"\0\0\0\x18ftypavif",
    ],
)
async def test_the_formats_of_cameras_and_the_web_are_taken(head: bytes) -> None:
    async with fetch_lab({"/a": answer(head)}) as lab:
        assert await lab.fetcher.get(lab.url("/a"), PARAM) == head


@pytest.mark.parametrize(
    ("page", "because"),
    [
        (answer(b"<html>log in</html>", Content_Type="text/html; charset=utf-8"), "web page"),
        (answer(PNG, Content_Type="text/html"), "web page"),
        (answer(b"<!doctype html>"), "not a picture"),
        (answer(b'{"AccessKeySecret":"x"}'), "not a picture"),
        (answer(b"RIFF\0\0\0\0WAVE"), "not a picture"),
        (answer(b""), "not a picture"),
        (answer(status=404), "HTTP status 404"),
        (answer(status=500), "HTTP status 500"),
        (answer(status=204), "HTTP status 204"),
        (answer(status=206), "HTTP status 206"),
        (answer(status=300), "HTTP status 300"),
        (answer(PNG + bytes(1024)), "larger than 0.001024 MB"),
        (answer(gzip.compress(PNG), Content_Encoding="gzip"), "compressed"),
        (answer(gzip.compress(bytes(1 << 20)), Content_Encoding="GZIP, gzip"), "compressed"),
    ],
)
async def test_what_is_no_picture_is_a_failed_fetch(page: Page, because: str) -> None:
    async with fetch_lab({"/a": page}) as lab:
        await lab.assert_failed(lab.url("/a"), because)


async def test_identity_named_as_the_encoding_is_no_compression() -> None:
    async with fetch_lab({"/a": answer(Content_Encoding="Identity")}) as lab:
        assert await lab.fetcher.get(lab.url("/a"), PARAM) == PNG


async def test_an_endless_body_is_left_at_the_bound() -> None:
    sent_bytes = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent_bytes
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))
            sent_bytes += 65536

    async with fetch_lab({"/a": endless}, max_bytes=1_000_000) as lab:
        await lab.assert_failed(lab.url("/a"), "larger than 1 MB")
    assert sent_bytes < 64 << 20  # what the sockets' buffers take beyond the bound


async def test_a_length_over_the_bound_is_refused_before_the_body() -> None:
    async def liar(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png", "Content-Length": "99999999999"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    async with fetch_lab({"/a": liar}, timeout_s=30) as lab:
        async with asyncio.timeout(3):
            await lab.assert_failed(lab.url("/a"), "larger than")


async def test_a_body_that_drips_is_left_when_time_is_up() -> None:
    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png"})
        await response.prepare(request)
        while True:
            await response.write(PNG[:1])
            await asyncio.sleep(0.01)

    async with fetch_lab({"/a": drip}, timeout_s=0.3) as lab:
        await lab.assert_failed(lab.url("/a"), "in time")


async def test_headers_that_never_come_are_left_when_time_is_up() -> None:
    async def stall(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with fetch_lab({"/a": stall}, timeout_s=0.3) as lab:
        await lab.assert_failed(lab.url("/a"), "in time")


async def test_hosts_that_take_their_time_hold_up_no_other_download() -> None:
    waiting, all_wait = 0, asyncio.Event()

    async def stall(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal waiting
        waiting += 1
        if waiting == 150:
            all_wait.set()
        await asyncio.Event().wait()
        return web.Response()

    async with fetch_lab({"/slow": stall, "/a": answer()}, timeout_s=30) as lab:
        slow = [asyncio.create_task(lab.fetcher.get(lab.url("/slow", ALLOWED_HOST), PARAM)) for _ in range(150)]
        async with asyncio.timeout(4):
            await all_wait.wait()
            assert await lab.fetcher.get(lab.url("/a"), PARAM) == PNG
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)


async def test_a_body_cut_short_is_a_failed_fetch() -> None:
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "image/png", "Content-Length": "500"})
        await response.prepare(request)
        await response.write(PNG)
        assert request.transport is not None
        request.transport.close()
        return response

    async with fetch_lab({"/a": cut}) as lab:
        await lab.assert_failed(lab.url("/a"), "could not be downloaded")


async def test_a_closed_port_is_a_failed_fetch_that_says_nothing_of_sockets() -> None:
    async with picture_host({}) as gone:
        fetcher = Fetcher(allow=[gone.allow], max_bytes=1024)
    with pytest.raises(ImageRejected) as caught:
        await fetcher.get(f"http://{ALLOWED_HOST}:{gone.port}/a", PARAM)
    await fetcher.aclose()
    assert caught.value.code == "image_fetch_failed"
    assert str(caught.value) == "The picture could not be downloaded from the image URL."
