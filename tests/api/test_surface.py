"""What surrounds the answers: models, paths, CORS, health, the OpenAPI page, the table of errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.errors import error_object, error_response, status_of
from app.core import errors
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def test_models_are_listed_so_that_every_client_sees_which_see(served: Served) -> None:
    body = served.client.get("/v1/models").json()
    entries = {entry["id"]: entry for entry in body["data"]}
    assert body["object"] == "list"
    assert entries["m"] == {
        "id": "m",
        "object": "model",
        "created": entries["m"]["created"],
        "owned_by": "fake",
        "name": "m",
        "displayName": "m",
        "type": "chat",
        "vision": True,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "functionCall": True,
        "reasoning": True,
        "context_length": 32768,
        "contextWindowTokens": 32768,
        "maxOutput": 4096,
    }
    assert isinstance(entries["m"]["created"], int)
    assert {"local-ocr-vision", "m-vision", "team/m:latest"} <= set(entries)
    assert entries["local-ocr-vision"]["functionCall"] is False


def test_models_without_credentials_and_wildcards_are_left_out(served: Served) -> None:
    listed = {entry["id"] for entry in served.client.get("/v1/models").json()["data"]}
    assert "unset" not in listed
    assert not any("*" in name for name in listed)


@pytest.mark.parametrize("model", ["text-only", "said-blind"])
def test_model_without_sight_is_listed_as_one(served: Served, model: str) -> None:
    entry = served.client.get(f"/v1/models/{model}").json()
    assert entry["vision"] is False
    assert entry["architecture"]["input_modalities"] == ["text"]


def test_no_entry_holds_a_null(served: Served) -> None:
    assert "null" not in served.client.get("/v1/models").text


@pytest.mark.parametrize("path", ["m", "team/m:latest", "team%2Fm:latest", "team/m%3Alatest", "any-thing"])
def test_one_model_is_shown_whatever_its_id_looks_like(served: Served, path: str) -> None:
    shown = served.client.get(f"/v1/models/{path}").json()
    assert shown["id"] == path.replace("%2F", "/").replace("%3A", ":")


def test_unknown_model_is_404(served: Served) -> None:
    response = served.client.get("/v1/models/nope")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/healthz"])
def test_head_answers_as_get_without_a_body(served: Served, path: str) -> None:
    response = served.client.head(path)
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/v1/chat/completions?x=1",
        "/chat/completions/",
    ],
)
def test_mistyped_path_is_served_without_a_redirect(served: Served, upstream: Upstream, path: str) -> None:
    upstream.answer(openai.answer("ok"))
    response = served.client.send(
        httpx2.Request("POST", served.url + path, json=HI, headers=dict(served.client.headers)), follow_redirects=False
    )
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/models", "/v1/v1/models", "/v1/models/", "/models/m"])
def test_models_are_found_on_mistyped_paths(served: Served, path: str) -> None:
    assert served.client.get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat/completionz", 404),
        ("POST", "/v1/responses", 404),
        ("POST", "/v1/messages", 404),
        ("GET", "/nowhere", 404),
    ],
)
def test_wrong_path_or_method_gets_an_error_object(served: Served, method: str, path: str, status: int) -> None:
    response = served.client.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_405_names_what_is_allowed(served: Served) -> None:
    assert served.client.get("/v1/chat/completions").headers["allow"] == "POST"


@pytest.mark.parametrize(
    "origin", ["https://app.nextchat.dev", "null", "file://", "tauri://localhost", "app://obsidian.md"]
)
def test_cors_stands_on_answers_errors_401_and_streams(served: Served, upstream: Upstream, origin: str) -> None:
    upstream.answer(openai.answer("ok"), openai.stream("ok"))
    header = {"origin": origin}
    bare = httpx2.Client(base_url=served.url, trust_env=False)
    with bare:
        answers = [
            served.client.post("/v1/chat/completions", json=HI, headers=header),
            served.client.post("/v1/chat/completions", json={**HI, "stream": True}, headers=header),
            served.client.post("/v1/chat/completions", json={}, headers=header),
            bare.post("/v1/chat/completions", json=HI, headers=header),
            bare.get("/nowhere", headers=header),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 401, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"x-request-id", "retry-after", "x-should-retry"} <= exposed
        assert answer.headers["x-request-id"]


def test_origins_may_be_named(tmp_path: Path) -> None:
    """With `TUWEN_CORS_ORIGINS` set, only those are let in, and answers say that they depend on the origin."""
    with serving(tmp_path, "", cors_origins="https://a.example, https://b.example") as served:
        known = served.client.get("/healthz", headers={"origin": "https://b.example"}).headers
        unknown = served.client.get("/healthz", headers={"origin": "https://evil.example"}).headers
    assert (known["access-control-allow-origin"], known["vary"]) == ("https://b.example", "Origin")
    assert "access-control-allow-origin" not in unknown


def test_preflight_needs_no_key_and_allows_what_is_asked(served: Served) -> None:
    asked = "authorization,content-type,x-api-key,http-referer,x-title,x-stainless-os"
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        response = client.options(
            "/v1/chat/completions",
            headers={
                "origin": "null",
                "access-control-request-method": "POST",
                "access-control-request-headers": asked,
                "access-control-request-private-network": "true",
            },
        )
    assert response.status_code == 204
    assert "content-length" not in response.headers  # RFC 9110, 8.6: never with a 204
    assert response.headers["access-control-allow-headers"] == asked
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-private-network"] == "true"
    assert response.headers["access-control-allow-origin"] == "*"


def test_health_needs_no_key(served: Served) -> None:
    with httpx2.Client(base_url=served.url, trust_env=False) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
        assert client.head("/readyz").status_code == 200


def test_openapi_page_describes_the_chat_route(served: Served) -> None:
    page: dict[str, Any] = served.client.get("/openapi.json").json()
    operation = page["paths"]["/v1/chat/completions"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = page["components"]["schemas"][reference.rpartition("/")[2]]
    assert set(schema["required"]) == {"model", "messages"}
    assert {"/v1/models", "/v1/models/{model_id}", "/healthz", "/readyz"} <= set(page["paths"])
    names = [part.rpartition('"')[0] for part in json.dumps(page).split('"#/components/schemas/')[1:]]
    assert all(name.split('"')[0] in page["components"]["schemas"] for name in names)


def test_every_error_has_a_status_and_a_whole_error_object() -> None:
    classes = [errors.GatewayError]
    for kind in classes:
        classes.extend(kind.__subclasses__())
    for kind in classes:
        error = kind("one line")
        assert 400 <= status_of(error) < 600
        assert set(error_object(error)["error"]) == {"message", "type", "param", "code"}
        assert error_response(error).headers["content-type"] == "application/json"
        if kind not in (errors.GatewayError, errors.RequestError, errors.BackendError):
            assert error.code or kind is errors.InvalidRequest, f"{kind.__name__} has no code"
            assert status_of(error) != 500 or kind is errors.InternalError, f"{kind.__name__} is not in the table"


def test_what_nobody_foresaw_is_500_with_cors_and_no_trace(
    served: Served, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    # the one inside stubbed in these tests: there is no door through which a bug of ours can be asked for
    monkeypatch.setattr("app.api.chat.to_request", explode)
    response = served.chat()
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret inside" not in response.text
    assert response.headers["access-control-allow-origin"] == "*"


def test_bug_in_a_translator_costs_one_request(
    served: Served, monkeypatch: pytest.MonkeyPatch, upstream: Upstream
) -> None:
    upstream.answer(openai.answer("ok"), openai.answer("ok"))
    with monkeypatch.context() as patch:
        patch.setattr("app.gateway.attempt._decoded", lambda *_: 1 / 0)
        response = served.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert served.booked(response).outcome == "failed"
    assert served.chat().status_code == 200
