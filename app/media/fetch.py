"""Downloads pictures from URLs that strangers wrote, without becoming their way into our network.

Every name is resolved once, all its addresses are judged, and the judged addresses are the ones dialled; the name stays
for TLS and `Host`. Redirects go through the same door. Refusals for where a URL leads all read alike.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from dns.exception import DNSException
from typing_extensions import override

from app.core.errors import ImageRejected
from app.media.addresses import AddressRules
from app.media.magic import is_picture
from app.media.names import NameServer
from app.media.target import Target, UrlRefused, not_public, parse_target
from app.media.wrapping import MeteredConnector, allow_for

FETCH_FAILED = "image_fetch_failed"

_MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DIALLED = 2
_PAGES = frozenset({"text/html", "application/xhtml+xml"})
_HEADERS = {"User-Agent": "tuwen", "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


class Fetcher:
    """Fetches pictures from public addresses, and from what the operator allows beside them.

    Args:
        allow: `CIDR:port` entries that may be dialled although they are not public.
        resolver: `host:port` of the name server to ask; `None` means the system's.
        max_bytes: of one picture.
        timeout_s: for everything one `get` does: names, redirects, the last byte.

    Raises:
        ValueError: an entry of `allow`, or `resolver`, cannot be read.
    """

    def __init__(
        self, *, allow: Sequence[str] = (), resolver: str | None = None, max_bytes: int, timeout_s: float = 10.0
    ) -> None:
        self._rules = AddressRules.parse(allow)
        self._resolver = JudgingResolver(self._rules, NameServer(resolver))
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, param: str) -> bytes:
        """The picture at `url`.

        Args:
            param: where the URL stands in the caller's request; errors name it.

        Raises:
            ImageRejected: with code `invalid_image_url` or `image_url_not_allowed` if the URL is not one we fetch;
                `image_fetch_failed` if its host did not give us a picture in time and size.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._follow(url)
        except UrlRefused as error:
            raise ImageRejected(str(error), param=param, code=error.code) from error
        except TimeoutError as error:
            message = "The host of the image URL did not deliver the picture in time."
            raise ImageRejected(message, param=param, code=FETCH_FAILED) from error
        except (aiohttp.ClientError, DNSException, OSError) as error:
            message = "The picture could not be downloaded from the image URL."
            raise ImageRejected(message, param=param, code=FETCH_FAILED) from error

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, url: str) -> bytes:
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._judge(url)
            async with self._open().get(target.url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._read(response)
                url = _location(target, response)
        raise _failed(f"The image URL redirects more than {_MAX_REDIRECTS} times.")

    def _judge(self, url: str) -> Target:
        """Settles without any network what can be settled so; names are judged when they are resolved."""
        target = parse_target(url)
        if not self._rules.permits_port(target.port):
            raise not_public()
        if target.address is not None and not self._rules.permits(target.address, target.port):
            raise not_public()
        return target

    def _open(self) -> aiohttp.ClientSession:
        """The session: it keeps no cookies, connections or names, sends nothing of ours, and knows no proxy."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # limit=0: else a hundred downloads that take their time would hold up everybody's
                connector=MeteredConnector(resolver=self._resolver, use_dns_cache=False, force_close=True, limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=_HEADERS,
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            raise _failed(f"The host of the image URL answered with HTTP status {response.status}.")
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise _failed("The host of the image URL sent the picture compressed, which we did not ask for.")
        if response.content_type in _PAGES:
            raise _failed("The image URL leads to a web page; use the address of the picture itself.")
        body = bytearray()
        too_large = (response.content_length or 0) > self._max_bytes
        while not too_large and (piece := await response.content.readany()):
            body += piece
            allow_for(response, len(piece))
            too_large = len(body) > self._max_bytes
        if too_large:
            raise _failed(f"The picture at the image URL is larger than {self._max_bytes / 1e6:g} MB.")
        if not is_picture(body):
            raise _failed("What the image URL leads to is not a picture.")
        return bytes(body)


class JudgingResolver(AbstractResolver):
    """aiohttp asks it what to dial. It gives judged addresses only, so that what was judged is what is dialled; and few
    of each kind, for aiohttp dials all it is given, some of them again and again: a name with hundreds would have us
    knock on hundreds of doors thousands of times."""

    def __init__(self, rules: AddressRules, names: NameServer) -> None:
        self._rules = rules
        self._names = names

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._names.addresses(host)
        if not addresses or not all(self._rules.permits(address, port) for address in addresses):
            raise not_public()
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for version in (4, 6)
            for address in [each for each in addresses if each.version == version][:_DIALLED]
        ]

    @override
    async def close(self) -> None:
        """Nothing is held open."""


def _location(target: Target, response: aiohttp.ClientResponse) -> str:
    location = response.headers.get("Location", "")
    if not location:
        raise _failed("The image URL redirects to nowhere.")
    try:
        return urljoin(str(target.url), location)
    except ValueError as error:
        raise _failed("The image URL redirects to something that is no URL.") from error


def _failed(message: str) -> UrlRefused:
    return UrlRefused(message, code=FETCH_FAILED)
