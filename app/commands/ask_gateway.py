"""`tuwen ask` through a running gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import httpx2
from typing_extensions import override

from app.commands.ask_question import Asker, AskFailed, Question, ShowText, Told
from app.commands.errors import CommandFailed
from app.config.settings import Settings
from app.core.events import UsageReport
from app.transports.framing import EventTooLarge, SseDecoder

_CONNECT_S = 5.0
_AFTER_DEADLINE_S = 30.0
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read from the settings, not listened on
_HOW_TO_GIVE_THE_KEY = "set TUWEN_API_KEY, or give --key ('tuwen keys create NAME' makes one)"


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """Where a gateway is, or would be.

    Args:
        base_url: as `http://127.0.0.1:8000/v1`.
        here: whether it is this machine's own: where nothing listens, this process can stand in for it.
    """

    base_url: str
    here: bool

    @classmethod
    def of(cls, base_url: str | None, settings: Settings) -> GatewayAddress:
        """What the user named, with or without `/v1`; else where `tuwen serve` would listen.

        Raises:
            CommandFailed: it is no http(s) URL.
        """
        if not base_url:
            host = _EVERY_ADDRESS.get(settings.host, settings.host)
            shown = f"[{host}]" if ":" in host else host
            return cls(f"http://{shown}:{settings.port}/v1", here=True)
        try:
            url = httpx2.URL(base_url.strip())
        except httpx2.InvalidURL:
            url = httpx2.URL()
        if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 65536:
            raise CommandFailed("The base URL must be as http://127.0.0.1:8000/v1.", exit_code=2)
        path = url.path.rstrip("/").removesuffix("/v1")
        return cls(str(url.copy_with(path=f"{path}/v1", query=None)), here=_is_loopback(url.host))

    @property
    def shown(self) -> str:
        """As it may be printed."""
        return _shown(self.base_url)

    async def listens(self) -> bool:
        """Whether something listens at an address of this machine."""
        url = httpx2.URL(self.base_url)
        default_port = 443 if url.scheme == "https" else 80
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(url.host, default_port if url.port is None else url.port)
        except OSError:  # refused; a timeout too is one
            return False
        writer.close()
        return True


def _shown(base_url: str) -> str:
    """An address without the credentials that may stand before its host."""
    return str(httpx2.URL(base_url).copy_with(userinfo=b""))


@asynccontextmanager
async def gateway_asker(address: GatewayAddress, key: str | None, *, deadline_s: float) -> AsyncIterator[GatewayAsker]:
    """A gateway, tried out: it is there and takes the key.

    Args:
        deadline_s: how long a whole answer may take.

    Raises:
        CommandFailed: it asks for a key and none was given, or refuses this one; or it is no gateway.
        AskFailed: it cannot be reached.
    """
    if key is not None and not (key.isascii() and key.isprintable()):
        raise CommandFailed("The key holds characters that no key has; check TUWEN_API_KEY or --key.", exit_code=2)
    async with httpx2.AsyncClient(
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=httpx2.Timeout(deadline_s + _AFTER_DEADLINE_S, connect=_CONNECT_S),
        limits=httpx2.Limits(max_connections=None),
        trust_env=not address.here,  # a proxy must not be asked for what runs on this machine
    ) as client:
        asker = GatewayAsker(client, address.base_url)
        await asker.try_out(with_key=key is not None)
        yield asker


class GatewayAsker(Asker):
    """Asks through OpenAI's chat completions."""

    def __init__(self, client: httpx2.AsyncClient, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._shown = _shown(base_url)

    async def try_out(self, *, with_key: bool) -> None:
        """Asks for the models, which costs nothing.

        Raises:
            CommandFailed, AskFailed: as `gateway_asker` says.
        """
        try:
            response = await self._client.get(f"{self._base_url}/models")
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        if response.status_code == 401 and not with_key:
            raise CommandFailed(f"The gateway at {self._shown} asks for a key: {_HOW_TO_GIVE_THE_KEY}.", exit_code=2)
        if response.status_code in (401, 403):
            raise CommandFailed(str(self._refusal(response.status_code, response.content)), exit_code=2)
        if response.status_code != 200 or not isinstance(_json_object(response.content).get("data"), list):
            raise CommandFailed(
                f"What answers at {self._shown} is no gateway (HTTP {response.status_code}). "
                "Name yours with --base-url or TUWEN_BASE_URL.",
                exit_code=2,
            )

    @override
    async def ask(self, question: Question, picture_urls: Sequence[str], show: ShowText | None = None) -> Told:
        start_s = time.monotonic()
        reading = _Reading()
        body = request_body(question, picture_urls, stream=show is not None)
        try:
            async with self._client.stream("POST", f"{self._base_url}/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise self._refusal(response.status_code, await response.aread())
                if show is None:
                    reading.take_whole(_json_object(await response.aread()))
                else:
                    await self._follow(response, reading, show)
        except httpx2.TransportError as error:
            raise self._lost(error) from error
        if reading.finish_reason is None:
            raise AskFailed("The gateway broke off its answer; ask again.")
        return Told(
            text="".join(reading.text),
            finish_reason=reading.finish_reason,
            usage=reading.usage,
            cost_micros=None,
            seconds=time.monotonic() - start_s,
            notices=tuple(filter(None, response.headers.get("x-tuwen-notice", "").split("; "))),
        )

    async def _follow(self, response: httpx2.Response, reading: _Reading, show: ShowText) -> None:
        decoder = SseDecoder()
        try:
            async for data in response.aiter_bytes():
                for frame in decoder.feed(data):
                    reading.take_chunk(_json_object(frame.data), show)
        except EventTooLarge as error:
            raise AskFailed("The gateway sent an event beyond all bounds.") from error

    def _refusal(self, status: int, content: bytes) -> AskFailed:
        return _failure(_json_object(content)) or AskFailed(f"{self._shown} answered HTTP {status}.")

    def _lost(self, error: httpx2.TransportError) -> AskFailed:
        match error:
            case httpx2.ConnectError() | httpx2.ConnectTimeout():
                return AskFailed(f"The gateway at {self._shown} cannot be reached: {error or 'it does not answer'}.")
            case httpx2.TimeoutException():
                return AskFailed(f"The gateway at {self._shown} did not answer in time.")
            case _:
                return AskFailed("The connection to the gateway broke; ask again.")


def request_body(question: Question, picture_urls: Sequence[str], *, stream: bool) -> dict[str, Any]:
    """The request as OpenAI writes it."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in picture_urls]
    content = [*pictures, {"type": "text", "text": question.text}]
    optional = {"temperature": question.temperature, "max_tokens": question.max_output_tokens}
    return {
        "model": question.model,
        "messages": [{"role": "user", "content": content}],
        **{name: value for name, value in optional.items() if value is not None},
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }


@dataclass(slots=True)
class _Reading:
    """What of an answer has come."""

    text: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: UsageReport = field(default_factory=UsageReport)

    def take_whole(self, document: Mapping[str, Any]) -> None:
        """A `chat.completion`."""
        self._take(document, "message")

    def take_chunk(self, document: Mapping[str, Any], show: ShowText) -> None:
        """A `chat.completion.chunk`; or nothing, as `[DONE]`."""
        if (failure := _failure(document)) is not None:
            raise failure
        if text := self._take(document, "delta"):
            show(text)

    def _take(self, document: Mapping[str, Any], body: str) -> str:
        choice: Mapping[str, Any] = next(iter(document.get("choices") or ()), {})
        text: str = (choice.get(body) or {}).get("content") or ""
        self.text.append(text)
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        if document.get("usage"):
            self.usage = _usage(document["usage"])
        return text


def _usage(usage: Mapping[str, Any]) -> UsageReport:
    return UsageReport(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def _failure(document: Mapping[str, Any]) -> AskFailed | None:
    error = document.get("error")
    if not isinstance(error, Mapping) or not error.get("message"):
        return None
    return AskFailed(" ".join(str(error["message"]).split()), code=error.get("code"))


def _json_object(data: bytes) -> Mapping[str, Any]:
    """The object, or an empty one where it is none."""
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
