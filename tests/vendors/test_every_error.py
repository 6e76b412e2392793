"""Every row of the vendors' error tables, provoked through a server in the vendor's shape: what the caller is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import httpx2
import pytest

from app.api.errors import answered_as
from app.backends.error_table import ErrorRow
from app.backends.registry import KINDS, spec_of
from app.core.errors import BackendMisconfigured, BackendUsedUp, ContentFiltered
from tests.fakes.http import Cut, Reply
from tests.support.server import events_of
from tests.vendors.conftest import Shown
from tests.vendors.provocations import CANARY, SECRET, TEXT, TOKEN_PATH, VENDORS, Desk, Provocation

CLAIM = "every row of the error map, provoked through a server"
AFTER_TEXT = "every error after the first text: the text stands, and no false end follows"

DeskOf: TypeAlias = Callable[[str], Desk]


@dataclass(frozen=True, slots=True)
class Case:
    """A row of a kind's, and how it is provoked."""

    kind: str
    row: ErrorRow
    early: tuple[Provocation, ...]
    late: Provocation | None


def cases() -> Iterator[Case]:
    for kind in KINDS:
        for table in spec_of(kind).errors:
            vendor = VENDORS[kind]  # a kind with a table must stand there
            for row in table.rows.values():
                yield Case(kind, row, tuple(vendor.early(table, row)), vendor.late(table, row))


CASES = tuple(cases())


def named(case: Case) -> str:
    return f"{case.kind} {case.row.code}"


@pytest.fixture(scope="module")
def desk_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskOf]:
    """The desk of a kind, opened when it is first asked for."""
    with ExitStack() as life:
        opened: dict[object, Desk] = {}

        def desk(kind: str) -> Desk:
            opener = VENDORS[kind].desk
            if opener not in opened:
                opened[opener] = life.enter_context(opener(tmp_path_factory.mktemp(kind)))
            return opened[opener]

        yield desk


def promised(row: ErrorRow, language: str) -> dict[str, Any]:
    """The error object that the table promises: it and no more, so that nothing of the vendor's can stand in it."""
    message = row.chinese if language.startswith("zh") else row.english
    return {"message": message, "type": answered_as(row.error)[1], "param": None, "code": row.error.code}


def assert_nothing_leaks(answer: httpx2.Response) -> None:
    told = answer.text + str(answer.headers.multi_items())
    assert CANARY not in told
    assert SECRET not in told


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_server_answers_a_request_that_passes_its_checks(desk_of: DeskOf, kind: str, stream: bool) -> None:
    """Else the errors below could be the server's own, of requests that are not sound."""
    for provocation in VENDORS[kind].good:
        answer = desk_of(kind).ask(provocation, stream=stream)
        text = told_in(events_of(answer.text))[1] if stream else answer.json()["choices"][0]["message"]["content"]
        assert (answer.status_code, text) == (200, TEXT), provocation.model


@pytest.mark.parametrize("case", CASES, ids=named)
def test_error_before_any_text_is_told_as_the_table_promises(case: Case, desk_of: DeskOf, shown: Shown) -> None:
    desk = desk_of(case.kind)
    status, _ = answered_as(case.row.error)
    hopeless = "false" if issubclass(case.row.error, BackendMisconfigured | BackendUsedUp) else None
    assert case.early
    for provocation in case.early:
        for stream in (False, True):
            for language in ("", "zh"):
                answer = desk.ask(provocation, stream=stream, language=language)
                assert answer.json() == {"error": promised(case.row, language)}, provocation.shape
                assert answer.status_code == status, provocation.shape
                assert answer.headers["content-language"] == (language or "en")
                assert answer.headers.get("retry-after") == ("1" if case.row.retry == "later" else None)
                assert answer.headers.get("x-should-retry") == hopeless
                assert_nothing_leaks(answer)
                calls = [asked for asked in desk.up.requests if asked.path != TOKEN_PATH]
                assert len(calls) == provocation.calls, provocation.shape
    shown(CLAIM, **{case.kind: 1})


@pytest.mark.parametrize("case", [case for case in CASES if case.late], ids=named)
def test_error_after_the_first_text_ends_the_stream_without_a_false_end(
    case: Case, desk_of: DeskOf, shown: Shown
) -> None:
    assert case.late is not None
    for language in ("en-GB, zh;q=0.5", "zh-CN, en;q=0.5"):
        answer = desk_of(case.kind).ask(case.late, stream=True, language=language)
        assert answer.status_code == 200
        assert_nothing_leaks(answer)
        events = events_of(answer.text)
        finishes, text = told_in(events)
        assert text == TEXT
        if case.kind == "spark" and issubclass(case.row.error, ContentFiltered):
            assert (finishes, events[-1]) == (["content_filter"], "[DONE]")
            assert "error" not in answer.text
        else:
            assert (finishes, "[DONE]" in events) == ([], False)
            assert json.loads(events[-1]) == {"error": promised(case.row, language)}
    shown(AFTER_TEXT, **{case.kind: 1})


@pytest.mark.parametrize(
    "good", [good for vendor in VENDORS.values() for good in vendor.good], ids=lambda good: good.model
)
def test_connection_that_breaks_is_told_in_the_callers_language(good: Provocation, desk_of: DeskOf) -> None:
    kind = next(kind for kind, vendor in VENDORS.items() if good in vendor.good)
    broken = replace(good, answer=Reply(steps=[Cut(reset=True)], body="raw"))
    answers = {language: desk_of(kind).ask(broken, stream=True, language=language) for language in ("en", "zh")}
    assert {answer.status_code for answer in answers.values()} == {503}
    told = {language: answer.json()["error"]["message"] for language, answer in answers.items()}
    assert told == {
        "en": "The model's backend cannot be reached at the moment; try again in a few seconds.",
        "zh": "暂时无法连接模型服务，请稍后重试。",
    }


def told_in(events: list[str]) -> tuple[list[str], str]:
    """The finish reasons of a stream, and its text."""
    values = [json.loads(item) for item in events if item != "[DONE]"]
    choices = [choice for value in values for choice in value.get("choices", ())]
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return finishes, "".join(choice["delta"].get("content") or "" for choice in choices)
