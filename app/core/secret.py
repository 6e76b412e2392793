"""Secrets, kept out of whatever is written down.

Three things keep them there. Where a secret lies in one of our values its field has no part in `repr`, and the value is
`Guarded`: it cannot be pickled. In settings and sections it is a `pydantic.SecretStr`. And where words of others come
in, which may repeat what we told them, a `Censor` strikes it out.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator
from typing import NoReturn, SupportsIndex
from urllib.parse import quote, quote_plus

STRUCK = "***"
_ENCODED_MIN_CHARS = 8
_CUT_MIN_CHARS = 6


class Guarded:
    """A value that holds secrets: it is printed without them, by fields that say `repr=False`, and goes nowhere by
    pickle."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and cannot be pickled")


class Censor(Guarded):
    """Strikes secrets out of text, in whatever usual form they stand there: as they are, quoted for addresses, escaped
    for JSON or HTML, in hexadecimal, or in base64 wherever they begin in it; and cut off at the text's end.

    Args:
        secrets: of fewer than eight characters they are looked for as they are and no more; empty ones are none.
    """

    __slots__ = ("_forms", "_secrets")

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = frozenset(filter(None, secrets))
        self._forms: tuple[str, ...] | None = None  # made by the first use: most requests meet no fault

    def __call__(self, text: str) -> str:
        """The text without them."""
        if self._forms is None:
            forms = {form for secret in self._secrets for form in _forms_of(secret)}
            self._forms = tuple(sorted(forms, key=len, reverse=True))
        for form in self._forms:
            if form in text:
                text = text.replace(form, STRUCK)
        for form in self._forms:
            if (cut := _cut_off(form, text)) is not None:
                text = text[:cut] + STRUCK
        return text


def _forms_of(secret: str) -> Iterator[str]:
    yield secret
    if len(secret) < _ENCODED_MIN_CHARS:
        return
    raw = secret.encode("utf-8", "surrogateescape")
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield from (quoted, quote(quoted, safe=""))
    escaped = json.dumps(secret)[1:-1]
    yield from (escaped, json.dumps(escaped)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield from (html.escape(secret), secret.encode("unicode_escape").decode("ascii"), raw.decode("latin-1"))
    yield from (raw.hex(), raw.hex().upper(), repr(raw)[2:-1])
    for before, cut in ((0, 0), (1, 2), (2, 3)):  # bytes before it shift what its letters come to
        whole = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        inner = whole[cut : -1 if (before + len(raw)) % 3 else None]
        yield from (inner, inner.replace("+", "-").replace("/", "_"), quote(inner, safe=""))


def _cut_off(form: str, text: str) -> int | None:
    """Where the beginning of a form stands at the very end of the text; `None` where it does not."""
    for chars in range(min(len(form), len(text)), _CUT_MIN_CHARS - 1, -1):
        if text.endswith(form[:chars]):
            return len(text) - chars
    return None
