"""The API page, `/openapi.json`: what FastAPI cannot see by itself, for the chat route and the vendor's are plain ASGI
routes, and errors are answered in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI

from app.api.openapi_answers import ANSWERS
from app.api.schemas import ChatBody
from app.api.vendor.chatocr_wire import PluginBody

_REF = "#/components/schemas/{name}"
_KEY_SCHEME = {"key": {"type": "http", "scheme": "bearer", "description": "A key made with `tuwen keys create`."}}
_NEEDS_KEY: Sequence[Mapping[str, Any]] = [{"key": []}]
_OPEN = frozenset({"/healthz", "/readyz"})
_ERRORS = {
    "400": "The request is at fault; `param` names the field",
    "401": "No key, or not one of ours",
    "403": "The key may not do this, or is not for the model; or it has a budget and the model no tariff",
    "404": "There is no such model, key or request",
    "409": "A request with this `Idempotency-Key` is being answered, or its answer was not kept",
    "413": "The body is too large",
    "415": "The body is in a form that is not read",
    "429": "Come again after `Retry-After` seconds; of `insufficient_quota`, not until the key has more to spend",
    "500": "The gateway failed; its log says why",
    "502": "The backend answered nonsense, or refused our credentials",
    "503": "The backend cannot be reached, or the gateway's own records; or the gateway is being restarted",
    "504": "The backend did not answer in time",
}
_TEXT = {"type": "string"}
_CONTENT: Mapping[str, Mapping[str, Any]] = {
    "/metrics": {"text/plain": {"schema": _TEXT}},
    "/admin/export": {"text/csv": {"schema": _TEXT}, "application/x-ndjson": {"schema": _TEXT}},
}
_ANSWERED_AS = {
    "/healthz": "Health",
    "/readyz": "Readiness",
    "/v1/models": "Models",
    "/v1/models/{model_id}": "Model",
    "/v1/usage": "Usage",
    "/dashboard/billing/subscription": "BillingSubscription",
    "/dashboard/billing/usage": "BillingUsage",
    "/admin/keys/{key_id}": "Key",
}
"""The schema of what a path answers, by whichever method; `GET /admin/…` of several are lists."""

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For 24 hours, requests with the same key are one request: answered, and charged, once",
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
}
_BILL = {"required": True, "content": {"text/csv": {"schema": _TEXT}}}


def describe(app: FastAPI) -> None:
    """Completes what `/openapi.json` says."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
            _add_schemas(document.setdefault("components", {}))
            document["paths"]["/v1/chat/completions"] = {"post": _chat()}
            document["paths"] |= _vendor_paths()
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema


def _add_schemas(components: dict[str, Any]) -> None:
    _, bodies = msgspec.json.schema_components([ChatBody, PluginBody], ref_template=_REF)
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # invalid input is 400, in OpenAI's shape
        schemas.pop(unused, None)
    schemas.update(bodies, **ANSWERS)
    components["securitySchemes"] = _KEY_SCHEME


def _complete(path: str, operation: dict[str, Any]) -> None:
    """What it answers, and whom: all of these routes answer alike where something is wrong."""
    responses = operation["responses"]
    responses.pop("422", None)
    good = responses.get("200") or responses["201"]
    if path in _CONTENT:
        good["content"] = _CONTENT[path]
    elif (name := "Key" if "201" in responses else _ANSWERED_AS.get(path)) is not None:
        good["content"] = _json(name)
    elif path.startswith("/admin/"):
        good["content"] = {"application/json": {"schema": {"type": "object"}}}
    if path == "/admin/reconcile":
        operation["requestBody"] = _BILL
    if path == "/readyz":
        responses["503"] = {"description": "It ends, or its records are away", "content": _json("Readiness")}
    if path in _OPEN:
        return
    operation["security"] = _NEEDS_KEY
    statuses = ["400", "401", "403", "404", "413", "415", "429", "500", "503"]
    responses.update(_errors(statuses))


def _errors(statuses: Sequence[str]) -> dict[str, Any]:
    return {status: {"description": _ERRORS[status], "content": _json("Error")} for status in statuses}


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _chat() -> dict[str, Any]:
    answer = {
        "description": "A `chat.completion`, or with `stream` its chunks as server-sent events",
        "content": {**_json("ChatCompletion"), "text/event-stream": {}},
    }
    return {
        "tags": ["chat"],
        "summary": "Ask a model about pictures",
        "operationId": "chat_completions",
        "security": _NEEDS_KEY,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": _json(ChatBody.__name__)},
        "responses": {"200": answer, **_errors(list(_ERRORS))},
    }


def _vendor_paths() -> dict[str, Any]:
    """Baidu's, whose clients know their own documentation; errors come with status 200 there."""
    answer = {
        "description": "The answer, with `stream` its packets as server-sent events; or `error_code` and `error_msg`",
        "content": {**_json("PluginAnswer"), "text/event-stream": {}},
    }
    unsigned = {"description": "A signature that is no good", "content": _json("PluginAnswer")}
    plugin = {
        "tags": ["vendor"],
        "summary": "Ask 智慧图问, as Baidu serves it",
        "operationId": "chatocr_plugin",
        "security": _NEEDS_KEY,
        "parameters": [
            {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            {"name": "access_token", "in": "query", "required": False, "schema": _TEXT},
        ],
        "requestBody": {"required": True, "content": _json(PluginBody.__name__)},
        "responses": {"200": answer, "400": unsigned, "403": unsigned, **_errors(["404", "500"])},
    }
    return {
        "/oauth/2.0/token": {method: _token(method) for method in ("get", "post")},
        "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/{name}": {"post": plugin},
    }


def _token(method: str) -> dict[str, Any]:
    refused = {
        status: {"description": "OAuth's error and its description", "content": _json("OAuthError")}
        for status in ("400", "401", "413", "415", "503")
    }
    return {
        "tags": ["vendor"],
        "summary": "Get an access token, as Baidu gives them out",
        "operationId": f"oauth_token_{method}",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": _TEXT}
            for name in ("grant_type", "client_id", "client_secret")
        ],
        "responses": {"200": {"description": "A token", "content": _json("OAuthToken")}, **refused, **_errors(["500"])},
    }
