"""Spark's models: where each is asked, and what it takes.

«图片理解 API 文档», «星火认知大模型websocket接口文档» and the pages of iFlytek's Java SDK, read 2026-11-20. Address and
domain must belong together, else 10404.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

IMAGE_DOMAINS = frozenset({"imagev3", "general"})
IMAGE_TOKENS = 8192
"""What question, history and answer may take together, where a picture is asked about."""

_K = 1024


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model that sees nothing.

    Args:
        path: of its address; a whole address where the host is another.
        system: whether a system message may stand first.
    """

    path: str
    context_tokens: int
    max_output_tokens: int = 8192
    system: bool = False


TEXT_MODELS: Mapping[str, TextModel] = {
    # domain: «Lite», «V2», «Pro», «Pro-128K», «Max», «Max-32K», «4.0 Ultra», «科技文献»
    "lite": TextModel("/v1.1/chat", 8 * _K, 4096),
    "generalv2": TextModel("/v2.1/chat", 8 * _K),
    "generalv3": TextModel("/v3.1/chat", 8 * _K),
    "pro-128k": TextModel("/chat/pro-128k", 128 * _K, 4096),
    "generalv3.5": TextModel("/v3.5/chat", 8 * _K, system=True),
    "max-32k": TextModel("/chat/max-32k", 32 * _K, system=True),
    "4.0Ultra": TextModel("/v4.0/chat", 8 * _K, system=True),
    "kjwx": TextModel("wss://spark-openapi-n.cn-huabei-1.xf-yun.com/v1.1/chat_kjwx", 8 * _K),
}
