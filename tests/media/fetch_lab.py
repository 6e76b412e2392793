"""A fetcher with all it can meet: names, a picture host it may reach, a listener it must never reach."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from app.core.errors import ImageRejected
from app.media.fetch import Fetcher
from tests.media.name_server import NameServer, Zone, name_server
from tests.media.picture_host import Canary, Page, PictureHost, canary, picture_host, twin_listeners

PARAM = "messages[0].content[1].image_url.url"


@dataclass(frozen=True)
class Lab:
    """Args: canary: on 127.0.0.1, at the port that is allowed on 127.0.0.2."""

    fetcher: Fetcher
    host: PictureHost
    names: NameServer
    canary: Canary

    def url(self, path: str, host: str = "img.test") -> str:
        return f"http://{host}:{self.host.port}{path}"

    async def refusal(self, url: str) -> ImageRejected:
        """What the caller is told; fails if the picture is fetched, or the canary was reached."""
        with pytest.raises(ImageRejected) as caught:
            await self.fetcher.get(url, PARAM)
        assert caught.value.param == PARAM
        assert self.canary.connections == 0
        return caught.value

    async def assert_blocked(self, url: str) -> None:
        error = await self.refusal(url)
        assert error.code == "image_url_not_allowed"
        assert str(error) == (
            "The image URL must lead to a public host on the usual http or https port. "
            "Use such a URL, or send the picture itself as a data URL."
        )

    async def assert_failed(self, url: str, because: str) -> None:
        error = await self.refusal(url)
        assert error.code == "image_fetch_failed"
        assert because in str(error)


@asynccontextmanager
async def fetch_lab(
    pages: Mapping[str, Page],
    zone: Zone | None = None,
    *,
    broken_kinds: frozenset[str] = frozenset(),
    max_bytes: int = 1024,
    timeout_s: float = 3.0,
) -> AsyncIterator[Lab]:
    zone = {"img.test": [["A 127.0.0.2"]]} | dict(zone or {})
    allowed, forbidden = twin_listeners()
    async with (
        picture_host(pages, allowed) as host,
        name_server(zone, broken_kinds) as names,
        canary(forbidden) as trap,
        aclosing(
            Fetcher(allow=[host.allow], resolver=names.address, max_bytes=max_bytes, timeout_s=timeout_s)
        ) as fetcher,
    ):
        yield Lab(fetcher, host, names, trap)
