"""The gateway beside nginx, in one run: CPU per answer, CPU per 1 000 deltas, memory per open stream.

    python -m tests.bench.side_by_side TOOLS [--rounds N] [--seconds S]

TOOLS is a folder with `loadgen.c`, `fake_upstream.c` and `mkbody.py` (an epoll load generator, a fast OpenAI-style fake
upstream, and the bodies they use). nginx proxies the same upstream and is the practical limit. Rounds interleave the
two, medians are compared, and ratios are what counts: machines are noisy. Needs gcc and nginx; says so where absent.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tests.support.gateway import free_port, running_gateway, wait_for_port

GATEWAY_CORE, LOAD_CORE = "0", "1"
MOST_CPU_PER_ANSWER = 50
MOST_CPU_PER_DELTA = 6

MODELS = """
[backends.fake]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"

[models."fake-0"]
routes = [{{ backend = "fake", model = "fake-0" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}

[models."fake-5"]
routes = [{{ backend = "fake", model = "fake-5" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}

[models."fake-100"]
routes = [{{ backend = "fake", model = "fake-100" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}
"""

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 10000000; client_max_body_size 32m;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


@dataclass(frozen=True)
class Contender:
    """Who is measured: its port, the process that does its work, and the header that lets us in."""

    name: str
    port: int
    pid: int
    header: str


@dataclass(frozen=True)
class Scene:
    """What is asked: body, connections, and whether deltas or answers are counted."""

    name: str
    body: str
    connections: int
    streams: bool


SCENES = (
    Scene("whole answers, 32 connections", "ns0", 32, streams=False),
    Scene("50 streams, a delta each 5 ms", "s5", 50, streams=True),
    Scene("32 streams at full speed", "s0", 32, streams=True),
    Scene("1 MiB photo, 8 connections", "photo", 8, streams=False),
)


class Tools:
    """The compiled load generator, fake upstream and bodies."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._folder = folder
        for name in ("loadgen", "fake_upstream"):
            subprocess.run(["gcc", "-O2", "-o", folder / name, source / f"{name}.c"], check=True)
        subprocess.run([sys.executable, source / "mkbody.py", folder / "bodies"], check=True)
        (folder / "bodies" / "photo.json").write_bytes(_photo_body())

    @contextmanager
    def upstream(self) -> Iterator[int]:
        port = free_port()
        with _process(["taskset", "-c", LOAD_CORE, self._folder / "fake_upstream", port]):
            wait_for_port(port)
            yield port

    def load(self, who: Contender, body: str, connections: int, seconds: float, *, streams: bool) -> dict[str, float]:
        command = ["taskset", "-c", LOAD_CORE, self._folder / "loadgen", "-P", who.port, "-c", connections]
        command += ["-d", seconds, "-w", 1, "-b", self._folder / "bodies" / f"{body}.json", "-H", who.header]
        command += ["-s", "-e", 64] if streams else []
        done = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
        result: dict[str, float] = json.loads(done.stdout)
        if result["errors"] or result["incomplete"]:
            raise SystemExit(f"{who.name}: wrong answers under load: {done.stdout}")
        return result


def _photo_body() -> bytes:
    """A request with a JPEG that takes 1 MiB as base64: a real one, since the gateway refuses what is none."""
    out = io.BytesIO()
    noise = Image.effect_noise((1200, 900), 80).convert("RGB")
    noise.save(out, "JPEG", quality=94)
    url = {"url": "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()}
    content = [{"type": "image_url", "image_url": url}, {"type": "text", "text": "what is it?"}]
    return json.dumps({"model": "fake-0", "messages": [{"role": "user", "content": content}]}).encode()


@contextmanager
def _process(command: list[object]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(word) for word in command])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def _nginx(folder: Path, upstream: int) -> Iterator[Contender]:
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, upstream=upstream, port=port))
    with _process(["taskset", "-c", GATEWAY_CORE, "nginx", "-p", folder, "-c", folder / "nginx.conf"]) as master:
        wait_for_port(port)
        children = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
        yield Contender("nginx", port, int(children[0]), "X-Nobody: 1")


@contextmanager
def _gateway(folder: Path, upstream: int) -> Iterator[Contender]:
    models = folder / "models.toml"
    models.write_text(MODELS.format(port=upstream))
    environment = {"TUWEN_MODELS_FILE": str(models), "TUWEN_LOG_LEVEL": "warning"}
    with running_gateway(folder / "data", environment, prefix=["taskset", "-c", GATEWAY_CORE]) as gateway:
        yield Contender("tuwen", gateway.port, gateway.pid, f"Authorization: Bearer {gateway.key}")


def cpu_s(pid: int) -> float:
    """CPU seconds all threads of a process have had."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_kib(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) if match else 0


def measure(tools: Tools, who: Contender, scene: Scene, seconds: float) -> dict[str, float]:
    """One round: rate, and CPU per unit of work in microseconds."""
    before = cpu_s(who.pid)
    result = tools.load(who, scene.body, scene.connections, seconds, streams=scene.streams)
    spent = cpu_s(who.pid) - before
    units = result["chunks_all"] if scene.streams else result["completed"]
    rate = result["chunks_per_s"] if scene.streams else result["rps"]
    return {"rate": rate, "cpu_us": spent / units * 1e6}


def memory_per_stream_kib(tools: Tools, who: Contender, streams: int) -> float:
    """Resident memory that `streams` open streams add, each."""
    before = rss_kib(who.pid)
    peak = before
    command = [tools._folder / "loadgen", "-P", who.port, "-c", streams, "-d", 5, "-s", "-e", 64]
    command += ["-b", tools._folder / "bodies" / "s100.json", "-H", who.header]
    with _process(["taskset", "-c", LOAD_CORE, *command]):
        for _ in range(20):
            time.sleep(0.2)
            peak = max(peak, rss_kib(who.pid))
    return (peak - before) / streams


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("tools", type=Path)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=5)
    chosen = options.parse_args()
    for need in ("gcc", "nginx", "taskset"):
        if shutil.which(need) is None:
            raise SystemExit(f"side_by_side needs {need}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.chmod(0o755)
        tools = Tools(chosen.tools, folder)
        upstream = stack.enter_context(tools.upstream())
        nginx = stack.enter_context(_nginx(folder, upstream))
        tuwen = stack.enter_context(_gateway(folder, upstream))
        spans = {"rounds": chosen.rounds, "seconds": chosen.seconds}
        ratios = [_scene(tools, (nginx, tuwen), scene, **spans) for scene in SCENES]
        _say(f"memory per open stream: {memory_per_stream_kib(tools, tuwen, 500):.0f} KiB")
    good = ratios[0] <= MOST_CPU_PER_ANSWER and ratios[1] <= MOST_CPU_PER_DELTA
    _say(f"{'PASS' if good else 'FAIL'}: CPU per answer {ratios[0]:.1f} x nginx (at most {MOST_CPU_PER_ANSWER}), ")
    _say(f"      CPU per 1 000 deltas {ratios[1]:.1f} x nginx (at most {MOST_CPU_PER_DELTA})")
    return 0 if good else 1


def _scene(tools: Tools, pair: tuple[Contender, Contender], scene: Scene, *, rounds: int, seconds: float) -> float:
    rows: dict[str, list[dict[str, float]]] = {who.name: [] for who in pair}
    for _ in range(rounds):
        for who in pair:
            rows[who.name].append(measure(tools, who, scene, seconds))
    cpu = {name: statistics.median(row["cpu_us"] for row in found) for name, found in rows.items()}
    rate = {name: statistics.median(row["rate"] for row in found) for name, found in rows.items()}
    ratio = cpu["tuwen"] / cpu["nginx"]
    unit = "delta" if scene.streams else "answer"
    _say(
        f"{scene.name}: tuwen {rate['tuwen']:.0f} {unit}s/s, {cpu['tuwen']:.1f} us CPU per {unit}; "
        f"nginx {rate['nginx']:.0f}, {cpu['nginx']:.1f}; ratio {ratio:.1f}"
    )
    return ratio


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
