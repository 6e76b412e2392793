"""`tuwen keys`: who may ask."""

from __future__ import annotations

import asyncio
import time

import typer

from app.commands.errors import CommandFailed
from app.commands.records import key_mint, open_store, vendor_keys
from app.commands.tables import local_time, print_table
from app.config.settings import Settings


def create(settings: Settings, name: str, *, admin: bool) -> None:
    """Makes a key. The key alone goes to stdout, so that a script can keep it.

    Raises:
        InvalidRequest: the name cannot be one.
    """
    minted = key_mint(settings).mint(name, admin=admin)

    async def store_it() -> None:
        async with open_store(settings, create=True) as store:
            await store.add_key(minted.record)

    asyncio.run(store_it())
    typer.echo(minted.key)
    sort = "Admin key" if admin else "Key"
    typer.echo(f"{sort} {minted.record.id} for {minted.record.name}. It is shown this once.", err=True)


def show(settings: Settings) -> None:
    """Lists all keys, oldest first."""

    async def read() -> list[tuple[str, ...]]:
        async with open_store(settings, create=False) as store:
            return [
                (
                    key.id,
                    key.name,
                    "yes" if key.admin else "",
                    local_time(key.created_at),
                    "" if key.revoked_at is None else local_time(key.revoked_at),
                )
                for key in await store.keys()
            ]

    print_table(("ID", "NAME", "ADMIN", "CREATED", "REVOKED"), asyncio.run(read()))


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
            record = await store.key_by_id(key_id)
            return record.vendor_version if record is not None and record.revoked_at is None else None

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


def _not_in_use(key_id: str) -> CommandFailed:
    return CommandFailed(f"No key of the id {key_id} is in use. See 'tuwen keys list'.")
