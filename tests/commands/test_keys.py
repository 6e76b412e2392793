"""`tuwen keys`, beside a running gateway's view of the same file."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from app.accounts.interfaces import Caller
from app.accounts.keys import Authenticator
from app.accounts.vendor_keys import VendorKeys
from app.core.clock import Clock
from app.core.errors import AuthenticationFailed
from app.store.secret import server_secret
from app.store.sql import SqlStore

Tuwen = Callable[..., Result]


def who(data_dir: Path, key: str) -> Caller:
    """Whom a gateway on this folder sees behind a key."""

    async def ask() -> Caller:
        store = await SqlStore.open(data_dir / "tuwen.db")
        try:
            return await Authenticator(store, server_secret(data_dir, None), clock=Clock()).caller(key)
        finally:
            await store.aclose()

    return asyncio.run(ask())


def test_created_key_alone_is_on_stdout_and_opens_the_door(tuwen: Tuwen, data_dir: Path) -> None:
    result = tuwen("keys", "create", "laptop")
    assert result.exit_code == 0
    assert re.fullmatch(r"sk-tw-[\w-]{43}\n", result.stdout)
    caller = who(data_dir, result.stdout.strip())
    assert (caller.name, caller.admin) == ("laptop", False)
    assert caller.key_id in result.stderr
    assert result.stdout.strip() not in result.stderr


def test_admin_key_is_one(tuwen: Tuwen, data_dir: Path) -> None:
    assert who(data_dir, tuwen("keys", "create", "boss", "--admin").stdout.strip()).admin


def test_name_that_cannot_be_shown_is_refused(tuwen: Tuwen, data_dir: Path) -> None:
    result = tuwen("keys", "create", "\x1b[31m")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "printable" in result.stderr
    assert not (data_dir / "tuwen.db").exists()


def test_list_shows_who_but_no_key(tuwen: Tuwen) -> None:
    key = tuwen("keys", "create", "[red]laptop", "--admin").stdout.strip()
    key_id = tuwen("keys", "create", "phone").stderr.split()[1]
    tuwen("keys", "revoke", key_id)
    head, laptop, phone = tuwen("keys", "list").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "ADMIN", "SPENT", "CREATED", "REVOKED"]
    assert laptop.split()[1:4] == ["[red]laptop", "yes", "0.000000"]
    assert phone.split()[:2] == [key_id, "phone"]
    assert len(re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", phone)) == 2
    assert key[6:] not in laptop


def test_revoked_key_is_refused(tuwen: Tuwen, data_dir: Path) -> None:
    created = tuwen("keys", "create", "laptop")
    key_id = created.stderr.split()[1]
    result = tuwen("keys", "revoke", key_id)
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["Revoked", f"{key_id}."])
    with pytest.raises(AuthenticationFailed):
        who(data_dir, created.stdout.strip())


def test_key_is_revoked_only_once(tuwen: Tuwen) -> None:
    key_id = tuwen("keys", "create", "laptop").stderr.split()[1]
    tuwen("keys", "revoke", key_id)
    for unknown in (key_id, "key_0"):
        result = tuwen("keys", "revoke", unknown)
        assert result.exit_code == 1
        assert result.stderr == f"No key of the id {unknown} is in use. See 'tuwen keys list'.\n"


def credentials(result: Result) -> tuple[str, str]:
    """AK and SK, as they stand on stdout."""
    found = re.fullmatch(r"AK  (key_[0-9a-f]{12})\nSK  ([0-9a-f]{32})\n", result.stdout)
    assert found is not None, result.output
    return found[1], found[2]


def test_vendor_credentials_are_shown_with_how_to_set_the_sdk(tuwen: Tuwen, data_dir: Path) -> None:
    key_id = tuwen("keys", "create", "old client").stderr.split()[1]
    result = tuwen("keys", "vendor", key_id)
    ak, sk = credentials(result)
    assert ak == key_id
    assert sk == VendorKeys(server_secret(data_dir, None)).secret_key(key_id, 1)
    for line in ("QIANFAN_BASE_URL=http://127.0.0.1:8000", f"QIANFAN_ACCESS_KEY={ak}", f"QIANFAN_SECRET_KEY={sk}"):
        assert line in result.stderr.splitlines()
    assert credentials(tuwen("keys", "vendor", key_id)) == (ak, sk), "they stay until they are renewed"


def test_renewed_vendor_credentials_are_others_and_stay(tuwen: Tuwen) -> None:
    key_id = tuwen("keys", "create", "old client").stderr.split()[1]
    before = credentials(tuwen("keys", "vendor", key_id))
    result = tuwen("keys", "vendor", key_id, "--renew")
    after = credentials(result)
    assert "within 2 seconds" in result.stderr
    assert (after[0], after[1] != before[1]) == (before[0], True)
    assert credentials(tuwen("keys", "vendor", key_id)) == after


@pytest.mark.parametrize("words", [(), ("--renew",)])
def test_no_vendor_credentials_without_a_key_in_use(tuwen: Tuwen, words: tuple[str, ...]) -> None:
    revoked = tuwen("keys", "create", "laptop").stderr.split()[1]
    tuwen("keys", "revoke", revoked)
    for key_id in (revoked, "key_0"):
        result = tuwen("keys", "vendor", key_id, *words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == f"No key of the id {key_id} is in use. See 'tuwen keys list'.\n"


async def test_running_gateway_learns_within_two_seconds_what_another_process_did(data_dir: Path) -> None:
    def tuwen_process(*words: str) -> subprocess.CompletedProcess[str]:
        repository = Path(__file__).parents[2]
        command = [sys.executable, "-m", "app.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=repository)

    store = await SqlStore.open(data_dir / "tuwen.db")
    now = 0.0
    authenticator = Authenticator(store, server_secret(data_dir, None), clock=Clock(monotonic=lambda: now))
    created = await asyncio.to_thread(tuwen_process, "keys", "create", "laptop")
    key, key_id = created.stdout.strip(), created.stderr.split()[1]
    assert (await authenticator.caller(key)).key_id == key_id
    await asyncio.to_thread(tuwen_process, "keys", "revoke", key_id)
    now = 2.0
    with pytest.raises(AuthenticationFailed):
        await authenticator.caller(key)
    await store.aclose()
