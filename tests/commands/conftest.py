"""The command line, on a data folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from app.accounts.interfaces import LedgerRow
from app.cli import app
from app.store.sql import SqlStore


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # away from the `.env` of whoever runs the tests
    monkeypatch.setenv("TUWEN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("TUWEN_SECRET", raising=False)
    return tmp_path / "data"


@pytest.fixture
def tuwen(data_dir: Path) -> Callable[..., Result]:
    """Types a command."""
    assert data_dir

    def typed(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    return typed


@pytest.fixture
def booked(data_dir: Path) -> Callable[..., None]:
    """Books rows."""

    def book_all(*rows: LedgerRow) -> None:
        async def settle() -> None:
            store = await SqlStore.open(data_dir / "tuwen.db")
            for row in rows:
                await store.settle(row)
            await store.aclose()

        asyncio.run(settle())

    return book_all
