"""What may be told of a fault, in logs and to whoever reads details: neither credentials nor what the caller said.

Backends repeat what they were sent, and so do the errors of libraries that read their answers. Here their words pass
once more, whoever wrote them, before anybody gets to see them. Nothing is computed before there is a fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import parse_qsl, quote

from app.config.catalog import Route
from app.core.errors import BackendError, GatewayError
from app.core.secret import Censor, Guarded
from app.core.types import Call, ChatRequest, LocalCall, Message, TextPart
from app.observe.logs import redact

QUOTED = "[caller's words]"
_QUOTE_CHARS = 10
_KEPT_CHARS = 16 * 1024
_CODE_CHARS = 64
_DETAIL_CHARS = 600
_PACKED = re.compile(r"(?:[A-Za-z0-9+/_-]|%2B|%2F){40,}(?:=|%3D)*")
"""Base64, as of a picture, or digits of a signature."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
_SECRET_CHARS = 8
"""Shorter ones stand in many an id by chance."""
_CREDENTIAL_CHARS = 16
_PROOFS = frozenset({"authorization", "api-key", "x-api-key", "x-acs-security-token", "x-bce-security-token"})


class Discretion(Guarded):
    """Of one attempt."""

    __slots__ = ("_given_id", "_secrets", "_texts", "_told_id", "_went_out")

    def __init__(self, route: Route) -> None:
        options = route.backend.options
        self._secrets: list[str] = [] if options is None else [*options.secrets]
        self._texts: list[str] = []
        self._went_out: tuple[str, Mapping[str, str]] = ("", {})
        self._given_id: str | None = None
        self._told_id: str | None = None

    def asked(self, request: ChatRequest) -> None:
        """Remembers what the caller said; of a long conversation, the newest."""
        left = _KEPT_CHARS
        for message in reversed(request.messages):
            for text in _texts_of(message):
                if text and left > 0:
                    self._texts.append(text[-left:])
                    left -= len(text)

    def sent(self, call: Call) -> None:
        """Remembers what proves who asks: signatures and tokens, which go out in headers or in the address."""
        if not isinstance(call, LocalCall):
            self._went_out = call.url, call.headers  # and not the call, which holds pictures

    def let_in_by(self, secrets: Iterable[str]) -> None:
        """Remembers what else let us in, as a vendor's token."""
        self._secrets += secrets

    def apply(self, fault: GatewayError) -> None:
        """Makes the fault's detail and code fit to be written down."""
        if isinstance(fault, BackendError):
            fault.detail = self.told(fault.detail[: 4 * _DETAIL_CHARS])[:_DETAIL_CHARS]
            if fault.backend_code is not None:
                fault.backend_code = self.told(fault.backend_code[: 4 * _CODE_CHARS])[:_CODE_CHARS]

    def told_id(self, given: str | None) -> str | None:
        """A backend's id of its answer. Most are short and plain, and are looked at no closer."""
        if given is not self._given_id:
            self._given_id = given
            self._told_id = given if given is None or self._is_plain(given) else self.told(given)
        return self._told_id

    def _is_plain(self, given: str) -> bool:
        holds_secret = any(secret in given for secret in self._secrets if len(secret) >= _SECRET_CHARS)
        return not holds_secret and _PLAIN_ID.fullmatch(given) is not None

    def told(self, words: str) -> str:
        """The words without credentials and without what the caller said."""
        censored = Censor([*self._secrets, *proofs_in(*self._went_out)])(words)
        return _PACKED.sub("[…]", without_quotes(redact(censored), self._texts))


def proofs_in(url: str, headers: Mapping[str, str]) -> Iterator[str]:
    """What proves who asks, signatures included: it goes out in headers, or in the address."""
    query = (value for _, value in parse_qsl(url.partition("?")[2]))  # not urlsplit, which raises where a host is none
    sent = (value for name, value in headers.items() if name.lower() in _PROOFS)
    yield from (value for value in (*query, *sent) if len(value) >= _CREDENTIAL_CHARS)


def _texts_of(message: Message) -> Iterable[str]:
    for part in message.parts:
        if isinstance(part, TextPart):
            yield part.text
    for call in message.tool_calls:
        yield call.arguments


def without_quotes(words: str, texts: Sequence[str]) -> str:
    """Words without any ten characters in a row that stand in the texts, nor any text that is shorter than that but
    for a word or two."""
    said = "\n".join(texts)
    if not said or not words:
        return words
    forms = (said, json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1], quote(said))
    for text in texts:
        if 4 <= len(text) < _QUOTE_CHARS:
            words = words.replace(text, QUOTED)
    blotted = [False] * len(words)
    for at in range(len(words) - _QUOTE_CHARS + 1):
        piece = words[at : at + _QUOTE_CHARS]
        if any(piece in form for form in forms):
            blotted[at : at + _QUOTE_CHARS] = [True] * _QUOTE_CHARS
    return "".join(_shown(words, blotted))


def _shown(words: str, blotted: Sequence[bool]) -> Iterable[str]:
    for at, char in enumerate(words):
        if not blotted[at]:
            yield char
        elif at == 0 or not blotted[at - 1]:
            yield QUOTED
