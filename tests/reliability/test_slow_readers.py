"""Callers who ask for a fast, endless answer and hardly read it."""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.reliability.conftest import Shown
from tests.support.endless import Endless, endless
from tests.support.gateway import RunningGateway, running_gateway

READERS = 200
MOST_KIB = 64
"""Most of it are the objects of a request and of two connections; what is held of the answer is a few KiB."""

SETTLED_KIB = 256
TIMEOUT_S = 60


@contextmanager
def site(folder: Path, **settings: str) -> Iterator[tuple[RunningGateway, Endless]]:
    """A gateway with SQLite and one worker, before an upstream without end."""
    with endless() as upstream:
        models = folder / "models.toml"
        models.write_text(upstream.models)
        environment = {"TUWEN_MODELS_FILE": str(models), "TUWEN_LOG_LEVEL": "warning", **settings}
        with running_gateway(folder / "data", environment) as gateway:
            yield gateway, upstream


def reader(gateway: RunningGateway, model: str) -> socket.socket:
    """A connection on which a stream was asked for; the kernel takes little of it for the caller."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.settimeout(TIMEOUT_S)
    connection.connect(("127.0.0.1", gateway.port))
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}).encode()
    lines = f"Host: x\r\nAuthorization: Bearer {gateway.key}\r\nContent-Length: {len(body)}"
    connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n\r\n".encode() + body)
    return connection


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0])


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def settled_rss_kib(pid: int) -> int:
    """What the process takes, once that grows no more."""
    seen = [rss_kib(pid)]

    def steady() -> bool:
        time.sleep(0.4)
        seen.append(rss_kib(pid))
        return len(seen) > 5 and max(seen[-5:]) - min(seen[-5:]) < SETTLED_KIB

    eventually(steady, "the memory grows and grows")
    return seen[-1]


def sip(connections: Sequence[socket.socket], ended: threading.Event) -> None:
    """Reads a few bytes a second of each."""
    while not ended.wait(1):
        for connection in select.select(connections, [], [], 0)[0]:
            connection.recv(8)


def healthy_ms(gateway: RunningGateway) -> float:
    """How long a good request beside them takes."""
    begun_s = time.monotonic()
    answer = httpx2.post(
        f"{gateway.base_url}/chat/completions",
        json={"model": "brief", "messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": f"Bearer {gateway.key}"},
        timeout=TIMEOUT_S,
        trust_env=False,
    )
    assert answer.status_code == 200, answer.text
    return (time.monotonic() - begun_s) * 1000


@pytest.mark.parametrize("model", ["endless", "spark-endless"])
def test_slow_readers_cost_little_memory(tmp_path: Path, shown: Shown, model: str) -> None:
    with site(tmp_path) as (gateway, upstream), ExitStack() as life:
        for _ in range(20):
            healthy_ms(gateway)
        before_kib = settled_rss_kib(gateway.pid)
        connections = [life.enter_context(reader(gateway, model)) for _ in range(READERS)]
        eventually(lambda: upstream.under_way == READERS, "not all are answered")
        ended = threading.Event()
        sipping = threading.Thread(target=sip, args=(connections[::2], ended))
        sipping.start()
        try:
            each_kib = (settled_rss_kib(gateway.pid) - before_kib) / READERS
            slowest_ms = max(healthy_ms(gateway) for _ in range(20))
        finally:
            ended.set()
            sipping.join()
        assert upstream.under_way == READERS, "some were dropped"
    shown(f"{READERS} slow readers of {model}", KiB_each=round(each_kib, 1), ms_beside_them=round(slowest_ms))
    assert each_kib < MOST_KIB
    assert slowest_ms < 1000


@pytest.mark.parametrize("model", ["endless", "spark-endless"])
def test_callers_who_read_nothing_are_dropped(tmp_path: Path, shown: Shown, model: str) -> None:
    with site(tmp_path, TUWEN_STALL_S="3") as (gateway, upstream), ExitStack() as life:
        for _ in range(READERS):
            life.enter_context(reader(gateway, model))
        eventually(lambda: upstream.under_way > 0, "nobody is answered")
        begun_s = time.monotonic()
        eventually(lambda: upstream.under_way == 0, "some are still answered")
        ended_s = time.monotonic() - begun_s
    shown(f"{READERS} callers of {model} who read nothing", s_until_all_are_dropped=round(ended_s, 1))
