"""Reads the part of the Dockerfile language that our Dockerfile uses, and refuses the rest.

Source: docs.docker.com/reference/dockerfile, read 2026-11-20.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

KNOWN = frozenset("FROM ENV WORKDIR RUN COPY USER VOLUME EXPOSE HEALTHCHECK ENTRYPOINT CMD".split())  # noqa: SIM905 - reads better


@dataclass(frozen=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        return dict(word[2:].split("=", 1) for word in self.text.split() if re.match(r"--[a-z-]+=", word))

    @property
    def words(self) -> list[str]:
        return [word for word in self.text.split() if not word.startswith("--")]

    @property
    def pairs(self) -> dict[str, str]:
        """What ENV sets."""
        return dict(word.split("=", 1) for word in shlex.split(self.text))

    @property
    def command(self) -> list[str]:
        """The exec form. The shell form is refused: under it a signal reaches the shell, not the gateway."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


@dataclass(frozen=True)
class Stage:
    base: str
    name: str
    instructions: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction:
        return [instruction for instruction in self.instructions if instruction.name == name][-1]

    def has(self, name: str) -> bool:
        return any(instruction.name == name for instruction in self.instructions)


def parse(text: str) -> tuple[Stage, ...]:
    """The stages, in order.

    Raises:
        ValueError: an instruction is not known here.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, _, rest = line.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"unknown instruction: {line}")
        if name == "FROM":
            base, *alias = rest.split(" AS ")
            stages.append(Stage(base, alias[0] if alias else "", ()))
        else:
            stage = stages.pop()
            stages.append(Stage(stage.base, stage.name, (*stage.instructions, Instruction(name, rest))))
    return tuple(stages)


@dataclass(frozen=True)
class Ignore:
    """A .dockerignore: the last rule that matches a path, or a folder above it, decides."""

    rules: tuple[tuple[bool, str], ...]

    @classmethod
    def read(cls, file: Path) -> Ignore:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        named = [line for line in lines if line and not line.startswith("#")]
        return cls(tuple((not line.startswith("!"), line.removeprefix("!")) for line in named))

    def keeps(self, path: PurePosixPath) -> bool:
        kept = True
        for ignored, pattern in self.rules:
            if any(_matches(part, pattern) for part in (path, *path.parents)):
                kept = not ignored
        return kept


def _matches(path: PurePosixPath, pattern: str) -> bool:
    if str(path) == ".":
        return False
    if pattern.startswith("**/"):
        return fnmatch(path.name, pattern[3:])
    return len(path.parts) == len(PurePosixPath(pattern).parts) and fnmatch(str(path), pattern)
