"""`tuwen keys`: who may ask, and what they may spend."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from app.accounts.balances import Balance, TopUp, credit_once
from app.accounts.interfaces import HeldKey, KeyRecord
from app.accounts.key_terms import read_credit, read_note, read_terms, read_top_up_id
from app.commands.errors import CommandFailed
from app.commands.key_options import written_terms
from app.commands.records import key_mint, open_store, vendor_keys
from app.commands.tables import local_time, print_table
from app.config.settings import Settings
from app.core.clock import local_day
from app.core.limits import Limits
from app.core.money import format_yuan


def create(settings: Settings, name: str, *, admin: bool, typed: Mapping[str, Any]) -> None:
    """Makes a key. The key alone goes to stdout, so that a script can keep it.

    Args:
        typed: the command's parameters.

    Raises:
        InvalidRequest: a term cannot be meant.
    """
    terms = read_terms(written_terms({**typed, "name": None}, {}), now=time.time())
    minted = key_mint(settings).mint(name, admin=admin, terms=terms)

    async def store_it() -> None:
        async with open_store(settings, create=True) as store:
            await store.add_key(minted.record, terms.budget)

    asyncio.run(store_it())
    typer.echo(minted.key)
    sort = "Admin key" if admin else "Key"
    typer.echo(f"{sort} {minted.record.id} for {minted.record.name}. It is shown this once.", err=True)


def change(settings: Settings, key_id: str, *, typed: Mapping[str, Any]) -> None:
    """Changes what was typed of a key, and leaves the rest.

    Raises:
        CommandFailed: nothing was typed, or no such key is in use.
        InvalidRequest: a term cannot be meant.
    """

    async def change_it() -> None:
        async with open_store(settings, create=False) as store:
            held = _in_use(await store.key_by_id(key_id), key_id)
            written = written_terms(typed, held.record.model_limits)
            if not written:
                raise CommandFailed("Say what to change. See 'tuwen keys change --help'.", exit_code=2)
            terms = read_terms(written, now=time.time())
            if not await store.change_key(key_id, terms.fields, terms.bounds):
                raise _not_in_use(key_id)

    asyncio.run(change_it())
    typer.echo(f"Changed {key_id}. A running gateway goes by it within 2 seconds.")


def show_all(settings: Settings) -> None:
    """Lists all keys, oldest first, with where they stand today."""
    day = local_day(time.time())

    async def read() -> list[tuple[str, ...]]:
        async with open_store(settings, create=False) as store:
            balances = await store.balances()
            return [_cells(key, balances.get(key.id) or Balance(key.id), day) for key in await store.keys()]

    columns = (
        "ID", "NAME", "OWNER", "ADMIN", ">BUDGET", ">SPENT", ">HELD", ">LEFT", "CREATED", "EXPIRES", "REVOKED",
        "LOGGED",
    )  # fmt: skip
    print_table(columns, asyncio.run(read()))


def _cells(key: KeyRecord, balance: Balance, day: str) -> tuple[str, ...]:
    return (
        key.id,
        key.name,
        key.owner,
        "yes" if key.admin else "",
        _yuan(balance.budget.total_micros),
        format_yuan(balance.spent_micros),
        format_yuan(balance.held_micros) if balance.held_micros else "",
        _yuan(balance.left_micros(day)),
        local_time(key.created_at),
        _time(key.expires_at),
        _time(key.revoked_at),
        "yes" if key.log_content else "",
    )


def show(settings: Settings, key_id: str) -> None:
    """Shows all of one key but the key itself: its terms, where it stands, and what was credited to it.

    Raises:
        CommandFailed: there is no such key.
    """

    async def read() -> tuple[HeldKey | None, list[TopUp]]:
        async with open_store(settings, create=False) as store:
            return await store.key_by_id(key_id), await store.top_ups(key_id)

    held, credited = asyncio.run(read())
    if held is None:
        raise CommandFailed(f"There is no key of the id {key_id}. See 'tuwen keys list'.")
    lines = [*_terms_of(held.record), *_standing(held.balance, local_day(time.time()))]
    lines += [(f"top-up {local_time(each.at)}", f"{format_yuan(each.micros)}  {each.note}") for each in credited]
    width = max(len(head) for head, _ in lines)
    for head, words in lines:
        if words:
            typer.echo(f"{head:<{width}}  {words}".rstrip())


def _terms_of(key: KeyRecord) -> Iterator[tuple[str, str]]:
    yield "id", key.id
    yield "name", key.name
    yield "owner", key.owner
    yield "admin", "yes" if key.admin else ""
    yield "models", ", ".join(key.models) or "all"
    yield "tags", ", ".join(key.tags)
    yield "created", local_time(key.created_at)
    yield "expires", _time(key.expires_at)
    yield "revoked", _time(key.revoked_at)
    yield "log content", "yes: what it asks and is answered stands in the log" if key.log_content else ""
    yield "limits", _limit_words(key.limits)
    for model, limits in key.model_limits.items():
        yield f"limits of {model}", _limit_words(limits)


def _standing(balance: Balance, day: str) -> Iterator[tuple[str, str]]:
    """Amounts in yuan."""
    budget = balance.budget
    spent_today, spent_this_month = balance.spent_on(day)
    yield "spent", format_yuan(balance.spent_micros)
    yield "held", format_yuan(balance.held_micros) if balance.held_micros else ""
    yield "budget", _yuan(budget.total_micros)
    yield "day", _of(spent_today, budget.day_micros)
    yield "month", _of(spent_this_month, budget.month_micros)
    yield "left", _yuan(balance.left_micros(day)) or "no bound"


def _of(used_micros: int, bound_micros: int | None) -> str:
    return "" if bound_micros is None else f"{format_yuan(used_micros)} of {format_yuan(bound_micros)}"


def _limit_words(limits: Limits) -> str:
    each = (("requests a minute", limits.rpm), ("tokens a minute", limits.tpm), ("at once", limits.concurrency))
    return ", ".join(f"{bound} {words}" for words, bound in each if bound is not None)


def top_up(settings: Settings, key_id: str, amount: str, *, note: str, credit_id: str | None) -> None:
    """Credits an amount to a key.

    Args:
        amount: in yuan; with a minus, to take back.
        credit_id: crediting the same one twice changes nothing; `None`: it is a new one.

    Raises:
        CommandFailed: there is no such key.
        InvalidRequest: the amount or the note is none, or another top-up has the id.
    """
    micros = read_credit(amount)
    name = f"top_{secrets.token_hex(16)}" if credit_id is None else read_top_up_id(credit_id)
    credit = TopUp(name, key_id, time.time(), micros, read_note(note))

    async def credit_it() -> Balance | None:
        async with open_store(settings, create=False) as store:
            return await credit_once(store, credit)

    balance = asyncio.run(credit_it())
    if balance is None:
        raise CommandFailed(f"There is no key of the id {key_id}. See 'tuwen keys list'.")
    left = _yuan(balance.left_micros(local_day(credit.at)))
    typer.echo(f"Credited {format_yuan(micros)} yuan to {key_id} as {credit.id}; it has {left} left.")


def revoke(settings: Settings, key_id: str) -> None:
    """Revokes a key.

    Raises:
        CommandFailed: there is no such key, or it was revoked before.
    """

    async def take_back() -> bool:
        async with open_store(settings, create=False) as store:
            return await store.revoke_key(key_id, time.time())

    if not asyncio.run(take_back()):
        raise _not_in_use(key_id)
    typer.echo(f"Revoked {key_id}. A running gateway refuses it within 2 seconds.")


def show_vendor_credentials(settings: Settings, key_id: str, *, renew: bool) -> None:
    """Shows what a client that was written for a vendor is given in place of the key, and how Baidu's SDK is set.

    Raises:
        CommandFailed: there is no such key, or it was revoked.
    """

    async def version() -> int | None:
        async with open_store(settings, create=False) as store:
            if renew:
                return await store.renew_vendor_secret(key_id)
            return _in_use(await store.key_by_id(key_id), key_id).record.vendor_version

    in_force = asyncio.run(version())
    if in_force is None:
        raise _not_in_use(key_id)
    secret_key = vendor_keys(settings).secret_key(key_id, in_force)
    if renew:
        typer.echo("Renewed: a running gateway refuses the old secret and its tokens within 2 seconds.", err=True)
    typer.echo(f"AK  {key_id}\nSK  {secret_key}")
    typer.echo(
        f"""
For Baidu's SDK (qianfan 0.x), as its environment; QIANFAN_AK and QIANFAN_SK work as well:

QIANFAN_BASE_URL=http://{settings.host}:{settings.port}
QIANFAN_ACCESS_KEY={key_id}
QIANFAN_SECRET_KEY={secret_key}""",
        err=True,
    )


def _in_use(held: HeldKey | None, key_id: str) -> HeldKey:
    if held is None or held.record.revoked_at is not None:
        raise _not_in_use(key_id)
    return held


def _not_in_use(key_id: str) -> CommandFailed:
    return CommandFailed(f"No key of the id {key_id} is in use. See 'tuwen keys list'.")


def _yuan(micros: int | None) -> str:
    return "" if micros is None else format_yuan(micros)


def _time(at: float | None) -> str:
    return "" if at is None else local_time(at)
