"""`tuwen check` and `tuwen backends`: what the configuration leads to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Tuwen = Callable[..., Result]

CATALOGUE = """
[backends.near]
kind = "openai"
base_url = "http://localhost:9/v1"
limits = { concurrency = 2 }

[backends.far]
kind = "openai"
base_url = "env::FAR_BASE_URL"
api_key = "env::FAR_API_KEY"

[models."two-vision"]
routes = [{ backend = "far", model = "big" }, { backend = "near", model = "small" }]
tariff = { input_per_million = "4.00", output_per_million = "12.00" }
limits = { rpm = 60, tpm = 100_000 }

[models."far-vision"]
routes = [{ backend = "far", model = "big" }]
tariff = "unknown"
"""


@pytest.fixture
def catalogue(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    assert data_dir
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)
    path = Path("models.local.toml")
    path.write_text(CATALOGUE)
    return path


def lines_of(result: Result, word: str) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines() if word in line]


def test_routes_stand_in_the_order_they_are_tried(tuwen: Tuwen, catalogue: Path) -> None:
    result = tuwen("check")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("two-vision"))
    assert lines[first].split() == [
        "two-vision", "1.", "far", "big", "set", "FAR_BASE_URL,", "FAR_API_KEY",
        "in", "4.00,", "out", "12.00", "60", "rpm,", "100000", "tpm",
    ]  # fmt: skip
    assert lines[first + 1].split() == ["2.", "near", "small", "ready"]
    assert lines_of(result, "far-vision")[0][-1] == "unknown"
    assert "The configuration is sound. 3 of " in result.stdout


def test_recipe_says_who_reads_and_who_answers(tuwen: Tuwen, catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue.write_text(CATALOGUE + '[models.mixed]\nrecipe = { ocr = "two-vision", answer = ["far-vision"] }\n')
    lines = tuwen("check").stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("mixed"))
    assert lines[at].split() == [
        "mixed", "1.", "recipe", "two-vision", "→", "far-vision", "set", "FAR_BASE_URL,", "FAR_API_KEY", "by", "step",
    ]  # fmt: skip
    assert lines[at + 1].split() == ["2.", "recipe", "two-vision", "ready"]
    [first, _] = [record for record in json.loads(tuwen("check", "--json").stdout) if record["model"] == "mixed"]
    assert (first["usable"], first["missing_env"]) == (False, ["FAR_BASE_URL", "FAR_API_KEY"])


def test_variable_that_is_set_is_missed_no_longer(
    tuwen: Tuwen, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_BASE_URL", "http://localhost:8/v1")
    monkeypatch.setenv("FAR_API_KEY", "sk-far-secret")
    result = tuwen("check")
    assert lines_of(result, "far-vision")[0][4] == "ready"
    assert "The configuration is sound. 4 of " in result.stdout
    assert "sk-far-secret" not in result.output + tuwen("backends", "--json").output


def test_routes_can_be_read_by_programs(tuwen: Tuwen, catalogue: Path) -> None:
    records = {(record["model"], record["rank"]): record for record in json.loads(tuwen("check", "--json").stdout)}
    assert records["two-vision", 1] == {
        "model": "two-vision",
        "aliases": [],
        "rank": 1,
        "backend": "far",
        "remote_model": "big",
        "usable": False,
        "tariff": "in 4.00, out 12.00",
        "missing_env": ["FAR_BASE_URL", "FAR_API_KEY"],
        "weight": None,
        "limits": {"rpm": 60, "tpm": 100_000, "concurrency": None},
    }
    assert records["two-vision", 2]["usable"]


@pytest.mark.parametrize("command", ["check", "backends"])
def test_wrong_catalogue_is_told_line_by_line(tuwen: Tuwen, catalogue: Path, command: str) -> None:
    catalogue.write_text(CATALOGUE.replace("base_url =", "bse_url =").replace('"unknown"', "4"))
    result = tuwen(command)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert any(line.startswith("models.local.toml:4: backends.near.bse_url: unknown key") for line in lines)
    assert len(lines) >= 3


def test_wrong_setting_is_told_by_its_name(tuwen: Tuwen, catalogue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_PORT", "red")
    result = tuwen("check")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "TUWEN_PORT" in result.stderr


def test_variable_that_only_looks_like_a_setting_is_warned_of(
    tuwen: Tuwen, catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUWEN_PROT", "9000")
    monkeypatch.setenv("TUWEN_BASE_URL", "http://localhost:8000")
    monkeypatch.setenv("TUWEN_API_KEY", "sk-tw-x")
    result = tuwen("check")
    assert result.exit_code == 0
    assert result.stderr == "TUWEN_PROT is no setting and does nothing; did you mean TUWEN_PORT?\n"


def test_backends_say_what_they_lack_and_what_they_serve(tuwen: Tuwen, catalogue: Path) -> None:
    result = tuwen("backends")
    assert result.exit_code == 0
    assert lines_of(result, "near") == [["near", "openai", "ready", "2", "at", "once", "two-vision"]]
    assert lines_of(result, "set FAR") == [
        ["far", "openai", "set", "FAR_BASE_URL,", "FAR_API_KEY", "two-vision,", "far-vision"]
    ]


def test_backends_can_be_read_by_programs(tuwen: Tuwen, catalogue: Path) -> None:
    records = {record["name"]: record for record in json.loads(tuwen("backends", "--json").stdout)}
    assert records["near"] == {
        "name": "near",
        "kind": "openai",
        "configured": True,
        "missing_env": [],
        "models": ["two-vision"],
        "limits": {"rpm": None, "tpm": None, "concurrency": 2},
    }
    assert records["far"]["missing_env"] == ["FAR_BASE_URL", "FAR_API_KEY"]
    assert records["ocr"]["configured"]


FETCHING = """
[backends.bucket-only]
kind = "chatocr"
endpoint = "any"
api_key = "a"
secret_key = "s"

[backends.anywhere]
kind = "chatocr"
endpoint = "any"
api_key = "a"
secret_key = "s"
bos_only = false

[models."bos-vision"]
routes = [{ backend = "bucket-only", model = "uuid-chatocr" }]

[models."url-vision"]
routes = [{ backend = "anywhere", model = "uuid-chatocr" }]
"""
BUCKET = {
    "TUWEN_BLOB_STORE": "s3://pictures",
    "TUWEN_BLOB_REGION": "bj",
    "TUWEN_BLOB_ACCESS_KEY_ID": "id",
    "TUWEN_BLOB_SECRET_ACCESS_KEY": "secret",
}


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        ({}, {"bos-vision": "a bucket under bcebos.com", "url-vision": "TUWEN_PUBLIC_URL or TUWEN_BLOB_STORE"}),
        ({"TUWEN_PUBLIC_URL": "https://tuwen.example.com"}, {"bos-vision": "a bucket under bcebos.com"}),
        (BUCKET, {"bos-vision": "a bucket under bcebos.com"}),
        ({**BUCKET, "TUWEN_BLOB_ENDPOINT": "https://s3.bj.bcebos.com"}, {}),
    ],
)
def test_models_that_fetch_pictures_are_not_counted_where_none_are_published_for_them(
    tuwen: Tuwen, catalogue: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], lacking: dict[str, str]
) -> None:
    def counted() -> int:
        result = tuwen("check")
        assert result.exit_code == 0, result.output
        last = next(line for line in result.stdout.splitlines() if line.startswith("The configuration is sound."))
        told = [line for line in result.stdout.splitlines() if " fetches pictures by address: set " in line]
        assert sorted(line.split()[0] for line in told) == sorted(lacking if "bos-vision" in result.stdout else ())
        assert all(lacking[line.split()[0]] in line for line in told)
        return int(last.split()[4])

    before = counted()
    catalogue.write_text(CATALOGUE + FETCHING)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert counted() - before == 2 - len(lacking)
