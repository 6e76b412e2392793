"""The results of a batch: a file of JSON lines that a second run goes on from.

One line per picture asked, written in one piece the moment it is known. The rule of the format: every line is a JSON
object whose first key is `picture`; it holds either `answer` or `error`; fields may be added, none changes its meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from app.commands.ask_pictures import LoadedPicture, Picture
from app.commands.ask_question import Question, Told
from app.commands.errors import CommandFailed

Record: TypeAlias = Mapping[str, Any]

_BEGINNING = b'{"picture": '
_SAME_QUESTION = ("question", "model", "domain", "temperature", "max_tokens")


def answer_record(picture: Picture, loaded: LoadedPicture, question: Question, told: Told) -> Record:
    """An answer."""
    return {"picture": picture.name, **question.as_fields(), **told.as_fields(), "sha256": loaded.sha256}


def error_record(picture: Picture, question: Question, error: str) -> Record:
    """A question without an answer; the next run asks it again."""
    return {"picture": picture.name, **question.as_fields(), "error": error}


def json_line(record: Record) -> str:
    """One line, without its end. Half characters, which some models stream, become question marks."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace").decode()


class ResultsFile:
    """The file, open for adding to it.

    A line that a crash tore is cut off: what it told was not yet known.

    Raises:
        CommandFailed: it cannot be opened, or something else than results is in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answered: dict[tuple[object, ...], Record] = {}
        if path.exists() and not path.is_file():
            raise self._unusable("it is no file")
        try:
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise self._unusable((error.strerror or str(error)).lower()) from error
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def answer_to(self, question: Question, picture: Picture, loaded: LoadedPicture) -> Record | None:
        """What was answered to this question about this picture, wherever the picture lay then; `None`: nothing yet."""
        return self._answered.get(_key({"picture": picture.name, "sha256": loaded.sha256, **question.as_fields()}))

    def add(self, record: Record) -> None:
        """Writes a record; it is in the file when this returns.

        Raises:
            CommandFailed: the disk is full or gone.
        """
        line = json_line(record).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise self._unusable((error.strerror or str(error)).lower()) from error
        self._remember(record)

    def _read(self) -> None:
        self._file.seek(0)
        lines = self._file.readall().split(b"\n")
        torn = lines.pop()
        first = lines[0] if lines else torn
        if not first.startswith(_BEGINNING) and (lines or not _BEGINNING.startswith(torn)):
            raise self._unusable("it holds something else than answers of `tuwen ask`")
        if torn:
            self._file.truncate(sum(len(line) + 1 for line in lines))
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a full disk, and written on after it: what it told is asked again
            if isinstance(record, dict):
                self._remember(record)

    def _remember(self, record: Record) -> None:
        if "answer" in record:
            self._answered[_key(record)] = record

    def _unusable(self, reason: str) -> CommandFailed:
        return CommandFailed(
            f"{self._path} cannot take the answers: {reason}. Name another file with --out.", exit_code=2
        )


def _key(record: Record) -> tuple[object, ...]:
    """Two records with the same key answer the same question about the same picture."""
    return (record.get("sha256") or record.get("picture"), *(record.get(name) for name in _SAME_QUESTION))
