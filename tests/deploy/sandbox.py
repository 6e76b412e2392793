"""Runs the steps of a Dockerfile without Docker: in a folder instead of an image, as a user without rights.

What differs from Docker, and why:

* Absolute paths of the Dockerfile are read as paths under the folder; both stages share it, and what the last stage
  does not copy is removed before the start.
* The base image is this machine's Python.
* `pip install --require-hashes` runs as written, but finds the packages already there, lent from the environment the
  tests run in (exactly those the lock pins), so that it needs no index: it still refuses a lock that is incomplete,
  unpinned or of other versions. Hashes are compared only by `TEST_DEPLOY_INSTALL=index`, which downloads everything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath

from tests.deploy.dockerfile import Ignore, Instruction, Stage

NOBODY = 65534
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_LOCK_INSTALL = re.compile(r"(\S+)/bin/pip install .*-r (\S+)")


@dataclass
class Sandbox:
    """Args: root: the folder that stands for the file system. context: the folder of the Dockerfile."""

    root: Path
    context: Path
    user: int | None
    python: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    kept: list[Path] = field(default_factory=list)
    read_only: list[Path] = field(default_factory=list)

    @classmethod
    def create(cls, root: Path, context: Path) -> Sandbox:
        user, python = _user_and_python()
        if user is not None:
            os.chown(root, user, user)
        sandbox = cls(root, context, user, python)
        bin_dir = root / "bin"
        sandbox._make(bin_dir)
        (bin_dir / "python").symlink_to(python)
        return sandbox

    def build(self, stage: Stage) -> None:
        self.env = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "HOME": str(self.root)}
        self.workdir = "/"
        for instruction in stage.instructions:
            self._step(instruction)

    def drop_what_was_not_copied(self) -> None:
        """Leaves of the build stage what the image copied from it; what root owns there can no longer be written."""
        keep = [self.root / "bin", self.root / "lent", *self.kept]
        for path in (*self.root.glob("*"), *self.root.glob("*/*")):
            if not any(path == kept or path in kept.parents or kept in path.parents for kept in keep):
                subprocess.run(["rm", "-rf", str(path)], check=True)
        for path in self.read_only:
            subprocess.run(["chmod", "-R", "a-w", str(path)], check=True)

    def popen(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Starts a command of the image, in its working folder, with its environment and no other."""
        program = shutil.which(command[0], path=self.env["PATH"])
        assert program is not None, f"{command[0]} is not on the image's PATH"
        return subprocess.Popen(
            [program, *command[1:]],
            env={**self.env, **env},
            cwd=self.path(self.workdir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
        )

    def path(self, inside: PurePosixPath | str) -> Path:
        return self.root / PurePosixPath(inside).relative_to("/")

    def thaw(self) -> None:
        """Lets the folder be removed."""
        subprocess.run(["chmod", "-R", "u+w", str(self.root)], check=True)

    def _step(self, instruction: Instruction) -> None:
        match instruction.name:
            case "ENV":
                pairs = {name: value.replace("$PATH", self.env["PATH"]) for name, value in instruction.pairs.items()}
                self.env |= {name: self._inside(value) for name, value in pairs.items()}
            case "WORKDIR":
                self.workdir = instruction.text
                self._make(self.path(self.workdir))
            case "COPY" if "from" in instruction.flags:
                source, target = instruction.words
                assert source == target, "the folder that stands for both stages knows one path for both"
                assert self.path(source).is_dir()
                self.kept.append(self.path(source))
                if "chown" not in instruction.flags:
                    self.read_only.append(self.path(source))
            case "COPY":
                self._copy(*instruction.words)
            case "RUN":
                self._run(instruction.text)

    def _copy(self, *words: str) -> None:
        *sources, target = words
        ignore = Ignore.read(self.context / ".dockerignore")
        folder = self.path(PurePosixPath(self.workdir, target))
        for source in sources:
            found = self.context / source
            files = [found] if found.is_file() else [file for file in found.rglob("*") if file.is_file()]
            kept = [file for file in files if ignore.keeps(PurePosixPath(file.relative_to(self.context)))]
            assert kept, f".dockerignore keeps nothing of {source}"
            for file in kept:
                copy = folder / (file.name if found.is_file() else file.relative_to(found))
                self._make(copy.parent)
                shutil.copy(file, copy)
                self._own(copy)

    def _run(self, text: str) -> None:
        if (install := _LOCK_INSTALL.search(text)) and os.environ.get("TEST_DEPLOY_INSTALL") != "index":
            self._lend(self.path(install[1]), self.context / install[2])
        self.env["PIP_NO_INDEX"] = "" if os.environ.get("TEST_DEPLOY_INSTALL") == "index" else "1"
        step = self.popen(["sh", "-euc", self._inside(text)], {})
        output, _ = step.communicate()
        assert step.returncode == 0, f"RUN {text}\n{output}"

    def _lend(self, venv: Path, lock: Path) -> None:
        """Shows a virtual environment the installed packages a lock pins, and no others."""
        shelf = self.root / "lent" / venv.name
        self._make(shelf)
        for name in _LOCKED.findall(lock.read_text(encoding="utf-8")):
            package = distribution(name)
            tops = {file.parts[0] for file in package.files or () if file.parts[0] != ".."} - {"__pycache__"}
            for top in tops:
                if not (shelf / top).exists():
                    (shelf / top).symlink_to(Path(str(package.locate_file(top))))
        (site,) = venv.glob("lib/python3.*/site-packages")
        (site / "lent.pth").write_text(f"{shelf}\n", encoding="utf-8")

    def _inside(self, text: str) -> str:
        """Absolute paths of the image as paths under the folder."""
        return re.sub(r"(?<![\w./])/(opt|src|data)\b", rf"{self.root}/\1", text)

    def _make(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._own(path)

    def _own(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user, self.user)


def _user_and_python() -> tuple[int | None, Path]:
    """Who runs the steps, with which Python: nobody, if we are root and nobody may run a Python like ours.

    Where Python or the packages lie in root's own home, out of nobody's reach, we stay who we are.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = Path(sys._base_executable)  # type: ignore[attr-defined]  # the interpreter behind our virtual environment
    if os.geteuid() != 0:
        return None, ours
    packages = Path(str(distribution("uvicorn").locate_file("")))
    for python in (ours, Path("/usr/local/bin", version), Path("/usr/bin", version)):
        try:
            tried = subprocess.run(
                [python, "-c", "import venv, ensurepip, uvicorn"],
                env={"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                capture_output=True,
                check=False,
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
            )
        except OSError:
            continue
        if tried.returncode == 0:
            return NOBODY, python
    return None, ours
