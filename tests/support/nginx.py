"""A real nginx with deploy/nginx.conf, on a port and in a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.gateway import free_port, wait_for_port
from tests.support.services import mortal

CONF = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
"""`None` where it is not installed."""

_SERVER = "server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;"


@contextmanager
def nginx(folder: Path, *gateway_ports: int) -> Iterator[int]:
    """Runs the configuration in front of these gateways. Yields the port."""
    assert NGINX is not None
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(_ours(folder, port, gateway_ports), encoding="utf-8")
    command = [NGINX, "-e", "stderr", "-p", str(folder), "-c", str(conf)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(mortal(command), stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def _ours(folder: Path, port: int, gateway_ports: tuple[int, ...]) -> str:
    """The configuration as it is, but for places: each is named in it once."""
    text = CONF.read_text(encoding="utf-8")
    folders = "".join(f"{kind}_temp_path {folder};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    for old, new in (
        ("pid /run/nginx.pid;", f"pid {folder}/nginx.pid;\ndaemon off;\nmaster_process off;"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        (_SERVER.format(port=8000), "\n".join(_SERVER.format(port=each) for each in gateway_ports)),
        ("http {", "http {\n" + folders),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
