"""Which routes can serve a request, in order; and why none can."""

from __future__ import annotations

from app.backends.base import Capabilities
from app.config.catalog import Catalog, Model, Route
from app.core.errors import ModelNotFound, RequestError, UnsupportedFeature, shown
from app.core.types import ChatRequest, ImagePart, ImageSource

_LONGEST_ID_CHARS = 256


def find_model(catalog: Catalog, model_id: str) -> Model:
    """The model a caller named.

    Raises:
        ModelNotFound: not in the catalogue, or none of its backends is configured here.
    """
    # a wildcard passes the name on, so it must be a name: no backend is to see line breaks in it
    model = catalog.find(model_id) if model_id.isprintable() and len(model_id) <= _LONGEST_ID_CHARS else None
    if model is not None and model.usable_routes:
        return model
    if model is not None:
        words = (
            f"The model `{model_id}` is known, but its backend has no credentials here; `tuwen backends` says which."
        )
    else:
        words = f"The model `{shown(model_id)}` does not exist here; GET /v1/models lists those that do."
    raise ModelNotFound(words, param="model")


def candidates(model: Model, request: ChatRequest) -> tuple[Route, ...]:
    """The configured routes of the model that can do what the request demands, in the catalogue's order.

    Raises:
        UnsupportedFeature: none can; says what the first one lacks.
    """
    if request.n > 1:
        raise UnsupportedFeature("`n` greater than 1 is not supported; ask once per answer.", param="n")
    lacks = [(route, _lack(route.capabilities, request)) for route in model.usable_routes]
    able = tuple(route for route, lack in lacks if lack is None)
    if not able:
        raise next(lack for _, lack in lacks if lack is not None)
    return able


def newest_pictures(request: ChatRequest) -> list[ImagePart]:
    """The pictures of the newest turn: those after the model's last answer."""
    pictures: list[ImagePart] = []
    for message in reversed(request.messages):
        if message.role == "assistant":
            break
        pictures[:0] = message.images
    return pictures


def _lack(capabilities: Capabilities, request: ChatRequest) -> RequestError | None:
    pictures = newest_pictures(request)
    if pictures and capabilities.max_images == 0:
        # the phrase Chatbox knows a model without sight by
        words = "Invalid content type. image_url is only supported by certain models."
        return UnsupportedFeature(words, param=_param_of(pictures[0]))
    if len(pictures) > capabilities.max_images and pictures:
        words = f"This model takes {capabilities.max_images} picture(s) per message, the newest has {len(pictures)}."
        return UnsupportedFeature(words, param=_param_of(pictures[capabilities.max_images]))
    if request.demands_tool and not capabilities.tools:
        return UnsupportedFeature("This model cannot call tools; leave `tool_choice` at auto.", param="tool_choice")
    if request.demands_json_schema and not capabilities.json_schema:
        return UnsupportedFeature("This model cannot hold answers to a JSON schema.", param="response_format")
    return None


def _param_of(part: ImagePart) -> str | None:
    return part.image.param if isinstance(part.image, ImageSource) else None
