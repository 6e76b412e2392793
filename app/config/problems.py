"""What is wrong, said so that the operator finds it: file, line, key, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from app.config.errors import ConfigError
from app.config.locate import KeyPath

_MAX_SHOWN = 10
_MAX_KEYS_NAMED = 15
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_PLAIN_WORDS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dataclass_type": "must be a table, as {{ … }}",
    "date_type": "must be a date without quotes, as 2025-02-13",
    "dict_type": "must be a table, as {{ … }}",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list, as [ … ]",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number, without quotes",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list, as [ … ]",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "model_type": "must be a table, as {{ … }}",
    "string_too_short": "must not be empty",
    "string_type": "must be text in quotes",
    "too_short": "must not be empty",
    "tuple_type": "must be a list, as [ … ]",
    "unexpected_keyword_argument": "unknown key",
}
"""Pydantic's error types in the operator's words; the rest keep pydantic's own."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend.

    Args:
        file: as the operator would name it.
        line: from 1.
        key: dotted, as `models."qwen2.5-vl".routes[0].backend`; empty where no key is at fault.
    """

    file: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.key}: {self.text}" if self.key else f"{self.file}:{self.line}: {self.text}"
        )


def config_error(problems: Iterable[Problem]) -> ConfigError:
    """All problems as one error, in the order of the files, the first ten in full."""
    lines = [str(problem) for problem in sorted(problems, key=lambda problem: (problem.file, problem.line))]
    shown = lines[:_MAX_SHOWN]
    if len(lines) > len(shown):
        shown.append(f"and {len(lines) - len(shown)} more")
    return ConfigError("\n".join(shown))


def dotted(path: KeyPath) -> str:
    """A key as TOML would write it: `models."qwen2.5-vl".routes[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if _BARE_KEY.fullmatch(part) else '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean base_url?`, or nothing where no known word is near."""
    by_fold = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), by_fold, n=1)
    return f"; did you mean {by_fold[near[0]]}?" if near else ""


def unknown_key(word: str, known: Iterable[str]) -> str:
    """What to say of a key that is not one of `known`."""
    known = tuple(known)
    all_keys = f"; the keys here are {', '.join(sorted(known))}" if len(known) <= _MAX_KEYS_NAMED else ""
    return "unknown key" + (did_you_mean(word, known) or all_keys)


def plain_words(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, in the operator's words.

    Args:
        error: an item of `ValidationError.errors()`.
    """
    context = {key: f"{value:g}" if isinstance(value, float) else value for key, value in error.get("ctx", {}).items()}
    if error["type"] == "value_error":
        return str(context["error"])
    words = _PLAIN_WORDS.get(error["type"])
    if words is None:
        text = str(error["msg"])
        return text[:1].lower() + text[1:]
    return words.format_map(context)
