"""Whether an address can be reached: its name, its port and certificate; and how far its clock is from ours."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

import httpx2

from app.commands.observation import Observation

_SECURE = frozenset({"https", "wss"})
_SCHEMES = _SECURE | {"http", "ws"}
_SKEW_MAX_S = 60.0
"""Spark gives five minutes, Baidu and Alibaba fifteen; a clock that is a minute off will soon be further off."""

_NO_ADDRESS = (
    "base_url is not an address like https://host/path or wss://host/path: correct it",
    "base_url 不是 https://host/path 或 wss://host/path 形式的地址：请更正",
)
_UNTOLD = Observation("clock", None, "the server does not tell its time", "服务器未告知时间，无法比较时钟")
_FAULTS: Mapping[int, tuple[str, str]] = {
    errno.ECONNREFUSED: ("the connection is refused", "连接被拒绝"),
    errno.ECONNRESET: ("the connection is reset", "连接被重置"),
    errno.ENETUNREACH: ("the network cannot be reached", "网络不可达"),
    errno.EHOSTUNREACH: ("there is no route to the host", "主机不可达"),
}


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, without what else stands in it; empty where it cannot be read."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def look_at(origin: str, *, timeout_s: float) -> list[Observation]:
    """What is seen at an address; no request of ours is made that costs anything.

    Args:
        timeout_s: bound on each step.
    """
    parts = urlsplit(origin)
    if not _is_address(parts):
        return [Observation("name", False, *_NO_ADDRESS)]
    named = await _name(parts, timeout_s)
    if named.ok is False:
        return [named]
    tls = ssl.create_default_context() if parts.scheme in _SECURE else None
    reached = await _connection(parts, tls, timeout_s)
    if reached.ok is False:
        return [named, reached]
    return [named, reached, await _clock(parts, tls, timeout_s)]


def _is_address(parts: SplitResult) -> bool:
    try:
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # no such port
        return False


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme in _SECURE else 80)


async def _name(parts: SplitResult, timeout_s: float) -> Observation:
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(timeout_s):
            found = await asyncio.get_running_loop().getaddrinfo(host, _port(parts), type=socket.SOCK_STREAM)
    except TimeoutError:
        return Observation(
            "name",
            False,
            f"{host} could not be looked up within {timeout_s:g} s: check the network and the resolver",
            f"{timeout_s:g} 秒内未能解析 {host}：请检查网络和 DNS",
        )
    except (OSError, UnicodeError):  # the latter for what cannot be a name
        return Observation(
            "name",
            False,
            f"{host} has no address here: check the network, the resolver, and base_url",
            f"无法解析 {host}：请检查网络、DNS 和 base_url",
        )
    count = len({address[4][0] for address in found})
    words = f"{host} has {count} addresses" if count > 1 else f"{host} has an address"
    return Observation("name", True, words, f"{host} 解析到 {count} 个地址")


async def _connection(parts: SplitResult, tls: ssl.SSLContext | None, timeout_s: float) -> Observation:
    host, port = parts.hostname or "", _port(parts)
    at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host if tls else None)
    except TimeoutError:
        return Observation(
            "connection",
            False,
            f"{at} does not answer within {timeout_s:g} s: check firewall and network",
            f"{at} 在 {timeout_s:g} 秒内无响应：请检查防火墙和网络",
        )
    except OSError as error:
        return Observation("connection", False, *_in_words(error, at))
    days = _days_left(writer)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    if days is None:
        return Observation("connection", True, f"{at} takes connections, without TLS", f"{at} 可连接（未加密）")
    return Observation(
        "connection",
        True,
        f"{at} speaks TLS, its certificate is valid for {days} more days",
        f"{at} 的 TLS 证书有效，剩余 {days} 天",
    )


def _in_words(error: OSError, at: str) -> tuple[str, str]:
    """Why there is no connection and what to do, in English and Chinese."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return (
            f"the certificate of {at} is not valid ({why}): check this machine's clock, base_url, and proxies between",
            f"{at} 的证书无效（{why}）：请检查本机时钟、base_url 以及中间的代理",
        )
    if isinstance(error, ssl.SSLError):
        why = error.reason or "TLS"
        return (
            f"{at} does not speak TLS as it should ({why}): check the scheme and the port of base_url",
            f"{at} 的 TLS 握手失败（{why}）：请检查 base_url 的协议和端口",
        )
    known = _FAULTS.get(error.errno or 0)
    if known is None and error.errno:
        why = os.strerror(error.errno).lower()
        known = (why, why)
    english, chinese = known or ("none of its addresses answers", "所有地址均无法连接")
    return (
        f"{at} cannot be reached, {english}: check base_url, and whether the service runs",
        f"无法连接 {at}，{chinese}：请检查 base_url 以及服务是否在运行",
    )


def _days_left(writer: asyncio.StreamWriter) -> int | None:
    certificate = writer.get_extra_info("peercert")
    if not certificate:
        return None
    return int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) // 86_400)


async def _clock(parts: SplitResult, tls: ssl.SSLContext | None, timeout_s: float) -> Observation:
    scheme = "https" if parts.scheme in _SECURE else "http"
    try:
        async with asyncio.timeout(timeout_s), httpx2.AsyncClient(verify=tls or False, trust_env=False) as client:
            asked_at = time.time()
            answer = await client.head(f"{scheme}://{parts.netloc}/")
            now = (asked_at + time.time()) / 2
    except (httpx2.HTTPError, TimeoutError):
        return _UNTOLD
    told = _time_told(answer)
    return _UNTOLD if told is None else _compared(now - told)


def _time_told(answer: httpx2.Response) -> float | None:
    """The server's time in Unix seconds; `None` where it tells none, or where what stands between told its own or an
    old one: a proxy that failed, a cache."""
    if answer.status_code >= 500 or answer.status_code == 407 or "age" in answer.headers:
        return None
    try:
        told = parsedate_to_datetime(answer.headers["date"])
        return (told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def _compared(skew_s: float) -> Observation:
    if abs(skew_s) <= _SKEW_MAX_S:
        return Observation("clock", True, "this machine's clock agrees with the server's", "本机时钟与服务器一致")
    direction, which = ("ahead of", "快") if skew_s > 0 else ("behind", "慢")
    told_at = datetime.fromtimestamp(time.time() - skew_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Observation(
        "clock",
        False,
        f"this machine's clock is {abs(skew_s):.0f} s {direction} the server's ({told_at}), and vendors refuse what a "
        "wrong clock has signed: set it, as by 'timedatectl set-ntp true'",
        f"本机时钟比服务器{which} {abs(skew_s):.0f} 秒（服务器时间 {told_at}），时钟不准会导致签名被拒绝："
        "请校准时间，例如 timedatectl set-ntp true",
    )
