"""Gateway processes that share their records and limits, each of which can be killed and started again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.gateway import RunningGateway, free_port, running_gateway
from tests.support.records import Records
from tests.support.services import mortal

_ROOT = Path(__file__).parents[2]
_COMMAND_S = 60


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and the id that the books know it by."""

    key: str
    id: str


class Node:
    """One gateway: its port and its data folder stay when its process goes."""

    def __init__(self, data_dir: Path, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.gateway: RunningGateway | None = None
        self._environment = {**environment, "TUWEN_PORT": str(self.port)}
        self._prefix = prefix
        self._life = ExitStack()

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    @property
    def output(self) -> str:
        """All that this process has written."""
        assert self.gateway is not None
        return "".join(self.gateway.output)

    def start(self) -> None:
        """Starts it, from a thread that must outlive it; returns once it serves."""
        assert self.gateway is None
        running = running_gateway(self.data_dir, self._environment, prefix=mortal(self._prefix))
        self.gateway = self._life.enter_context(running)

    def kill(self) -> None:
        """Kills it by SIGKILL: it gets to do nothing more."""
        assert self.gateway is not None
        self.gateway.process.kill()
        self.gateway.process.wait()
        self.stop()

    def stop(self) -> None:
        """Ends it as a supervisor would; of one that was killed, clears up."""
        self.gateway = None
        self._life.close()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Gateways over the same records.

    Args:
        environment: what they share.
        starters: threads that outlive the gateways.
    """

    nodes: Sequence[Node]
    records: Records
    environment: Mapping[str, str] = field(repr=False)
    starters: ThreadPoolExecutor = field(repr=False)

    def start(self, nodes: Sequence[Node]) -> None:
        """Starts some of them, together; returns once they serve."""
        for started in [self.starters.submit(node.start) for node in nodes]:
            started.result()

    @property
    def urls(self) -> list[str]:
        """The base URLs, as OpenAI's clients want them."""
        return [node.base_url for node in self.nodes]

    def new_key(self, name: str, *terms: str) -> Key:
        """A new key.

        Args:
            terms: options of `tuwen keys create`, as `"--budget", "10.00"`.
        """
        done = self.run("keys", "create", name, *terms)
        found = re.search(r"key_\w+", done.stderr)
        assert found is not None, done.stderr
        return Key(done.stdout.strip(), found[0])

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of `tuwen` on the records."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words],
            env={**_inherited(), **self.environment, "TUWEN_DATA_DIR": str(self.nodes[0].data_dir)},
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done


@contextmanager
def fleet(
    folder: Path,
    models: str,
    *,
    count: int = 1,
    database_url: str | None = None,
    redis_url: str | None = None,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Fleet]:
    """Starts gateways; ends them with the block.

    Args:
        models: the operator's models.toml, as text.
        database_url: of Postgres; `None`: SQLite, which one data folder holds.
        prefix: words before each command, as `taskset -c 0`.
        environment: of all of them, beyond what these arguments say.
    """
    models_file = folder / "models.toml"
    models_file.write_text(models)
    shared = {
        "TUWEN_MODELS_FILE": str(models_file),
        "TUWEN_SECRET": "a secret that all of them share",
        "TUWEN_LOG_LEVEL": "warning",
        **({"TUWEN_DATABASE_URL": database_url} if database_url else {}),
        **({"TUWEN_REDIS_URL": redis_url} if redis_url else {}),
        **(environment or {}),
    }
    folders = [folder / f"node-{number}" for number in range(count)] if database_url else [folder / "node"] * count
    nodes = [Node(each, shared, prefix) for each in folders]
    records = Records(database_url or folders[0] / "tuwen.db")
    with ThreadPoolExecutor(count, thread_name_prefix="starter") as starters, ExitStack() as life:
        running = Fleet(nodes, records, shared, starters)
        for node in nodes:
            life.callback(node.stop)
        running.start(nodes)
        yield running


def _inherited() -> dict[str, str]:
    """Our environment without what would reach into a gateway's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUWEN_")}
    return {**clean, "PYTHONPATH": str(_ROOT)}
