"""TUWEN_* variables, and the file that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.config.environment import read_environment
from app.config.errors import ConfigError
from app.config.settings import Settings, load_settings, mistyped_variables, variable
from tests.config.conftest import Desk

TOP = Path(__file__).parents[2]
EXAMPLE = (TOP / ".env.example").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^#?([A-Z][A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))


@pytest.fixture(autouse=True)
def _at_a_clean_desk(desk: Desk) -> None:
    """No variable of ours, no .env."""


def test_the_example_lists_every_setting_and_every_key_and_nothing_else() -> None:
    keys = re.findall(r"\"env::([A-Z_]+)\"", (TOP / "models.toml").read_text(encoding="utf-8"))
    of_settings = {variable(name) for name in Settings.model_fields}
    of_ask = {"TUWEN_BASE_URL", "TUWEN_API_KEY"}  # read by `tuwen ask`, which needs no settings of a gateway
    assert sorted(LISTED) == sorted(of_settings | of_ask | set(keys) - {"NAME"})


def test_the_example_says_of_every_setting_what_it_is_and_its_default() -> None:
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}\n#{variable(name)}=" in EXAMPLE
    Path(".env").write_text(re.sub(r"^#(?=TUWEN_)", "", EXAMPLE, flags=re.MULTILINE), encoding="utf-8")
    read = load_settings()
    Path(".env").unlink()
    assert read == load_settings()
    assert read.model_fields_set  # the file was read at all


def test_the_defaults_are_the_contract() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path("data"))
    assert (settings.max_body_bytes, settings.max_image_bytes) == (31_457_280, 20_000_000)
    assert (settings.max_image_pixels, settings.max_image_side_px, settings.max_images) == (50_000_000, 16_384, 50)
    assert (settings.heartbeat_s, settings.connect_s, settings.first_event_s) == (15, 10, 120)
    assert (settings.idle_s, settings.deadline_s) == (60, 600)
    assert settings.secret is None
    assert settings.models_file is None


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TUWEN_PORT=1\nTUWEN_HOST=0.0.0.0\nTUWEN_IDLE_S=5\n", encoding="utf-8")
    monkeypatch.setenv("TUWEN_PORT", "2")
    monkeypatch.setenv("TUWEN_IDLE_S", "")
    settings = load_settings()
    assert (settings.host, settings.port, settings.idle_s) == ("0.0.0.0", 2, 5)  # noqa: S104 - nothing listens here
    assert load_settings(port=3).port == 3


def test_a_list_is_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_FETCH_ALLOW", "127.0.0.2/32:9802, [fd00::/8]:443,10.0.0.0/8:80")
    assert load_settings().fetch_allow == ("127.0.0.2/32:9802", "[fd00::/8]:443", "10.0.0.0/8:80")


def test_a_name_server_is_an_address_and_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_FETCH_RESOLVER", "[::1]:5353")
    assert load_settings().fetch_resolver == "[::1]:5353"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_SECRET", "hush-hush")
    settings = load_settings()
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == "hush-hush"
    assert "hush" not in repr(settings)
    with pytest.raises(ConfigError) as refused:
        load_settings(secret=["hush"])
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("TUWEN_PORT", "http", "TUWEN_PORT: must be a whole number; it is 'http'"),
        ("TUWEN_PORT", "70000", "TUWEN_PORT: must be at most 65535; it is '70000'"),
        ("TUWEN_IDLE_S", "soon", "TUWEN_IDLE_S: must be a number; it is 'soon'"),
        ("TUWEN_IDLE_S", "0", "TUWEN_IDLE_S: must be above 0; it is '0'"),
        ("TUWEN_DEADLINE_S", "inf", "TUWEN_DEADLINE_S: must be a finite number; it is 'inf'"),
        ("TUWEN_MAX_IMAGES", "0", "TUWEN_MAX_IMAGES: must be at least 1; it is '0'"),
        (
            "TUWEN_LOG_LEVEL",
            "loud",
            "TUWEN_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'; it is 'loud'",
        ),
        (
            "TUWEN_FETCH_ALLOW",
            "localhost",
            'TUWEN_FETCH_ALLOW: must be a list of CIDR:port, as "10.0.0.5/32:8080"; "localhost" is none;'
            " it is 'localhost'",
        ),
        (
            "TUWEN_FETCH_ALLOW",
            "10.0.0.5/32:x",
            "TUWEN_FETCH_ALLOW: must end in a port from 1 to 65535; it is '10.0.0.5/32:x'",
        ),
        (
            "TUWEN_FETCH_RESOLVER",
            "53",
            "TUWEN_FETCH_RESOLVER: must be ADDRESS:port, as \"127.0.0.1:53\"; it is '53'",
        ),
    ],
)
def test_a_wrong_value_gets_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("TUWEN_PUBLIC_URL", "https://u:hush@h", "https://***@h"),
        ("TUWEN_PUBLIC_URL", "https://h/?key=hush", "https://h/?***"),
        ("TUWEN_BLOB_ENDPOINT", "https://AK:hu@sh@oss.example.com", "https://***@oss.example.com"),
        ("TUWEN_BLOB_ENDPOINT", "AK:hush@oss.example.com", "***@oss.example.com"),
        ("TUWEN_BLOB_ENDPOINT", "https://h/#hush", "https://h/#***"),
        ("TUWEN_BLOB_STORE", "s3://AK:hush\n/hush@b", "s3://***@b"),
    ],
)
def test_of_a_wrong_address_no_credentials_are_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert f"; it is {shown!r}" in str(refused.value)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["redis://u:6/hush@h:6379/0", "redis://:a/hush@h", "rediss://:a#hush@h", "http://h"]
)
def test_an_address_of_redis_that_splits_its_password_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TUWEN_REDIS_URL", address)
    with pytest.raises(ConfigError, match="TUWEN_REDIS_URL: must be as redis://:PASSWORD@HOST:6379/0") as refused:
        load_settings()
    assert "hush" not in str(refused.value)


def test_every_wrong_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_PORT", "a")
    monkeypatch.setenv("TUWEN_IDLE_S", "b")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert [line.split(":")[0] for line in str(refused.value).split("\n")] == ["TUWEN_PORT", "TUWEN_IDLE_S"]


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUWEN_LOG_LEVEL", "DEBUG")
    assert load_settings().log_level == "debug"


def test_a_mistyped_variable_is_noticed_and_a_strange_one_left_alone() -> None:
    environ = {"TUWEN_PROT": "1", "TUWEN_PORT": "1", "TUWEN_SOMETHING_ELSE_ALTOGETHER": "1", "PORTS": "1"}
    assert mistyped_variables(environ) == {"TUWEN_PROT": "TUWEN_PORT"}


def test_keys_are_read_from_the_file_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("KEY_A=from-file\nKEY_B=from-file\nKEY_C=from-file\nKEY_D=\nKEY_E\n", encoding="utf-8")
    monkeypatch.setenv("KEY_A", "from-process")
    monkeypatch.setenv("KEY_B", "")
    environ = read_environment()
    assert [environ.get(f"KEY_{letter}") for letter in "ABCDE"] == [
        "from-process", "from-file", "from-file", None, None,
    ]  # fmt: skip


def test_a_folder_named_like_the_file_is_no_file() -> None:
    Path(".env").mkdir()
    assert "PATH" in read_environment()
    assert load_settings().port == 8000


def test_a_file_that_is_no_text_is_told() -> None:
    Path(".env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: "):
        read_environment()
    with pytest.raises(ConfigError, match=r"^\.env: cannot be read: "):
        load_settings()


@pytest.mark.parametrize("line", ["KEY_B: secret", 'KEY_B="secret', "my secret key"])
def test_a_line_that_sets_nothing_is_told_by_its_number(line: str, caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text(f"# mine\nKEY_A=1\n\n{line}\nKEY_C=3\n", encoding="utf-8")
    for read in (read_environment, load_settings):
        with pytest.raises(ConfigError, match=r"^\.env:4: must be NAME=value$"):
            read()
    assert not caplog.records
