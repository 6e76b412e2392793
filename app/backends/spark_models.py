"""Spark's models: where each is asked, and how much it takes.

«图片理解 API 文档», «星火认知大模型websocket接口文档» and the pages of iFlytek's Java SDK, read 2026-11-20. Address and
domain must belong together, else 10404. K in a context is 1024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGE_PATH = "/v2.1/image"

_K = 1024


@dataclass(frozen=True, slots=True)
class SparkModel:
    """One model.

    Args:
        domain: its name in requests.
        path: of its address; the picture models share one.
        sees: whether it is a picture model, which must get a picture.
        documented: whether a page of the vendor names it.
        context_tokens: `None`: the pages do not say.
        origin: scheme and host where it has its own; `None`: that of its kind.
    """

    domain: str
    path: str = IMAGE_PATH
    sees: bool = False
    documented: bool = True
    context_tokens: int | None = 8 * _K
    max_output_tokens: int = 8192
    system_role: bool = False
    tools: bool = False
    reasoning: bool = False
    origin: str | None = None


_MODELS = (
    SparkModel("imagev3", sees=True),
    SparkModel("general", sees=True),
    SparkModel("lite", "/v1.1/chat", max_output_tokens=4096),
    SparkModel("generalv2", "/v2.1/chat"),
    SparkModel("generalv3", "/v3.1/chat"),
    SparkModel("pro-128k", "/chat/pro-128k", context_tokens=128 * _K, max_output_tokens=4096),
    SparkModel("generalv3.5", "/v3.5/chat", system_role=True, tools=True),
    SparkModel("max-32k", "/chat/max-32k", context_tokens=32 * _K, system_role=True, tools=True),
    SparkModel("4.0Ultra", "/v4.0/chat", system_role=True, tools=True),
    SparkModel("spark-x", "/v1/x1", context_tokens=None, reasoning=True),
    SparkModel("kjwx", "/v1.1/chat_kjwx", origin="wss://spark-openapi-n.cn-huabei-1.xf-yun.com"),
)
MODELS: Mapping[str, SparkModel] = {model.domain.lower(): model for model in _MODELS}
"""By their domains in lower case."""


def model_of(name: str) -> SparkModel:
    """A model by its domain; a name that no page has is taken for a domain of the picture models."""
    return MODELS.get(name.lower()) or SparkModel(name, sees=True, documented=False)
