"""Addresses of backends as sections write them, checked before anything is signed for them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"[a-z]+://[^\s/?#@]+(/[\w.~!$&'()*+,;=:@%-]+)*/?", re.ASCII)


def checked_base_url(url: str, scheme: str = "http") -> str:
    """The address without a slash at its end.

    Args:
        scheme: `http` or `ws`; its secure form is taken as well.

    Raises:
        ValueError: it is no such address; says what one looks like.
    """
    schemes = (f"{scheme}://", f"{scheme}s://")
    if not url.isascii() or not url.startswith(schemes) or not _ADDRESS.fullmatch(url) or not _has_sound_port(url):
        raise ValueError(
            f"must be an address as {scheme}s://host or {scheme}s://host:port/path, without a query, in ASCII"
        )
    return url.rstrip("/")


def _has_sound_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False
