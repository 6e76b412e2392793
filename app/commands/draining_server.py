"""uvicorn's server, which ends as load balancers and callers need it to.

    told to end      GET /readyz is red, every answer says `Connection: close`; the listener stays open
    notice is over   the listener closes; connections that have been idle for as long are closed
    time is up       running answers are ended, each in words; then whatever is left is cut

uvicorn itself closes the listener and all idle connections at once, though a proxy may be about to send a request on
one; and then it waits without end.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import cast

import structlog
import uvicorn
from typing_extensions import override

from app.api.h1_protocol import Http1Protocol
from app.commands.listeners import accepted, keep_newcomers_out
from app.gateway.draining import Draining

_log = structlog.get_logger(__name__)

ENDING_S = 7.0
"""How long it may take at most from the end of the time for answers to the end of the server."""
_CUT_S = 1.0
_LAST_WORDS_S = ENDING_S - 2 * _CUT_S
"""How long ended answers may take to be booked and to reach their callers: longer than a commit is tried for."""
_HANDSHAKE_S = 0.05
"""How long who has begun to connect may take to finish."""
_LOOK_S = 0.05


class DrainingServer(uvicorn.Server):
    """The server.

    Args:
        draining: told of each step.
        notice_s: how long those who send requests here get to notice.
        drain_s: how long answers under way may take, from the signal on.
        alone: whether no other process takes connections from the same sockets.
        remark: tells whoever stops it why it may not end at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining,
        *,
        notice_s: float,
        drain_s: float,
        alone: bool,
        remark: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._draining = draining
        self._notice_s = notice_s
        self._drain_s = drain_s
        self._alone = alone
        self._remark = remark
        self._told_s: float | None = None
        self._hurried = False

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.told(sig)

    def told(self, number: int) -> None:
        """A signal came: the first begins the end, another hurries it. Ctrl-C is a person's, who waits for it, and has
        no load balancer."""
        if self._told_s is not None:
            self._hurried = True
            return
        self._told_s = time.monotonic()
        if number == signal.SIGINT:
            self._notice_s = 0.0
        self._draining.begin()
        self.should_exit = True

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._told_s is None:
            self.told(signal.SIGTERM)
        if sys.stdout.isatty():
            self._remark("")  # the terminal has written ^C
        if self.server_state.tasks:
            self._remark("Stopping once the answers under way are finished; a second Ctrl-C stops at once.")
        notice_s = min(self._notice_s, self._drain_s)
        await _until(lambda: not self._connections or self._is_over(notice_s))
        await self._close_listeners(sockets or [])
        await _until(lambda: self._quiet() or self._is_over(self._drain_s))
        await self._end_the_rest()
        await self.lifespan.shutdown()

    def _is_over(self, span_s: float) -> bool:
        """Whether so long has passed since the signal, or another came."""
        return self._hurried or time.monotonic() - (self._told_s or 0.0) >= span_s

    @property
    def _connections(self) -> set[Http1Protocol]:
        return cast("set[Http1Protocol]", self.server_state.connections)

    def _quiet(self) -> bool:
        """Whether nothing is under way. Who has been idle for the notice's time is closed: a proxy that keeps idle
        connections for less never sends a request on one that we are closing."""
        for connection in list(self._connections):
            if connection.has_been_idle(max(self._notice_s, _LOOK_S)):  # what was just sent is yet to be read
                connection.transport.close()
        return not (self._connections or self.server_state.tasks)

    async def _close_listeners(self, sockets: Sequence[socket.socket]) -> None:
        """Closes them, and serves who was connected by then."""
        if self._alone and not self._hurried:
            for listener in sockets:
                keep_newcomers_out(listener)
            await asyncio.sleep(_HANDSHAKE_S)
        last = accepted(sockets)
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        for connection in last:
            with suppress(OSError):  # it has left
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        return Http1Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def _end_the_rest(self) -> None:
        """Ends what is under way: in words where they reach somebody, and then without."""
        if cut_short := self._draining.stop():
            _log.warning("answers were ended before they were whole", answers=cut_short)
        self._notice_s = 0.0
        await self._quiet_within(_LAST_WORDS_S)
        for connection in list(self._connections):
            connection.transport.abort()  # who does not read holds up who is to be booked
        await self._quiet_within(_CUT_S)
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._quiet_within(_CUT_S)

    async def _quiet_within(self, span_s: float) -> None:
        ends_s = time.monotonic() + span_s
        await _until(lambda: self._quiet() or time.monotonic() >= ends_s)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - uvicorn tells nobody when connections and tasks end
        await asyncio.sleep(_LOOK_S)
