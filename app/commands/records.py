"""The gateway's records, for commands. They work on the database itself, whether a gateway runs or not."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.accounts.keys import KeyMint
from app.accounts.vendor_keys import VendorKeys
from app.commands.errors import CommandFailed
from app.config.settings import Settings
from app.store.engine import Place
from app.store.secret import server_secret
from app.store.sql import SqlStore


@asynccontextmanager
async def open_store(settings: Settings, *, create: bool) -> AsyncIterator[SqlStore]:
    """The store, open for as long as the block lasts.

    Args:
        create: make it where there is none. A command that only looks must not leave an empty one behind.

    Raises:
        CommandFailed: there is none.
        StoreUnusable: it cannot be opened.
    """
    place = place_of(settings)
    if not create and place.file is not None and not place.file.exists():
        raise CommandFailed(f"There are no records at {place.file} yet. Start the gateway once, or set TUWEN_DATA_DIR.")
    store = await SqlStore.open(place, journal_dir=settings.data_dir)
    try:
        yield store
    finally:
        await store.aclose()


def place_of(settings: Settings) -> Place:
    """Where the records lie.

    Raises:
        StoreUnusable: the address of the database is none.
    """
    url = settings.database_url
    return Place.of(settings.data_dir, url.get_secret_value() if url else None)


def key_mint(settings: Settings) -> KeyMint:
    """Makes keys of this server.

    Raises:
        StoreUnusable: the server's secret cannot be used.
    """
    return KeyMint(_server_secret(settings), clock=time.time, random_bytes=os.urandom)


def vendor_keys(settings: Settings) -> VendorKeys:
    """Derives credentials in the form of vendors.

    Raises:
        StoreUnusable: the server's secret cannot be used.
    """
    return VendorKeys(_server_secret(settings))


def _server_secret(settings: Settings) -> bytes:
    configured = settings.secret.get_secret_value() if settings.secret else None
    return server_secret(settings.data_dir, configured)
