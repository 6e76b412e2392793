"""The commands about keys and records, where these lie in Postgres."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app.store.engine import Place
from app.store.sql import SqlStore
from tests.accounts.records import a_row, an_attempt
from tests.support.services import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]

Tuwen = Callable[..., Result]


@pytest.fixture
def place(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("TUWEN_DATABASE_URL", postgres_url)
    return Place.of(Path(), postgres_url)


def test_commands_work_on_postgres_as_on_a_file(tuwen: Tuwen, place: Place, data_dir: Path) -> None:
    assert tuwen("migrate").stdout.startswith("Made postgresql+psycopg://")
    assert "nothing to do" in tuwen("migrate").stdout
    key_id = tuwen("keys", "create", "laptop", "--budget", "10").stderr.split()[1]
    assert "12.000000 left" in tuwen("keys", "top-up", key_id, "2").stdout
    assert tuwen("keys", "change", key_id, "--rpm", "5", "--tag", "a").exit_code == 0
    assert "5 requests a minute" in tuwen("keys", "show", key_id).stdout
    assert "12.000000" in tuwen("keys", "list").stdout

    async def settle() -> None:
        store = await SqlStore.open(place, journal_dir=data_dir)
        row = a_row(request_id="r1", key_id=key_id, day="2025-11-20", attempts=(an_attempt(),))
        await store.settle(row)
        await store.aclose()

    asyncio.run(settle())
    [group] = json.loads(tuwen("usage", "--by", "backend", "--since", "2025-01-01", "--json").stdout)
    assert (group["backend"], group["cost_micros"]) == ("qwen", 6_400)
    [row] = csv.DictReader(tuwen("export", "--since", "2025-01-01", "--key", key_id).stdout.splitlines())
    assert row["request_id"] == "r1"
    bill = data_dir.parent / "bill.csv"
    bill.write_text("request_id,amount,date\nchatcmpl-1,0.0064,2025-11-20\n")
    assert "the drift is 0.000000." in tuwen("reconcile", str(bill), "--backend", "qwen").stdout
    assert tuwen("keys", "revoke", key_id).exit_code == 0
    assert not (data_dir / "tuwen.db").exists()


def test_password_of_the_database_is_never_shown(tuwen: Tuwen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_DATABASE_URL", "postgresql://tuwen:canary7f3a@127.0.0.1:9/none")
    result = tuwen("migrate")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "canary7f3a" not in result.output
    assert "127.0.0.1:9" in result.stderr
