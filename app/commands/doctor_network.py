"""Whether an address can be reached: its name, its port and certificate; and how far its clock is from ours."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

import httpx2

from app.commands.observation import Observation

_SECURE = frozenset({"https", "wss"})
_SKEW_MAX_S = 60.0
"""Spark and Baidu give five minutes or more; a clock that is a minute off will soon be further off."""


async def look_at(url: str, *, timeout_s: float) -> list[Observation]:
    """What is seen at an address; no request of ours is made that costs anything."""
    parts = urlsplit(url)
    named = await _name(parts)
    if named.ok is False:
        return [named]
    reached = await _connection(parts, timeout_s)
    if reached.ok is False:
        return [named, reached]
    return [named, reached, await _clock(parts, timeout_s)]


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme in _SECURE else 80)


async def _name(parts: SplitResult) -> Observation:
    host = parts.hostname or ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except OSError:
        return Observation(
            "name",
            False,
            f"{host} has no address here: check the network, the resolver, and base_url",
            f"无法解析 {host}：请检查网络、DNS 和 base_url",
        )
    count = len({address[4][0] for address in found})
    return Observation("name", True, f"{host} has {count} address(es)", f"{host} 解析到 {count} 个地址")


async def _connection(parts: SplitResult, timeout_s: float) -> Observation:
    host, port = parts.hostname or "", _port(parts)
    context = ssl.create_default_context() if parts.scheme in _SECURE else None
    at = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(
                host, port, ssl=context, server_hostname=host if context else None
            )
    except ssl.SSLCertVerificationError as error:
        why = error.verify_message
        return Observation(
            "connection",
            False,
            f"the certificate of {at} does not hold ({why}): check this machine's clock, base_url, and proxies between",
            f"{at} 的证书无效（{why}）：请检查本机时钟、base_url 以及中间的代理",
        )
    except TimeoutError:
        return Observation(
            "connection",
            False,
            f"{at} does not answer within {timeout_s:g} s: check firewall and network",
            f"{at} 在 {timeout_s:g} 秒内无响应：请检查防火墙和网络",
        )
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        return Observation(
            "connection",
            False,
            f"{at} cannot be reached ({why}): check base_url, and whether the service runs",
            f"无法连接 {at}（{why}）：请检查 base_url 以及服务是否在运行",
        )
    days = _days_left(writer)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    if days is None:
        return Observation("connection", True, f"{at} takes connections, without TLS", f"{at} 可连接（未加密）")
    return Observation(
        "connection",
        True,
        f"{at} speaks TLS, its certificate holds for {days} days",
        f"{at} 的 TLS 证书有效，剩余 {days} 天",
    )


def _days_left(writer: asyncio.StreamWriter) -> int | None:
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    return int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86_400)


async def _clock(parts: SplitResult, timeout_s: float) -> Observation:
    scheme = "https" if parts.scheme in _SECURE else "http"
    try:
        async with httpx2.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            asked_at = time.time()
            answer = await client.head(f"{scheme}://{parts.netloc.rpartition('@')[2]}/")
            now = (asked_at + time.time()) / 2
        told = parsedate_to_datetime(answer.headers["date"])
    except (httpx2.HTTPError, KeyError, ValueError):
        return Observation("clock", None, "the server does not tell its time", "服务器未告知时间，无法比较时钟")
    skew_s = now - (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    if abs(skew_s) <= _SKEW_MAX_S:
        return Observation("clock", True, "this machine's clock agrees with the server's", "本机时钟与服务器一致")
    direction, which = ("ahead of", "快") if skew_s > 0 else ("behind", "慢")
    told_at = datetime.fromtimestamp(now - skew_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Observation(
        "clock",
        False,
        f"this machine's clock is {abs(skew_s):.0f} s {direction} the server's ({told_at}): signatures will be "
        "refused; set it, as by 'timedatectl set-ntp true'",
        f"本机时钟比服务器{which} {abs(skew_s):.0f} 秒（服务器时间 {told_at}）：签名会被拒绝；"
        "请校准时间，例如 timedatectl set-ntp true",
    )
