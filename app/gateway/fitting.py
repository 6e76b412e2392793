"""Pictures of a request made into what a route takes, one after the other; on one sheet, or blank, where it must be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.backends.base import Capabilities
from app.core.types import ChatRequest, Image, ImagePart, ImageSource, Message, Part, TextPart
from app.gateway.readout import is_chinese
from app.media.blobs import Hosting
from app.media.fit import PictureFitter
from app.media.sheet import blank_sheet, tile_rules
from app.media.sheet_drawer import SheetDrawer


@dataclass(frozen=True, slots=True)
class Fitting:
    """What makes pictures fit.

    Args:
        fitter: reads and rewrites them.
        drawer: lays several out on one sheet.
        hosting: publishes them for backends that take addresses.
    """

    fitter: PictureFitter
    drawer: SheetDrawer
    hosting: Hosting

    async def fitted(self, request: ChatRequest, capabilities: Capabilities) -> tuple[ChatRequest, list[str]]:
        """The request with its sources read, its pictures within the route's rules, and published where it needs
        addresses; and a notice per sheet that was drawn.

        More pictures than the route takes are laid out on one sheet. A route that needs one where there is none gets a
        blank one.

        Raises:
            ImageRejected: a picture cannot be had or used; names its part.
            UnsupportedFeature: the route needs addresses, and nothing is set up that could publish a picture.
        """
        pictures = [part for message in request.messages for part in message.images]
        if len(pictures) > capabilities.max_images:
            sheet = await self._sheet(pictures, capabilities)
            return _on_sheet(request, sheet), [f"{len(pictures)} pictures laid out on one sheet"]
        if pictures:
            messages = [await self._message(message, capabilities) for message in request.messages]
            return replace(request, messages=tuple(messages)), []
        if capabilities.needs_image and capabilities.max_images:
            blank = await self._hosted(blank_sheet(capabilities.image_rules), capabilities, None)
            return _with_blank(request, blank), ["a blank picture added: this model takes none without"]
        return request, []

    async def _message(self, message: Message, capabilities: Capabilities) -> Message:
        if not message.images:
            return message
        parts = []
        for part in message.parts:
            if isinstance(part, ImagePart) and isinstance(part.image, ImageSource):
                image = await self.fitter.fit(part.image, capabilities.image_rules)
                image = await self._hosted(image, capabilities, part.image.param)
                part = replace(part, image=image)  # noqa: PLW2901 - in place
            parts.append(part)
        return replace(message, parts=tuple(parts))

    async def _sheet(self, pictures: Sequence[ImagePart], capabilities: Capabilities) -> ImagePart:
        sources = [part.image for part in pictures if isinstance(part.image, ImageSource)]
        rules = tile_rules(len(sources), capabilities.image_rules)
        tiles = [await self.fitter.fit(source, rules) for source in sources]
        image = await self.drawer.draw(tiles, sources, capabilities.image_rules)
        return replace(pictures[0], image=await self._hosted(image, capabilities, sources[0].param))

    async def _hosted(self, image: Image, capabilities: Capabilities, param: str | None) -> Image:
        if capabilities.image_input != "url":
            return image
        return replace(image, url=await self.hosting.publish(image, capabilities.image_hosts, param=param))


def _with_blank(request: ChatRequest, blank: Image) -> ChatRequest:
    """The picture before what the user said last."""
    messages = list(request.messages)
    last = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), None)
    if last is None:
        messages.append(Message("user", (ImagePart(blank),)))
    else:
        messages[last] = replace(messages[last], parts=(ImagePart(blank), *messages[last].parts))
    return replace(request, messages=tuple(messages))


def _on_sheet(request: ChatRequest, sheet: ImagePart) -> ChatRequest:
    """The sheet in place of the first of its pictures, and a line that says how to read it. Where words stand between
    the pictures, each of the others leaves its number behind."""
    start = next(at for at, message in enumerate(request.messages) if message.images)
    parts = [part for message in request.messages[start:] for part in message.parts]
    seen = [isinstance(part, ImagePart) for part in parts]
    count = sum(seen)
    first = seen.index(True)
    scattered = not all(seen[first : first + count])
    chinese = is_chinese("".join(part.text for part in parts if isinstance(part, TextPart)))
    numbers = itertools.count(1)

    def rewritten(part: Part) -> tuple[Part, ...]:
        if not isinstance(part, ImagePart):
            return (part,)
        number = next(numbers)
        mark = (TextPart(f"[图 {number}]" if chinese else f"[picture {number}]"),) if scattered else ()
        return (sheet, TextPart(_guide(count, chinese)), *mark) if number == 1 else mark

    messages = [
        replace(message, parts=tuple(new for part in message.parts for new in rewritten(part)))
        for message in request.messages
    ]
    return replace(request, messages=tuple(messages))


def _guide(count: int, chinese: bool) -> str:
    if chinese:
        return f"（这张图由 {count} 张图片拼成，编号 1 到 {count} 标在各图左上方。）"
    return (
        f"(This picture is a sheet of {count} pictures, numbered 1 to {count}; each number stands above its picture.)"
    )
