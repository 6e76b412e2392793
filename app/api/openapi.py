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
    "404": "No such model",
    "413": "The body is too large",
    "429": "Come again after `Retry-After` seconds",
    "502": "The backend answered nonsense, or refused our credentials",
    "503": "The backend cannot be reached",
    "504": "The backend did not answer in time",
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
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": {"200": answer, **{status: {"description": words} for status, words in _ERRORS.items()}},
    }
