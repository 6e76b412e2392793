"""The files of the catalogue, read and laid one over the other.

The operator's file lies over the built-in one, section by section. A section that states what makes it whole (`kind`
for a backend, `routes` for a model) replaces the built-in section of its name; any other amends it key by key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from app.config.locate import KeyPath, key_lines
from app.config.problems import Problem, did_you_mean, dotted

Group: TypeAlias = Literal["backends", "models"]

MAKES_WHOLE: Mapping[Group, str] = {"backends": "kind", "models": "routes"}

_PLACE = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL)
_KEY_AT_START = re.compile(r"""\s*(?P<key>[\w.\-"' ]+?)\s*=""")
_HEADER = re.compile(r"""^[ \t]*\[\[?(?P<key>[\w.\-"' /:*]+)\]*[ \t]*(?:#.*)?$""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Layer:
    """One file.

    Args:
        file: as the operator would name it.
        rank: of two layers that claim the same name, the higher wins.
    """

    file: str
    rank: int
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]]
    lines: Mapping[KeyPath, int]

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Something wrong at a key of this file; a key that is not there is said to be where its section begins."""
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        return Problem(self.file, self.lines.get(known, 1), dotted(path), text)


@dataclass(slots=True)
class Section:
    """One backend or model as all layers together say it.

    Args:
        layer: the highest that names it.
        origins: which layer each key of `values` comes from.
    """

    group: Group
    name: str
    layer: Layer
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Layer] = field(default_factory=dict)

    def lay(self, values: Mapping[str, Any], layer: Layer) -> None:
        """Puts what a higher layer says over what is there."""
        self.layer = layer
        if MAKES_WHOLE[self.group] in values:
            self.values.clear()
            self.origins.clear()
        self.values.update(values)
        self.origins.update(dict.fromkeys(values, layer))

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Something wrong at a key of this section, in the file that key comes from."""
        layer = self.origins.get(str(path[0]), self.layer) if path else self.layer
        return layer.problem((self.group, self.name, *path), text)

    def amends_nothing(self, known: Iterable[str]) -> Problem:
        """It is not whole by itself, and no lower layer has a section of its name."""
        kin = did_you_mean(self.name, [name for name in known if name != self.name])
        text = f"is missing, and the built-in catalogue has no {self.group.removesuffix('s')} of this name{kin}"
        return self.problem((MAKES_WHOLE[self.group],), text)


def read_layer(path: Path, rank: int, problems: list[Problem]) -> Layer:
    """Reads a file. What is wrong with it is added to `problems`; what can be used is in the layer."""
    file = shown(path)
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")  # Windows editors write a byte order mark
        tables = tomllib.loads(text)
    except OSError as error:
        problems.append(Problem(file, 1, "", f"cannot be read: {error.strerror}"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(Problem(file, line, "", "not UTF-8; save the file in this encoding"))
    except tomllib.TOMLDecodeError as error:
        problems.append(_syntax_problem(file, text, str(error)))
    else:
        layer = Layer(file, rank, groups={}, lines=key_lines(text))
        return Layer(file, rank, _groups(tables, layer, problems), layer.lines)
    return Layer(file, rank, groups={}, lines={})


def overlay(group: Group, layers: Sequence[Layer]) -> dict[str, Section]:
    """The sections of a group, lowest layer first, in the order they are first named."""
    sections: dict[str, Section] = {}
    for layer in layers:
        for name, values in layer.groups.get(group, {}).items():
            section = sections.setdefault(name, Section(group, name, layer))
            section.lay(values, layer)
    return sections


def shown(path: Path) -> str:
    """A path as the operator would name it: relative where it lies below the working directory."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _groups(tables: Mapping[str, Any], layer: Layer, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for group, sections in tables.items():
        if group not in MAKES_WHOLE:
            text = "unknown section" + (did_you_mean(group, MAKES_WHOLE) or "; there are backends and models")
            problems.append(layer.problem((group,), text))
        elif not isinstance(sections, dict):
            problems.append(layer.problem((group,), f"must hold sections, as [{group}.NAME]"))
        else:
            groups[group] = {}
            for name, values in sections.items():
                if isinstance(values, dict):
                    groups[group][name] = values
                else:
                    problems.append(layer.problem((group, name), f"must be a section, as [{group}.NAME]"))
    return groups


def _syntax_problem(file: str, text: str, message: str) -> Problem:
    """`tomllib` says line and column; the section and the key are read off the text."""
    place = _PLACE.match(message)
    if place is None:  # pragma: no cover - every message of tomllib has a place; this is for a later Python
        return Problem(file, 1, "", f"not TOML: {message}")
    lines = text.split("\n")
    line = int(place["line"] or len(lines))
    header = list(_HEADER.finditer("\n".join(lines[:line])))
    key = _KEY_AT_START.match(lines[line - 1])
    names = ([header[-1]["key"].strip()] if header else []) + ([key["key"].strip()] if key else [])
    where = f", at column {place['column']}" if place["column"] else ", at the end of the file"
    hint = "; text stands in quotes" if place["what"] == "Invalid value" else ""
    return Problem(file, line, ".".join(names), f"not TOML: {_lower(place['what'])}{where}{hint}")


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
