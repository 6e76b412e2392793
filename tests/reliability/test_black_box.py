"""Black-box checks that know nothing of this gateway, run against it in the profile that they assume. `make reliability
CHECKS=folder` says where they lie; their README says what each insists on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.reliability.conftest import Shown
from tests.support.fleet import fleet
from tests.support.gateway import wait_for_port
from tests.support.services import mortal

_PORT, _WEB_PORT, _DNS_PORT = 9900, 9802, 9853
_UPSTREAM_KEY = "sk-upstream-canary-5e1f"
_RUN_S = 400
_PROFILE = {
    "TUWEN_CONNECT_S": "2",
    "TUWEN_FIRST_EVENT_S": "5",
    "TUWEN_IDLE_S": "5",
    "TUWEN_HEARTBEAT_S": "15",
    "TUWEN_DEADLINE_S": "20",
    "TUWEN_ATTEMPTS": "2",
    "TUWEN_FETCH_ALLOW": f"127.0.0.2/32:{_WEB_PORT}",
    "TUWEN_FETCH_RESOLVER": f"127.0.0.1:{_DNS_PORT}",
    "TUWEN_PUBLIC_URL": "https://pictures.example",  # for the backends that take addresses; nobody fetches there
}
_SECTIONS = {
    "openai": 'kind = "openai"\napi_key = "{key}"\nbase_url = "{url}"',
    "ccai": 'kind = "ccai"\naccess_key_id = "LTAI{key}"\naccess_key_secret = "{key}"\nworkspace_id = "llm-x"\n'
    'app_id = "00000000000000000000000000000000"\nbase_url = "{url}"',
    "spark-ws": 'kind = "spark"\napp_id = "12345678"\napi_key = "{key}"\napi_secret = "{key}"\nbase_url = "{url}"',
}
_REMOTE_MODELS = {"spark-ws": "imagev3"}


@dataclass(frozen=True, slots=True)
class Bench:
    """A gateway between the checks and their upstream.

    Args:
        checks: the folder of the runners.
        pictures: where the upstream keeps the pictures it gets.
    """

    checks: Path
    url: str
    key: str
    pictures: Path

    def run(self, name: str, *words: str) -> str:
        """Runs a checker; what it says last. Fails with all it says."""
        at = ["--base-url", self.url, "--api-key", self.key]
        done = _python(self.checks / "common" / name, *at, *words)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        return done.stdout

    def cases(self, name: str) -> tuple[str, str]:
        return "--cases", str(self.checks / "public" / name)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = os.environ.get("CHECKS")
    if not folder:
        pytest.skip(
            "CHECKS names no folder of black-box checks; the suite's own cases of the same classes stand for them"
        )
    checks = Path(folder).resolve()
    program = checks / "common" / "fake_upstream.py"
    assert program.is_file(), f"CHECKS={folder}: there is no common/fake_upstream.py"
    pictures = tmp_path_factory.mktemp("pictures")
    home = tmp_path_factory.mktemp("gateway")
    with (
        _running(program, "--tls", "--save-images", str(pictures)),
        fleet(home, _catalogue(program), environment=_PROFILE) as gateways,
    ):
        yield Bench(checks, gateways.urls[0], gateways.new_key("checker").key, pictures)


def _catalogue(program: Path) -> str:
    """A backend and a model per row that the upstream lists."""
    listed = _python(program, "--port", str(_PORT), "--list-models").stdout
    sections = []
    for row in map(json.loads, listed.splitlines()):
        name, protocol = row["model"], row["protocol"]
        section = _SECTIONS[protocol].format(key=_UPSTREAM_KEY, url=row["base_url"])
        route = json.dumps(_REMOTE_MODELS.get(protocol, name))
        sections.append(f'[backends."{name}"]\n{section}\n')
        sections.append(f'[models."{name}"]\nroutes = [{{ backend = "{name}", model = {route} }}]\n')
    return "\n".join(sections)


def _python(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(program), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)


@contextmanager
def _running(program: Path, *words: str) -> Iterator[None]:
    command = [sys.executable, str(program), "--port", str(_PORT), *words]
    with subprocess.Popen(mortal(command), stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_port(_PORT)
            yield
        finally:
            process.terminate()


def _passed(said: str) -> int:
    """How many cases passed, of as many; the runner has ended well."""
    found = re.findall(r"(\d+)/(\d+)", said)
    assert found, said[-2_000:]
    passed, of = map(int, found[-1])
    assert passed == of > 0, said[-2_000:]
    return passed


def test_malformed_requests(bench: Bench, shown: Shown) -> None:
    said = bench.run(
        "run_bad_requests.py", *bench.cases("bad_requests.jsonl"), "--upstream", f"http://127.0.0.1:{_PORT}"
    )
    shown("malformed requests, by the black-box runner", passed=_passed(said))


def test_pictures(bench: Bench, shown: Shown, tmp_path: Path) -> None:
    made = _python(bench.checks / "public" / "gen_bad_images.py", str(tmp_path))
    assert made.returncode == 0, made.stderr
    said = bench.run("run_images.py", "--images", str(tmp_path), "--saved", str(bench.pictures))
    shown("pictures, by the black-box runner", passed=_passed(said))


def test_addresses_of_pictures(bench: Bench, shown: Shown) -> None:
    shown(
        "addresses (SSRF), by the black-box runner",
        passed=_passed(bench.run("run_ssrf.py", *bench.cases("ssrf_cases.json"))),
    )


def test_faults_of_backends(bench: Bench, shown: Shown) -> None:
    said = bench.run("run_faults.py", *bench.cases("fault_cases.json"), "--upstream-key", _UPSTREAM_KEY, "--jobs", "8")
    shown("faults of backends and 40 requests after them, by the black-box runner", passed=_passed(said))


def test_callers_who_leave(bench: Bench, shown: Shown) -> None:
    said = bench.run("run_disconnect.py", "--n", "50", "--limit-ms", "500")
    shown("callers who leave, by the black-box runner", passed=_passed(said))
