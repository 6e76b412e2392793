"""What `tuwen ask` shows: answers on stdout, all else on stderr."""

from __future__ import annotations

import os
import sys
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typing_extensions import override

from app.commands.ask_batch import BatchView
from app.commands.ask_question import Told
from app.commands.ask_results import Record, json_line
from app.core.money import format_yuan

_KEPT_CONTROLS = "\n\t"
_NO_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT_CONTROLS}


def note(text: str) -> None:
    """A remark beside the answer."""
    typer.secho(text, dim=True, err=True)


def write(text: str) -> None:
    """Text of an answer, at once. A terminal gets no control characters: a picture must not steer it.

    Where nobody reads stdout any more, as after `| head`, the answer still goes on: it is paid for, and may be kept.
    """
    plain = text.translate(_NO_CONTROLS) if sys.stdout.isatty() else text
    try:
        sys.stdout.write(plain.encode("utf-8", "replace").decode())
        sys.stdout.flush()
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def write_line(line: str) -> None:
    """The same, with a line's end."""
    write(line + "\n")


class StreamedText:
    """An answer as it comes."""

    def __init__(self) -> None:
        self._last = ""

    def add(self, text: str) -> None:
        """The next piece."""
        write(text)
        self._last = text or self._last

    def end(self) -> None:
        """Ends its last line."""
        if self._last and not self._last.endswith("\n"):
            write("\n")


def note_told(told: Told) -> None:
    """What it took."""
    cost = "" if told.cost_micros is None else f", {format_yuan(told.cost_micros)} yuan"
    tokens = f"{told.usage.input_tokens} tokens in, {told.usage.output_tokens} out"
    note(f"{tokens}{cost}, {told.seconds:.1f} s")
    if told.finish_reason == "length":
        note("The answer was cut at the model's limit; --max-tokens may raise it.")
    if told.finish_reason == "content_filter":
        note("The vendor's content check cut the answer off here.")
    for notice in told.notices:
        note(f"Notice: {notice}")


class Progressing(BatchView):
    """A bar on stderr; answers on stdout as they come in.

    Args:
        as_json: each picture as one JSON object.
    """

    def __init__(self, pictures: int, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("asking"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            redirect_stdout=sys.stdout.isatty(),  # on a terminal both share the screen; a file gets stdout untouched
        )
        self._task = self._progress.add_task("", total=pictures)

    def __enter__(self) -> Progressing:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @override
    def done(self, record: Record) -> None:
        if "error" in record:
            self._console.print(_about(record))
        if self._as_json:
            write_line(json_line(record))
        elif "answer" in record:
            write_line(f"==> {record['picture']} <==\n{record['answer']}\n")
        self._progress.advance(self._task)


def _about(record: Record) -> str:
    """The error of a record, with its picture, which many errors name themselves."""
    name, error = str(record["picture"]), str(record["error"])
    return error if error.startswith(name) else f"{name}: {error}"
