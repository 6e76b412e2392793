"""Pictures that come inside the request."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import ImageRejected
from app.core.types import ImageSource
from app.media.fetch import Fetcher
from app.media.source import Sources
from tests.media.picture_host import PNG

PARAM = "messages[0].content[1].image_url.url"
ENCODED = base64.b64encode(PNG).decode()
AWKWARD = b"\xff\xd8\xff" + bytes(range(256))  # its base64 holds + and /, and needs padding


@pytest.fixture
async def sources() -> AsyncIterator[Sources]:
    async with aclosing(Fetcher(max_bytes=1024)) as fetcher:
        yield Sources(fetcher, max_bytes=1_000_000)


async def read(sources: Sources, url: str) -> bytes:
    return await sources.read(ImageSource(url, PARAM))


async def refusal(sources: Sources, url: str) -> ImageRejected:
    with pytest.raises(ImageRejected) as caught:
        await read(sources, url)
    assert caught.value.param == PARAM
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "header",
    [
        "data:image/png;base64,",
        "data:image/jpg;base64,",
        "data:image/*;base64,",
        "data:image/webp;charset=utf-8;base64,",
        "data:image/png;name=a b.png; base64 ,",
        "DATA:IMAGE/PNG;BASE64,",
        "data:application/octet-stream;base64,",
        "data:;base64,",
        "data:;charset=utf-8;base64,",
        "  data: image/png ;base64,",
    ],
)
async def test_the_label_of_a_data_url_may_lie(sources: Sources, header: str) -> None:
    assert await read(sources, header + ENCODED) == PNG


@pytest.mark.parametrize(
    "header",
    ["data:text/html;base64,", "data:text/plain;base64,", "data:application/pdf;base64,", "data:video/mp4;base64,"],
)
async def test_what_is_labelled_as_something_else_is_refused(sources: Sources, header: str) -> None:
    error = await refusal(sources, header + ENCODED)
    assert error.code == "invalid_image_url"
    assert "labelled" in str(error)


@pytest.mark.parametrize("header", ["data:image/png,", "data:,", "data:base64,", "data:image/png;charset=utf-8,"])
async def test_a_data_url_that_is_not_base64_is_refused(sources: Sources, header: str) -> None:
    error = await refusal(sources, header + "%89PNG")
    assert error.code == "invalid_image_url"
    assert "data:image/png;base64," in str(error)


async def test_a_data_url_without_comma_is_refused(sources: Sources) -> None:
    assert "no comma" in str(await refusal(sources, "data:image/png;base64"))


@pytest.mark.parametrize("payload", ["", "====", "\n"])
async def test_a_data_url_without_data_is_refused(sources: Sources, payload: str) -> None:
    error = await refusal(sources, "data:image/png;base64," + payload)
    assert error.code == "invalid_image_url"
    assert "no picture" in str(error)


@pytest.mark.parametrize("payload", ["@@@@", "AAAAA", "AA=AAA", "猫", "%zz", "AAA\x00A", "AAAA\u3000AAAA"])
async def test_what_is_no_base64_is_refused(sources: Sources, payload: str) -> None:
    error = await refusal(sources, "data:image/png;base64," + payload)
    assert error.code == "invalid_image_url"
    assert "not hold valid base64" in str(error)


@given(
    data=st.binary(min_size=1, max_size=200).map(lambda tail: b"\xff\xd8\xff" + tail),
    url_safe=st.booleans(),
    padded=st.booleans(),
    percent=st.booleans(),
    every=st.integers(1, 80),
    line_break=st.sampled_from(["", "\n", "\r\n", " ", "\t"]),
    header=st.sampled_from(["data:image/png;base64,", ""]),
)
async def test_what_clients_make_of_base64_is_read(
    *, data: bytes, url_safe: bool, padded: bool, percent: bool, every: int, line_break: str, header: str
) -> None:
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    if not padded:
        text = text.rstrip("=")
    if percent:
        text = text.replace("+", "%2B").replace("/", "%2f").replace("=", "%3D")
    text = line_break.join(text[i : i + every] for i in range(0, len(text), every))
    async with aclosing(Fetcher(max_bytes=1024)) as fetcher:
        assert await read(Sources(fetcher), header + text + line_break) == data


async def test_base64_written_in_escapes_alone_is_read(sources: Sources) -> None:
    escaped = "".join(f"%{ord(letter):02x}" for letter in ENCODED)
    assert await read(sources, "data:image/png;base64," + escaped) == PNG


async def test_many_usual_escapes_are_read(sources: Sources) -> None:
    data = bytes([0xFB, 0xFF]) * 150_000  # base64 of nothing but plus and slash
    escaped = base64.b64encode(data).decode().replace("+", "%2b").replace("/", "%2F")
    assert await read(sources, "data:image/png;base64," + escaped) == data


@pytest.mark.parametrize("escape", ["%41", "%"])
async def test_escapes_that_nobody_needs_are_not_decoded_by_the_million(sources: Sources, escape: str) -> None:
    assert "not hold valid base64" in str(await refusal(sources, "data:image/png;base64," + escape * 100_000))


@pytest.mark.parametrize(
    "data", [PNG, AWKWARD, b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"\0\0\0\x18ftypheic" + bytes(3000)]
)
async def test_bare_base64_of_a_picture_is_read(sources: Sources, data: bytes) -> None:
    assert await read(sources, base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "cat.png",
        "/cat.png",
        "cat",
        "./a/b",
        "猫.png",
        "ht\ttp://example.com/",
        base64.b64encode(b"hello" * 20).decode(),
    ],
)
async def test_what_is_neither_url_nor_picture_is_told_how_to_write_one(sources: Sources, text: str) -> None:
    error = await refusal(sources, text)
    assert error.code == "invalid_image_url"
    assert "data:image/png;base64," in str(error)


async def test_bare_base64_that_breaks_further_on_is_refused(sources: Sources) -> None:
    assert (await refusal(sources, ENCODED.rstrip("=") + "A" * 2000 + "@")).code == "invalid_image_url"


async def test_a_picture_at_the_bound_is_read_and_one_over_it_is_not(sources: Sources) -> None:
    at_bound = PNG + bytes(1_000_000 - len(PNG))
    assert await read(sources, "data:image/png;base64," + base64.b64encode(at_bound).decode()) == at_bound
    for over in (at_bound + b"\0", at_bound * 2):
        for header in ("data:image/png;base64,", ""):
            error = await refusal(sources, header + base64.b64encode(over).decode())
            assert str(error) == "The picture is larger than 1 MB."
            assert error.code == "invalid_image"


async def test_an_oversized_picture_is_refused_before_it_is_decoded(sources: Sources) -> None:
    """What is no base64 at all, and too long, is told to be too long: nobody looked inside."""
    assert "larger" in str(await refusal(sources, "data:image/png;base64," + "@" * (2 << 20)))


async def test_a_large_picture_is_decoded_beside_the_loop() -> None:
    large = PNG + bytes(15 << 20)
    url = "data:image/png;base64," + base64.encodebytes(large).decode()
    async with aclosing(Fetcher(max_bytes=1024)) as fetcher:
        reading = asyncio.ensure_future(Sources(fetcher).read(ImageSource(url, PARAM)))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert await reading == large
    assert turns > 3  # decoded on the loop, it would have been done in two; how many more depends on the machine
