"""GET and HEAD /blobs/TOKEN: a published picture, for whoever was given its address.

No key is asked for: the backends that fetch here have none. All that is wrong with a token is answered alike.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.core.errors import PathNotFound
from app.media.blob_folder import PLACE
from app.media.blobs import CopyReader

_HEADERS = {"cache-control": "private, no-store", "x-content-type-options": "nosniff"}


def blob_routes(copies: CopyReader, prefix: str) -> list[Route]:
    """The routes.

    Args:
        prefix: path of the public address, for proxies that pass it on; may be empty.
    """

    async def show_copy(request: Request) -> Response:
        copy = await copies.read(request.path_params["token"])
        if copy is None:
            raise PathNotFound("No picture is published here, or no longer.", chinese="此处没有发布的图片，或已过期。")
        return Response(copy.data, media_type=copy.media_type, headers=_HEADERS)

    places = dict.fromkeys((PLACE, prefix + PLACE))
    return [Route(f"{place}/{{token:path}}", show_copy, methods=["GET", "HEAD"]) for place in places]
