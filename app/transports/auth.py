"""Tokens that a vendor gives out for minutes or months: kept, shared by all calls of an account, renewed in time.

However many calls wait, an account is asked for one token at a time. A call whose token the vendor refuses gets one new
token, and not even that where another call has brought a newer one meanwhile: a wrong key must not become a storm.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from app.core.errors import BackendError, BackendTimeout
from app.core.secret import Censor, Guarded
from app.core.types import HttpCall, TokenFlow
from app.transports.base import Reply

_RENEW_BEFORE_S = 60.0
_TOTAL_S = 20.0
_PEEK_BYTES = 16 * 1024
_TOO_LATE = "The model's backend did not let us in in time; try again."
_TOO_LATE_ZH = "模型服务未能及时完成鉴权；请重试。"
_QUERY = re.compile(r"\?[^\s'\"]*")


class PeekableReply(Reply, Protocol):
    """A reply that can be looked at before it is read."""

    async def peek(self, max_bytes: int) -> bytes | None:
        """The whole body, if it is a JSON object of at most so many bytes. It can still be read in full."""
        ...


class Sending(Protocol):
    """Sends a call as it is."""

    def __call__(
        self, call: HttpCall, *, backend: str, connect_s: float
    ) -> AbstractAsyncContextManager[PeekableReply]: ...


@dataclass(frozen=True, slots=True)
class _Kept(Guarded):
    value: str = field(repr=False)
    good_until_s: float


def _query_values(url: str) -> list[str]:
    return [value for _, value in parse_qsl(urlsplit(url).query)]


class TokenKeeper:
    """Sends calls that need a token.

    Args:
        send: sends a call once it carries its token, and the calls that ask for one.
        clock: seconds that never run backwards.
        total_s: bound on asking for one token.
    """

    def __init__(
        self, send: Sending, *, clock: Callable[[], float] = time.monotonic, total_s: float = _TOTAL_S
    ) -> None:
        self._send = send
        self._clock = clock
        self._total_s = total_s
        self._kept: dict[str, _Kept] = {}
        self._asking: dict[str, asyncio.Task[str]] = {}

    @asynccontextmanager
    async def open(self, call: HttpCall, *, backend: str, connect_s: float) -> AsyncIterator[Reply]:
        """Sends a call with its account's token; once more with a new one if the answer refuses the token.

        Raises:
            BackendError: no token could be had, or the call could not be sent.
        """
        flow = call.token
        if flow is None:
            raise TypeError("the call needs no token")
        token = await self._token(flow, backend=backend, connect_s=connect_s)
        async with AsyncExitStack() as life:
            reply = await self._sent(life, flow.with_token(call, token), backend, connect_s)
            body = await reply.peek(_PEEK_BYTES)
            if body is not None and flow.refuses(body):
                await life.aclose()
                token = await self._token(flow, backend=backend, connect_s=connect_s, refused=token)
                reply = await self._sent(life, flow.with_token(call, token), backend, connect_s)
            reply.secrets = (token,)
            del call  # megabytes of pictures, which a long answer must not keep
            yield reply

    async def _sent(self, life: AsyncExitStack, call: HttpCall, backend: str, connect_s: float) -> PeekableReply:
        try:
            return await life.enter_async_context(self._send(call, backend=backend, connect_s=connect_s))
        except BackendError as error:
            # libraries repeat addresses, and these hold tokens and keys; and what came, which may repeat them
            error.detail = Censor(_query_values(call.url))(_QUERY.sub("?…", error.detail))
            raise error from None

    async def _token(self, flow: TokenFlow, *, backend: str, connect_s: float, refused: str = "") -> str:
        """The account's token: the one kept, or a new one; never the one that was refused."""
        account = flow.account
        kept = self._kept.get(account)
        if kept is not None and kept.value != refused and self._clock() < kept.good_until_s:
            return kept.value
        asking = self._asking.get(account)
        if asking is None:
            asking = asyncio.create_task(self._asked(flow, backend, connect_s), name="token")
            self._asking[account] = asking
            asking.add_done_callback(partial(self._asked_for, account))
        await asyncio.wait({asking})  # a caller who leaves does not take the token from those who wait too
        return asking.result()

    async def _asked(self, flow: TokenFlow, backend: str, connect_s: float) -> str:
        asked_s = self._clock()
        try:
            async with asyncio.timeout(self._total_s), AsyncExitStack() as life:
                reply = await self._sent(life, flow.ask(), backend, connect_s)
                token = flow.read(reply.status, await reply.body())
        except TimeoutError as error:
            detail = "the call for a token took too long"
            raise BackendTimeout(_TOO_LATE, chinese=_TOO_LATE_ZH, backend=backend, detail=detail) from error
        lasts_s = max(token.expires_in_s - _RENEW_BEFORE_S, token.expires_in_s / 2)
        self._kept[flow.account] = _Kept(token.value, asked_s + lasts_s)
        return token.value

    def _asked_for(self, account: str, asking: asyncio.Task[str]) -> None:
        del self._asking[account]
        if not asking.cancelled():
            asking.exception()  # seen, though everybody who waited may have left

    async def aclose(self) -> None:
        """Gives up what is being asked for."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
