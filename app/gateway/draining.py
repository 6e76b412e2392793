"""The end of the process, as its requests see it: what runs may finish; what cannot in time is told so.

To end an answer, the task that awaits its next events is cancelled, and the cancellation is made into an error right
where it was awaited. So whatever the answer waits for (a turn, a picture, a backend, the OCR) is left as when a caller
leaves, and whoever reads the answer sees an error like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import cast

from app.core.errors import GatewayStopping
from app.core.events import Event, Failure


class Draining:
    """Whether the process is about to end, and what is under way in it. Its event loop's alone, but for `begin`.

    Attributes:
        begun: it was told to end: connections are not kept, and nobody should send more.
        stopped: time is up: no answer goes on, and none begins.
    """

    def __init__(self) -> None:
        self.begun = False
        self.stopped = False
        self._unanswered: set[asyncio.Task[object]] = set()
        self._answers: set[RunningAnswer] = set()

    def begin(self) -> None:
        """The process was told to end. May be called from a signal's handler."""
        self.begun = True

    def stop(self) -> int:
        """Ends what is under way, each in its next step; how many requests that is."""
        self.begun = self.stopped = True
        count = len(self._answers) + len(self._unanswered)
        for answer in list(self._answers):
            answer.stop()
        for task in list(self._unanswered):
            task.cancel()
        return count

    def arrived(self) -> asyncio.Task[object]:
        """A request came, to be answered by the running task, which is returned. Until `answering`, `stop` cancels it;
        whoever catches that says why."""
        request = cast("asyncio.Task[object]", asyncio.current_task())
        self._unanswered.add(request)
        return request

    def answering(self, request: asyncio.Task[object]) -> None:
        """Its answer has begun, or somebody else knows how to end it."""
        self._unanswered.discard(request)

    def answer(self) -> RunningAnswer:
        """An answer of the task that enters it."""
        return RunningAnswer(self)

    def check(self) -> None:
        """Lets a request pass.

        Raises:
            GatewayStopping: nothing begins any more.
        """
        if self.stopped:
            raise GatewayStopping

    def opened(self, answer: RunningAnswer) -> None:
        """It is under way.

        Raises:
            GatewayStopping: nothing begins any more.
        """
        self.check()
        self._answers.add(answer)

    def closed(self, answer: RunningAnswer) -> None:
        """It is over."""
        self._answers.discard(answer)


class RunningAnswer:
    """One answer, and how it is ended before its time. An async context: leaving it says that it is over."""

    __slots__ = ("_begun", "_draining", "_ended", "_stopped", "_waiting")

    def __init__(self, draining: Draining) -> None:
        self._draining = draining
        self._waiting: asyncio.Task[object] | None = None
        self._stopped = False
        self._begun = False
        self._ended = False

    async def __aenter__(self) -> RunningAnswer:
        """Begins.

        Raises:
            GatewayStopping: nothing begins any more.
        """
        self._draining.opened(self)
        self._draining.answering(cast("asyncio.Task[object]", asyncio.current_task()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draining.closed(self)

    def stop(self) -> None:
        """Ends it: at once where its next events are awaited, else when they are asked for."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def ended(self) -> None:
        """Its last batch is there: from now on there is nothing to end."""
        self._ended = True

    async def next(self, batches: AsyncGenerator[Sequence[Event], None]) -> Sequence[Event] | None:
        """The next batch; `None`: there are no more. Of an answer that was ended, the last one says so.

        Raises:
            GatewayStopping: it was ended before its first batch.
        """
        if self._stopped:
            return self._last_words()
        task = self._waiting = cast("asyncio.Task[object]", asyncio.current_task())
        try:
            batch = await anext(batches, None)
        except asyncio.CancelledError:
            if not self._stopped or task.uncancel() > 0:  # the caller left, if in the same moment: that counts more
                raise
            return self._last_words()
        finally:
            self._waiting = None
        self._begun = True
        return batch

    def _last_words(self) -> Sequence[Event] | None:
        if self._ended:
            return None
        if not self._begun:
            raise GatewayStopping
        self._ended = True
        return [Failure(GatewayStopping())]
