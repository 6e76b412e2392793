"""Canaries: made-up secrets that stand nowhere else, and the search for them in all that a gateway lets out.

A canary is looked for by its core alone, twenty letters, so that a piece of a secret counts as the whole of it; and in
every form in which programs write what they hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

_CORE_CHARS = 20
_FORM_MIN_CHARS = 12


@dataclass(frozen=True, slots=True)
class Canary:
    """A secret.

    Args:
        text: as it is set. core: the part of it that is looked for.
    """

    name: str
    text: str
    core: str

    @classmethod
    def of(cls, name: str, form: str = "{}/+=é&") -> Canary:
        """One of a name.

        Args:
            form: what stands around the core; the default holds what encodings change.
        """
        digest = hashlib.sha256(f"canary {name}".encode()).digest()
        core = "".join(chr(ord("a") + byte % 26) for byte in digest[:_CORE_CHARS])
        return cls(name, form.format(core), core)

    @classmethod
    def written(cls, name: str, text: str, core: str | None = None) -> Canary:
        """One whose text is given."""
        return cls(name, text, core or text)


def forms_of(raw: bytes) -> Iterator[bytes]:
    """How bytes may stand in an output: as they are, quoted, escaped, in hexadecimal, in base64 wherever they begin."""
    yield raw
    yield quote(raw).encode()
    yield quote_plus(raw).encode()
    yield raw.hex().encode()
    yield repr(raw)[2:-1].encode()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        pass
    else:
        escaped = json.dumps(text)[1:-1]
        yield from (escaped.encode(), json.dumps(escaped)[1:-1].encode(), text.encode("unicode_escape"))
    for offset, cut in ((0, 0), (1, 2), (2, 3)):
        whole = base64.b64encode(bytes(offset) + raw).rstrip(b"=")
        inner = whole[cut : -1 if (offset + len(raw)) % 3 else None]
        yield from (inner, inner.translate(bytes.maketrans(b"+/", b"-_")))


def found(canaries: Iterable[Canary], outputs: Mapping[str, bytes]) -> list[str]:
    """Which canary stands in which output, and what stands around it."""
    lowered = {name: output.lower() for name, output in outputs.items()}
    hits: list[str] = []
    for canary in canaries:
        needles = {form.lower() for form in forms_of(canary.core.encode("utf-8", "surrogateescape"))}
        assert min(map(len, needles)) >= _FORM_MIN_CHARS
        for name, output in lowered.items():
            at = next((at for needle in needles if (at := output.find(needle)) >= 0), -1)
            if at >= 0:
                hits.append(f"{canary.name} in {name}: …{outputs[name][max(at - 120, 0) : at + 60]!r}…")
    return hits
