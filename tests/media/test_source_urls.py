"""Which of a caller's URLs are read, and by what."""

from __future__ import annotations

import base64

import pytest
from aiohttp import web

from app.core.errors import ImageRejected
from app.core.types import ImageSource
from app.media.source import Sources
from tests.media.fetch_lab import PARAM, fetch_lab
from tests.media.picture_host import PNG

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2", "::1"])  # the picture host is 127.0.0.2


async def picture(_: web.BaseRequest) -> web.Response:
    return web.Response(body=PNG, content_type="image/png")


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
async def test_a_url_is_fetched(scheme: str) -> None:
    async with fetch_lab({"/a.png": picture}) as lab:
        url = lab.url("/a.png").replace("http", scheme)
        assert await Sources(lab.fetcher).read(ImageSource(url, PARAM)) == PNG


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file://127.0.0.1/etc/passwd",
        " file:///etc/passwd",
        "gopher://127.0.0.1/_GET%20/",
        "ftp://127.0.0.1/a.png",
        "dict://127.0.0.1/info",
        "ldap://127.0.0.1/",
        "unix:///var/run/docker.sock",
        "jar:http://127.0.0.1!/a.png",
        "view-source:http://127.0.0.1/",
        "javascript:alert(1)",
        "blob:https://example.com/1",
        "C:\\cat.png",
        "x:" + base64.b64encode(PNG).decode(),
    ],
)
async def test_other_schemes_are_not_allowed(url: str) -> None:
    async with fetch_lab({}) as lab:
        with pytest.raises(ImageRejected, match="http, https or data URL") as caught:
            await Sources(lab.fetcher).read(ImageSource(url, PARAM))
        assert caught.value.code == "image_url_not_allowed"
        assert caught.value.param == PARAM


@pytest.mark.parametrize(
    "url", ["http://", "https:", "http:example.com", " http://img.test/a.png", "http://" + "a" * 9000]
)
async def test_a_broken_web_url_is_refused(url: str) -> None:
    async with fetch_lab({}) as lab:
        with pytest.raises(ImageRejected) as caught:
            await Sources(lab.fetcher).read(ImageSource(url, PARAM))
        assert caught.value.code == "invalid_image_url"
