"""Hosted copies: pictures published for minutes, for backends that take addresses only."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override

from app.core.errors import UnsupportedFeature
from app.core.types import Image


class Hosting(Protocol):
    """Publishes pictures."""

    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        """An address under which the picture can be fetched for the next minutes.

        Args:
            hosts: domains under which the address must lie; any where empty.
            param: the part of the request the picture stands in; errors name it.

        Raises:
            UnsupportedFeature: nothing is set up that gives such an address; says what to set.
        """
        ...


class NoHosting(Hosting):
    """Where nothing is set up."""

    @override
    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        raise UnsupportedFeature(
            "This model's backend fetches pictures by address, and this gateway cannot publish any: its operator must "
            "set TUWEN_PUBLIC_URL or TUWEN_BLOB_STORE.",
            chinese="此模型的服务只能按地址读取图片，而本网关无法发布图片："
            "请管理员设置 TUWEN_PUBLIC_URL 或 TUWEN_BLOB_STORE。",
            param=param,
        )
