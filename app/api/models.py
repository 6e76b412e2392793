"""GET and HEAD /v1/models: what can be asked for, described so that every client sees which models see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from app.accounts.interfaces import Caller
from app.api.deps import CallerOf
from app.config.catalog import Model
from app.config.reload import CatalogHolder
from app.core.errors import ModelNotFound, shown
from app.gateway.routing import find_model


def model_object(model: Model) -> dict[str, Any]:
    """A model's entry: OpenAI's four fields, and what Chatbox, Cherry Studio, LobeChat and others read beside them.

    A recipe can do what its answering model can. Nulls are left out: some clients take a field that is there as one
    with a value.
    """
    answering = model if model.recipe is None else model.recipe.answer or model.recipe.ocr
    capabilities = [route.capabilities for route in answering.usable_routes]
    entry: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "name": model.name,
        "displayName": model.name,
        "type": "chat",
        "vision": model.vision,
        "architecture": {
            "input_modalities": ["text", "image"] if model.vision else ["text"],
            "output_modalities": ["text"],
        },
        "functionCall": any(able.tools for able in capabilities),
        "reasoning": any(able.reasoning for able in capabilities),
    }
    if answering.context_tokens is not None:
        entry |= {"context_length": answering.context_tokens, "contextWindowTokens": answering.context_tokens}
    if answering.max_output_tokens is not None:
        entry["maxOutput"] = answering.max_output_tokens
    return entry


def router(catalogs: CatalogHolder, caller_of: CallerOf) -> APIRouter:
    """The routes, for callers with a key. Each is shown the models that its key is for."""
    routes = APIRouter(prefix="/v1", tags=["models"])

    def is_for(caller: Caller, model_id: str) -> bool:
        found = catalogs.current.find(model_id)
        return found is not None and caller.may_ask(model_id, found.id, *found.aliases)

    @routes.head("/models", include_in_schema=False)
    @routes.get("/models", summary="List the models that can be asked")
    async def list_models(request: Request) -> dict[str, Any]:
        caller = await caller_of(request)
        visible = [model for model in catalogs.current.listed() if is_for(caller, model.id)]
        return {"object": "list", "data": [model_object(model) for model in visible]}

    @routes.head("/models/{model_id:path}", include_in_schema=False)
    @routes.get("/models/{model_id:path}", summary="Describe one model")
    async def show_model(request: Request, model_id: str) -> dict[str, Any]:
        caller = await caller_of(request)
        model = find_model(catalogs.current, model_id)
        if not is_for(caller, model_id):
            raise ModelNotFound(f"This key is not for the model `{shown(model_id)}`.", param="model")
        return model_object(replace(model, id=model_id))

    return routes
