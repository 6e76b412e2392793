"""Lines of the log, and what must not be in them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app.observe.logs import LogForm, configure_logging, redact

KEY = "sk-tw-" + "aB3_-" * 8 + "xyz"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    before = (root.handlers, root.level, access.handlers, access.propagate)
    yield
    root.handlers, access.handlers, access.propagate = before[0], before[2], before[3]
    root.setLevel(before[1])
    structlog.reset_defaults()


def logging_to(form: LogForm, level: str = "info") -> io.StringIO:
    out = io.StringIO()
    configure_logging(level=level, form=form, stream=out)
    return out


def fail() -> None:
    raise ValueError(f"bad key {KEY}")


def json_lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_line_carries_event_level_fields_and_time() -> None:
    out = logging_to("json")
    structlog.get_logger("any").info("request", status=200, model="图问")
    [line] = json_lines(out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("time"))
    assert line == {"event": "request", "level": "info", "status": 200, "model": "图问"}
    assert "图问" in out.getvalue()


def test_console_line_is_for_people() -> None:
    out = logging_to("console")
    structlog.get_logger().warning("backend fault", backend="qwen", code=None)
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning  backend fault backend=qwen code=None\n", out.getvalue())


def test_lines_of_libraries_look_like_ours() -> None:
    out = logging_to("json")
    logging.getLogger("asyncio").warning("took %s s", 5)
    [line] = json_lines(out)
    assert (line["event"], line["level"]) == ("took 5 s", "warning")


def test_lines_below_the_level_are_dropped() -> None:
    out = logging_to("console", "warning")
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    assert not out.getvalue()


@pytest.mark.parametrize("library", ["uvicorn.error", "watchfiles.main"])
def test_libraries_keep_their_every_step_for_debugging(library: str) -> None:
    for level, heard in (("debug", ["step", "fault"]), ("info", ["fault"]), ("error", [])):
        out = logging_to("json", level)
        logging.getLogger(library).info("step")
        logging.getLogger(library).warning("fault")
        assert [line["event"] for line in json_lines(out)] == heard


def test_second_configuration_replaces_the_first() -> None:
    first, second = logging_to("json"), logging_to("json")
    logging.getLogger("library").warning("once")
    assert (first.getvalue(), len(json_lines(second))) == ("", 1)


def test_access_log_of_uvicorn_stays_off() -> None:
    out = logging_to("console")
    logging.getLogger("uvicorn.access").info("GET / 200")
    assert not out.getvalue()


def test_without_a_stream_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", form="json")
    structlog.get_logger().info("here")
    assert "here" in capsys.readouterr().err


def test_value_json_does_not_know_is_written_as_python_does() -> None:
    out = logging_to("json")
    structlog.get_logger().info("x", path=frozenset({1}), odd="\ud800")
    assert json_lines(out)[0]["path"] == "frozenset({1})"


def test_caller_cannot_write_lines_or_move_the_cursor() -> None:
    out = logging_to("console")
    structlog.get_logger().info("request\nforged", model="图\x1b[2J\r\n12:00:00 error forged")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()
    assert "model=图\\x1b[2J\\r\\n" in out.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_key_is_readable_wherever_it_stands(form: LogForm) -> None:
    out = logging_to(form)
    log = structlog.get_logger()
    log.info(
        KEY, plain=KEY, nested={"a": [KEY]}, api_key="opaque-1", authorization="opaque-2", client_secret="opaque-3"
    )
    logging.getLogger("library").warning("sent %s", {"Authorization": f"Bearer {KEY}"})
    try:
        fail()
    except ValueError:
        log.exception("fault")
        logging.getLogger("library").exception("fault")
    text = out.getvalue()
    assert "aB3_" not in text
    assert "opaque" not in text
    assert text.count("ValueError: bad key [redacted]") == 2


@pytest.mark.parametrize(
    "line",
    [
        "Authorization: Bearer SECRET",
        "authorization: bce-auth-v1/SECRET/2026-11-20T00:00:00Z/1800/host/SECRET",
        'AUTHORIZATION="ACS3-HMAC-SHA256 Credential=SECRET,SignedHeaders=a;b,Signature=SECRET"',
        "{'Authorization': 'Basic SECRET'}",
        r'{"event": "{\"authorization\": \"Bearer SECRET\"}"}',
        "[(b'authorization', b'Bearer SECRET'), (b'host', b'x')]",
        "x-api-key: SECRET",
        "https://host/chat?api_key=SECRET&authorization=SECRET",
        "https://host/token?access_token=SECRET&x=1",
        "POST /oauth/2.0/token?grant_type=client_credentials&client_id=key_1&client_secret=SECRET HTTP/1.1",
        "{'query_string': b'client_id=key_1&client_secret=SECRET', 'path': '/oauth/2.0/token'}",
        "KeyError: 'client_secret=SECRET'",
        "POST /rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/x/?access_token=SECRET&x=1",
        "sign bce-auth-v1/SECRET/2026-11-20T00:00:00Z/300/content-type;host/SECRET",
        "qianfan_secret_key=SECRET",
        "sent bearer SECRET, and waited",
        "key sk-SECRET1234 of a vendor",
    ],
)
def test_credentials_in_many_spellings_are_redacted(line: str) -> None:
    assert "SECRET" not in redact(line)
    assert "[redacted]" in redact(line)


def test_token_in_baidus_form_is_redacted_without_a_name() -> None:
    token = "24." + "0123456789abcdef" * 2 + ".2592000.1763600000.key_0123456789ab"
    assert redact(f"ValueError: odd {token}, sorry") == "ValueError: odd [redacted], sorry"


@pytest.mark.parametrize(
    "line",
    [
        "request status=200 client_id=key_3f9c",
        "request status=200 key=key_3f9c path=/v1/chat/completions",
        "risk-assessment of task-force, sk-",
        "the bearer",
        "x=1&access_token",
    ],
)
def test_other_words_are_left_alone(line: str) -> None:
    assert redact(line) == line


def test_what_follows_a_redacted_value_stays() -> None:
    assert redact('{"authorization": "Bearer x", "status": 200}') == '{"authorization": "[redacted]", "status": 200}'
    assert redact("?api_key=x&y=1") == "?api_key=[redacted]&y=1"
