"""Reads a picture's URL the one way that leaves no room for a second reading.

Parsers disagree on what the host of a strange URL is, and a guard that reads it one way while the client dials it the
other is no guard. So everything strange is refused, and the URL to dial is built anew from what was read here.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

from yarl import URL

from app.media.addresses import Address

_MAX_URL_CHARS = 8192
_MAX_HOST_CHARS = 253

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE | re.ASCII)  # else ſ would be an s
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@%]+))(?::(?P<port>[0-9]{0,5}))?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

# RFC 6761, 6762 (appendix G), 7686, 9476, and ICANN's .internal: names with a meaning inside a network, or none at all.
_LOCAL_DOMAINS = frozenset(
    {"localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan"}
)
_NO_DOMAINS = frozenset({"alt", "arpa", "invalid", "onion"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

NOT_ALLOWED = "image_url_not_allowed"
INVALID = "invalid_image_url"


class UrlRefused(Exception):
    """A URL is not fetched. `str(error)` is safe for the caller and says nothing about any network.

    Args:
        code: OpenAI's `error.code`.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


def not_public() -> UrlRefused:
    """The one answer for every host we do not talk to, so that nobody can map a network by asking us."""
    return UrlRefused(
        "The image URL must lead to a public host on the usual http or https port. "
        "Use such a URL, or send the picture itself as a data URL.",
        code=NOT_ALLOWED,
    )


@dataclass(frozen=True, slots=True)
class Target:
    """What a URL says to dial.

    Args:
        url: built from the other fields and the path; without user, password and fragment.
        host: lower-case ASCII name, or the address as text.
        address: the host, where it is an address and not a name.
    """

    url: URL
    host: str
    port: int
    address: Address | None


def parse_target(url: str) -> Target:
    """Reads an http(s) URL.

    Raises:
        UrlRefused: it is malformed, ambiguous, or names a host that cannot be public.
    """
    if len(url) > _MAX_URL_CHARS:
        raise UrlRefused(f"The image URL is longer than {_MAX_URL_CHARS} characters.", code=INVALID)
    # Not printable are controls, line breaks, exotic blanks, invisible format characters and lone surrogates.
    if not url.isprintable() or " " in url or "\\" in url:
        raise UrlRefused(
            "The image URL holds blanks, control characters or backslashes; percent-encode them.", code=INVALID
        )
    parts = _URL.match(url)
    if parts is None:
        raise UrlRefused("The image URL must begin with http:// or https://.", code=INVALID)
    scheme, authority, path = parts[1].lower(), parts[2], parts[3]
    if "@" in authority:
        raise UrlRefused("The image URL must not hold a user name or password.", code=NOT_ALLOWED)
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UrlRefused("The image URL names no valid host.", code=INVALID)
    host, address = _v6(found["v6"]) if found["v6"] else _name(found["name"])
    port = int(found["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= 65535:
        raise UrlRefused("The image URL names no valid port.", code=INVALID)
    netloc = f"[{host}]" if isinstance(address, IPv6Address) else host
    if port != _DEFAULT_PORTS[scheme]:
        netloc += f":{port}"
    encoded = quote(path, safe="/%?:@!$&'()*+,;=-._~")
    return Target(URL(f"{scheme}://{netloc}{encoded or '/'}", encoded=True), host, port, address)


def _v6(text: str) -> tuple[str, Address]:
    try:
        address = IPv6Address(text)
    except ValueError as error:
        raise not_public() from error
    return str(address), address


def _name(text: str) -> tuple[str, Address | None]:
    """A name in ASCII, or an IPv4 address in its only honest notation."""
    host = _ascii(text)
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Such a host is an address in one notation or another (decimal, hex, octal, short): URL Standard, section 3.5.
        try:
            return host, IPv4Address(host)
        except ValueError as error:
            raise not_public() from error
    if len(host) > _MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused("The image URL names no valid host.", code=INVALID)
    if len(labels) == 1 or labels[-1] in _LOCAL_DOMAINS | _NO_DOMAINS:
        raise not_public()
    return host, None


def _ascii(text: str) -> str:
    """The name as DNS spells it.

    Characters that another reader takes for ASCII letters, digits or dots (NFKC, IDNA) are refused.
    """
    host = unicodedata.normalize("NFC", text.lower())
    if host.isascii():
        return host
    looks_plain = unicodedata.normalize("NFKC", host) == host and "\u3002" not in host
    if not looks_plain or any(char.isdigit() and not char.isascii() for char in host):
        raise not_public()
    try:
        return URL.build(scheme="http", host=host).raw_host or ""
    except ValueError as error:
        raise UrlRefused("The image URL names no valid host.", code=INVALID) from error
