"""The last part of a copy's address: unguessable, and good until a moment that nobody can move.

72 letters of base64url and an extension: 16 random bytes, the Unix second of the end as 6 bytes, and the HMAC-SHA256 of
both and of the extension under a key made from the server's secret. 54 bytes fill 72 letters exactly, so each token has
one spelling. Rule of change: addresses live for minutes; a new form takes a new `_PURPOSE`, and old ones open nothing.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass

_PURPOSE = b"tuwen published picture 1"
_NONCE_BYTES, _END_BYTES = 16, 6
_HEAD_BYTES = _NONCE_BYTES + _END_BYTES
_TOKEN = re.compile(r"([A-Za-z0-9_-]{72})\.([a-z]{3,4})")
_FILE = re.compile(r"(\d{12})-([0-9a-f]{32})\.([a-z]{3,4})")


@dataclass(frozen=True, slots=True)
class CopyName:
    """Which copy it is.

    Args:
        nonce: 16 random bytes.
        end_s: Unix time from which on it is gone.
        extension: without a dot.
    """

    nonce: bytes
    end_s: int
    extension: str

    @property
    def file(self) -> str:
        """The name of its file; files sort by their end."""
        return f"{self.end_s:012d}-{self.nonce.hex()}.{self.extension}"

    @classmethod
    def of_file(cls, name: str) -> CopyName | None:
        """The copy in a file; `None` where the file is none of ours."""
        match = _FILE.fullmatch(name)
        return cls(bytes.fromhex(match[2]), int(match[1]), match[3]) if match else None


class Seal:
    """Makes tokens and knows its own.

    Args:
        secret: the server's; gateways with the same one open each other's tokens.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _PURPOSE, "sha256")

    def token(self, name: CopyName) -> str:
        """The token of a copy."""
        head = name.nonce + name.end_s.to_bytes(_END_BYTES, "big")
        return f"{base64.urlsafe_b64encode(head + self._mac(head, name.extension)).decode()}.{name.extension}"

    def opened(self, token: str, now: float) -> CopyName | None:
        """The copy a token stands for; `None` where the token is forged, damaged or past its end.

        Args:
            now: Unix time in seconds.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        raw, extension = base64.urlsafe_b64decode(match[1]), match[2]
        head, mac = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
        if not hmac.compare_digest(mac, self._mac(head, extension)):
            return None
        end_s = int.from_bytes(head[_NONCE_BYTES:], "big")
        return CopyName(head[:_NONCE_BYTES], end_s, extension) if now < end_s else None

    def _mac(self, head: bytes, extension: str) -> bytes:
        return hmac.digest(self._key, head + extension.encode(), "sha256")
