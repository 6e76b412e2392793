from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

from app.commands.draining_server import ENDING_S
from app.config.settings import Settings, variable

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "tuwen.service"


def sections() -> dict[str, dict[str, list[str]]]:
    """Section → key → its values, in order; systemd lets a key stand several times."""
    read: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = read.setdefault(line.strip("[]"), defaultdict(list))
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, f"neither a section, a key nor a comment: {line}"
            section[key].append(value)
    return read


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Asked of systemd where it is installed; else the sections and the keys that must be there are looked at."""
    assert sections().keys() == {"Unit", "Service", "Install"}
    assert sections()["Install"]["WantedBy"] == ["multi-user.target"]
    if shutil.which("systemd-analyze") is None:
        return
    copy = tmp_path / "tuwen.service"  # systemd wants the program to exist, and nothing is installed here
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/tuwen/bin/tuwen", "/bin/true"), encoding="utf-8")
    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert verdict.returncode == 0, verdict.stderr
    assert "tuwen" not in verdict.stderr, verdict.stderr  # it may have to say something about other units


def test_it_starts_reloads_and_stops_the_gateway() -> None:
    service = sections()["Service"]
    assert service["ExecStart"] == ["/opt/tuwen/bin/tuwen serve"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["Restart"] == ["on-failure"]
    assert service["KillMode"] == ["mixed"]


def test_running_answers_may_end_before_systemd_kills() -> None:
    (limit,) = sections()["Service"]["TimeoutStopSec"]
    assert int(limit) > Settings.model_fields["drain_s"].default + 2 * ENDING_S


def test_it_writes_nowhere_but_its_state_folder() -> None:
    service = sections()["Service"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["DynamicUser"] == ["yes"]
    state = f"/var/lib/{service['StateDirectory'][0]}"
    assert service["WorkingDirectory"] == [state]
    assert f"TUWEN_DATA_DIR={state}" in service["Environment"][0].split()


def test_it_has_no_rights_it_does_not_need() -> None:
    service = sections()["Service"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    for key in ("NoNewPrivileges", "PrivateDevices", "PrivateTmp", "ProtectHome", "ProtectKernelTunables"):
        assert service[key] == ["yes"], key
    assert "@system-service" in service["SystemCallFilter"]


def test_it_names_settings_that_exist() -> None:
    words = " ".join(sections()["Service"]["Environment"]).split()
    named = {word.split("=")[0] for word in words if word.startswith("TUWEN_")}
    assert named <= {variable(name) for name in Settings.model_fields}
