"""`tuwen doctor` before vendors that are well, and before such as are down, off in time, strangers or silent."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.fakes.http import Reply
from tests.fakes.upstream import Upstream
from tests.support.gateway import free_port
from tests.vendors.conftest import Shown
from tests.vendors.doctored import SPARK_SECRET, VENDORS, WRONG, Answering, Vendor, telling_its_time

CLAIM = "doctor tells what is wrong"
CERTIFICATE = Path(__file__).parents[1] / "media" / "self_signed.pem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor said of one backend."""

    exit_code: int
    seen: tuple[Mapping[str, Any], ...]

    def of(self, check: str) -> list[tuple[bool | None, str, str]]:
        return [(item["ok"], item["english"], item["chinese"]) for item in self.seen if item["check"] == check]

    def only(self, check: str) -> tuple[bool | None, str, str]:
        (found,) = self.of(check)
        return found

    @property
    def wrong(self) -> list[str]:
        """The checks that failed."""
        return [item["check"] for item in self.seen if item["ok"] is False]


Examine = Callable[..., Diagnosis]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Types `tuwen doctor NAME --json`, and sees to what holds for whatever it says.

    Args:
        url: the server's, where the section has `{url}`.
        changes: keys of the section, or `model`.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUWEN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TUWEN_PUBLIC_URL", "https://pictures.example")
    monkeypatch.setenv("TUWEN_PORT", str(free_port()))
    monkeypatch.setenv("TUWEN_CONNECT_S", "2")

    def examined(vendor: Vendor, url: str, *words: str, **changes: Any) -> Diagnosis:
        model = changes.pop("model", vendor.model)
        text_model = changes.pop("text_model", None)
        options = {**vendor.section, **changes}
        spoken = {"{url}": url, "{ws_url}": "ws" + url.removeprefix("http")}
        lines = [f"{name} = {json.dumps(_filled(value, spoken))}" for name, value in options.items()]
        route = f'[models.m]\nroutes = [{{ backend = "x", model = "{model}" }}]'
        lines += [route, *([f'text_model = "{text_model}"'] if text_model else [])]
        Path("models.local.toml").write_text("\n".join(["[backends.x]", *lines]))
        result = CliRunner().invoke(app, ["doctor", "x", "--json", *words])
        for secret in (*WRONG, *WRONG.values()):
            assert secret not in result.output
        (found,) = json.loads(result.stdout)
        assert found["sound"] is (result.exit_code == 0)
        for item in found["observations"]:
            assert re.search("[\u4e00-\u9fff]", item["chinese"]), item
            assert not re.search("[\u4e00-\u9fff]", item["english"]), item
        return Diagnosis(result.exit_code, tuple(found["observations"]))

    return examined


def _filled(value: Any, spoken: Mapping[str, str]) -> Any:
    for place, text in spoken.items():
        value = value.replace(place, text) if isinstance(value, str) else value
    return value


@contextmanager
def serving(answering: Answering, *, tls: bool = False) -> Iterator[Upstream]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    with Upstream(tls=context).in_thread() as up:
        up.otherwise(answering)
        yield up


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


def asked(up: Upstream) -> list[str]:
    """What was asked of a server that a vendor may charge for."""
    return [f"{request.method} {request.path}" for request in up.requests if request.method != "HEAD"]


def test_vendor_that_is_well_is_found_well(vendor: Vendor, examine: Examine, shown: Shown) -> None:
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url)
        assert asked(up)
    assert (found.exit_code, found.wrong) == (0, [])
    assert found.only("name")[0] is True
    assert "without TLS" in found.only("connection")[1]
    assert "agrees" in found.only("clock")[1]
    ok, english, chinese = found.only("probe")
    assert ok is True
    assert "answered a question" in english
    assert "已正常回答" in chinese
    shown(CLAIM, states=1)


def test_without_a_probe_nothing_is_asked_that_could_cost(vendor: Vendor, examine: Examine, shown: Shown) -> None:
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, "--no-probe")
        assert asked(up) == []
    assert (found.exit_code, found.of("probe")) == (0, [])
    assert "agrees" in found.only("clock")[1]
    assert not Path("data").exists(), "no question, no ledger"
    shown(CLAIM, states=1)


def test_vendor_that_is_down_is_told_apart_from_one_that_refuses(
    vendor: Vendor, examine: Examine, shown: Shown
) -> None:
    port = free_port()
    found = examine(vendor, f"http://127.0.0.1:{port}")
    assert (found.exit_code, found.wrong) == (1, ["connection"])
    _, english, chinese = found.only("connection")
    assert english.startswith(f"127.0.0.1:{port} cannot be reached, the connection is refused: check base_url")
    assert "连接被拒绝" in chinese
    ok, english, chinese = found.only("probe")
    assert (ok, english) == (None, "not asked, for it cannot be reached")
    assert chinese == "无法连接，未提问"
    assert found.of("clock") == []
    shown(CLAIM, states=1)


@pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "behind"])
def test_clock_that_is_off_is_told_with_how_far_and_what_to_do(
    vendor: Vendor, examine: Examine, shown: Shown, sign: int
) -> None:
    ahead_s = (vendor.skewed_s or 600) * sign
    with serving(telling_its_time(vendor.server, ahead_s)) as up:
        found = examine(vendor, up.url)
    assert found.exit_code == 1
    ok, english, chinese = found.only("clock")
    assert ok is False
    told = re.search(r"clock is (\d+) s (ahead of|behind) the server's", english)
    assert told is not None, english
    assert abs(int(told[1]) - abs(ahead_s)) <= 2
    assert told[2] == ("behind" if ahead_s > 0 else "ahead of")
    assert ("慢" if ahead_s > 0 else "快") in chinese
    assert "timedatectl set-ntp true" in english
    assert "timedatectl set-ntp true" in chinese
    shown(CLAIM, states=1)


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.skewed_s])
def test_refusal_for_the_clock_is_told_as_one(name: str, examine: Examine, shown: Shown) -> None:
    vendor = VENDORS[name]
    with serving(telling_its_time(vendor.server, vendor.skewed_s or 0)) as up:
        found = examine(vendor, up.url)
    assert found.wrong == ["clock", "probe"]
    _, english, chinese = found.only("probe")
    assert vendor.skewed[0] in english
    assert vendor.skewed[1] in chinese
    shown(CLAIM, states=1)


def test_wrong_secret_is_what_the_probe_says(vendor: Vendor, examine: Examine, shown: Shown) -> None:
    wrong = {option: WRONG[value] for option, value in vendor.section.items() if value in WRONG}
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, **wrong)
    assert (found.exit_code, found.wrong) == (1, ["probe"])
    _, english, chinese = found.only("probe")
    assert vendor.unauthorised[0] in english
    assert vendor.unauthorised[1] in chinese
    shown(CLAIM, states=1)


@pytest.mark.parametrize(
    ("option", "value", "look_at"),
    [("api_key", "f" * 32, "check api_key"), ("api_secret", WRONG[SPARK_SECRET], "check api_secret")],
)
def test_operator_is_told_which_credential_is_wrong(
    examine: Examine, shown: Shown, option: str, value: str, look_at: str
) -> None:
    vendor = VENDORS["spark"]
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, **{option: value})
    _, english, chinese = found.only("probe")
    assert look_at in english
    assert look_at in chinese
    assert "[redacted]" not in english
    assert "tell the gateway's operator" not in english
    assert "请告知网关管理员" not in chinese
    shown(CLAIM, states=1)


def test_credentials_of_a_wrong_shape_are_seen_before_anybody_is_asked(examine: Examine, shown: Shown) -> None:
    for vendor in VENDORS.values():
        if vendor.misshapen:
            with serving(telling_its_time(vendor.server)) as up:
                found = examine(vendor, up.url, "--no-probe", **vendor.misshapen)
                assert asked(up) == []
            (shape,) = [english for ok, english, _ in found.of("credentials") if ok is False]
            assert (found.exit_code, found.wrong) == (1, ["credentials"])
            assert next(iter(vendor.misshapen)) in shape
            shown(CLAIM, states=1)


def test_model_or_version_that_is_not_there_is_told(vendor: Vendor, examine: Examine, shown: Shown) -> None:
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, **vendor.unknown)
    assert found.exit_code == 1
    assert "probe" in found.wrong
    assert set(found.wrong) <= {"model", "probe"}
    assert "vendor's code" in found.only("probe")[1]
    shown(CLAIM, states=1)


def test_unknown_version_of_spark_is_told_with_those_there_are(examine: Examine, shown: Shown) -> None:
    vendor = VENDORS["spark"]
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, model="imagev9")
    assert found.wrong == ["model", "probe"]
    assert "imagev3" in found.only("model")[1]
    assert "10404" in found.only("probe")[1]
    shown(CLAIM, states=1)


def test_name_that_leads_nowhere_is_told(
    vendor: Vendor, examine: Examine, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")  # where a resolver does not answer, it is not waited for
    found = examine(vendor, "http://nowhere.invalid:1")
    assert (found.exit_code, found.wrong) == (1, ["name"])
    _, english, chinese = found.only("name")
    assert "nowhere.invalid" in english
    assert "base_url" in english or "resolver" in english
    assert "无法解析 nowhere.invalid" in chinese or "未能解析 nowhere.invalid" in chinese
    assert (found.of("connection"), found.only("probe")[0]) == ([], None)
    shown(CLAIM, states=1)


def test_vendor_that_never_answers_is_not_waited_for(
    vendor: Vendor, examine: Examine, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    monkeypatch.setenv("TUWEN_CONNECT_S", "0.3")
    monkeypatch.setenv("TUWEN_FIRST_EVENT_S", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connections, and nobody reads
        found = examine(vendor, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert (found.exit_code, found.wrong) == (1, ["probe"])
    assert found.only("connection")[0] is True
    assert found.only("clock")[::2] == (None, "服务器未告知时间，无法比较时钟")
    _, english, chinese = found.only("probe")
    assert "did not answer in time" in english
    assert "未能及时回答" in chinese
    shown(CLAIM, states=1)


def test_certificate_that_does_not_hold_is_told_and_nothing_is_asked(
    vendor: Vendor, examine: Examine, shown: Shown
) -> None:
    with serving(telling_its_time(vendor.server), tls=True) as up:
        found = examine(vendor, up.url)
        assert up.requests == []
    assert (found.exit_code, found.wrong) == (1, ["connection"])
    _, english, chinese = found.only("connection")
    assert "certificate of 127.0.0.1" in english
    assert "self-signed certificate" in english.replace("self signed", "self-signed")
    assert "check this machine's clock" in english
    assert "证书无效" in chinese
    assert found.only("probe")[0] is None
    shown(CLAIM, states=1)


def test_proxy_that_fails_has_no_clock_to_go_by(vendor: Vendor, examine: Examine, shown: Shown) -> None:
    answered = telling_its_time(vendor.server)
    bad_gateway = Reply(502, {"date": "Mon, 06 May 2024 04:34:56 GMT"}, (), "length")
    with serving(lambda request: bad_gateway if request.method == "HEAD" else answered(request)) as up:
        found = examine(vendor, up.url)
    assert (found.exit_code, found.wrong) == (0, [])
    assert found.only("clock")[0] is None
    shown(CLAIM, states=1)


@pytest.mark.parametrize("name", ["ccai", "chatocr"])
def test_pictures_that_nobody_serves_are_told_of(
    name: str, examine: Examine, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    vendor = VENDORS[name]
    with serving(telling_its_time(vendor.server)) as up:
        alone = examine(vendor, up.url)
        monkeypatch.setenv("TUWEN_PORT", up.url.rpartition(":")[2])
        served = examine(vendor, up.url)
        monkeypatch.delenv("TUWEN_PUBLIC_URL")
        unpublished = examine(vendor, up.url)
    ok, english, chinese = alone.only("pictures")
    assert ok is None
    assert "fetched from https://pictures.example, and no gateway listens on this machine" in english
    assert "请先启动 tuwen serve" in chinese
    assert served.only("pictures")[0] is True
    assert (unpublished.wrong, unpublished.of("pictures")) == (["probe"], [])
    assert "TUWEN_PUBLIC_URL" in unpublished.only("probe")[1]
    assert "TUWEN_PUBLIC_URL" in unpublished.only("probe")[2]
    shown(CLAIM, states=3)


def test_text_models_that_are_down_do_not_hide_those_for_pictures(examine: Examine, shown: Shown) -> None:
    vendor = VENDORS["spark"]
    port = free_port()
    with serving(telling_its_time(vendor.server)) as up:
        found = examine(vendor, up.url, text_base_url=f"ws://127.0.0.1:{port}", text_model="4.0Ultra")
    assert found.wrong == ["connection"]
    assert [(ok, english.split()[0]) for ok, english, _ in found.of("probe")] == [(True, "imagev3"), (None, "not")]
    shown(CLAIM, states=1)
