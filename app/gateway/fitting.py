"""Pictures of a request made into what a route takes, one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.backends.base import Capabilities
from app.core.types import ChatRequest, Image, ImagePart, ImageSource, Message
from app.media.blobs import Hosting
from app.media.fit import PictureFitter


@dataclass(frozen=True, slots=True)
class Fitting:
    """What makes pictures fit.

    Args:
        fitter: reads and rewrites them.
        hosting: publishes them for backends that take addresses.
    """

    fitter: PictureFitter
    hosting: Hosting

    async def fitted(self, request: ChatRequest, capabilities: Capabilities) -> ChatRequest:
        """The request with its sources read, its pictures within the route's rules, and published where it needs
        addresses.

        Raises:
            ImageRejected: a picture cannot be had or used; names its part.
            UnsupportedFeature: the route needs addresses, and nothing is set up that could publish a picture.
        """
        if not any(message.images for message in request.messages):
            return request
        messages = [await self._message(message, capabilities) for message in request.messages]
        return replace(request, messages=tuple(messages))

    async def _message(self, message: Message, capabilities: Capabilities) -> Message:
        if not message.images:
            return message
        parts = []
        for part in message.parts:
            if isinstance(part, ImagePart) and isinstance(part.image, ImageSource):
                part = replace(part, image=await self._image(part.image, capabilities))  # noqa: PLW2901 - in place
            parts.append(part)
        return replace(message, parts=tuple(parts))

    async def _image(self, source: ImageSource, capabilities: Capabilities) -> Image:
        image = await self.fitter.fit(source, capabilities.image_rules)
        if capabilities.image_input != "url":
            return image
        url = await self.hosting.publish(image, capabilities.image_hosts, param=source.param)
        return replace(image, url=url)
