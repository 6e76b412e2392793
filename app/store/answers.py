"""Kept answers in the database, encrypted.

Claims are taken by one statement each. Those of a commit are done in the order of the table's key, after the locks of
balances and before all else that a commit may hold; so no two writers can wait for each other.

A body is AES-256-GCM under a key derived from the server's secret: nonce, then headers and body, sealed. What the row
says besides is authenticated with it, so no row can stand in for another. Rule of change: as in `accounts.answers`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import ColumnElement, Connection, Select, delete, func, select, tuple_, update
from typing_extensions import override

from app.accounts.answers import KEPT_S, LEASE_S, Claim, KeptAnswer, KeptAnswers, Standing
from app.store.cursor import cursor_of
from app.store.database import Database
from app.store.tables import answers

_log = logging.getLogger(__name__)

_AT_ONCE = 200
_SHARE_OF_ROOM = 16
"""A sweep clears this part of the room, and comes early once it may be used up."""
_NONCE_BYTES = 12
_OFF_LOOP_BYTES = 256 * 1024
_CLAIMED: Final = "claimed"

# Takes over what has ended: kept for long enough, or its gateway died. A claim of our own was stored before: its commit
# succeeded unheard.
_CLAIM = """
INSERT INTO answers (key_id, digest, body_digest, request_id, until) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key_id, digest) DO UPDATE SET
    body_digest = excluded.body_digest, request_id = excluded.request_id, until = excluded.until,
    size_bytes = 0, body = NULL
WHERE answers.until <= ? OR (answers.request_id = excluded.request_id AND answers.body IS NULL)
RETURNING 1"""
_OURS = "WHERE key_id = ? AND digest = ? AND request_id = ? AND body IS NULL RETURNING 1"
_KEEP = f"UPDATE answers SET body = ?, size_bytes = ?, until = ? {_OURS}"  # noqa: S608 - our own words
_RENEW = f"UPDATE answers SET until = ? {_OURS}"  # noqa: S608 - the same
_GIVE_UP = f"DELETE FROM answers {_OURS}"  # noqa: S608 - the same
_STANDING = "SELECT body_digest, request_id, body IS NULL, size_bytes FROM answers WHERE key_id = ? AND digest = ?"


class _Order(NamedTuple):
    """A statement about one claim."""

    claim: Claim
    sql: str
    parameters: tuple[Any, ...]

    @property
    def place(self) -> tuple[str, str]:
        """Where its row stands."""
        return self.claim.key_id, self.claim.digest


def change_answers(connection: Connection, orders: Sequence[_Order]) -> list[Any]:
    """Carries them out; those about one row in the order they came. A claim that was not taken gets what stands in its
    way."""
    results: list[Any] = [None] * len(orders)
    places = sorted(range(len(orders)), key=lambda place: orders[place].place)
    with cursor_of(connection) as cursor:
        for sql, run in _runs(orders, places):
            done = cursor.each(sql, [orders[place].parameters for place in run])
            for place, row in zip(run, done, strict=True):
                results[place] = _CLAIMED if sql is _CLAIM and row is not None else None
        beaten = [place for place in places if orders[place].sql is _CLAIM and results[place] is None]
        for place, row in zip(beaten, cursor.each(_STANDING, [orders[at].place for at in beaten]), strict=True):
            results[place] = row
    return results


def _runs(orders: Sequence[_Order], places: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Neighbours of the same statement: on Postgres they share a round trip."""
    runs: list[tuple[str, list[int]]] = []
    for place in places:
        if not runs or runs[-1][0] is not orders[place].sql:
            runs.append((orders[place].sql, []))
        runs[-1][1].append(place)
    return runs


class SqlAnswers(KeptAnswers):
    """Kept answers.

    Args:
        secret: the server's.
        max_bytes: of all bodies together.
    """

    def __init__(self, database: Database, secret: bytes, *, max_bytes: int) -> None:
        self._database = database
        self._cipher = AESGCM(hmac.digest(secret, b"kept answer 1", "sha256"))
        self._room_bytes = max_bytes - max_bytes // _SHARE_OF_ROOM
        self._share_bytes = max_bytes // _SHARE_OF_ROOM
        self._added_bytes = max_bytes  # what is there at the start, nobody has looked at

    @override
    async def claim(self, claim: Claim, *, now: float) -> Standing:
        values = (claim.key_id, claim.digest, claim.body_digest, claim.request_id, now + LEASE_S, now)
        found = await self._database.writer.add(change_answers, _Order(claim, _CLAIM, values))
        if found == _CLAIMED:
            return "claimed"
        if found is None:  # given up in the same commit
            return "running"
        body_digest, request_id, running, size_bytes = found
        if body_digest != claim.body_digest:
            return "other_body"
        if running:
            return "running"
        return await self._kept(claim, request_id) if size_bytes else "not_kept"

    async def _kept(self, claim: Claim, request_id: str) -> Standing:
        """The answer, read and opened beside the event loop."""
        statement = select(answers.c.body).where(
            answers.c.key_id == claim.key_id, answers.c.digest == claim.digest, answers.c.request_id == request_id
        )

        def read(connection: Connection) -> Standing:
            sealed = connection.execute(statement).scalar_one_or_none()
            # gone since: who asks again hears the truth
            return self._opened(_context(claim, request_id), bytes(sealed)) if sealed else "running"

        return await self._database.read(read)

    def _opened(self, context: bytes, sealed: bytes) -> Standing:
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except InvalidTag:
            _log.error("a kept answer cannot be opened: its row was changed")
            return "not_kept"
        headers, _, body = plain.partition(b"\n")
        return KeptAnswer(tuple((name, value) for name, value in json.loads(headers)), body)

    def _sealed(self, context: bytes, answer: KeptAnswer) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        plain = json.dumps(answer.headers).encode() + b"\n" + answer.body
        return nonce + self._cipher.encrypt(nonce, plain, context)

    @override
    async def keep(self, claim: Claim, answer: KeptAnswer | None, *, now: float) -> bool:
        sealed = b"" if answer is None else await self._sealed_beside(_context(claim, claim.request_id), answer)
        self._added_bytes += len(sealed)
        values = (sealed, len(sealed), now + KEPT_S, *_whose(claim))
        await self._database.writer.add(change_answers, _Order(claim, _KEEP, values))
        return self._added_bytes >= self._share_bytes

    async def _sealed_beside(self, context: bytes, answer: KeptAnswer) -> bytes:
        if len(answer.body) > _OFF_LOOP_BYTES:
            return await asyncio.to_thread(self._sealed, context, answer)
        return self._sealed(context, answer)

    @override
    async def give_up(self, claim: Claim) -> None:
        await self._database.writer.add(change_answers, _Order(claim, _GIVE_UP, _whose(claim)))

    @override
    async def renew(self, claims: Collection[Claim], *, now: float) -> None:
        orders = [_Order(claim, _RENEW, (now + LEASE_S, *_whose(claim))) for claim in claims]
        await asyncio.gather(*(self._database.writer.add(change_answers, order) for order in orders))

    @override
    async def sweep(self, now: float) -> int:
        forgotten = await self._forget(now)
        added_bytes = self._added_bytes
        if added_bytes >= self._share_bytes:
            await self._make_room()
            self._added_bytes -= added_bytes
        return forgotten

    async def _forget(self, now: float) -> int:
        old = answers.c.until <= now
        statement = delete(answers).where(_place.in_(_some(old)), old)
        forgotten = changed = await self._database.changed_rows(statement)
        while changed == _AT_ONCE:
            changed = await self._database.changed_rows(statement)
            forgotten += changed
        return forgotten

    async def _make_room(self) -> None:
        newer = func.sum(answers.c.size_bytes).over(order_by=answers.c.until.desc()).label("newer_bytes")
        sums = select(answers.c.until, newer).where(answers.c.size_bytes > 0).subquery()
        newest_to_go = select(func.max(sums.c.until)).where(sums.c.newer_bytes > self._room_bytes)
        until = await self._database.read(lambda connection: connection.execute(newest_to_go).scalar_one())
        if until is None:
            return
        condition = (answers.c.size_bytes > 0) & (answers.c.until <= until)
        emptied = update(answers).where(_place.in_(_some(condition)), condition).values(body=b"", size_bytes=0)
        while await self._database.changed_rows(emptied) == _AT_ONCE:
            pass


_place = tuple_(answers.c.key_id, answers.c.digest)


def _some(condition: ColumnElement[bool]) -> Select[Any]:
    """Where the oldest rows of a condition stand. Those that another writer is at are left to the next round: nobody
    waits for them while others wait for us. The condition belongs into the statement itself as well: such a row may be
    another one by the time it is changed."""
    found = select(answers.c.key_id, answers.c.digest).where(condition).order_by(answers.c.until)
    return found.limit(_AT_ONCE).with_for_update(skip_locked=True)


def _whose(claim: Claim) -> tuple[str, str, str]:
    return claim.key_id, claim.digest, claim.request_id


def _context(claim: Claim, request_id: str) -> bytes:
    return "\n".join((claim.key_id, claim.digest, claim.body_digest, request_id)).encode()
