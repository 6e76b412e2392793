"""A second process on the same database, told by its arguments what to do. Run as `python -m tests.store.worker`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from app.accounts.keys import KeyMint, first_key
from app.store.engine import Place
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.accounts.records import a_row
from tests.store.requests import ended, held, order


def say(word: object) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def settle_until_killed(store: SqlStore) -> None:
    """Says the id of each row once it is booked."""
    number = 0
    while True:
        await store.settle(a_row(request_id=f"r{number}"))
        say(f"r{number}")
        number += 1


async def settle_many(store: SqlStore, name: str) -> None:
    for number in range(300):
        await store.settle(a_row(request_id=f"{name}-{number}"))


async def hold_many(store: SqlStore, name: str) -> None:
    """Says how many of 100 holds were granted."""
    outcomes = await asyncio.gather(*(store.hold(order(f"{name}-{number}", 7)) for number in range(100)))
    say(outcomes.count(None))


async def serve_many(store: SqlStore, name: str) -> None:
    """Requests of ten keys at the same time, each held, then settled. Says how long the slowest took, in seconds."""
    slowest_s = 0.0

    async def serve(number: int) -> None:
        nonlocal slowest_s
        if number % 2:  # out of step, so that some are held while others are settled
            await store.settle(ended(held(f"{name}-{number}", key_id=f"key_{number % 10}"), 0))
        for turn in range(60):
            start_s = time.monotonic()
            of_it = {"key_id": f"key_{(number * 7 + turn) % 10}"}
            await store.hold(order(f"{name}-{number}-{turn}", 9, **of_it))
            await store.settle(ended(held(f"{name}-{number}-{turn}", 9, **of_it), 4))
            slowest_s = max(slowest_s, time.monotonic() - start_s)

    await asyncio.gather(*map(serve, range(20)))
    say(slowest_s)


async def settle_for_ever(store: SqlStore, name: str) -> None:
    """Books what is told on stdin, a request a line, whether the database is there or not; says so."""
    for line in map(str.strip, sys.stdin):
        await asyncio.gather(*(store.settle(ended(held(f"{name}-{line}-{at}", 9), 4)) for at in range(5)))
        say(line)


async def main(place: Place, task: str, name: str = "", journal_dir: str = "") -> None:
    say("ready")
    sys.stdin.readline()  # so that all workers start at once
    store = await SqlStore.open(place, journal_dir=Path(journal_dir) if journal_dir else None)
    match task:
        case "until-killed":
            await settle_until_killed(store)
        case "settle":
            await settle_many(store, name)
        case "hold":
            await hold_many(store, name)
        case "serve":
            await serve_many(store, name)
        case "told":
            say("open")
            await settle_for_ever(store, name)
        case "replay":
            say(await store.replay())
        case "first-key":
            mint = KeyMint(server_secret(Path(name), None), clock=time.time, random_bytes=os.urandom)
            say(await first_key(store, mint))
    await store.aclose()


def place_of(text: str) -> Place:
    return Place.of(Path(), text) if text.startswith("postgres") else Place.of_file(Path(text))


if __name__ == "__main__":
    asyncio.run(main(place_of(sys.argv[1]), *sys.argv[2:]))
