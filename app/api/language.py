"""In which language a caller is told of errors: by `Accept-Language`, English where it names neither of ours."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

from app.core.errors import Language

_LONGEST_CHARS = 256


def language_for(scope: Scope, default: Language = "en") -> Language:
    """The choice of the caller of a request; `default` where it says nothing."""
    return language_in(scope["headers"], default)


def language_in(headers: Iterable[tuple[bytes, bytes]], default: Language = "en") -> Language:
    """The same of headers."""
    asked = next((value for name, value in headers if name == b"accept-language"), b"")
    return language_of(asked.decode("latin-1")) if asked else default


def language_of(accept_language: str) -> Language:
    """The caller's choice of English and Chinese (RFC 9110 section 12.5.4); of two alike, the first named.

    Args:
        accept_language: the header's value; empty where there is none. Its first 256 characters count.
    """
    return _chosen(accept_language[:_LONGEST_CHARS])


@lru_cache(maxsize=256)
def _chosen(accept_language: str) -> Language:
    best: tuple[float, Language] = (0.0, "en")
    for item in accept_language.split(","):
        tag, _, weight = item.partition(";")
        language = _language(tag.strip().lower())
        quality = _quality(weight)
        if language is not None and quality > best[0]:
            best = quality, language
    return best[1]


def _language(tag: str) -> Language | None:
    primary = tag.partition("-")[0]
    if primary == "zh":
        return "zh"
    return "en" if primary in {"en", "*"} else None


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0.0 <= quality <= 1.0 else 0.0
