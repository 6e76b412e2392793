"""Hosted copies: pictures published for minutes, for backends that take addresses only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from typing_extensions import override

from app.core.errors import UnsupportedFeature
from app.core.types import Image

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/bmp": "bmp",
}
"""By media type, what an address ends in: some vendors take no address without it."""

_STORES_OF = {
    "bcebos.com": "https://s3.bj.bcebos.com",
    "aliyuncs.com": "https://oss-cn-hangzhou.aliyuncs.com",
    "amazonaws.com": "https://s3.us-east-1.amazonaws.com",
}
"""By domain, an endpoint as an operator would write it."""


class Hosting(Protocol):
    """Publishes pictures."""

    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        """An address under which the picture can be fetched for the next minutes; no other publication shares it.

        Args:
            hosts: domains under which the address must lie; any where empty.
            param: the part of the request the picture stands in; errors name it.

        Raises:
            UnsupportedFeature: nothing is set up that gives such an address; says what to set.
            BackendError: what is set up is full, or fails; another route may be tried.
        """
        ...


@dataclass(frozen=True, slots=True)
class Copy:
    """A published picture, as whoever has its address gets it."""

    data: bytes = field(repr=False)
    media_type: str


class CopyReader(Protocol):
    """Finds published pictures."""

    async def read(self, token: str) -> Copy | None:
        """The picture behind the last part of an address; `None` where there is none, or no longer."""
        ...


class NoHosting(Hosting):
    """Where nothing is set up."""

    @override
    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        require_host("", hosts, param=param)
        raise UnsupportedFeature(
            "This model's backend fetches pictures by address, and this gateway cannot publish any: its operator must "
            "set TUWEN_PUBLIC_URL or TUWEN_BLOB_STORE.",
            chinese="此模型的服务只能按地址读取图片，而本网关无法发布图片："
            "请管理员设置 TUWEN_PUBLIC_URL 或 TUWEN_BLOB_STORE。",
            param=param,
        )


def require_host(host: str, hosts: tuple[str, ...], *, param: str | None) -> None:
    """Looks whether an address at `host` is one that a backend of these `hosts` fetches from.

    Raises:
        UnsupportedFeature: it is not; says which store is needed.
    """
    name = host.lower().rstrip(".")
    if not hosts or any(name == domain or name.endswith(f".{domain}") for domain in hosts):
        return
    domains = ", ".join(hosts)
    endpoint = next((_STORES_OF[domain] for domain in hosts if domain in _STORES_OF), f"https://s3.{hosts[0]}")
    remedy = f"TUWEN_BLOB_STORE=s3://BUCKET, TUWEN_BLOB_ENDPOINT={endpoint}"
    raise UnsupportedFeature(
        f"This model's backend fetches pictures only from addresses under {domains}, and this gateway publishes none "
        f"there: its operator must set a bucket of that store ({remedy}).",
        chinese=f"此模型的服务只读取 {domains} 域名下的图片，而本网关没有在该域名下发布图片："
        f"请管理员设置该存储的 Bucket（{remedy}）。",
        param=param,
    )


async def sweep_regularly(sweep: Callable[[], Awaitable[None]], *, ttl_s: float) -> None:
    """Sweeps until cancelled, often enough that few copies outstay their time."""
    while True:
        await asyncio.sleep(min(max(ttl_s / 20, 1.0), 30.0))
        await sweep()
