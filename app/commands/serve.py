"""`tuwen serve`: the gateway on one address."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from app.accounts.keys import first_key
from app.api.h1_protocol import Http1Protocol
from app.commands.check import warn_of_mistyped
from app.commands.draining_server import DrainingServer
from app.commands.errors import CommandFailed
from app.commands.records import key_mint, open_store
from app.commands.workers import Workers, end_with_parent
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.environment import read_environment
from app.config.settings import Settings
from app.gateway.draining import Draining
from app.main import create_app
from app.observe.logs import configure_logging
from app.store.redis_line import client_of

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MIB = 1024 * 1024
SAMPLE_PICTURE = "samples/pictures/receipt.jpg"
_FOREIGN_FOLDER = "in the folder of Tuwen's source or with a JPEG of your own"
_OTHER_ADDRESS = "Choose an address of this machine with TUWEN_HOST."
_REMEDIES = {
    errno.EADDRINUSE: "Stop what uses the port, or choose another with TUWEN_PORT.",
    errno.EACCES: "Ports below 1024 are the system's; choose another with TUWEN_PORT.",
}
_KEEP_ALIVE_S = 75
"""Longer than the idle time of common proxies, so that the proxy closes first and never meets a closed connection."""


def serve(settings: Settings) -> None:
    """Serves until told to stop.

    Raises:
        CommandFailed: the address is taken, or not ours to use; several workers have nothing to share their limits in;
            a worker could not start.
        ConfigError: the catalogue is wrong.
        StoreUnusable: the ledger cannot be opened, or the address of Redis is wrong.
    """
    configure_logging(level=settings.log_level, form=settings.log_format)
    environment = read_environment()
    load_catalog(CatalogFiles.of(settings.models_file), environment)  # wrong files are told before all else
    warn_of_mistyped(environment)
    if settings.workers > 1 and settings.redis_url is None:
        raise CommandFailed(
            f"TUWEN_WORKERS is {settings.workers}, but several processes can keep limits only together: set "
            "TUWEN_REDIS_URL, or TUWEN_WORKERS=1."
        )
    if settings.redis_address is not None:
        client_of(settings.redis_address)  # only to see that its options are sound
    listener = _listener(settings)
    stopping = _exit_cleanly_on_signals()
    base_url = _base_url(listener)
    minted = asyncio.run(_first_key(settings))
    if minted is not None:
        _say(_welcome(base_url, minted))
    _say(f"Tuwen serves on {base_url} (OpenAI base URL: {base_url}/v1)")
    if settings.workers > 1:
        code = Workers(settings.workers, listener, os.environ, drain_s=settings.drain_s, told=stopping.told).run()
        _remark("Stopped.")
        sys.exit(code)
    _run(settings, listener, stopping, alone=True)
    _remark("Stopped.")


def serve_worker(settings: Settings, descriptor: int) -> None:
    """Serves as one of several processes, on a listening socket that was passed on, for as long as its parent lives."""
    configure_logging(level=settings.log_level, form=settings.log_format)
    stopping = _exit_cleanly_on_signals()
    end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    _run(settings, socket.socket(fileno=descriptor), stopping, alone=False)


def _run(settings: Settings, listener: socket.socket, stopping: _Stopping, *, alone: bool) -> None:
    _keep_large_blocks()
    draining = Draining()
    server = DrainingServer(
        _config(settings, draining),
        draining,
        notice_s=settings.drain_notice_s,
        drain_s=settings.drain_s,
        alone=alone,
        remark=_remark,
    )
    stopping.pass_on_to(server)
    server.run(sockets=[listener])


def _config(settings: Settings, draining: Draining) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings, draining=draining),
        loop="uvloop",
        http=Http1Protocol,
        ws="none",
        proxy_headers=False,  # nothing here asks for the caller's address
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _keep_large_blocks() -> None:
    """Lets glibc keep freed blocks of picture size instead of handing each back to the kernel and faulting it in again:
    a third of the CPU of a request with a 1 MiB picture. Other C libraries have no such call and need none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


@dataclass
class _Stopping:
    """The signals that told the process to end, and who is to hear of them."""

    told: list[int] = field(default_factory=list)
    server: DrainingServer | None = None

    def pass_on_to(self, server: DrainingServer) -> None:
        """From now on it hears of them itself; of those that came, now."""
        self.server = server
        for number in self.told:
            server.told(number)


def _exit_cleanly_on_signals() -> _Stopping:
    """Makes SIGTERM and SIGINT end the process with exit code 0.

    While it runs, the server catches them and drains. A signal that comes before it runs makes it end as soon as it is
    up.
    """
    stopping = _Stopping()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stopping.told.append(number)
        if stopping.server is not None:
            stopping.server.told(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    return stopping


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except UnicodeError as error:
        listener.close()
        raise CommandFailed(f"TUWEN_HOST: {settings.host[:80]} is no host name. {_OTHER_ADDRESS}") from error
    except OSError as error:
        listener.close()
        reason, remedy = (error.strerror or str(error)).lower(), _REMEDIES.get(error.errno or 0, _OTHER_ADDRESS)
        raise CommandFailed(f"Cannot listen on {settings.host}:{settings.port}: {reason}. {remedy}") from error
    return listener


async def _first_key(settings: Settings) -> str | None:
    if settings.open_access:
        return None
    async with open_store(settings, create=True) as store:
        return await first_key(store, key_mint(settings))


def _welcome(base_url: str, key: str) -> str:
    beside = Path(SAMPLE_PICTURE).is_file()
    where = "on the sample picture, in another terminal" if beside else f"in another terminal, {_FOREIGN_FOLDER}"
    return f"""
Your admin key, shown this once:

    {key}

Try it {where}:

    printf '{{"model":"local-ocr-vision","stream":true,"messages":[{{"role":"user","content":[{{"type":"image_url",\
"image_url":{{"url":"data:image/jpeg;base64,%s"}}}}]}}]}}' "$(base64 < {SAMPLE_PICTURE} | tr -d '\\n')" |
    curl -N {base_url}/v1/chat/completions -H 'Authorization: Bearer {key}' -d @-
"""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _remark(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        _say(text)
