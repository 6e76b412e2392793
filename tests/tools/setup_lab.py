"""A made-up machine for `tools/setup.sh`: a folder with a copy of the script, and a PATH on which only what a test
puts there can be found. Its Pythons are shell scripts; what its pip says was recorded from the real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_TOOLS = ("bash", "cat", "chmod", "cut", "dirname", "env", "grep", "head", "mkdir", "sed", "tail")
"""What the script may expect of a Debian machine without Python; the fakes use `cat`, `chmod` and `mkdir`."""

_PYTHON = """#!/usr/bin/env bash
echo "{name} $*" >>"$LAB/calls"
case "$*" in
  *version_info*) exit {too_old} ;;
  *python_version*) echo {version} ;;
  *ensurepip*) exit {no_venv} ;;
  "-m venv"*)
    mkdir -p .venv/bin
    printf '#!/usr/bin/env bash\\necho "venv $*" >>"$LAB/calls"\\ncase "$*" in -c*) exit 0;; esac\\n' >.venv/bin/python
    printf 'cat "$LAB/pip_output"\\nexit $(cat "$LAB/pip_status")\\n' >>.venv/bin/python
    chmod +x .venv/bin/python ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Runs `tools/setup.sh` where only `add_python` decides which Pythons there are."""

    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def add_python(self, name: str, version: str, *, with_venv: bool = True) -> None:
        minor = int(version.split(".")[1])
        script = _PYTHON.format(name=name, version=version, too_old=int(minor < 11), no_venv=int(not with_venv))
        path = self.folder / "bin" / name
        path.write_text(script)
        path.chmod(0o755)

    def let_pip_say(self, output: str, *, status: int) -> None:
        (self.folder / "pip_output").write_text(output)
        (self.folder / "pip_status").write_text(str(status))

    def setup(self, what: str, env: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.project / "tools/setup.sh", what],
            env={"PATH": str(self.folder / "bin"), "LAB": str(self.folder), **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self) -> list[str]:
        """What the Pythons were asked, in order."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def machine_in(folder: Path) -> Machine:
    """A machine without any Python, whose pip, once there is one, succeeds without a word."""
    (folder / "bin").mkdir()
    (folder / "project/tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup.sh", folder / "project/tools/setup.sh")
    for tool in _TOOLS:
        found = shutil.which(tool, path=os.defpath)
        assert found is not None, f"this machine has no {tool}"
        (folder / "bin" / tool).symlink_to(found)
    machine = Machine(folder)
    machine.let_pip_say("", status=0)
    return machine
