"""The schemas of answers, as `/openapi.json` shows them: written down here once, held to the answers by tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TEXT = {"type": "string"}
_WORD = {"type": ["string", "null"]}
_COUNT = {"type": "integer", "minimum": 0}
_YES = {"type": "boolean"}
_NUMBER = {"type": "number"}


def _object(*optional: str, **required: Any) -> dict[str, Any]:
    """An object with these fields, each with its schema; those named first may be absent."""
    names = [name for name in required if name not in optional]
    return {"type": "object", "required": names, "properties": required}


def _list(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_CALL = _object(id=_TEXT, type={"const": "function"}, function=_object(name=_TEXT, arguments=_TEXT))
_REGION = _object(
    image=_COUNT, text=_TEXT, polygon=_list(_list(_NUMBER)), confidence={"type": "number", "minimum": 0, "maximum": 1}
)
_MESSAGE = _object(
    *("reasoning_content", "tool_calls", "ocr_regions"),
    role={"const": "assistant"},
    content=_WORD,
    refusal={"type": "null"},
    reasoning_content=_TEXT,
    tool_calls=_list(_CALL),
    ocr_regions=_list(_REGION),
)
_CHOICE = _object(
    index={"const": 0},
    message=_MESSAGE,
    logprobs={"type": "null"},
    finish_reason={"enum": ["stop", "length", "tool_calls", "content_filter"]},
)
_USAGE = _object(
    "cost",
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    total_tokens=_COUNT,
    prompt_tokens_details=_object(cached_tokens=_COUNT),
    completion_tokens_details=_object(reasoning_tokens=_COUNT),
    cost={"type": "number", "minimum": 0, "description": "In yuan; absent where no tariff is known."},
)
_MODEL = _object(
    *("context_length", "contextWindowTokens", "maxOutput"),
    id=_TEXT,
    object={"const": "model"},
    created={"type": "integer"},
    owned_by=_TEXT,
    name=_TEXT,
    displayName=_TEXT,
    type={"const": "chat"},
    vision=_YES,
    architecture=_object(input_modalities=_list(_TEXT), output_modalities=_list(_TEXT)),
    functionCall=_YES,
    reasoning=_YES,
    context_length=_COUNT,
    contextWindowTokens=_COUNT,
    maxOutput=_COUNT,
)
_KEY = _object(
    "key",
    id=_TEXT,
    object={"const": "key"},
    name=_TEXT,
    owner=_TEXT,
    admin=_YES,
    models=_list(_TEXT),
    tags=_list(_TEXT),
    log_content=_YES,
    created_at=_TEXT,
    expires_at=_WORD,
    revoked_at=_WORD,
    balance={"type": "object"},
    key={"type": "string", "description": "The key itself; where it was made just now, and never again."},
)

ANSWERS: Mapping[str, Any] = {
    "Error": _object(error=_object(message=_TEXT, type=_TEXT, param=_WORD, code=_WORD)),
    "Health": _object(status={"const": "ok"}),
    "Readiness": _object(status={"enum": ["ready", "draining", "records away"]}),
    "ChatCompletion": _object(
        id=_TEXT,
        object={"const": "chat.completion"},
        created={"type": "integer"},
        model=_TEXT,
        choices={"type": "array", "items": _CHOICE, "minItems": 1, "maxItems": 1},
        usage=_USAGE,
    ),
    "Model": _MODEL,
    "Models": _object(object={"const": "list"}, data=_list(_MODEL)),
    "Key": _KEY,
    "Usage": _object(
        object={"const": "usage"},
        key=_object(id=_TEXT, name=_TEXT),
        currency=_TEXT,
        balance={"type": "object"},
        since=_TEXT,
        until=_WORD,
        by_day=_list({"type": "object"}),
        by_model=_list({"type": "object"}),
    ),
    "BillingSubscription": _object(
        object={"const": "billing_subscription"},
        has_payment_method=_YES,
        soft_limit_usd=_NUMBER,
        hard_limit_usd=_NUMBER,
        system_hard_limit_usd=_NUMBER,
        access_until={"type": "integer"},
    ),
    "BillingUsage": _object(object={"const": "list"}, total_usage=_NUMBER),
    "PluginAnswer": {
        "anyOf": [
            _object("meta_info", log_id={"type": "integer"}, result=_TEXT, meta_info={"type": "object"}),
            _object(log_id={"type": "integer"}, error_code={"type": "integer"}, error_msg=_TEXT),
        ]
    },
    "OAuthToken": _object(
        refresh_token=_TEXT,
        expires_in=_COUNT,
        session_key=_TEXT,
        access_token=_TEXT,
        scope=_TEXT,
        session_secret=_TEXT,
    ),
    "OAuthError": _object(error=_TEXT, error_description=_TEXT),
}
