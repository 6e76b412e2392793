"""Colour profiles (ICC.1:2022), read far enough to tell whether a picture's pixels are sRGB already."""

from __future__ import annotations

import struct

from app.media.containers.model import ColourModel

_SPACES = {b"RGB ": ("rgb", "palette"), b"GRAY": ("grey",), b"CMYK": ("cmyk",)}
_MAX_TAGS = 256

_SRGB_COLORANTS = {  # XYZ under D50, as every sRGB profile has them
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
}
_COLORANT_TOLERANCE = 0.01  # Display P3 is off by 0.08 in red

_SRGB_HALF = 0.2140  # linear light of a half-way sample; a plain gamma of 2.2 gives 0.2176
_CURVE_TOLERANCE = 0.015

_PARAMETERS = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}  # of each function of a parametric curve


def needs_conversion(profile: bytes, colour: ColourModel) -> bool:
    """Whether pixels of this profile look wrong when shown as sRGB.

    A profile that is no profile, or is meant for other channels than the picture has, is ignored, as browsers do.
    """
    if len(profile) < 132 or profile[36:40] != b"acsp" or colour not in _SPACES.get(profile[16:20], ()):
        return False
    if colour == "cmyk":
        return True
    tags = _tags(profile)
    if any(name in tags for name in (b"A2B0", b"A2B1")):
        return True
    if colour == "grey":
        return not _is_srgb_curve(tags.get(b"kTRC", b""))
    return not (
        all(_is_near(_xyz(tags.get(name, b"")), colorant) for name, colorant in _SRGB_COLORANTS.items())
        and all(_is_srgb_curve(tags.get(name, b"")) for name in (b"rTRC", b"gTRC", b"bTRC"))
    )


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    tags: dict[bytes, bytes] = {}
    for index in range(min(count, _MAX_TAGS, (len(profile) - 132) // 12)):
        name, at, size = struct.unpack_from(">4sII", profile, 132 + 12 * index)
        tags[name] = profile[at : at + size]
    return tags


def _xyz(tag: bytes) -> tuple[float, ...]:
    if len(tag) < 20 or tag[:4] != b"XYZ ":
        return ()
    return tuple(value / 65536 for value in struct.unpack_from(">3i", tag, 8))


def _is_near(found: tuple[float, ...], wanted: tuple[float, ...]) -> bool:
    return len(found) == len(wanted) and all(
        abs(one - other) <= _COLORANT_TOLERANCE for one, other in zip(found, wanted, strict=True)
    )


def _is_srgb_curve(tag: bytes) -> bool:
    half = _half_way(tag)
    return half is not None and abs(half - _SRGB_HALF) <= _CURVE_TOLERANCE


def _half_way(tag: bytes) -> float | None:
    """Linear light of a half-way sample by a tone curve; `None` where the curve makes no sense."""
    if len(tag) < 12:
        return None
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = struct.unpack_from(f">{count}H", tag, 12) if 12 + 2 * count <= len(tag) else ()
        if len(values) == 1:
            return float(0.5 ** (values[0] / 256))
        return values[len(values) // 2] / 65535 if len(values) > 1 else None
    (function,) = struct.unpack_from(">H", tag, 8)
    count = _PARAMETERS.get(function, 0)
    if tag[:4] != b"para" or not count or len(tag) < 12 + 4 * count:
        return None
    gamma, *rest = (value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12))
    slope, offset = (*rest, 1.0, 0.0)[:2] if rest else (1.0, 0.0)
    base = slope * 0.5 + offset
    return float(base**gamma) if 0 < base <= 1 and 0 < gamma < 10 else None
