"""Pictures as the command line names them: a file, a folder, an http(s) URL, or `-` for stdin."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from app.commands.ask_question import AskFailed
from app.commands.errors import CommandFailed
from app.media.magic import is_picture

STDIN = "-"

_MAX_FILE_BYTES = 100_000_000  # far beyond what any gateway takes; keeps a film with the wrong name out of memory
_MAGIC_BYTES = 64
_URL = re.compile(r"https?://", re.IGNORECASE)
_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
)


@dataclass(frozen=True, slots=True)
class LoadedPicture:
    """A picture as a request carries it.

    Args:
        url: a data URL, or the http(s) URL it was named by.
        sha256: of its bytes, hexadecimal; `None` of one named by URL, whose bytes we never see.
    """

    url: str = field(repr=False)
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture not yet read.

    Args:
        name: as the user knows it; printable.
        path: `None`: it is a URL, or stdin.
    """

    name: str
    path: Path | None = None

    def load(self) -> LoadedPicture:
        """Reads it.

        Raises:
            AskFailed: it cannot be read.
        """
        if self.path is None and self.name != STDIN:
            return LoadedPicture(self.name, None)
        data = self._bytes()
        if not data:
            raise AskFailed(f"{self.name}: it is empty.")
        kind = mimetypes.guess_type(self.name)[0] or ""
        label = kind if kind.startswith("image/") else "application/octet-stream"  # the bytes decide what it is
        url = f"data:{label};base64,{base64.b64encode(data).decode('ascii')}"
        return LoadedPicture(url, hashlib.sha256(data).hexdigest())

    def _bytes(self) -> bytes:
        try:
            if self.path is None:
                data = sys.stdin.buffer.read(_MAX_FILE_BYTES + 1)
            else:
                with self.path.open("rb") as file:
                    data = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise AskFailed(f"{self.name}: it cannot be read: {_reason(error)}.") from error
        if len(data) > _MAX_FILE_BYTES:
            raise AskFailed(f"{self.name}: it is larger than {_MAX_FILE_BYTES // 1_000_000} MB, no picture is.")
        return data


@dataclass(frozen=True, slots=True)
class NamedPictures:
    """All that a command line names.

    Args:
        many: whether it asks for a batch: more than one picture, or a folder, however many it holds.
    """

    pictures: tuple[Picture, ...]
    many: bool


def named_pictures(arguments: Sequence[str]) -> NamedPictures:
    """What the arguments name, in their order, a folder's pictures by name; each once. Nothing is read yet.

    Raises:
        CommandFailed: there is nothing at a path, a folder holds no picture, or stdin is named twice.
    """
    if arguments.count(STDIN) > 1:
        raise CommandFailed("`-` stands for one picture on stdin; name it once.", exit_code=2)
    found: dict[str, Picture] = {}
    folders = False
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN or _URL.match(argument):
            found.setdefault(argument, Picture(argument))
        elif path.is_dir():
            folders = True
            pictures = list(_in_folder(path))
            if not pictures:
                raise CommandFailed(f"There is no picture in the folder {_shown(path)}.", exit_code=2)
            for picture in pictures:
                found.setdefault(picture.name, picture)
        elif path.exists():
            found.setdefault(_shown(path), Picture(_shown(path), path))
        else:
            raise CommandFailed(f"There is no file {_shown(path)}.", exit_code=2)
    return NamedPictures(tuple(found.values()), many=folders or len(found) > 1)


def _in_folder(folder: Path) -> Iterator[Picture]:
    """Those that lie directly in it; hidden files are left out, as a shell's `*` does."""
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise CommandFailed(f"The folder {_shown(folder)} cannot be read: {_reason(error)}.", exit_code=2) from error
    return (Picture(_shown(path), path) for path in files if _is_meant(path))


def _is_meant(path: Path) -> bool:
    """By its suffix, so that a broken picture is reported and not passed over; without one, by how it begins."""
    if path.suffix:
        return path.suffix.lower() in _SUFFIXES
    try:
        with path.open("rb") as file:
            return is_picture(file.read(_MAGIC_BYTES))
    except OSError:
        return False


def _shown(path: Path) -> str:
    """A name that can be printed and stored, whatever bytes the file system has."""
    return os.fsencode(path).decode("utf-8", "replace")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
