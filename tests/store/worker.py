"""A second process on the same file, told by its arguments what to do. Run as `python -m tests.store.worker`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from app.accounts.keys import KeyMint, first_key
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.accounts.records import a_row


async def settle_until_killed(store: SqlStore) -> None:
    """Says the id of each row once it is booked."""
    number = 0
    while True:
        await store.settle(a_row(request_id=f"r{number}"))
        sys.stdout.write(f"r{number}\n")
        sys.stdout.flush()
        number += 1


async def settle_many(store: SqlStore, name: str) -> None:
    for number in range(300):
        await store.settle(a_row(request_id=f"{name}-{number}"))


async def main(path: Path, task: str, name: str) -> None:
    sys.stdin.readline()  # so that all workers start at once
    store = await SqlStore.open(path)
    match task:
        case "until-killed":
            await settle_until_killed(store)
        case "many":
            await settle_many(store, name)
        case "first-key":
            mint = KeyMint(server_secret(path.parent, None), clock=time.time, random_bytes=os.urandom)
            sys.stdout.write(f"{await first_key(store, mint)}\n")
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
