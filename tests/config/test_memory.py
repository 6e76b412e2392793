"""How much memory the process finds it may use: control groups are files in a folder of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.config.memory import bodies_bytes, memory_bytes

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = 64 * 1024 * 1024


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_machine_without_groups_has_its_memory(tmp_path: Path) -> None:
    assert 0 < memory_bytes(tmp_path) <= PHYSICAL


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/a/b\n", "sys/fs/cgroup/a/b/memory.max"),
        ("0::/a/b\n", "sys/fs/cgroup/a/memory.max"),
        ("0::/\n", "sys/fs/cgroup/memory.max"),
        ("0::/outside/container\n", "sys/fs/cgroup/memory.max"),
        ("5:cpu:/\n4:memory:/a/b\n0::/\n", "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes"),
        ("4:memory:/docker/1234\n", "sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ],
)
def test_limit_of_a_group_or_of_one_above_it_counts(tmp_path: Path, cgroup: str, file: str) -> None:
    write(tmp_path, "proc/self/cgroup", cgroup)
    write(tmp_path, file, f"{LIMIT}\n")
    assert memory_bytes(tmp_path) == LIMIT


def test_group_without_limit_is_no_limit(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/a\n")
    write(tmp_path, "sys/fs/cgroup/a/memory.max", "max\n")
    assert memory_bytes(tmp_path) == memory_bytes(tmp_path / "nothing")


def test_room_is_shared_among_workers_and_holds_one_body_at_least() -> None:
    gib = 1024**3
    assert bodies_bytes(1, 30_000_000, 2 * gib) == gib // 4
    assert bodies_bytes(4, 30_000_000, 2 * gib) == gib // 16
    assert bodies_bytes(4, 30_000_000, gib // 8) == 30_000_000
