"""When `make` sets up again, and when it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-test.lock",
    "requirements-openai-2.54.lock",
    "requirements-vendors.lock",
)


PYTEST = "pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder"
SUITE = f"{PYTEST} --ignore tests/vendors --ignore tests/money --ignore tests/reliability"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose set-up and programs only say that they were called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in (*PINNED, "pyproject.toml"):
        (tmp_path / name).touch()
    for name in ("tools/setup.sh", ".venv/bin/tuwen", ".venv/bin/pytest"):
        script = tmp_path / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "{script.name} $*"\n')
        script.chmod(0o755)
    return tmp_path


def make(project: Path, *arguments: str) -> list[str]:
    """What make and what it started said. The flags of a make above this test are kept from it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "ARGS"}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def change(path: Path) -> None:
    """Makes a file newer than everything, whatever the resolution of the clock."""
    future_s = path.stat().st_mtime + 60
    os.utime(path, (future_s, future_s))


def test_the_second_run_starts_at_once(project: Path) -> None:
    assert make(project, "run") == ["setup.sh run", "tuwen serve"]
    assert make(project, "run") == ["tuwen serve"]


def test_a_changed_lock_is_installed(project: Path) -> None:
    make(project, "run")
    change(project / "requirements.lock")
    assert make(project, "run") == ["setup.sh run", "tuwen serve"]


def test_the_vendors_sdks_are_installed_where_their_tests_are_run(project: Path) -> None:
    assert "setup.sh vendors" not in make(project, "test")
    assert make(project, "vendors-test") == ["setup.sh vendors", f"{PYTEST} --quiet tests/vendors"]
    change(project / "requirements-vendors.lock")
    assert make(project, "test") == [SUITE]
    assert make(project, "vendors-test")[0] == "setup.sh vendors"


def test_make_test_sets_up_both_and_runs_the_suite(project: Path) -> None:
    assert make(project, "test") == ["setup.sh run", "setup.sh test", SUITE]
    assert make(project, "test", "ARGS=-k picture") == [f"{SUITE} -k picture"]


def test_a_changed_test_lock_leaves_the_gateway_alone(project: Path) -> None:
    make(project, "test")
    change(project / "requirements-test.lock")
    assert make(project, "run") == ["tuwen serve"]
    assert make(project, "test") == ["setup.sh test", SUITE]


def test_a_set_up_that_failed_is_tried_again(project: Path) -> None:
    good = (project / "tools/setup.sh").read_text()
    (project / "tools/setup.sh").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(subprocess.CalledProcessError):
        make(project, "run")
    (project / "tools/setup.sh").write_text(good)
    assert make(project, "run") == ["setup.sh run", "tuwen serve"]


def test_make_alone_lists_the_targets(project: Path) -> None:
    listed = [line.split()[0] for line in make(project)]
    assert {"run", "test", "check", "fmt", "lock"} <= set(listed)


def test_targets_stand_in_two_columns_that_fit_a_terminal(project: Path) -> None:
    listed = make(project, "help")
    assert max(map(len, listed)) <= 80
    assert all(line[13] == " " != line[14] for line in listed)


@pytest.mark.parametrize("name", PINNED)
def test_every_pinned_package_has_a_version_and_a_hash_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = [
        entry for entry in text.replace("\\\n", " ").splitlines() if entry and not entry.lstrip().startswith("#")
    ]
    assert entries
    for entry in entries:
        assert "==" in entry
        assert "--hash=sha256:" in entry
    assert "://" not in text
