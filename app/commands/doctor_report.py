"""What `tuwen doctor` prints: each observation in English, and under it in Chinese, in lines that fit a terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len

from app.commands.observation import Observation

_MARKS = {True: "ok", False: "FAIL", None: "-"}
_MARGIN = f"  {'':5} {'':12} "
_WIDEST_CHARS, _NARROWEST_CHARS = 100, 60
# A word; or one Chinese character with the punctuation after it, which must not begin a line.
_UNBREAKABLE = re.compile(r"(?:[^\s\u2e80-\uffef]+|[\u2e80-\uffef])[，。、；：！？）]*\s*")


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found at one backend."""

    backend: str
    kind: str
    observations: tuple[Observation, ...]

    @property
    def sound(self) -> bool:
        return all(item.ok is not False for item in self.observations)


def in_words(item: Examined) -> str:
    """A paragraph for people."""
    width = min(max(shutil.get_terminal_size((_WIDEST_CHARS, 0)).columns, _NARROWEST_CHARS), _WIDEST_CHARS)
    lines = [f"{item.backend} ({item.kind})"]
    for seen in item.observations:
        margin = f"  {_MARKS[seen.ok]:5} {seen.check:12} "
        for text in (seen.english, seen.chinese):
            for line in _wrapped(text, width - len(_MARGIN)):
                lines.append(margin + line)
                margin = _MARGIN
    return "\n".join(lines)


def _wrapped(text: str, width_chars: int) -> Iterator[str]:
    """The text in lines of a width, as a terminal counts it; a longer word stands whole in a line of its own."""
    line = ""
    for piece in _UNBREAKABLE.findall(text):
        if line and cell_len(line + piece.rstrip()) > width_chars:
            yield line.rstrip()
            line = ""
        line += piece
    yield line.rstrip()
