"""What workers of tests do with an order: the body says it, as JSON. Runs in the worker."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from app.core.types import Image
from app.media.containers.model import BrokenContainer
from app.media.decode_wire import Draw, Order
from app.media.decode_work import Tell, carry_out

Wanted: TypeAlias = dict[str, Any]


def obey(order: Order, body: bytes, tell: Tell) -> Image:
    """Does what the body asks for, and says in the picture's bytes which process did it."""
    if isinstance(order, Draw):
        for index in range(len(order.pictures)):
            tell(index)
        os.kill(os.getpid(), signal.SIGSEGV)
    wanted: Wanted = json.loads(body)
    if told := wanted.get("told"):
        draft = Path(f"{told}.draft")
        draft.write_text(str(os.getpid()), encoding="ascii")
        draft.rename(told)
    return _DEEDS[wanted["do"]](wanted)


def _hang(_: Wanted) -> Image:
    while True:
        signal.pause()


def _spin(_: Wanted) -> Image:
    while True:
        time.process_time()


def _await(wanted: Wanted) -> Image:
    while not Path(wanted["go"]).exists():
        time.sleep(0.005)
    return _image({"pid": os.getpid()})


def _take(wanted: Wanted) -> Image:
    return _image({"taken": len(bytearray(wanted["bytes"]))})


def _crash(wanted: Wanted) -> Image:
    os.kill(os.getpid(), signal.Signals[wanted["signal"]])
    raise AssertionError("the signal ends the process")


def _exit(_: Wanted) -> Image:
    os._exit(0)


def _babble(_: Wanted) -> Image:
    os.write(next(fd for fd, end in _descriptors().items() if end.startswith("socket")), b"\xff" * 64)
    return _hang({})


def _raise(_: Wanted) -> Image:
    raise ZeroDivisionError("nobody expected this")


def _refuse(_: Wanted) -> Image:
    raise BrokenContainer("is refused", code="invalid_image")


_DEEDS: dict[str, Callable[[Wanted], Image]] = {
    "await": _await,
    "babble": _babble,
    "crash": _crash,
    "exit": _exit,
    "hang": _hang,
    "look": lambda _: _image(_surroundings()),
    "plain": lambda _: _image({"pid": os.getpid()}),
    "raise": _raise,
    "refuse": _refuse,
    "spin": _spin,
    "take": _take,
}


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as the kernel names them
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - a socket's is no path
        except FileNotFoundError:  # that of the listing itself
            continue
    return found


def _surroundings() -> dict[str, Any]:
    return {
        "environment": sorted(os.environ),
        "descriptors": sorted(_descriptors().values()),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "memory": resource.getrlimit(resource.RLIMIT_AS),
        "oom": int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii")),
        "nice": os.nice(0),
    }


def _image(told: dict[str, Any]) -> Image:
    return Image(json.dumps(told).encode(), "image/png", 1, 1, "0" * 64)


def measured(order: Order, body: bytes, tell: Tell) -> Image:
    """The real work, its picture's source as wide as the worker's address space ever was, in MiB, and as high as the
    CPU it took, in ms."""
    image = carry_out(order, body, tell)
    used = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak_kib = int(status.partition("VmPeak:")[2].split()[0])
    return replace(
        image, source_width_px=peak_kib // 1024, source_height_px=int(1000 * (used.ru_utime + used.ru_stime))
    )
