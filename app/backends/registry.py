"""The kinds of backends: name → where its `SPEC` lives. The only place where a kind's name is compared."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from app.backends.base import BackendSpec

KINDS = {
    "baidu_ocr": "app.backends.baidu_ocr",
    "ccai": "app.backends.ccai",
    "chatocr": "app.backends.chatocr",
    "ocr": "app.backends.ocr",
    "openai": "app.backends.openai_chat",
    "qianfan": "app.backends.qianfan",
    "spark": "app.backends.spark",
}


@cache
def spec_of(kind: str) -> BackendSpec:
    """The registry row of a kind, imported when first asked for.

    Raises:
        KeyError: no such kind.
    """
    spec = import_module(KINDS[kind]).SPEC
    if not isinstance(spec, BackendSpec):
        raise TypeError(f"{KINDS[kind]}.SPEC is not a BackendSpec")
    return spec
