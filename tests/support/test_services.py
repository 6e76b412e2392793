"""Private servers are private, and outages can be played on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

from tests.support.services import (
    PrivatePostgres,
    PrivateRedis,
    postgres,
    postgres_url,
    private_postgres,
    private_redis,
    redis,
    redis_url,
    require_postgres,
    require_redis,
)

__all__ = ["postgres", "postgres_url", "redis", "redis_url"]

_UNTIL_KILLED = """
import sys, time
from tests.support.services import private_redis
with private_redis() as server:
    print(server.port, server._process.pid, server.folder, flush=True)
    time.sleep(60)
"""


def _answer(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_databases_are_fresh(postgres: PrivatePostgres, postgres_url: str) -> None:
    other = postgres.fresh_database()
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE TABLE rows (id int)")
    assert _answer(postgres_url, "SELECT count(*) FROM pg_class WHERE relname = 'rows'") == 1
    assert _answer(other, "SELECT count(*) FROM pg_class WHERE relname = 'rows'") == 0


def test_commits_are_as_safe_as_in_production(postgres: PrivatePostgres) -> None:
    assert [_answer(postgres.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]


def test_postgres_keeps_its_rows_and_its_port_over_an_outage() -> None:
    require_postgres()
    with private_postgres() as server:
        url = server.url
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE rows AS SELECT 7 AS id")
        with psycopg.connect(url) as connected:
            server.stop()
            with pytest.raises(psycopg.OperationalError):
                connected.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        assert server.url == url
        assert _answer(url, "SELECT id FROM rows") == 7
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    assert not server.folder.exists()


def test_redis_is_empty_after_an_outage_and_on_the_same_port() -> None:
    require_redis()
    with private_redis() as server:
        url = server.url
        with redis_client.Redis.from_url(url) as client:
            client.set("a", 1)
        server.stop()
        with redis_client.Redis.from_url(url) as client, pytest.raises(redis_client.ConnectionError):
            client.ping()
        server.start()
        assert server.url == url
        with redis_client.Redis.from_url(url) as client:
            assert client.get("a") is None
    assert not server.folder.exists()


def test_redis_of_a_test_is_empty(redis: PrivateRedis, redis_url: str) -> None:
    with redis_client.Redis.from_url(redis_url) as client:
        client.set("left by a test", 1)
    redis.empty()
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0


def test_server_is_gone_when_its_test_fails() -> None:
    require_redis()
    with pytest.raises(ZeroDivisionError), private_redis() as server:  # noqa: PT012 - the block's end is what is tested
        assert server._process is not None
        pid = server._process.pid
        raise ZeroDivisionError
    assert not _is_alive(pid)
    assert not server.folder.exists()


@pytest.mark.skipif(not Path("/usr/bin/setpriv").exists(), reason="only setpriv can tell the system so")
def test_server_dies_with_a_test_process_that_is_killed() -> None:
    require_redis()
    with subprocess.Popen([sys.executable, "-c", _UNTIL_KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        _, pid, folder = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _is_alive(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    (Path(folder) / "log").unlink()
    Path(folder).rmdir()
    assert not _is_alive(int(pid))
