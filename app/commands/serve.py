"""`tuwen serve`: the gateway on one address."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from typing_extensions import override

from app.accounts.keys import KeyMint, first_key
from app.api.h1_protocol import Http1Protocol
from app.commands.check import warn_of_mistyped
from app.commands.errors import CommandFailed
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.environment import read_environment
from app.config.settings import Settings
from app.main import create_app
from app.observe.logs import configure_logging
from app.store.secret import server_secret
from app.store.sql import SqlStore

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
        CommandFailed: the address is taken, or not ours to use.
        ConfigError: the catalogue is wrong.
    """
    configure_logging(level=settings.log_level, form=settings.log_format)
    environment = read_environment()
    load_catalog(CatalogFiles.of(settings.models_file), environment)  # wrong files are told before all else
    warn_of_mistyped(environment)
    _keep_large_blocks()
    listener = _listener(settings)
    server = _Server(_config(settings))
    _exit_cleanly_on_signals(server)
    base_url = _base_url(listener)
    minted = asyncio.run(_first_key(settings))
    if minted is not None:
        _say(_welcome(base_url, minted))
    _say(f"Tuwen serves on {base_url} (OpenAI base URL: {base_url}/v1)")
    server.run(sockets=[listener])
    _remark("Stopped.")


def _config(settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(settings),
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


class _Server(uvicorn.Server):
    """Tells whoever stops it why it may not end at once."""

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if sys.stdout.isatty():
            _remark("")  # the terminal has written ^C
        if self.server_state.tasks:
            _remark("Stopping once the answers under way are finished; a second Ctrl-C stops at once.")
        await super().shutdown(sockets)


def _keep_large_blocks() -> None:
    """Lets glibc keep freed blocks of picture size instead of handing each back to the kernel and faulting it in again:
    a third of the CPU of a request with a 1 MiB picture. Other C libraries have no such call and need none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 64 * _MIB)


def _exit_cleanly_on_signals(server: uvicorn.Server) -> None:
    """Makes SIGTERM and SIGINT end the process with exit code 0.

    While it runs, the server catches them and drains; done, it raises the signal it got once more, and by then there is
    nothing left to do. A signal that comes before it runs makes it end as soon as it is up.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


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
    configured = settings.secret.get_secret_value() if settings.secret else None
    mint = KeyMint(server_secret(settings.data_dir, configured), clock=time.time, random_bytes=os.urandom)
    store = await SqlStore.open(settings.data_dir / "tuwen.db")
    try:
        return await first_key(store, mint)
    finally:
        await store.aclose()


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
