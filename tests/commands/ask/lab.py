"""A folder, a scripted gateway, and `tuwen ask` in it: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from typer.testing import CliRunner

from app.cli import app
from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "samples" / "pictures"
KEY = "sk-tw-lab"


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What it printed as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Lab:
    """A folder commands run in, and what they find in the environment.

    Args:
        prefix: words before a command that gets a process of its own.
    """

    folder: Path
    environment: dict[str, str]
    prefix: tuple[str, ...] = ()

    def ask(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """`tuwen ask` in this process."""
        return self.tuwen("ask", *arguments, stdin=stdin)

    def tuwen(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Any command in this process."""
        result = CliRunner().invoke(app, arguments, env=self.environment, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ended(result.exit_code, result.stdout, result.stderr)

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command in a process of its own; killed at the end of the block if it still runs."""
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "app.cli", *arguments],
            cwd=self.folder,
            env=os.environ | self.environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # a shell has its jobs in the background ignore Ctrl-C, and what they start inherits that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - takes no lock
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *arguments: str) -> Ended:
        """A command in a process of its own, to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
            return Ended(process.returncode, out.decode(), err.decode())

    def picture(self, name: str) -> bytes:
        """Draws a picture like no other into the folder."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        shade = zlib.crc32(name.encode())
        Image.new("RGB", (40, 40), (shade & 255, shade >> 8 & 255, shade >> 16 & 255)).save(path)
        return path.read_bytes()

    def lines(self, name: str = "tuwen-answers.jsonl") -> list[dict[str, Any]]:
        """The results file, every line of it whole."""
        text = (self.folder / name).read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]


class ScriptedGateway:
    """A gateway that answers questions as a test says; what it is not told, by the picture's checksum."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._script: deque[Reply] = deque()
        self.models = openai.reply({"object": "list", "data": []})
        upstream.otherwise(self._reply)

    @property
    def url(self) -> str:
        return self._upstream.url

    @property
    def questions(self) -> list[Received]:
        """Those that arrived; looking up the models is none."""
        return [request for request in self._upstream.requests if request.method == "POST"]

    def answer(self, *replies: Reply) -> None:
        """Each goes to one question, in order."""
        self._script.extend(replies)

    def wait_for_questions(self, count: int) -> None:
        """Blocks until so many have arrived, of a command that looked up the models once."""
        self._upstream.wait_for_requests(count + 1, timeout_s=20)

    def _reply(self, request: Received) -> Reply:
        if request.method == "GET":
            return self.models
        if self._script:
            return self._script.popleft()
        words = answer_about(request.pictures[0])
        return openai.stream(words) if request.json["stream"] else openai.answer(words)


def answer_about(picture: bytes) -> str:
    """What the scripted gateway says of a picture."""
    return f"a picture of checksum {zlib.crc32(picture)}"
