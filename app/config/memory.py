"""How much memory this process may use."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

BODY_SHARE = 8
"""Of the memory, one part in so many may be bodies as they came. One grows to four times its size on its way, and half
of the memory is for all else: the process, its caches, pictures being decoded, the OCR engine, the kernel."""


def memory_bytes(root: Path = Path("/")) -> int:
    """The least of what the machine has, what our control groups allow (versions 1 and 2, as Docker, Kubernetes and
    systemd set them), and what the limits on address space and data do.

    Args:
        root: where `proc` and `sys` lie.
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min([physical, *(limit for limit in limits if limit != resource.RLIM_INFINITY), *_of_groups(root)])


def bodies_bytes(workers: int, largest_bytes: int, memory: int) -> int:
    """How many bytes of bodies one of several processes may hold, where nobody says; at least one that is as large as
    may be."""
    return max(memory // BODY_SHARE // workers, largest_bytes)


def _of_groups(root: Path) -> Iterator[int]:
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield from _upwards(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _upwards(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _upwards(mount: Path, path: str, name: str) -> Iterator[int]:
    """The limits of a group and of those above it. In a container the path may be that outside, of which only the top
    is seen."""
    group = PurePosixPath(path.lstrip("/"))
    for each in (group, *group.parents):
        limit = _text(mount / each / name).strip()
        if limit.isdecimal():
            yield int(limit)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
