"""`tuwen errors` explains every code of every vendor."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from app.cli import app


def errors(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["errors", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_code_is_explained_in_both_languages_with_what_callers_get() -> None:
    code, out, _ = errors("336501")
    assert code == 0
    assert "requests per minute" in out
    assert "每分钟的请求数" in out
    assert "HTTP 429, type rate_limit_error, code rate_limit_exceeded" in out
    assert "source" in out


def test_case_of_a_code_does_not_matter() -> None:
    assert errors("RPM_RATE_LIMIT_EXCEEDED")[1] == errors("rpm_rate_limit_exceeded")[1] != ""


def test_code_of_two_vendors_is_explained_for_both() -> None:
    _, out, _ = errors("18", "--json")
    assert {item["vendor"] for item in json.loads(out)} > {"Qianfan"}


def test_unknown_code_names_those_that_look_alike() -> None:
    code, out, err = errors("rpm_rate")
    assert (code, out) == (1, "")
    assert "rpm_rate_limit_exceeded" in err
    assert errors("zzzz")[0] == 1


def test_without_a_code_all_are_printed_once() -> None:
    _, out, _ = errors("--json")
    listed = [(item["vendor"], item["code"]) for item in json.loads(out)]
    assert len(listed) == len(set(listed)) > 100
