"""The programs of samples/clients, run as their first lines say, against a gateway as a user starts it.

Each language is skipped where its toolchain is absent, with the reason in the summary; nothing else skips.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway, free_port

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "samples/clients"
PICTURE = ROOT / "samples/pictures/receipt.jpg"
SHOP = "惠民生活超市"

LANGUAGES = {
    "python": [sys.executable, CLIENTS / "python/ask.py"],
    "node": ["node", CLIENTS / "node/ask.mjs"],
    "go": ["go", "run", CLIENTS / "go/ask.go"],
    "java": ["java", CLIENTS / "java/Ask.java"],
}


@pytest.fixture(params=LANGUAGES)
def command(request: pytest.FixtureRequest) -> list[str | Path]:
    """How a sample is started."""
    words: list[str | Path] = LANGUAGES[request.param]
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine")  # the sample cannot run without its toolchain
    return words


def ask(gateway: RunningGateway, command: list[str | Path], *, key: str) -> subprocess.CompletedProcess[str]:
    return run([*command, PICTURE, 'What does "it" say?'], base_url=gateway.base_url, key=key)


def run(command: list[str | Path], *, base_url: str, key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, "TUWEN_BASE_URL": base_url, "TUWEN_API_KEY": key, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_a_sample_prints_what_stands_in_the_picture(gateway: RunningGateway, command: list[str | Path]) -> None:
    done = ask(gateway, command, key=gateway.key)
    assert done.returncode == 0, done.stderr
    assert SHOP in done.stdout
    assert len(done.stdout.splitlines()) > 5


def test_a_sample_with_a_wrong_key_says_so_and_fails(gateway: RunningGateway, command: list[str | Path]) -> None:
    done = ask(gateway, command, key="sk-tw-wrong")
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "key" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [([], "usage: "), (["no-such.jpg", "What?"], "no-such.jpg"), ([PICTURE, "What?"], "")],
    ids=["no picture named", "picture missing", "no gateway"],
)
def test_a_sample_used_wrongly_says_so_in_one_line(
    command: list[str | Path], arguments: list[str | Path], word: str
) -> None:
    done = run([*command, *arguments], base_url=f"http://127.0.0.1:{free_port()}/v1", key="sk-tw-x")
    assert done.returncode != 0
    assert done.stdout == ""
    told = [line for line in done.stderr.splitlines() if not line.startswith("exit status")]  # which `go run` adds
    assert [word in line for line in told] == [True], done.stderr
