"""The file where rows wait: nothing that was acknowledged is lost in it, whoever shares it and whoever dies."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from app.accounts.interfaces import LedgerRow
from app.core.errors import RecordsUnavailable
from app.store.journal import FILE_NAME, REJECTED_NAME, Journal
from tests.accounts.records import a_row, an_attempt

AWAY = RuntimeError("the server is away")


class Settled:
    """A ledger that only remembers what it was told."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []

    async def __call__(self, row: LedgerRow) -> LedgerRow:
        self.rows.append(row)
        return row

    @property
    def ids(self) -> list[str]:
        return sorted(row.request_id for row in self.rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal(folder)


def rows(count: int, name: str = "r") -> list[LedgerRow]:
    return [a_row(request_id=f"{name}{at:04d}", attempts=(an_attempt(), an_attempt(number=2))) for at in range(count)]


def keep_all(journal: Journal, kept: Sequence[LedgerRow]) -> None:
    for row in kept:
        assert journal.keep(row, AWAY) == row


async def replayed(folder: Path) -> list[LedgerRow]:
    """What another process finds in the folder."""
    settled = Settled()
    await Journal(folder).replay(settled)
    return settled.rows


async def test_kept_rows_come_back_as_they_were_in_their_order(journal: Journal, folder: Path) -> None:
    kept = [
        *rows(3),
        a_row(request_id="full", model="通义", error_code="x", day="2025-11-20", queued_ms=3, lease_until=1.5),
    ]
    keep_all(journal, kept)
    settled = Settled()
    assert await journal.replay(settled) == 4
    assert settled.rows == kept
    assert list(folder.iterdir()) == []


async def test_nothing_is_kept_and_nothing_is_made_until_there_is_need(journal: Journal, folder: Path) -> None:
    assert journal.is_empty
    assert await journal.replay(Settled()) == 0
    assert not folder.exists()
    keep_all(journal, rows(1))
    assert not journal.is_empty


def test_file_is_for_its_owner_only(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(1))
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_row_is_on_the_disk_when_it_is_acknowledged(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, int]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(found.st_mode), found.st_size))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    keep_all(journal, rows(2))
    sizes = [size for is_folder, size in synced if not is_folder]
    assert len(sizes) == 2
    assert sizes[-1] == (folder / FILE_NAME).stat().st_size
    assert [is_folder for is_folder, _ in synced] == [False, True, False], "the name of a new file is made durable too"


def test_request_that_waits_in_the_journal_is_in_the_log(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    keep_all(journal, rows(1))
    [record] = [record for record in caplog.records if record.name == "app.store.journal"]
    assert record.levelno == logging.WARNING
    assert "r0000" in record.getMessage()


async def test_torn_last_line_is_left_out(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(2))
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes()[:-10])
    assert [row.request_id for row in await replayed(folder)] == ["r0000"]
    assert list(folder.iterdir()) == []


async def test_row_that_follows_a_torn_line_is_not_lost_with_it(
    journal: Journal, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_all(journal, rows(2))
    path = folder / FILE_NAME
    path.write_bytes(path.read_bytes()[:-10])
    keep_all(journal, rows(1, "after"))
    assert [row.request_id for row in await replayed(folder)] == ["r0000", "after0000"]
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "r0001" in record.getMessage()


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"{}",
        b"\0\0\0\0",
        b"\xff\xfe",
        b'{"request_id": "r"}',
        b'{"attempts": [{"number": 1}]}',
        b'{"attempts": 3}',
        b"[]",
    ],
)
async def test_line_that_is_no_row_goes_to_the_log_and_holds_nobody_up(
    journal: Journal, folder: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    keep_all(journal, rows(1))
    with (folder / FILE_NAME).open("ab") as file:
        file.write(line + b"\n")
    keep_all(journal, rows(1, "after"))
    assert [row.request_id for row in await replayed(folder)] == ["r0000", "after0000"]
    assert "no row" in caplog.text
    assert journal.is_empty
    assert (folder / REJECTED_NAME).read_bytes() == line.replace(b"\xff\xfe", "\ufffd\ufffd".encode()) + b"\n"


async def test_line_of_a_program_that_knew_fewer_fields_has_their_defaults(folder: Path) -> None:
    known = asdict(a_row(attempts=(an_attempt(),)))
    for newer in ("state", "hold_micros", "day", "lease_until", "queued_ms"):
        del known[newer]
    del known["attempts"][0]["volume_before"]
    folder.mkdir()
    (folder / FILE_NAME).write_text(json.dumps(known) + "\n")
    assert await replayed(folder) == [a_row(attempts=(an_attempt(),))]


async def test_what_the_database_still_will_not_take_is_kept_anew(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(450))

    async def still_away(row: LedgerRow) -> LedgerRow:
        kept = journal.keep(row, AWAY)
        assert kept == row
        return row

    await journal.replay(still_away)
    assert [file.name for file in folder.iterdir()] == [FILE_NAME]
    assert len(await replayed(folder)) == 450


async def test_rows_whose_settlement_breaks_off_are_read_again(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(3))

    async def breaks(row: LedgerRow) -> LedgerRow:
        raise RecordsUnavailable(detail=f"neither ledger nor journal took {row.request_id}")

    with pytest.raises(RecordsUnavailable):
        await journal.replay(breaks)
    assert len(await replayed(folder)) == 3


async def test_rows_that_a_process_died_over_are_found_by_another(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(2))
    (folder / FILE_NAME).rename(folder / f"{FILE_NAME}.0123")  # as it does before it reads
    keep_all(journal, rows(1, "later"))
    assert not journal.is_empty
    found = await replayed(folder)
    assert sorted(row.request_id for row in found) == ["later0000", "r0000", "r0001"]
    assert list(folder.iterdir()) == []


async def test_folder_that_cannot_be_read_is_reported(journal: Journal, folder: Path) -> None:
    (folder / f"{FILE_NAME}.0123").mkdir(parents=True)
    with pytest.raises(RecordsUnavailable) as caught:
        await journal.replay(Settled())
    assert "the journal: " in caught.value.detail


async def test_rows_kept_while_others_are_replayed_are_not_lost(folder: Path) -> None:
    """Two processes add, two replay, all at the same time: each row is found, by whomever, once or twice."""
    settled, kept = Settled(), [rows(150, "a"), rows(150, "b")]
    with ThreadPoolExecutor(2) as writers:
        adding = [writers.submit(keep_all, Journal(folder), some) for some in kept]
        while not all(future.done() for future in adding):
            await asyncio.gather(Journal(folder).replay(settled), Journal(folder).replay(settled))
        for future in adding:
            future.result()
    await Journal(folder).replay(settled)
    assert set(settled.ids) == {row.request_id for some in kept for row in some}
    assert Journal(folder).is_empty


async def test_row_that_is_being_added_is_waited_for(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(1))
    with (folder / FILE_NAME).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reading = asyncio.create_task(replayed(folder))
        done, _ = await asyncio.wait([reading], timeout=0.1)
        assert not done
        file.write(json.dumps(asdict(rows(1, "late")[0])) + "\n")
    assert [row.request_id for row in await reading] == ["r0000", "late0000"]
    assert journal.is_empty


async def test_journal_that_another_process_reads_is_left_to_it(journal: Journal, folder: Path) -> None:
    keep_all(journal, rows(1))
    reader = os.open(folder, os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_EX)
    assert await replayed(folder) == []
    assert not journal.is_empty
    os.close(reader)
    assert [row.request_id for row in await replayed(folder)] == ["r0000"]


async def test_row_that_no_disk_takes_is_in_the_log_whole(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file where the folder should be")
    [row] = rows(1)
    refused = Journal(folder).keep(row, AWAY)
    assert isinstance(refused, RecordsUnavailable)
    assert refused.detail == "the server is away"
    [record] = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    logged = json.loads(record.getMessage().partition(": ")[2])
    assert logged == json.loads(json.dumps(asdict(row)))


async def test_row_that_a_full_disk_tore_spoils_none_that_come_later(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keep_all(journal, rows(1))
    fsync = os.fsync

    def full(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - 20)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    [torn] = rows(1, "torn")
    assert isinstance(journal.keep(torn, AWAY), RecordsUnavailable)
    assert "torn0000" in caplog.text
    monkeypatch.setattr(os, "fsync", fsync)
    keep_all(journal, rows(1, "later"))
    assert [row.request_id for row in await replayed(folder)] == ["r0000", "later0000"]
