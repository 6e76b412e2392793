"""Credentials as vendors hand them out, derived from a gateway key: for old clients of theirs that are pointed at us.

The public half (AK, `client_id`) is the key's id. The secret half (SK, `client_secret`) is 32 hexadecimal digits, an
HMAC-SHA256 under the server's secret over the id and the key's vendor version. Access tokens look like Baidu's,
`24.<32 hexadecimal digits>.2592000.<Unix time of expiry>.<key id>`, and are sealed in the same way. Nothing of it is
stored; a new vendor version makes the SK and all tokens of before invalid, and leaves the gateway key as it is.

Rule of change: an SK lives for years in other people's settings. Another derivation gets a label with a higher number
and starts with the next vendor version of a key; the old one is kept for the versions before. Labels never begin with
`sk-`, so that nothing derived here can be the digest of a key.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from typing import Final

KEY_ID_FORM: Final = re.compile(r"key_[0-9a-f]{12}")
TOKEN_LIFE_S: Final = 2_592_000

_HEX_DIGITS = 32
_TOKEN_FORM = re.compile(rf"24\.([0-9a-f]{{{_HEX_DIGITS}}})\.{TOKEN_LIFE_S}\.([0-9]{{1,12}})\.({KEY_ID_FORM.pattern})")


@dataclass(frozen=True, slots=True)
class PresentedToken:
    """What an access token says of itself; to be believed only once it proved genuine.

    Args:
        expires_at: Unix time in seconds.
    """

    key_id: str
    expires_at: int
    seal: str = field(repr=False)

    @classmethod
    def read(cls, text: str) -> PresentedToken | None:
        """The token; `None` if this is none of our form."""
        match = _TOKEN_FORM.fullmatch(text)
        return None if match is None else cls(match[3], int(match[2]), match[1])


class VendorKeys:
    """Derives credentials.

    Args:
        secret: the server's.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret_keys = hmac.digest(secret, b"vendor secret key 1", "sha256")
        self._tokens = hmac.digest(secret, b"vendor access token 1", "sha256")
        self._others = hmac.digest(secret, b"vendor session 1", "sha256")

    def secret_key(self, key_id: str, version: int) -> str:
        """The SK of a key at a vendor version."""
        return _sealed(self._secret_keys, key_id, version)

    def token(self, key_id: str, version: int, *, now: float) -> str:
        """An access token that is good for `TOKEN_LIFE_S`.

        Args:
            now: Unix time in seconds.
        """
        expires_at = int(now) + TOKEN_LIFE_S
        seal = _sealed(self._tokens, key_id, version, str(expires_at))
        return f"24.{seal}.{TOKEN_LIFE_S}.{expires_at}.{key_id}"

    def genuine(self, token: PresentedToken, version: int) -> bool:
        """Whether we made this token at this vendor version; it may have expired."""
        return hmac.compare_digest(token.seal, _sealed(self._tokens, token.key_id, version, str(token.expires_at)))

    def filler(self, name: str, key_id: str, version: int) -> str:
        """A value for a field that vendors send and no client uses, such as `session_key`; it opens nothing."""
        return _sealed(self._others, key_id, version, name)


def _sealed(key: bytes, key_id: str, version: int, *more: str) -> str:
    message = "\n".join((key_id, str(version), *more))  # no part holds a line break
    return hmac.digest(key, message.encode(), "sha256").hex()[:_HEX_DIGITS]
