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
from app.core.limits import Limits
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


def shown(tuwen: Tuwen, key_id: str) -> dict[str, str]:
    """What `tuwen keys show` tells, by the words at the left."""
    lines = tuwen("keys", "show", key_id).stdout.splitlines()
    return {head: words for head, words in (re.split(r"  +", line, maxsplit=1) for line in lines)}  # noqa: C416 - typed


def test_key_is_made_under_terms_that_its_caller_carries(tuwen: Tuwen, data_dir: Path) -> None:
    words = (
        "--owner", "ops", "--model", "qwen-*", "--model", "glm", "--expires", "30d", "--budget", "10.00",
        "--day-budget", "1", "--month-budget", "5", "--rpm", "60", "--tpm", "1000", "--concurrency", "2",
        "--model-rpm", "glm=5", "--model-tpm", "glm=500", "--tag", "a", "--tag", "b",
    )  # fmt: skip
    created = tuwen("keys", "create", "laptop", *words)
    caller = who(data_dir, created.stdout.strip())
    assert caller.models == ("qwen-*", "glm")
    assert (caller.limits, caller.model_limits) == (Limits(60, 1000, 2), {"glm": Limits(5, 500)})
    assert (caller.budgeted, caller.left_micros) == (True, 1_000_000)
    terms = shown(tuwen, created.stderr.split()[1])
    assert (terms["owner"], terms["models"], terms["tags"]) == ("ops", "qwen-*, glm", "a, b")
    assert terms["limits"] == "60 requests a minute, 1000 tokens a minute, 2 at once"
    assert terms["limits of glm"] == "5 requests a minute, 500 tokens a minute"
    assert (terms["budget"], terms["day"]) == ("10.000000", "0.000000 of 1.000000")
    assert (terms["month"], terms["left"]) == ("0.000000 of 5.000000", "1.000000")
    assert "expires" in terms


def test_what_is_not_typed_of_a_change_stays_and_none_lifts(tuwen: Tuwen, data_dir: Path) -> None:
    words = ("--budget", "10", "--rpm", "60", "--model", "m", "--model-rpm", "glm=5", "--model-tpm", "glm=500")
    created = tuwen("keys", "create", "laptop", *words)
    key_id = created.stderr.split()[1]
    result = tuwen(
        "keys", "change", key_id, "--name", "phone", "--rpm", "none", "--tpm", "9", "--model-rpm", "glm=none"
    )
    assert result.stdout == f"Changed {key_id}. A running gateway goes by it within 2 seconds.\n"
    caller = who(data_dir, created.stdout.strip())
    assert (caller.name, caller.models, caller.left_micros) == ("phone", ("m",), 10_000_000)
    assert (caller.limits, caller.model_limits) == (Limits(tpm=9), {"glm": Limits(tpm=500)})
    tuwen("keys", "change", key_id, "--budget", "none", "--model", "none", "--model-tpm", "glm=none")
    caller = who(data_dir, created.stdout.strip())
    assert (caller.models, caller.budgeted, caller.model_limits) == ((), False, {})
    tuwen("keys", "change", key_id, "--name", "none")
    assert who(data_dir, created.stdout.strip()).name == "none", "a name is no bound"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rpm", "0"), "`rpm` is a whole number"),
        (("--budget", "ten"), "`budget` is an amount in yuan"),
        (("--expires", "2020-01-01"), "revoke it"),
        (("--model", "a*b"), "`models` holds ids"),
        (("--model-rpm", "60"), "write ID=N"),
        (("--model-rpm", "=60"), "write ID=N"),
    ],
)
def test_term_that_cannot_be_meant_makes_no_key(
    tuwen: Tuwen, data_dir: Path, words: tuple[str, ...], said: str
) -> None:
    result = tuwen("keys", "create", "laptop", *words)
    assert (result.exit_code > 0, result.stdout, len(result.stderr.splitlines())) == (True, "", 1)
    assert said in result.stderr
    assert not (data_dir / "tuwen.db").exists()


def test_change_of_nothing_and_of_no_key_is_told(tuwen: Tuwen) -> None:
    key_id = tuwen("keys", "create", "laptop").stderr.split()[1]
    nothing = tuwen("keys", "change", key_id)
    assert (nothing.exit_code, nothing.stderr) == (2, "Say what to change. See 'tuwen keys change --help'.\n")
    for unknown in ("change", "show", "top-up"):
        amount = ("1",) if unknown == "top-up" else ()
        result = tuwen("keys", unknown, "key_0", *amount)
        assert (result.exit_code, "key_0" in result.stderr) == (1, True)
    tuwen("keys", "revoke", key_id)
    assert tuwen("keys", "change", key_id, "--rpm", "1").exit_code == 1


def test_top_up_raises_the_budget_once_per_id_and_a_minus_takes_back(tuwen: Tuwen) -> None:
    key_id = tuwen("keys", "create", "laptop", "--budget", "1").stderr.split()[1]
    for _ in range(2):
        result = tuwen("keys", "top-up", key_id, "2.50", "--note", "invoice 7", "--id", "order-7")
        assert result.stdout == f"Credited 2.500000 yuan to {key_id} as order-7; it has 3.500000 left.\n"
    assert "it has 3.000000 left" in tuwen("keys", "top-up", key_id, "-0.5").stdout
    assert shown(tuwen, key_id)["budget"] == "3.000000"
    credited = [line for line in tuwen("keys", "show", key_id).stdout.splitlines() if line.startswith("top-up")]
    assert [line.split()[3:] for line in credited] == [["2.500000", "invoice", "7"], ["-0.500000"]]
    other = tuwen("keys", "top-up", key_id, "9", "--id", "order-7")
    assert (other.exit_code, "Another top-up" in other.stderr) == (1, True)


def test_list_shows_where_keys_stand(tuwen: Tuwen) -> None:
    tuwen("keys", "create", "laptop", "--budget", "10", "--day-budget", "1", "--owner", "ops", "--expires", "30d")
    head, laptop = tuwen("keys", "list").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "OWNER", "BUDGET", "SPENT", "LEFT", "CREATED", "EXPIRES"]
    assert laptop.split()[1:6] == ["laptop", "ops", "10.000000", "0.000000", "1.000000"]


def test_logging_of_content_is_off_until_it_is_asked_for(tuwen: Tuwen, data_dir: Path) -> None:
    plain = tuwen("keys", "create", "plain").stdout.strip()
    assert not who(data_dir, plain).log_content
    heard = tuwen("keys", "create", "heard", "--log-content").stdout.strip()
    caller = who(data_dir, heard)
    assert caller.log_content
    assert "yes" in shown(tuwen, caller.key_id)["log content"]
    assert "LOGGED" in tuwen("keys", "list").stdout
    tuwen("keys", "change", caller.key_id, "--no-log-content")
    assert not who(data_dir, heard).log_content
    assert "log content" not in shown(tuwen, caller.key_id)
