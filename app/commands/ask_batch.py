"""Many pictures, each asked by itself, some at the same time; what is answered is kept at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.commands.ask_pictures import Picture
from app.commands.ask_question import Asker, AskFailed, Question
from app.commands.ask_results import Record, ResultsFile, answer_record, error_record
from app.commands.errors import CommandFailed


@dataclass(slots=True)
class Tally:
    """How many pictures were answered now, answered by an earlier run, and not answered."""

    answered: int = 0
    kept: int = 0
    failed: int = 0

    def in_words(self, pictures: int) -> str:
        """As one reads it: `12 answered, 3 answered before, 1 failed, 4 not asked`.

        Args:
            pictures: how many there are in all.
        """
        left = pictures - self.answered - self.kept - self.failed
        counts = ((self.kept, "answered before"), (self.failed, "failed"), (left, "not asked"))
        return ", ".join([f"{self.answered} answered", *(f"{count} {words}" for count, words in counts if count)])


class BatchView(Protocol):
    """Shows a batch as it goes."""

    def done(self, record: Record) -> None:
        """A picture has its record, from this run or an earlier one."""
        ...


class Batch:
    """Asks one question of many pictures.

    Args:
        jobs: how many are asked at the same time.
    """

    def __init__(self, asker: Asker, question: Question, results: ResultsFile, view: BatchView, *, jobs: int) -> None:
        self._asker = asker
        self._question = question
        self._results = results
        self._view = view
        self._jobs = jobs
        self._stopped: AskFailed | CommandFailed | None = None
        self.tally = Tally()

    async def run(self, pictures: Sequence[Picture]) -> None:
        """Asks those not answered yet; a picture that fails does not stop the others. `tally` says how it went.

        Raises:
            AskFailed: every further question would fail in the same way.
            CommandFailed: the results cannot be written.
        """
        waiting = iter(pictures)
        await asyncio.gather(*(self._work(waiting) for _ in range(min(self._jobs, len(pictures)))))
        if self._stopped is not None:
            raise self._stopped

    async def _work(self, waiting: Iterator[Picture]) -> None:
        for picture in waiting:
            if self._stopped is not None:
                return
            try:
                await self._one(picture)
            except (AskFailed, CommandFailed) as failure:
                self._stopped = failure

    async def _one(self, picture: Picture) -> None:
        try:
            loaded = await asyncio.to_thread(picture.load)
            known = self._results.answer_to(self._question, picture, loaded)
            if known is not None:
                self.tally.kept += 1
                self._view.done({**known, "picture": picture.name})
                return
            told = await self._asker.ask(self._question, [loaded.url])
        except AskFailed as failure:
            if failure.mistaken:
                raise
            self._keep(error_record(picture, self._question, str(failure.naming([picture.name]))))
            self.tally.failed += 1
        else:
            self._keep(answer_record(picture, loaded, self._question, told))
            self.tally.answered += 1

    def _keep(self, record: Record) -> None:
        self._results.add(record)
        self._view.done(record)
