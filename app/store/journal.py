"""Where a row waits that the database would not take when its request ended: a file beside it, one row of JSON a line.

Rows are settled from it once the database is back; settling twice changes nothing, so a line may be read twice. Several
processes may share a file: who adds and who reads lock it.

Rule of change: a line is JSON of the fields of `LedgerRow`; a field that is missing has its default.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

from app.accounts.interfaces import AttemptRow, LedgerRow
from app.core.errors import RecordsUnavailable

_log = logging.getLogger(__name__)

FILE_NAME = "journal.jsonl"
REJECTED_NAME = "rejected-journal.jsonl"
_AT_ONCE = 200


class Journal:
    """The file; made with its first row, gone once all of it is in the ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE_NAME

    def keep(self, row: LedgerRow, cause: Exception) -> LedgerRow | RecordsUnavailable:
        """Keeps a row, durably; the row, as booked as it can be. Where not even that works it goes to the log."""
        try:
            with _appending(self._path) as file:
                is_new = file.tell() == 0
                # begun on a line of its own: one that was torn before it must not spoil it
                file.write("\n" + json.dumps(asdict(row), separators=(",", ":")) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                _sync_folder(self._folder)
        except OSError as error:
            _log.critical("this row is not in the ledger: %s", json.dumps(asdict(row)), exc_info=error)
            return RecordsUnavailable(detail=str(cause))
        _log.warning("request %s is booked in %s until the database is back", row.request_id, self._path)
        return row

    @property
    def is_empty(self) -> bool:
        return not any(self._folder.glob(f"{FILE_NAME}*"))

    async def replay(self, settle: Callable[[LedgerRow], Awaitable[object]]) -> int:
        """Settles what was kept; how many rows. A file is gone once all of it is settled. Where another process is at
        it, it is left to that.

        Raises:
            RecordsUnavailable: the database will still not take it, or the file cannot be read; it stays as it is.
        """
        count = 0
        try:
            if self.is_empty:
                return 0
            with _alone(self._folder) as ours:
                for file in self._taken() if ours else ():
                    rows = await asyncio.to_thread(self._rows, file)
                    for start in range(0, len(rows), _AT_ONCE):
                        await asyncio.gather(*map(settle, rows[start : start + _AT_ONCE]))
                    count += len(rows)
                    file.unlink(missing_ok=True)
        except OSError as error:
            raise RecordsUnavailable(detail=f"the journal: {error}") from error
        return count

    def _rows(self, file: Path) -> list[LedgerRow]:
        """The rows of a file. A line that was torn was never acknowledged; one that is whole and yet no row, as of a
        newer program, is put aside for people."""
        rows = []
        with file.open(encoding="utf-8", errors="replace") as lines:
            _lock(lines)  # who was adding has ended
            for line in lines:
                if line.endswith("\n") and not line.isspace():
                    try:
                        rows.append(_row(line))
                    except (ValueError, TypeError, KeyError, AttributeError) as error:
                        self._reject(line, error)
        return rows

    def _reject(self, line: str, error: Exception) -> None:
        _log.critical("this line of the journal is no row: %s", line.strip(), exc_info=error)
        descriptor = os.open(self._folder / REJECTED_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as rejected:
            rejected.write(line)

    def _taken(self) -> list[Path]:
        """The file, set aside under a name that was never used: whoever adds begins another. And those that were set
        aside by processes that died over them."""
        if self._path.exists():
            with suppress(FileNotFoundError):  # another process was faster
                self._path.rename(self._folder / f"{FILE_NAME}.{uuid.uuid4().hex}")
        return sorted(self._folder.glob(f"{FILE_NAME}.*"))


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process is the one that reads what was set aside, for as long as the block lasts. Where the system
    has no such locks, one process has the folder for itself."""
    try:
        import fcntl  # noqa: PLC0415 - not there on Windows
    except ImportError:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


@contextmanager
def _appending(path: Path) -> Iterator[IO[str]]:
    """The file, open at its end and locked. One that was set aside meanwhile is left for the new one."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            _lock(file)
            if _lies_at(file, path):
                yield file
                return


def _lies_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Makes the name of a new file as durable as what is in it."""
    with suppress(PermissionError):  # Windows opens no folders, and needs none of this
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lock(file: IO[str]) -> None:
    """Until the file is closed. Where the system has no such locks, one process has the folder for itself."""
    with suppress(ImportError):
        import fcntl  # noqa: PLC0415 - not there on Windows

        fcntl.flock(file, fcntl.LOCK_EX)


def _row(line: str) -> LedgerRow:
    fields = json.loads(line)
    attempts = tuple(AttemptRow(**attempt) for attempt in fields.pop("attempts"))
    return LedgerRow(**fields, attempts=attempts)
