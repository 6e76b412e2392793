"""Copies in a folder, served by the gateway itself under its public address.

Gateways that share the folder and the server's secret serve each other's copies. A file is named by its end and its
random part, so that whoever sweeps the folder, after a crash too, needs no other record.
"""

from __future__ import annotations

import asyncio
import math
import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from typing_extensions import override

from app.core.clock import Clock
from app.core.errors import BackendUnavailable, NoRoom
from app.core.types import Image
from app.media.blob_tokens import CopyName, Seal
from app.media.blobs import EXTENSIONS, Copy, CopyReader, Hosting, require_host

_log = structlog.get_logger(__name__)

PLACE = "/blobs"
"""Below the public address, where copies are served."""

_ASIDE = ".part"
_MEDIA_TYPES = {extension: media_type for media_type, extension in EXTENSIONS.items()}


class FolderHosting(Hosting, CopyReader):
    """Publishes into a folder and reads from it.

    Args:
        folder: there, and ours to write.
        public_url: the gateway's address, without a slash at its end.
        secret: the server's.
        ttl_s: how long a copy can be fetched.
        max_bytes: of all copies together. What other gateways put into the folder counts from the next sweep on.
    """

    def __init__(
        self, folder: Path, *, public_url: str, secret: bytes, clock: Clock, ttl_s: float, max_bytes: int
    ) -> None:
        self._folder = folder
        self._url = public_url + PLACE
        self._host = urlsplit(public_url).hostname or ""
        self._seal = Seal(secret)
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._own: dict[str, int] = {}  # file → bytes, from before it is written
        self._own_bytes = 0
        self._others_bytes = 0

    @override
    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        require_host(self._host, hosts, param=param)
        end_s = math.ceil(self._clock.now() + self._ttl_s)
        name = CopyName(bytes.fromhex(self._clock.nonce()), end_s, EXTENSIONS[image.media_type])
        self._reserve(name.file, len(image.data))
        try:
            await asyncio.to_thread(_write, self._folder / name.file, image.data)
        except OSError as error:
            self._release(name.file)
            raise BackendUnavailable(
                "This gateway could not publish the picture for the model's backend; try again.",
                chinese="本网关未能为模型服务发布图片，请重试。",
                detail=f"writing the copy: {error}",
            ) from error
        return f"{self._url}/{self._seal.token(name)}"

    @override
    async def read(self, token: str) -> Copy | None:
        name = self._seal.opened(token, self._clock.now())
        if name is None:
            return None
        try:
            data = await asyncio.to_thread((self._folder / name.file).read_bytes)
        except OSError:
            return None
        return Copy(data, _MEDIA_TYPES[name.extension])

    async def sweep(self) -> None:
        """Removes copies past their end, whoever left them, and counts what is there."""
        now = self._clock.now()
        try:
            kept, stuck = await asyncio.to_thread(_sweep, self._folder, now)
        except OSError as error:
            _log.warning("the folder of published pictures could not be read", reason=str(error))
            return
        if stuck:
            _log.warning(
                "published pictures past their time could not be removed", pictures=len(stuck), reason=str(stuck[0])
            )
        for file in [file for file in self._own if _is_over(file, now)]:
            self._release(file)
        self._others_bytes = sum(size for file, size in kept.items() if file not in self._own)

    def _reserve(self, file: str, size: int) -> None:
        if self._own_bytes + self._others_bytes + size > self._max_bytes:
            raise NoRoom(
                "This gateway holds as many published pictures as it may; try again later.",
                chinese="本网关发布的图片已达上限，请稍后重试。",
                detail=f"{self._own_bytes + self._others_bytes} bytes are published; see TUWEN_BLOB_MAX_BYTES",
                retry_after_s=self._ttl_s,
            )
        self._own[file] = size
        self._own_bytes += size

    def _release(self, file: str) -> None:
        self._own_bytes -= self._own.pop(file, 0)  # a sweep may have been first


def _write(path: Path, data: bytes) -> None:
    """Writes aside and renames: no reader sees half a picture."""
    aside = path.with_name(path.name + _ASIDE)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        aside.rename(path)
    except OSError:
        with suppress(OSError):
            aside.unlink()
        raise


def _sweep(folder: Path, now: float) -> tuple[dict[str, int], list[OSError]]:
    """Removes what is over. Files that are not ours are let alone.

    Returns:
        The sizes of our other files by name, with those that cannot be removed; and why they cannot.
    """
    kept: dict[str, int] = {}
    stuck: list[OSError] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if CopyName.of_file(entry.name.removesuffix(_ASIDE)) is None:
                continue
            try:
                kept[entry.name] = entry.stat().st_size
                if _is_over(entry.name, now):
                    Path(entry.path).unlink(missing_ok=True)
                    del kept[entry.name]
            except FileNotFoundError:
                pass  # another gateway sweeps too
            except OSError as error:
                stuck.append(error)
    return kept, stuck


def _is_over(file: str, now: float) -> bool:
    return int(file.partition("-")[0]) <= now
