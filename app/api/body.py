"""From the wire to a typed body: read within bounds, look the JSON over, decode it, and name what is wrong with it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Receive

from app.api.intake import Place
from app.api.schemas import ChatBody
from app.core.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType, shown

MAX_DEPTH = 64
MAX_KEYS = 20_000
MAX_STRINGS = 100_000
MAX_BRACKETS = 100_000
MAX_COMMAS = 200_000
MAX_DIGITS = 400
"""In a row, of a number; the largest there is for most readers has 309. A machine word apart, numbers take time by the
square of their length to be read and written, and all else stands still for it."""
OFF_LOOP_BYTES = 256 * 1024
_MIB = 1024 * 1024

_BRACKETS = re.compile(rb"[\[\]{}]")
_LONG_NUMBER = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MAX_DIGITS + 1))
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+"', re.DOTALL)
_AT_PATH = re.compile(r" - at `\$\.?([^`]*)`$")  # the last one: before it may stand what the caller wrote
_MISSING = re.compile(r"^Object missing required field `(.+)`")
_DECODER = msgspec.json.Decoder(ChatBody)
_RAW_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = frozenset(ChatBody.__struct_fields__)


class CallerLeft(Exception):
    """The caller hung up before its request was whole."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int, place: Place) -> bytes:
    """The request's body.

    Args:
        headers: of the request, lower-case names.
        max_bytes: its bound.
        place: takes room for it before it is read, or as it comes where its size was not said.

    Raises:
        PayloadTooLarge, UnsupportedMediaType, RateLimited: it is not read; the edge sees to it that the caller gets to
            read the answer.
        CallerLeft: the connection ended first.
    """
    check_headers(headers)
    declared = headers.get(b"content-length", b"")
    size = int(declared) if declared.isdigit() else 0
    pieces: list[bytes] = []
    came = 0
    more = True
    while more:
        size = max(size, came)
        if size > max_bytes:
            raise too_large(max_bytes)
        place.hold(size)
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerLeft
        piece: bytes = message.get("body", b"")
        came += len(piece)
        pieces.append(piece)
        more = message.get("more_body", False)
    if came > max_bytes:
        raise too_large(max_bytes)
    if came <= OFF_LOOP_BYTES:
        return b"".join(pieces)
    async with place.at_work:
        return await asyncio.to_thread(b"".join, pieces)


def too_large(max_bytes: int) -> PayloadTooLarge:
    """What is told of a body over its bound."""
    if max_bytes < _MIB:
        return PayloadTooLarge(f"The request body is larger than {max_bytes // 1024} KiB; send a smaller one.")
    return PayloadTooLarge(f"The request body is larger than {max_bytes // _MIB} MiB; send fewer or smaller pictures.")


def check_headers(headers: Mapping[bytes, bytes]) -> None:
    """Any content type is read as JSON, as `curl -d` sends a wrong one; forms with parts and packed bodies are not.

    Raises:
        UnsupportedMediaType: it is one of these.
    """
    if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
        raise UnsupportedMediaType("Send the request as JSON (Content-Type: application/json), not as a form.")
    if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
        raise UnsupportedMediaType("Send the request body uncompressed, without Content-Encoding.")


async def parse_body(data: bytes, place: Place) -> tuple[ChatBody, dict[str, Any]]:
    """The typed body, and the fields outside OpenAI's. Large bodies are decoded off the event loop, one at a time.

    Raises:
        InvalidRequest: with the path of the field at fault.
    """
    if len(data) > OFF_LOOP_BYTES:
        async with place.at_work:
            return await asyncio.to_thread(_parse, data)
    return _parse(data)


def _parse(data: bytes) -> tuple[ChatBody, dict[str, Any]]:
    keys = top_level_keys(data)
    try:
        body = _DECODER.decode(data)
        unknown = keys - _KNOWN
        raw = _RAW_DECODER.decode(data) if unknown else {}
        return body, {key: _decode_unknown(key, raw[key]) for key in unknown}
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise InvalidRequest("The request body is not valid JSON.") from error


def check_object(data: bytes) -> None:
    """Makes sure that a body is a JSON object within the bounds, whoever reads it then.

    Raises:
        InvalidRequest: it is none.
    """
    top_level_keys(data)
    try:
        _RAW_DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    except msgspec.DecodeError as error:
        raise InvalidRequest("The request body is not valid JSON.") from error


def _decode_unknown(key: str, value: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.ValidationError as error:  # a number that no number can hold
        reason, _, _ = str(error).partition(" - at ")
        raise InvalidRequest(f"Invalid `{shown(key)}`: {shown(reason).lower()}.", param=shown(key)) from error


def _explained(message: str) -> InvalidRequest:
    at = _AT_PATH.search(message)
    param = at.group(1) if at else ""
    reason = message[: at.start()] if at else message
    if missing := _MISSING.match(reason):
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
        return InvalidRequest(f"`{param}` is required.", param=param)
    if not param:
        return InvalidRequest("The request body must be a JSON object.")
    reason = shown(reason.replace("`", "").replace(" | null", ""))
    return InvalidRequest(f"Invalid `{param}`: {reason[:1].lower()}{reason[1:]}.", param=param)


def top_level_keys(data: bytes) -> set[str]:
    """The keys of the outermost object, after one look over the whole document.

    The decoder skips fields it does not know without a look; so what it would let pass there is refused here: invalid
    UTF-8, depth, numbers of keys and values, and a key written twice. Runs at the speed of `bytes.find`.

    Raises:
        InvalidRequest: the document breaks a bound. Malformed JSON may pass; the decoder refuses it.
    """
    if not data.isascii():
        _check_utf8(data)
    opened: list[set[str]] = []  # the keys of each object that is open; of a list, none
    outermost: set[str] = set()
    strings = brackets = commas = keys = position = 0
    previous, field = slice(0), ""
    while True:
        quote = data.find(b'"', position)
        gap = data[position:quote] if quote >= 0 else data[position:]
        if gap.lstrip()[:1] == b":" and opened:
            key = _note(opened[-1], data[previous], data)
            field = key if len(opened) == 1 else field
        _check_numbers(gap, field)
        keys += gap.count(b":")
        commas += gap.count(b",")
        for bracket in _BRACKETS.finditer(gap):
            brackets += 1
            if bracket[0] in b"[{":
                opened.append(set() if opened else outermost)
            elif opened:
                opened.pop()
            if len(opened) > MAX_DEPTH or brackets > MAX_BRACKETS:
                break
        _check_bounds(len(opened), brackets, commas, keys, strings)
        if quote < 0:
            break
        position = _string_end(data, quote)
        strings += 1
        previous = slice(quote, position)  # cut only once it proves a key: it may be a picture
    return outermost


def _note(keys: set[str], key: bytes, document: bytes) -> str:
    """Adds a key to those of its object, and gives its name."""
    try:
        name: str = msgspec.json.decode(key, type=str)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidRequest("The request body is not valid JSON.") from error
    if name in keys:
        raise _given_twice(document, name)
    keys.add(name)
    return name


def _check_numbers(gap: bytes, field: str) -> None:
    """Looks at what stands between two strings.

    Args:
        field: of the outermost object, in which it stands.
    """
    if len(gap) > MAX_DIGITS and _LONG_NUMBER.search(gap):
        where = shown(field)
        words = f"`{where}` holds" if where else "The request body holds"
        raise InvalidRequest(
            f"{words} a number of more than {MAX_DIGITS} digits; send a smaller one.", param=where or None
        )


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The request body is not valid UTF-8.") from error


def _check_bounds(depth: int, brackets: int, commas: int, keys: int, strings: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"The request is nested deeper than {MAX_DEPTH} levels.")
    if keys > MAX_KEYS or brackets > MAX_BRACKETS or commas > MAX_COMMAS or strings > MAX_STRINGS:
        raise InvalidRequest("The request has too many keys or values.")


def _string_end(data: bytes, quote: int) -> int:
    """The position after the string that opens at `quote`."""
    end = data.find(b'"', quote + 1)
    if end > 0 and data[end - 1] != 0x5C:
        return end + 1
    match = _STRING_REST.match(data, quote + 1)
    if match is None:
        raise InvalidRequest("The request body is not valid JSON.")
    return match.end()


class _Twice:
    """Stands for an object in which a key is written twice."""

    def __init__(self, key: str) -> None:
        self.key = key


def _given_twice(document: bytes, key: str) -> InvalidRequest:
    """What is told of a key that was written twice; with its path, if the document can be read."""
    try:
        param = _path_of_twice(json.loads(document, object_pairs_hook=_marked)) or key
    except (ValueError, RecursionError):
        param = key
    return InvalidRequest(f"`{shown(param)}` is given twice.", param=shown(param))


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Twice:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            return _Twice(key)
        fields[key] = value
    return fields


def _path_of_twice(value: Any, path: str = "") -> str | None:
    """The path of the first key that is written twice; `None` where there is none."""
    match value:
        case _Twice():
            return f"{path}.{value.key}" if path else value.key
        case dict():
            steps = ((f"{path}.{key}" if path else key, inner) for key, inner in value.items())
        case list():
            steps = ((f"{path}[{index}]", inner) for index, inner in enumerate(value))
        case _:
            return None
    return next((found for step, inner in steps if (found := _path_of_twice(inner, step)) is not None), None)
