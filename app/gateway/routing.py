"""Which routes can serve a request, in order; and why none can."""

from __future__ import annotations

from dataclasses import replace

from app.backends.base import Capabilities
from app.config.catalog import Catalog, Model, Route
from app.core.errors import ModelNotFound, RequestError, UnsupportedFeature, shown
from app.core.types import ChatRequest, ImagePart, ImageSource
from app.media.sheet import MAX_SHEET_PICTURES

_LONGEST_ID_CHARS = 256


def find_model(catalog: Catalog, model_id: str) -> Model:
    """The model a caller named.

    Raises:
        ModelNotFound: not in the catalogue, or none of its backends is configured here.
    """
    # a wildcard passes the name on, so it must be a name: no backend is to see line breaks in it
    model = catalog.find(model_id) if model_id.isprintable() and len(model_id) <= _LONGEST_ID_CHARS else None
    if model is not None and model.available:
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

    A request without any picture takes them to the models they have for text.

    Raises:
        UnsupportedFeature: none can; says what the first one lacks.
    """
    if request.n > 1:
        raise UnsupportedFeature("`n` greater than 1 is not supported; ask once per answer.", param="n")
    sees = any(message.images for message in request.messages)
    routes = [route if sees else route.for_text for route in model.usable_routes]
    lacks = [(route, _lack(route, request)) for route in routes]
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


def capabilities_for(route: Route, request: ChatRequest) -> Capabilities:
    """What the route can do for this request: more pictures than it takes, where they go on one sheet."""
    capabilities = route.capabilities
    count = len(newest_pictures(request))
    if route.montage and 0 < capabilities.max_images < count <= MAX_SHEET_PICTURES:
        return replace(capabilities, max_images=count)
    return capabilities


def _lack(route: Route, request: ChatRequest) -> RequestError | None:
    pictures = newest_pictures(request)
    capabilities = capabilities_for(route, request)
    if pictures and capabilities.max_images == 0:
        # the phrase Chatbox knows a model without sight by
        words = "Invalid content type. image_url is only supported by certain models."
        return UnsupportedFeature(words, param=_param_of(pictures[0]))
    if len(pictures) > capabilities.max_images:
        return _too_many(route, pictures)
    if request.demands_tool and not capabilities.tools:
        return UnsupportedFeature("This model cannot call tools; leave `tool_choice` at auto.", param="tool_choice")
    if request.demands_json_schema and not capabilities.json_schema:
        return UnsupportedFeature("This model cannot hold answers to a JSON schema.", param="response_format")
    return None


def _too_many(route: Route, pictures: list[ImagePart]) -> UnsupportedFeature:
    most = max(route.capabilities.max_images, MAX_SHEET_PICTURES if route.montage else 0)
    english = f"This model takes {most} picture(s) per message, the newest has {len(pictures)}; send {most} at most"
    chinese = f"此模型每条消息最多接受 {most} 张图片，最新一条有 {len(pictures)} 张；请最多发送 {most} 张"
    if not route.montage and len(pictures) <= MAX_SHEET_PICTURES:
        english += ', or ask the operator for multi_image = "montage"'
        chinese += '，或请管理员为此模型设置 multi_image = "montage"'
    return UnsupportedFeature(f"{english}.", chinese=f"{chinese}。", param=_param_of(pictures[most]))


def _param_of(part: ImagePart) -> str | None:
    return part.image.param if isinstance(part.image, ImageSource) else None
