"""Requests made fit for routes that want pictures by address, or one where there is none: kinds of them are few, and
each has rules of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from typing_extensions import override

from app.backends.base import Capabilities
from app.core.errors import UnsupportedFeature
from app.core.types import ChatRequest, Image, ImagePart, ImageSource, Message, TextPart
from app.gateway.fitting import Fitting
from app.media.blobs import Hosting, NoHosting
from app.media.fetch import Fetcher
from app.media.fit import PictureFitter
from app.media.image import PictureBounds
from app.media.sheet_drawer import SheetDrawer
from app.media.source import Sources
from tests.api.pictures import data_url, picture
from tests.media.decoders import decode_pool

BY_ADDRESS = Capabilities(max_images=1, needs_image=True, image_input="url", image_hosts=("blobs.example",))


class Shelf(Hosting):
    """Remembers what was published."""

    def __init__(self) -> None:
        self.published: list[tuple[Image, str | None]] = []

    @override
    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        self.published.append((image, param))
        return f"https://{hosts[0]}/{image.sha256}"


FittingOf = Callable[[Hosting], Fitting]


@pytest.fixture
async def fitting() -> AsyncIterator[FittingOf]:
    async with decode_pool() as decoders:
        fitter = PictureFitter(Sources(Fetcher(max_bytes=1_000_000)), PictureBounds(), decoders)
        yield lambda hosting: Fitting(fitter, SheetDrawer(decoders), hosting)


def asked(*colours: str, text: str = "hi") -> ChatRequest:
    sources = [
        ImageSource(data_url(picture((80, 60), colour=name)), f"content[{at}]") for at, name in enumerate(colours)
    ]
    return ChatRequest("m", (Message("user", (*map(ImagePart, sources), TextPart(text))),))


async def test_a_sheet_is_published_once_in_place_of_its_pictures(fitting: FittingOf) -> None:
    shelf = Shelf()
    request, _ = await fitting(shelf).fitted(asked("red", "blue"), BY_ADDRESS)
    [(sheet, param)] = shelf.published
    assert param == "content[0]"
    [part] = request.messages[0].images
    assert part.fitted.url == f"https://blobs.example/{sheet.sha256}"


async def test_a_blank_picture_is_published(fitting: FittingOf) -> None:
    shelf = Shelf()
    request, notices = await fitting(shelf).fitted(asked(), BY_ADDRESS)
    [(blank, param)] = shelf.published
    assert (blank.width_px, blank.height_px, param) == (256, 256, None)
    assert request.messages[0].images[0].fitted.url == f"https://blobs.example/{blank.sha256}"
    assert notices == ["a blank picture added: this model takes none without"]


async def test_a_single_picture_is_published_under_its_own_name(fitting: FittingOf) -> None:
    shelf = Shelf()
    request, notices = await fitting(shelf).fitted(asked("red"), BY_ADDRESS)
    assert [param for _, param in shelf.published] == ["content[0]"]
    assert request.messages[0].images[0].fitted.url is not None
    assert notices == []


@pytest.mark.parametrize("request_", [asked(), asked("red"), asked("red", "blue")])
async def test_where_nothing_can_be_published_the_caller_is_told(request_: ChatRequest, fitting: FittingOf) -> None:
    with pytest.raises(UnsupportedFeature, match="fetches pictures"):
        await fitting(NoHosting()).fitted(request_, BY_ADDRESS)


async def test_a_blank_picture_asks_where_there_is_only_system_text(fitting: FittingOf) -> None:
    system = Message("system", (TextPart("say hi"),))
    able = Capabilities(max_images=1, needs_image=True)
    request, _ = await fitting(NoHosting()).fitted(ChatRequest("m", (system,)), able)
    assert [message.role for message in request.messages] == ["system", "user"]
    assert len(request.messages[1].images) == 1


async def test_a_blank_picture_stands_before_what_the_user_said_last(fitting: FittingOf) -> None:
    talk = [
        Message("user", (TextPart("a"),)),
        Message("assistant", (TextPart("b"),)),
        Message("user", (TextPart("c"),)),
    ]
    able = Capabilities(max_images=1, needs_image=True)
    request, _ = await fitting(NoHosting()).fitted(ChatRequest("m", tuple(talk)), able)
    assert [len(message.images) for message in request.messages] == [0, 0, 1]
    assert isinstance(request.messages[2].parts[0], ImagePart)


async def test_a_route_without_sight_gets_no_blank_picture(fitting: FittingOf) -> None:
    request = asked()
    assert await fitting(NoHosting()).fitted(request, Capabilities(needs_image=True)) == (request, [])


async def test_a_japanese_question_is_not_told_of_its_sheet_in_chinese(fitting: FittingOf) -> None:
    able = Capabilities(max_images=1)
    request, _ = await fitting(NoHosting()).fitted(asked("red", "blue", text="どちらが青い写真ですか"), able)
    assert request.messages[0].text.startswith("(This picture is a sheet of 2 pictures")


async def test_pictures_of_several_messages_share_a_sheet_and_leave_their_numbers(fitting: FittingOf) -> None:
    first, second = asked("red", text="早").messages[0], asked("blue", text="晚").messages[0]
    able = Capabilities(max_images=1)
    request, notices = await fitting(NoHosting()).fitted(ChatRequest("m", (first, second)), able)
    assert [len(message.images) for message in request.messages] == [1, 0]
    assert request.messages[0].text.split("\n")[1:] == ["[图 1]", "早"]
    assert request.messages[1].text == "[图 2]\n晚"
    assert notices == ["2 pictures laid out on one sheet"]
