"""What the papers say is so: settings, paths, commands, targets and ids that they name exist."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from app.cli import app as command_line
from app.config.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]
PAPERS = (
    "README.md",
    "README.zh-CN.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/money.md",
    "docs/faults.md",
)
READMES = ("README.md", "README.zh-CN.md")
CLIENT_VARIABLES = {"TUWEN_API_KEY", "TUWEN_BASE_URL"}
"""Read by the client samples and `tuwen ask`; no settings of the gateway."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def typeable_commands() -> Iterator[str]:
    """What can be typed after `tuwen`, as `keys create`."""
    root = typer.main.get_command(command_line)
    for name, command in root.commands.items():  # type: ignore[attr-defined]  # the root is a group
        if command.hidden:  # no person types it
            continue
        below = getattr(command, "commands", {})
        yield from (f"{name} {inner}" for inner in below) if below else (name,)


def named_commands(paper: str) -> set[str]:
    known = sorted(typeable_commands(), key=len, reverse=True)
    code = "\n".join(re.findall(r"`([^`\n]+)`", text_of(paper)))
    named = re.findall(r"\btuwen ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", code)
    return {next((name for name in known if f"{words} ".startswith(f"{name} ")), words) for words in named}


def tree_paths() -> set[str]:
    """The paths of ARCHITECTURE.md's tree, folders with a slash at their end."""
    block = re.search(r"## The tree\n\n```\n(.*?)```", text_of("ARCHITECTURE.md"), re.DOTALL)
    assert block is not None
    paths: set[str] = set()
    folders: list[str] = []
    for line in block[1].splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name] if name.endswith("/") else []
        paths.add("".join(folders[:depth]) + name)
    return paths


def catalogue_ids() -> set[str]:
    models = tomllib.loads(text_of("models.toml"))["models"]
    return set(models) | {alias for model in models.values() for alias in model.get("aliases", ())}


def test_env_example_lists_every_secret_of_the_catalogue() -> None:
    secrets = set(re.findall(r'"env::([A-Z0-9_]+)"', text_of("models.toml"))) - {"NAME"}
    assert secrets
    for secret in secrets:
        assert re.search(rf"^#?{secret}=", text_of(".env.example"), re.MULTILINE), secret


@pytest.mark.parametrize("paper", PAPERS)
def test_every_setting_a_paper_names_exists(paper: str) -> None:
    settings = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z][A-Z0-9_]*", text_of(paper))) <= settings | CLIENT_VARIABLES


@pytest.mark.parametrize("paper", PAPERS)
def test_every_path_a_paper_names_exists(paper: str) -> None:
    text = text_of(paper)
    named = set(re.findall(r"(?<![\w/.-])((?:app|deploy|samples|tests|tools)/[\w./-]*\w)", text))
    beside = (ROOT / paper).parent
    links = {link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link}
    missing = {path for path in named if not (ROOT / path).exists()}
    missing |= {link for link in links if not (beside / link).exists()}
    assert not missing


def test_every_path_of_the_tree_exists() -> None:
    paths = tree_paths()
    assert "app/core/types.py" in paths
    missing = {path for path in paths if not (ROOT / path).exists()}
    assert not missing


def test_the_tree_names_every_module_of_the_app() -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "app").rglob("*.py") if path.stat().st_size > 0}
    unnamed = {module for module in modules - tree_paths() if not module.endswith("__init__.py")}
    assert not unnamed, "give these a line in ARCHITECTURE.md's tree"


def test_the_readmes_name_every_command_and_no_other() -> None:
    for paper in READMES:
        assert named_commands(paper) == set(typeable_commands()), paper


def test_both_readmes_hold_the_same_code_and_name_the_same_things() -> None:
    english, chinese = (text_of(name) for name in READMES)
    blocks = [
        re.sub(r"#.*", "", block)  # comments are translated
        for text in (english, chinese)
        for block in ["".join(re.findall(r"```.*?```", text, re.DOTALL))]
    ]
    assert blocks[0] == blocks[1]
    ids = catalogue_ids()
    words = [set(re.findall(r"`([^`\n]+)`", text)) for text in (english, chinese)]
    assert words[0] == words[1]
    assert words[0] & ids, "the papers name models"
    assert english.count("\n#") == chinese.count("\n#")


@pytest.mark.parametrize("paper", READMES)
def test_every_model_a_readme_asks_for_is_in_the_catalogue(paper: str) -> None:
    asked = set(re.findall(r'"model": "([^"]+)"|model="([^"]+)"|-m ([\w.-]+)', text_of(paper)))
    named = {name for names in asked for name in names if name}
    assert named
    assert named <= catalogue_ids()


@pytest.mark.parametrize("paper", [*PAPERS, ".ci/run"])
def test_every_make_target_a_paper_names_exists(paper: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", text_of(paper), re.MULTILINE))
    assert named <= targets


def test_no_file_names_a_machine_or_a_package_index() -> None:
    # put together here, so that this file does not hold them
    forbidden = ["/wo" + "rk/", "/op" + "t/pypi", "--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
    for path in tracked_files():
        content = path.read_bytes()
        found = [word for word in forbidden if word.encode() in content]
        assert not found, f"{path.relative_to(ROOT)}: {found}"
