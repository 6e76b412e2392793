"""The API page against the gateway that it describes: every operation with whatever its schema allows, and more.

Each answer must be one the page knows: its status, its type, its schema; none is 500 or above, none takes long. Runs
for longer than five seconds: every operation is tried with dozens of requests. FUZZ_EXAMPLES sets how many.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.api.conftest import MODELS
from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
SLOWEST_S = 5.0

fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


OPERATIONS = (
    *("POST /v1/chat/completions", "GET /v1/models", "GET /v1/models/{model_id}", "GET /v1/usage", "GET /healthz"),
    "GET /readyz",
    *("GET /metrics", "GET /dashboard/billing/subscription", "GET /dashboard/billing/usage"),
    *(f"{method} /admin/keys" for method in ("GET", "POST")),
    *(f"{method} /admin/keys/{{key_id}}" for method in ("GET", "PATCH", "DELETE")),
    *(f"{method} /admin/keys/{{key_id}}/top-ups" for method in ("GET", "POST")),
    *("GET /admin/usage", "GET /admin/requests", "GET /admin/requests/{request_id}", "GET /admin/export"),
    *("POST /admin/reconcile", "GET /oauth/2.0/token", "POST /oauth/2.0/token"),
    "POST /rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/{name}",
)
WITHOUT_SUCCESS = {"POST /admin/reconcile", "GET /oauth/2.0/token", "POST /oauth/2.0/token"}
"""What needs more than luck to be answered well: a bill, credentials."""
TEXT_ONLY = [{"role": "user", "content": "hi"}]


def _answered(request: Received) -> Reply:
    return openai.stream("a", "b") if request.json.get("stream") else openai.answer("ab")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Upstream(api_key="k").in_thread() as upstream:
        upstream.otherwise(_answered)
        models = MODELS.format(url=upstream.url, key="k")
        with serving(tmp_path_factory.mktemp("fuzzed"), models, first_event_s=4, idle_s=4, log_level="error") as served:
            yield served


@pytest.fixture(scope="module")
def document(site: Served) -> dict[str, Any]:
    page: dict[str, Any] = site.client.get("/openapi.json").json()
    return page


@pytest.fixture(scope="module")
def booked(site: Served) -> str:
    """The id of a request in the ledger."""
    return str(site.chat().headers["x-request-id"])


def test_every_operation_of_the_page_is_tried(document: dict[str, Any]) -> None:
    described = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert described == set(OPERATIONS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["as described", "otherwise"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_those_of_the_page(
    name: str, mode: GenerationMode, site: Served, document: dict[str, Any], booked: str
) -> None:
    method, path = name.split(" ", 1)
    operation = schemathesis.openapi.from_dict(document)[path][method]
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body or operation.path_parameters):
        return  # there is nothing to get wrong

    statuses: set[int] = set()

    @fuzzed
    @given(operation.as_strategy(generation_mode=mode), st.integers(0, 9))
    def run(case: Case, luck: int) -> None:
        headers = {} if luck == 9 else site.headers
        if luck < 6:
            name_what_is_there(case, luck, site, booked)
        answer = case.call(base_url=site.url, headers=headers, timeout=SLOWEST_S)
        case.validate_response(answer, checks=CHECKS)
        statuses.add(answer.status_code)

    run()
    if mode is GenerationMode.POSITIVE and name not in WITHOUT_SUCCESS:
        assert statuses & {200, 201}, statuses


def name_what_is_there(case: Case, luck: int, site: Served, booked: str) -> None:
    """Puts names that exist where else there would be none but made-up ones."""
    there = {"model_id": "m", "key_id": site.new_key("fuzzed")[1], "request_id": booked, "name": "m"}
    for name in there.keys() & (case.path_parameters or {}).keys():
        case.path_parameters[name] = there[name]
    if isinstance(case.body, dict) and "messages" in case.body:
        case.body["model"] = "m"
        if luck < 3:  # of made-up fields few make sense together
            stream = case.body.get("stream") is True
            case.body = {"model": "m", "messages": TEXT_ONLY, "stream": stream}
