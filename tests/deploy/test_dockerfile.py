"""The image's steps, run without Docker; see `sandbox` for what that can and cannot show. The image was not built."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.deploy.dockerfile import Ignore, Stage, parse
from tests.deploy.sandbox import Sandbox
from tests.support.gateway import free_port

ROOT = Path(__file__).resolve().parents[2]
STAGES = parse((ROOT / "Dockerfile").read_text(encoding="utf-8"))
BUILD, IMAGE = STAGES
IGNORE = Ignore.read(ROOT / ".dockerignore")


@pytest.fixture(scope="module")
def built() -> Iterator[Sandbox]:
    """The image as a folder. Takes ten seconds: two virtual environments are made and a wheel is built."""
    with tempfile.TemporaryDirectory(prefix="tuwen-image-") as folder:
        sandbox = Sandbox.create(Path(folder), ROOT)
        try:
            sandbox.build(BUILD)
            sandbox.build(IMAGE)
            sandbox.drop_what_was_not_copied()
            yield sandbox
        finally:
            sandbox.thaw()


def test_the_image_starts_reads_a_picture_and_ends_when_told(built: Sandbox) -> None:
    """Nothing but what the lock pins is there to read it with, and nothing but /data can be written."""
    port = free_port()
    env = {"TUWEN_HOST": "127.0.0.1", "TUWEN_PORT": str(port)}
    gateway = built.popen(IMAGE.last("ENTRYPOINT").command + IMAGE.last("CMD").command, env)
    try:
        key = shown_key(gateway)
        wait_until_healthy(built, gateway, env)
        assert ask(port, "GET", "/healthz") == {"status": "ok"}
        receipt = base64.b64encode((ROOT / "samples/pictures/receipt.jpg").read_bytes()).decode()
        part = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{receipt}"}}
        question = {"model": "local-ocr-vision", "messages": [{"role": "user", "content": [part]}]}
        first_line = (ROOT / "samples/pictures/receipt.txt").read_text(encoding="utf-8").splitlines()[0]
        assert (
            first_line in ask(port, "POST", "/v1/chat/completions", question, key)["choices"][0]["message"]["content"]
        )
    finally:
        gateway.send_signal(signal.SIGTERM)
        output, _ = gateway.communicate(timeout=20)
    assert gateway.returncode in {0, -signal.SIGTERM}, output
    assert "Traceback" not in output
    assert any(built.path("/data").iterdir()), "the ledger is kept on the volume"


def shown_key(gateway: subprocess.Popen[str]) -> str:
    """The admin key, which the first start shows."""
    lines = []
    for line in gateway.stdout or ():
        lines.append(line)
        if found := re.search(r"sk-tw-[\w-]+", line):
            return found[0]
    raise AssertionError("it ended without showing a key:\n" + "".join(lines))


def ask(port: int, method: str, path: str, question: object = None, key: str = "") -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps(question) if question else None
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def wait_until_healthy(built: Sandbox, gateway: subprocess.Popen[str], env: dict[str, str]) -> None:
    """By the image's own health check, as an engine would."""
    deadline = time.monotonic() + 30
    while True:
        check = built.popen(IMAGE.last("HEALTHCHECK").command, env)
        said, _ = check.communicate(timeout=10)
        if check.returncode == 0:
            return
        assert gateway.poll() is None, gateway.communicate()[0]
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def test_the_health_check_fails_where_nothing_answers(built: Sandbox) -> None:
    check = built.popen(IMAGE.last("HEALTHCHECK").command, {"TUWEN_PORT": str(free_port())})
    check.communicate(timeout=10)
    assert check.returncode == 1


def test_the_image_holds_the_gateway_and_not_what_built_it(built: Sandbox) -> None:
    assert built.path("/opt/tuwen/bin/tuwen").exists()
    assert not built.path("/opt/build").exists()
    assert not built.path("/src").exists()
    (package,) = built.path("/opt/tuwen").glob("lib/python3.*/site-packages/app")
    assert (package / "config" / "models.toml").is_file()


def test_nobody_can_change_the_gateway_from_inside(built: Sandbox) -> None:
    writable = [path for path in built.path("/opt").rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o222]
    assert writable == []


def test_it_runs_as_a_numbered_user_who_owns_the_data() -> None:
    user = IMAGE.last("USER").text
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "engines check runAsNonRoot by number"
    data = IMAGE.last("VOLUME").text
    owners = {step.words[-1]: step.flags.get("chown") for step in IMAGE.instructions if step.name == "COPY"}
    assert owners[data] == user
    assert all(owner is None for path, owner in owners.items() if path != data)
    assert IMAGE.last("ENV").pairs["TUWEN_DATA_DIR"] == data


def test_both_stages_have_the_same_small_base() -> None:
    assert {stage.base for stage in STAGES} == {"python:3.11-slim"}
    assert not IMAGE.has("RUN"), "the last stage only copies"


def test_every_download_is_checked_against_a_hash() -> None:
    installs = [step.text for step in BUILD.instructions if step.name == "RUN" and "pip install" in step.text]
    assert len(installs) == 3
    assert all("--require-hashes" in step or "--no-deps dist/" in step for step in installs)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_every_pinned_package_has_its_hashes(lock: str) -> None:
    text = re.sub(r"(?m)^ *#.*$", "", (ROOT / lock).read_text(encoding="utf-8"))
    pins = [pin for pin in re.split(r"(?m)^(?=\S)", text) if pin.strip()]
    assert all(re.match(r"[a-z0-9.-]+==\S+.*\s--hash=sha256:[0-9a-f]{64}", pin, re.DOTALL) for pin in pins)


def test_the_port_told_is_the_port_served() -> None:
    assert IMAGE.last("EXPOSE").text == IMAGE.last("ENV").pairs["TUWEN_PORT"]


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", ".venv/bin/python", "data/tuwen.db", "app/__pycache__/x.pyc", "app/a/b.pyc", "tests/x.py"],
)
def test_secrets_data_and_caches_stay_out_of_the_build(path: str) -> None:
    assert not IGNORE.keeps(PurePosixPath(path))


@pytest.mark.parametrize("path", ["app/main.py", "app/core/types.py", "models.toml", "requirements.lock", "README.md"])
def test_what_the_build_needs_is_sent_to_it(path: str) -> None:
    assert IGNORE.keeps(PurePosixPath(path))


def test_an_unknown_instruction_is_noticed() -> None:
    with pytest.raises(ValueError, match="ADD"):
        parse("FROM x\nADD http://example.com /")


def test_continued_lines_and_comments_are_read() -> None:
    (stage,) = parse("# c\nFROM x AS y\nENV A=1 \\\n# c\n    B='2 3'\n")
    assert isinstance(stage, Stage)
    assert stage.name == "y"
    assert stage.last("ENV").pairs == {"A": "1", "B": "2 3"}
