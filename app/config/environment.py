"""The environment secrets come from: the process's own, over what `.env` says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from app.config.errors import ConfigError

DOTENV = Path(".env")


def read_environment(dotenv: Path = DOTENV) -> Mapping[str, str]:
    """Every variable that is set and not empty. The process's environment wins over the file, which may be absent.

    Raises:
        ConfigError: the file cannot be read, or a line of it is none of `NAME=value`.
    """
    return {**_filled(_read(dotenv)), **_filled(os.environ)}


def _read(dotenv: Path) -> Mapping[str, str | None]:
    if not dotenv.is_file():  # a virtual environment may be a directory called .env
        return {}
    try:
        text = dotenv.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{dotenv}: cannot be read: {error}") from error
    for statement in parse_stream(StringIO(text)):
        if statement.error:  # python-dotenv would pass over it, and log that without naming the file
            told = statement.original
            blank_lines = told.string[: -len(told.string.lstrip())].count("\n")
            raise ConfigError(f"{dotenv}:{told.line + blank_lines}: must be NAME=value")
    return dotenv_values(stream=StringIO(text))


def _filled(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
