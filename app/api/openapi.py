"""The chat route's entry in the OpenAPI page: it is a plain ASGI route, so FastAPI cannot see its types itself."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

from app.api.schemas import ChatBody

_REF = "#/components/schemas/{name}"
_KEY_SCHEME = {"key": {"type": "http", "scheme": "bearer", "description": "A key made with `tuwen keys create`."}}
_ERRORS = {
    "400": "The request is at fault; `param` names the field",
    "401": "No key, or not one of ours",
    "403": "The key is not for this model, or has a budget and the model no tariff",
    "404": "No such model",
    "409": "A request with this `Idempotency-Key` is being answered, or its answer was not kept",
    "413": "The body is too large",
    "429": "Come again after `Retry-After` seconds; of `insufficient_quota`, not until the key has more to spend",
    "502": "The backend answered nonsense, or refused our credentials",
    "503": "The backend cannot be reached, or the gateway's own records; or the gateway is being restarted",
    "504": "The backend did not answer in time",
}


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For 24 hours, requests with the same key are one request: answered, and charged, once",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def describe_chat(app: FastAPI) -> None:
    """Adds the route, its body's schema and the key to what `/openapi.json` says."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            _, schemas = msgspec.json.schema_components([ChatBody], ref_template=_REF)
            components = document.setdefault("components", {})
            components.setdefault("schemas", {}).update(schemas)
            components["securitySchemes"] = _KEY_SCHEME
            document["paths"]["/v1/chat/completions"] = {"post": _operation()}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend its schema


def _operation() -> dict[str, Any]:
    body = {"schema": {"$ref": _REF.format(name=ChatBody.__name__)}}
    answer = {
        "description": "A `chat.completion`, or with `stream` its chunks as server-sent events",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
    return {
        "tags": ["chat"],
        "summary": "Ask a model about pictures",
        "operationId": "chat_completions",
        "security": [{"key": []}],
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {"200": answer, **{status: {"description": words} for status, words in _ERRORS.items()}},
    }
