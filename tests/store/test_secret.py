"""The server's secret."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.store.errors import StoreUnusable
from app.store.secret import server_secret


def test_secret_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    secret = server_secret(data_dir, None)
    assert len(secret) == 32
    assert server_secret(data_dir, None) == secret
    assert [file.name for file in data_dir.iterdir()] == ["secret"]
    assert stat.S_IMODE((data_dir / "secret").stat().st_mode) == 0o600


def test_two_folders_have_two_secrets(tmp_path: Path) -> None:
    assert server_secret(tmp_path / "a", None) != server_secret(tmp_path / "b", None)


def test_all_who_start_together_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starters:
        secrets = set(starters.map(lambda _: server_secret(tmp_path, None), range(8)))
    assert len(secrets) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_configured_secret_wins_and_no_file_is_made(tmp_path: Path) -> None:
    assert server_secret(tmp_path, "correct horse battery staple") == b"correct horse battery staple"
    assert not list(tmp_path.iterdir())


def test_configured_secret_that_is_none_is_refused_without_being_repeated(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable) as caught:
        server_secret(tmp_path, "hunter2")
    assert "hunter2" not in str(caught.value)


def test_damaged_secret_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(StoreUnusable, match=r"damaged: it holds 5 bytes.*backup"):
        server_secret(tmp_path, None)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(StoreUnusable, match=r"data/secret cannot be used: file exists\. .*TUWEN_DATA_DIR\.$"):
        server_secret(tmp_path / "data", None)
