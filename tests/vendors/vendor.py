"""The face that every vendor shows to tests: what it says, what it refuses, what it was sent, and what it counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream

Trouble: TypeAlias = Literal["filtered", "busy", "down", "ours", "refused"]
"""The content check; too many requests; out of order; our credentials; a value it does not take."""

MIB = 1024 * 1024


def texts_of(words: Iterable[str | Gate]) -> tuple[str, ...]:
    """What is said, without the waits in it."""
    return tuple(word for word in words if isinstance(word, str))


class Vendor(ABC):
    """One model of one vendor.

    Args:
        upstream: its server.
    """

    model: ClassVar[str]
    backend: ClassVar[str]
    sees: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    usage_source: ClassVar[str] = "upstream"
    max_image_bytes: ClassVar[int] = 4 * MIB
    max_side_px: ClassVar[int] = 4000
    troubles: ClassVar[Mapping[Trouble, Any]]

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream

    @property
    @abstractmethod
    def sections(self) -> str:
        """Of models.toml."""

    @abstractmethod
    def says(self, *words: str | Gate) -> None:
        """Answers so from now on, streamed or whole as it is asked; streamed: the last frame holds the last word."""

    @abstractmethod
    def refuses(self, trouble: Trouble) -> None:
        """Refuses from now on, before any word."""

    def breaks(self, word: str) -> None:
        """Says a word from now on, and then no more but that it failed."""
        raise NotImplementedError

    def counts(self, text: str) -> tuple[int, int] | None:
        """The tokens it reports of an answer, in and out; `None`: it reports none."""
        return None

    def pictures(self) -> list[bytes]:
        """All that it got, in order."""
        return [picture for request in self.upstream.requests for picture in request.pictures]

    def forget(self) -> None:
        self.upstream.forget()
