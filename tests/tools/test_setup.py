"""`tools/setup.sh` on machines that lack something: each ends in one line that says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tools.setup_lab import Machine, machine_in

NO_NETWORK = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by \
'NewConnectionError('<HTTPSConnection object at 0x7f7b87efb650>: Failed to establish a new connection: [Errno -3] \
Temporary failure in name resolution')': /simple/editables/
ERROR: Could not find a version that satisfies the requirement editables==0.6 (from versions: none)
ERROR: No matching distribution found for editables==0.6
"""
NO_COMPILER = """\
Collecting httptools==0.9.0 (from -r requirements.lock (line 542))
      running build_ext
      building 'httptools.parser.parser' extension
      error: command 'gcc' failed: No such file or directory
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for httptools
Failed to build httptools
ERROR: Could not build wheels for httptools, which is required to install pyproject.toml-based projects
"""
NO_COMPILER_NEWER_PIP = """\
  ERROR: Failed building wheel for pyclipper
Failed to build pyclipper
error: failed-wheel-build-for-install

× Failed to build installable wheels for some pyproject.toml based projects
╰─> pyclipper
"""
OTHER_HASH = """\
ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, \
please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    editables==0.6 (from -r requirements-build.lock (line 7)):
        Expected sha256 d70e4698078a1d033e7786d9c64e5be070d058a67c21417024d38a58ac20aa43
             Got        00004698078a1d033e7786d9c64e5be070d058a67c21417024d38a58ac20aa43
"""
DISK_FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
UNHEARD_OF = "WARNING: a machine's own warning\nERROR: the moon is in the wrong house\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_in(tmp_path)


def assert_fails_in_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("tuwen: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_a_machine_without_python_is_told_the_packages(machine: Machine) -> None:
    assert_fails_in_one_line(machine.setup("run"), "python3 was not found", "apt install python3 python3-venv")


def test_an_old_python_is_named_with_its_version(machine: Machine) -> None:
    machine.add_python("python3", "3.9.2")
    assert_fails_in_one_line(machine.setup("run"), "Python 3.11 or newer is needed", "python3 is 3.9.2")


def test_a_newer_python_beside_an_old_one_is_used(machine: Machine) -> None:
    machine.add_python("python3", "3.9.2")
    machine.add_python("python3.12", "3.12.1")
    assert machine.setup("run").returncode == 0
    assert "python3.12 -m venv --clear .venv" in machine.calls()


def test_the_python_that_is_named_is_used(machine: Machine) -> None:
    machine.add_python("python3", "3.11.2")
    machine.add_python("my-python", "3.13.0")
    assert machine.setup("run", {"PYTHON": "my-python"}).returncode == 0
    assert "my-python -m venv --clear .venv" in machine.calls()


@pytest.mark.parametrize(
    ("name", "version", "package"),
    [("python3", "3.11.2", "python3-venv"), ("python3.12", "3.12.1", "python3.12-venv")],
)
def test_a_missing_venv_package_is_named(machine: Machine, name: str, version: str, package: str) -> None:
    machine.add_python(name, version, with_venv=False)
    assert_fails_in_one_line(machine.setup("run"), f"apt install {package}\n")


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (NO_NETWORK, ("cannot reach its package index", "network")),
        (NO_COMPILER, ("httptools has no ready-made wheel", "apt install gcc g++ python3-dev")),
        (NO_COMPILER_NEWER_PIP, ("pyclipper has no ready-made wheel", "apt install gcc g++ python3-dev")),
        (OTHER_HASH, ("not the one that was pinned",)),
        (DISK_FULL, ("disk is full",)),
        (UNHEARD_OF, ("pip failed: ERROR: the moon is in the wrong house",)),
    ],
    ids=["no network", "no compiler", "no compiler, newer pip", "altered package", "disk full", "unheard of"],
)
def test_what_pip_fails_of_is_said_in_one_line(machine: Machine, output: str, words: tuple[str, ...]) -> None:
    machine.add_python("python3", "3.11.2")
    machine.let_pip_say(output, status=1)
    done = machine.setup("run")
    assert_fails_in_one_line(done, *words, ".venv")
    assert (machine.project / ".venv/setup.log").read_text() == output


def test_warnings_of_pip_alone_are_no_failure(machine: Machine) -> None:
    machine.add_python("python3", "3.11.2")
    machine.let_pip_say("WARNING: Running pip as the 'root' user can break permissions\n", status=0)
    done = machine.setup("run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_a_venv_that_works_is_kept_and_gets_what_is_pinned(machine: Machine) -> None:
    machine.add_python("python3", "3.11.2")
    assert machine.setup("run").returncode == 0
    assert machine.setup("test").returncode == 0
    assert machine.setup("vendors").returncode == 0
    calls = machine.calls()
    assert sum("-m venv" in call for call in calls) == 1
    installs = [call for call in calls if "pip install" in call]
    assert len(installs) == 5
    assert [call for call in installs if "--require-hashes" not in call] == [installs[1]]
    assert "--no-deps" in installs[1]
    assert "-r requirements.lock" in installs[0]
    assert "-r requirements-test.lock" in installs[2]
    assert "--target .venv/openai-2.54" in installs[3]
    assert "--target .venv/vendor-sdks" in installs[4]


def test_a_venv_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    machine.add_python("python3", "3.11.2")
    assert machine.setup("run").returncode == 0
    (machine.project / ".venv/bin/python").unlink()
    assert machine.setup("run").returncode == 0
    assert sum("-m venv" in call for call in machine.calls()) == 2


def test_setup_says_what_it_can_be_asked(machine: Machine) -> None:
    assert_fails_in_one_line(machine.setup("everything"), "usage: tools/setup.sh run|test")
