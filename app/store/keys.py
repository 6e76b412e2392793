"""Keys and what they may spend."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, literal, select, update
from typing_extensions import override

from app.accounts.balances import Balance, Balances, Budget, TopUp
from app.accounts.interfaces import HeldKey, KeyRecord, KeyStore
from app.core.limits import Limits
from app.store.database import Database
from app.store.flights import Flights
from app.store.ledger import balance_of
from app.store.tables import balances, keys, top_ups

_T = TypeVar("_T")

_KEY_COLUMNS = len(keys.columns)
_BOUNDS = {
    "total_micros": balances.c.credit_micros,
    "day_micros": balances.c.day_limit_micros,
    "month_micros": balances.c.month_limit_micros,
}


class SqlKeys(KeyStore, Balances):
    """Keys, their bounds and their balances."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._flights: Flights[HeldKey | None] = Flights()

    @override
    async def key_by_digest(self, digest: str) -> HeldKey | None:
        return await self._flights.answer(digest, lambda: self._held(keys.c.digest == digest))

    @override
    async def key_by_id(self, key_id: str) -> HeldKey | None:
        return await self._flights.answer(key_id, lambda: self._held(keys.c.id == key_id))

    async def _held(self, condition: ColumnElement[bool]) -> HeldKey | None:
        statement = select(keys, *balances.c).outerjoin(balances, balances.c.key_id == keys.c.id).where(condition)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        if row is None:
            return None
        record, (key_id, *sums) = _record(row[:_KEY_COLUMNS]), row[_KEY_COLUMNS:]
        return HeldKey(record, Balance(record.id) if key_id is None else balance_of((key_id, *sums)))

    @override
    async def keys(self) -> Sequence[KeyRecord]:
        statement = select(keys).order_by(keys.c.created_at, keys.c.id)
        return await self._database.read(lambda connection: [_record(row) for row in connection.execute(statement)])

    @override
    async def add_key(self, record: KeyRecord, budget: Budget = Budget()) -> None:  # noqa: B008 - frozen
        def add(connection: Connection) -> None:
            if connection.execute(select(keys.c.digest).where(keys.c.id == record.id)).scalar() == record.digest:
                return  # a commit that succeeded unheard
            connection.execute(insert(keys).values(_values(record)))
            connection.execute(insert(balances).values(key_id=record.id, **_bounds(budget)))

        await self._database.writer.apply(add)

    @override
    async def add_first_key(self, record: KeyRecord) -> bool:
        # One statement, so that two processes that start together cannot both see an empty table.
        values = _values(record)
        source = select(*(literal(value, keys.c[name].type) for name, value in values.items())).where(
            ~exists(select(keys.c.id))
        )

        def add(connection: Connection) -> bool:
            if connection.dialect.name == "postgresql":  # there the statement alone is no lock
                connection.exec_driver_sql("LOCK TABLE keys IN SHARE ROW EXCLUSIVE MODE")
            connection.execute(insert(keys).from_select(list(values), source))
            # asked, for a commit that succeeded unheard is tried again
            if connection.execute(select(keys.c.id).where(keys.c.id == record.id)).first() is None:
                return False
            if connection.execute(select(balances.c.key_id).where(balances.c.key_id == record.id)).first() is None:
                connection.execute(insert(balances).values(key_id=record.id))
            return True

        return await self._database.writer.apply(add)

    @override
    async def change_key(self, key_id: str, changes: Mapping[str, Any], bounds: Mapping[str, int | None]) -> bool:
        values = {name: _stored(name, value) for name, value in changes.items()}

        def change(connection: Connection) -> bool:
            found = connection.execute(select(keys.c.id).where(_live(key_id))).first() is not None
            if found and values:
                connection.execute(update(keys).where(keys.c.id == key_id).values(values))
            if found and bounds:
                changed = {_BOUNDS[name]: value for name, value in bounds.items()}
                connection.execute(update(balances).where(balances.c.key_id == key_id).values(changed))
            return found

        return await self._changed(key_id, change)

    async def _changed(self, key_id: str, change: Callable[[Connection], _T]) -> _T:
        """Makes a change of a key; whoever looks it up by its id afterwards sees it."""
        try:
            return await self._database.writer.apply(change)
        finally:
            self._flights.forget(key_id)

    @override
    async def revoke_key(self, key_id: str, revoked_at: float) -> bool:
        revoked = update(keys).where(_live(key_id)).values(revoked_at=revoked_at)
        stands = select(keys.c.id).where(keys.c.id == key_id, keys.c.revoked_at == revoked_at)

        def revoke(connection: Connection) -> bool:
            connection.execute(revoked)
            # asked, for a commit that succeeded unheard is tried again
            return connection.execute(stands).first() is not None

        return await self._changed(key_id, revoke)

    @override
    async def renew_vendor_secret(self, key_id: str) -> int | None:
        next_version = (
            update(keys)
            .where(_live(key_id))
            .values(vendor_version=keys.c.vendor_version + 1)
            .returning(keys.c.vendor_version)
        )
        return await self._changed(key_id, lambda connection: connection.execute(next_version).scalar_one_or_none())

    @override
    async def balance(self, key_id: str) -> Balance | None:
        statement = select(balances).where(balances.c.key_id == key_id)
        row = await self._database.read(lambda connection: connection.execute(statement).one_or_none())
        return None if row is None else balance_of(row)

    @override
    async def balances(self) -> dict[str, Balance]:
        statement = select(balances)
        found = await self._database.read(lambda connection: [balance_of(row) for row in connection.execute(statement)])
        return {balance.key_id: balance for balance in found}

    @override
    async def top_up(self, credit: TopUp) -> Balance | None:
        used = balances.c.spent_micros + balances.c.held_micros
        raised = update(balances).where(balances.c.key_id == credit.key_id)
        raised = raised.values(credit_micros=func.coalesce(balances.c.credit_micros, used) + credit.micros)

        def add(connection: Connection) -> Balance | None:
            statement = select(balances).where(balances.c.key_id == credit.key_id)
            if connection.dialect.name == "postgresql":
                statement = statement.with_for_update()  # of two credits of one id, the second finds the first
            if connection.execute(statement).first() is None:
                return None
            if connection.execute(select(top_ups.c.id).where(top_ups.c.id == credit.id)).first() is None:
                connection.execute(insert(top_ups).values(asdict(credit)))
                connection.execute(raised)
            return balance_of(connection.execute(statement).one())

        return await self._changed(credit.key_id, add)

    @override
    async def top_ups(self, key_id: str) -> list[TopUp]:
        statement = select(top_ups).where(top_ups.c.key_id == key_id).order_by(top_ups.c.at, top_ups.c.id)
        return await self._database.read(lambda connection: [TopUp(*row) for row in connection.execute(statement)])


def _values(record: KeyRecord) -> dict[str, Any]:
    """The columns of a key."""
    names = [name for name in keys.columns.keys() if name not in asdict(record.limits)]  # noqa: SIM118 - of columns
    return {name: _stored(name, getattr(record, name)) for name in names} | asdict(record.limits)


def _stored(name: str, value: Any) -> Any:
    """A field of a key as its column keeps it."""
    match name:
        case "models" | "tags":
            return json.dumps(list(value), ensure_ascii=False)
        case "model_limits":
            return json.dumps({model: asdict(limits) for model, limits in value.items()}, ensure_ascii=False)
        case _:
            return value


def _record(row: Sequence[Any]) -> KeyRecord:
    fields = dict(zip(keys.columns.keys(), row, strict=True))
    limits = Limits(*(fields.pop(name) for name in ("rpm", "tpm", "concurrency")))
    for name in ("models", "tags"):
        fields[name] = tuple(json.loads(fields[name]))
    each = json.loads(fields.pop("model_limits"))
    model_limits = {model: Limits(**bounds) for model, bounds in each.items()}
    return KeyRecord(**fields, limits=limits, model_limits=model_limits)


def _bounds(budget: Budget) -> dict[str, int | None]:
    return {column.name: getattr(budget, name) for name, column in _BOUNDS.items()}


def _live(key_id: str) -> ColumnElement[bool]:
    return and_(keys.c.id == key_id, keys.c.revoked_at.is_(None))
