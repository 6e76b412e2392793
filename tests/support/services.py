"""Private PostgreSQL and Redis servers, on free ports of 127.0.0.1 and in folders of their own: the system's are left
alone. They can be stopped and started, so that outages can be played.

A test module gets them by importing the fixtures it names: `from tests.support.services import postgres_url`.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client

from tests.support.gateway import free_port

_START_S = 20
_STOP_S = 10
_PORT_TRIES = 3

_POSTGRES_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
}


def mortal(command: Sequence[str]) -> list[str]:
    """The command, which the system kills once the thread that started it is gone, where the system can: a test process
    that is killed leaves no servers behind. Start it from a thread that outlives its use."""
    setpriv = shutil.which("setpriv")
    return [*([setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []), *command]


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's server programs; `None` where they are not installed. Debian keeps them off PATH."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))[::-1]
    return next((each for each in found if (each / "initdb").exists() and (each / "postgres").exists()), None)


def redis_program() -> str | None:
    """The path of redis-server; `None` where it is not installed."""
    return shutil.which("redis-server")


class PrivateServer:
    """A server process on a port that stays the same when it is stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, if it does not run; returns once it serves."""
        if self._process is not None:
            return
        for remaining in reversed(range(1 if self.port else _PORT_TRIES)):
            port = self.port or free_port()
            try:
                self._start_on(port)
            except OSError:  # between being found free and being used, another test took the port
                if not remaining:
                    raise
            else:
                self.port = port
                return

    def _start_on(self, port: int) -> None:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                mortal(self._command(port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
                **self._identity(),
            )
        deadline = time.monotonic() + _START_S
        while not self._serves(port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise OSError(f"{process.args!r} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        self._process = process

    def stop(self) -> None:
        """Ends it at once, as a crash would: whoever is connected is cut off."""
        if self._process is None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    _stop_signal = signal.SIGKILL

    def _identity(self) -> dict[str, Any]:
        return {}

    def _command(self, port: int) -> list[str]:
        raise NotImplementedError

    def _serves(self, port: int) -> bool:
        raise NotImplementedError


class PrivatePostgres(PrivateServer):
    """A PostgreSQL server that commits as safely as one in production; a stop is an immediate shutdown."""

    _stop_signal = signal.SIGQUIT

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._databases = 0

    @property
    def url(self) -> str:
        return self.url_of("tuwen")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def fresh_database(self, name: str | None = None) -> str:
        """The address of a new, empty database."""
        self._databases += 1
        database = name or f"tuwen_{self._databases}"
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"'.encode())
        return self.url_of(database)

    def _identity(self) -> dict[str, Any]:
        return _identity()

    def _command(self, port: int) -> list[str]:
        programs = postgres_programs()
        assert programs is not None
        options = {**_POSTGRES_OPTIONS, "unix_socket_directories": str(self.folder)}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [str(programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(port), *settings]

    def _serves(self, port: int) -> bool:
        try:
            with psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=2) as connection:
                # whoever was faster on this port is another server: its data lie elsewhere
                return connection.execute("SHOW data_directory").fetchone() == (str(self.folder / "data"),)
        except psycopg.OperationalError:
            return False


class PrivateRedis(PrivateServer):
    """A Redis server that keeps nothing: started anew, it is empty."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def empty(self) -> None:
        """Forgets all that is in it."""
        with redis_client.Redis.from_url(self.url) as client:
            client.flushall()

    def _command(self, port: int) -> list[str]:
        program = redis_program()
        assert program is not None
        nothing_kept = ["--save", "", "--appendonly", "no"]
        return [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(self.folder), *nothing_kept]

    def _serves(self, port: int) -> bool:
        try:
            with redis_client.Redis(port=port, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.config_get("dir") == {"dir": str(self.folder)})
        except redis_client.RedisError:
            return False


@contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """A server with one empty database, `tuwen`; gone when the block ends."""
    with _folder("postgres") as folder:
        _hand_over(folder)
        shutil.copytree(_template(), folder / "data", copy_function=shutil.copy2)
        _hand_over(*folder.rglob("*"))
        with _running(PrivatePostgres(folder)) as server:
            server.fresh_database("tuwen")
            yield server


@contextmanager
def private_redis() -> Iterator[PrivateRedis]:
    """An empty server; gone when the block ends."""
    with _folder("redis") as folder, _running(PrivateRedis(folder)) as server:
        yield server


@contextmanager
def _running(server: PrivateServer) -> Iterator[Any]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _folder(what: str) -> Iterator[Path]:
    """A folder for a server, directly below the temporary one: those of pytest are closed to other users, and their
    names too long for Unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix=f"tuwen-{what}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _template() -> Path:
    """A cluster nobody uses; copying it takes a tenth of the time that making one does."""
    programs = postgres_programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="tuwen-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _hand_over(folder)
    words = ["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
    subprocess.run(
        [str(programs / "initdb"), "-D", str(folder / "data"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=folder,
        check=True,
        **_identity(),
    )
    return folder / "data"


@cache
def _user() -> pwd.struct_passwd | None:
    """As whom PostgreSQL runs, which refuses root; `None`: as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def _identity() -> dict[str, Any]:
    user = _user()
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _hand_over(*paths: Path) -> None:
    """Makes them the server's own."""
    user = _user()
    if user is not None:
        for path in paths:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def require_postgres() -> None:
    """Skips the test where it cannot run."""
    if postgres_programs() is None:
        pytest.skip("PostgreSQL's server programs are not installed")


def require_redis() -> None:
    """The same for Redis."""
    if redis_program() is None:
        pytest.skip("redis-server is not installed")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """One server for all tests of a process; who stops it starts it again, or better has one of his own."""
    require_postgres()
    with private_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PrivatePostgres) -> str:
    """The address of a database of the test's own."""
    return postgres.fresh_database()


@pytest.fixture(scope="session")
def redis() -> Iterator[PrivateRedis]:
    """One server for all tests of a process."""
    require_redis()
    with private_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis: PrivateRedis) -> str:
    """Its address; it is empty."""
    redis.empty()
    return redis.url
