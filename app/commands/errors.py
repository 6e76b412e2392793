"""How a command ends that cannot do what was asked: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from app.config.errors import ConfigError
from app.core.errors import GatewayError
from app.store.errors import StoreUnusable


class CommandFailed(Exception):
    """`str(error)` is one line for whoever typed the command: what is wrong, and the remedy.

    Args:
        exit_code: 1, or 2 where the command was typed wrongly.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class OneLineErrors(TyperGroup):
    """The top of the command tree, where every error meant for people ends."""

    @override
    def main(self, *args: Any, **options: Any) -> Any:
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except typer.TyperException as error:
            typer.echo(_typed_wrongly(error), err=True)
            code = error.exit_code
        except (CommandFailed, ConfigError, StoreUnusable, GatewayError) as error:
            typer.echo(str(error), err=True)
            code = error.exit_code if isinstance(error, CommandFailed) else 1
        except OSError as error:  # of a file or an address that was typed: the text names it
            typer.echo(_of_file(error), err=True)
            code = 1
        except typer.Abort:  # a prompt was left
            code = 1
        sys.exit(code)


def _typed_wrongly(error: typer.TyperException) -> str:
    message, context = error.format_message(), getattr(error, "ctx", None)
    if context is None or "\n" in message:  # the help itself, which a bare `tuwen` prints
        return message
    message = message.replace("Value error, ", "").rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See '{context.command_path} --help'."


def _of_file(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}."
