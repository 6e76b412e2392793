"""`tuwen ask` in the place of iFlytek's own script: the same flags, the same variables, the same frames."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.commands.ask.lab import Lab
from tests.fakes import spark
from tests.fakes.http import Received
from tests.fakes.spark import SparkAccount
from tests.fakes.upstream import Upstream
from tests.fakes.websocket import WsStep
from tests.support.gateway import free_port
from tests.vendors.conftest import Shown
from tests.vendors.photos import judge_photo, noisy_photo

CLAIM = "tuwen ask in the place of iFlytek's script"
CREDENTIALS = {"IFLY_APP_ID": "a1b2c3d4", "IFLY_API_KEY": "the-api-key", "IFLY_API_SECRET": "the-api-secret"}
ACCOUNT = SparkAccount(*CREDENTIALS.values())
FRAMES = spark.stream("图里有", None, "一只猫", "。")
RAW = "".join(f"{frame!s}\n" for frame in FRAMES)
TEXT = "图里有一只猫。"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Upstream) -> Lab:
    """A folder with photo.jpg, the vendor's three variables, and Spark's address led to a server of ours."""
    for name in list(os.environ):
        if name.startswith(("TUWEN_", "IFLY_")) or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "models.toml"
    models.write_text(
        f'[backends.spark]\nbase_url = "{service.ws_url}/v2.1/image"\ntext_base_url = "{service.ws_url}"\n'
    )
    Image.new("RGB", (320, 240), "teal").save(tmp_path / "photo.jpg")
    return Lab(tmp_path, {"TUWEN_PORT": str(free_port()), "TUWEN_MODELS_FILE": str(models), **CREDENTIALS})


@pytest.fixture
def service() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        answers(upstream, FRAMES)
        yield upstream


def answers(service: Upstream, frames: list[WsStep]) -> None:
    service.otherwise(ACCOUNT.serving(frames))


def parameters_of(request: Received) -> dict[str, Any]:
    parameters: dict[str, Any] = request.json["parameter"]["chat"]
    return parameters


def question_in(request: Received) -> str:
    question: str = request.json["payload"]["message"]["text"][-1]["content"]
    return question


def test_the_scripts_command_line_prints_its_frames_and_nothing_else(lab: Lab, service: Upstream, shown: Shown) -> None:
    options = ("-d", "general", "-t", "0.5", "--max-tokens", "2048", "--raw")
    ended = lab.run("ask", "photo.jpg", "-q", "图片里有什么动物?", *options)
    assert ended.code == 0, ended.err
    assert ended.out == RAW
    assert all(json.loads(line)["header"]["code"] == 0 for line in ended.out.splitlines())
    [request] = service.requests
    assert question_in(request) == "图片里有什么动物?"
    sent = parameters_of(request)
    assert (sent["domain"], sent["temperature"], sent["max_tokens"]) == ("general", 0.5, 2048)
    assert f"WS {service.ws_url}/v2.1/image" in ended.err
    assert not any(secret in ended.out + ended.err for secret in ("the-api-key", "the-api-secret", "authorization="))
    shown(CLAIM, cases=1)


def test_without_raw_it_prints_the_answer(lab: Lab, service: Upstream, shown: Shown) -> None:
    ended = lab.run("ask", "photo.jpg", "--question", "有猫吗？", "--domain", "imagev3", "--temperature", "1")
    assert (ended.code, ended.out) == (0, f"{TEXT}\n")
    [request] = service.requests
    assert (parameters_of(request)["domain"], parameters_of(request)["temperature"]) == ("imagev3", 1)
    assert question_in(request) == "有猫吗？"
    assert "282 tokens in, 14 out" in ended.err
    shown(CLAIM, cases=1)


def test_without_flags_the_defaults_are_the_scripts(lab: Lab, service: Upstream, shown: Shown) -> None:
    assert lab.ask("photo.jpg", "-d", "imagev3").out == f"{TEXT}\n"
    assert lab.ask("photo.jpg", "-m", "spark-vision").out == f"{TEXT}\n"
    for request in service.requests:
        sent = parameters_of(request)
        assert (sent["domain"], sent["temperature"], sent["max_tokens"]) == ("imagev3", 0.5, 2048)
        assert question_in(request) == "图里有什么？"
        texts = request.json["payload"]["message"]["text"]
        assert [text["content_type"] for text in texts] == ["image", "text"]
        with Image.open(io.BytesIO(spark.picture_of(request))) as image:
            assert (image.format, image.size) == ("JPEG", (320, 240))
    shown(CLAIM, cases=2)


def test_help_shows_every_flag_of_the_script(lab: Lab, shown: Shown) -> None:
    words = lab.ask("--help").out.replace(",", " ").split()
    flags = {"-q", "--question", "-d", "--domain", "-t", "--temperature", "--max-tokens", "--raw"}
    assert flags <= set(words)
    shown(CLAIM, cases=len(flags))


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("raw", [(), ("--raw",)], ids=["text", "raw"])
def test_a_missing_variable_is_named_in_one_line(
    lab: Lab, service: Upstream, shown: Shown, name: str, raw: tuple[str]
) -> None:
    del lab.environment[name]
    ended = lab.ask("photo.jpg", "-d", "imagev3", *raw)
    assert (ended.code, ended.out) == (2, "")
    assert len(ended.err.splitlines()) == 1
    assert name in ended.err
    assert not service.requests
    shown(CLAIM, cases=1)


def test_a_mistyped_domain_is_told_with_the_one_meant(lab: Lab, shown: Shown) -> None:
    ended = lab.ask("photo.jpg", "-d", "imagev33")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "No model has a domain imagev33; did you mean imagev3? 'tuwen check' lists them all.\n"
    shown(CLAIM, cases=1)


def test_files_that_are_no_pictures_are_told_in_one_line(lab: Lab, service: Upstream, shown: Shown) -> None:
    (lab.folder / "notes.txt").write_text("no picture at all\n" * 10)
    (lab.folder / "broken.jpg").write_bytes((lab.folder / "photo.jpg").read_bytes()[:200])
    (lab.folder / "empty.png").write_bytes(b"")
    for name in ("missing.jpg", "notes.txt", "broken.jpg", "empty.png"):
        ended = lab.ask(name, "-d", "imagev3", "--raw")
        assert ended.code in {1, 2}, name
        assert ended.out == ""
        told = [line for line in ended.err.splitlines() if not line.startswith("Asking in this process")]
        assert len(told) == 1, told
        assert name in told[0]
    assert not service.requests
    shown(CLAIM, cases=4)


def test_a_photo_beyond_four_megabytes_is_fitted_where_the_script_refuses(
    lab: Lab, service: Upstream, shown: Shown
) -> None:
    (lab.folder / "large.jpg").write_bytes(noisy_photo())
    ended = lab.ask("large.jpg", "-d", "imagev3", "--raw")
    assert (ended.code, ended.out) == (0, RAW)
    judge_photo(spark.picture_of(service.requests[0]), max_bytes=4 * 1024 * 1024, max_side_px=12_800)
    shown(CLAIM, cases=1)


@pytest.mark.parametrize(
    ("asked", "sent", "notice"),
    [
        (("-t", "0"), {"temperature": 0.01}, "Notice: temperature sent as 0.01"),
        (("-t", "1.5"), {"temperature": 1}, "Notice: temperature sent as 1"),
        (("--max-tokens", "1"), {"max_tokens": 1}, ""),
        (("--max-tokens", "9999"), {}, ""),
    ],
)
def test_values_out_of_the_scripts_range_are_brought_into_it(
    lab: Lab, service: Upstream, *, asked: tuple[str, ...], sent: dict[str, Any], notice: str, shown: Shown
) -> None:
    ended = lab.ask("photo.jpg", "-d", "imagev3", *asked)
    assert (ended.code, ended.out) == (0, f"{TEXT}\n")
    assert notice in ended.err
    parameters = parameters_of(service.requests[0])
    assert parameters.items() >= sent.items()
    assert parameters["max_tokens"] <= 8192
    shown(CLAIM, cases=1)


def test_what_spark_refuses_is_shown_raw_and_told_in_one_line(lab: Lab, service: Upstream, shown: Shown) -> None:
    refusal = spark.error(10013)
    answers(service, refusal)
    ended = lab.ask("photo.jpg", "-d", "imagev3", "--raw")
    assert (ended.code, ended.out) == (1, f"{refusal[0]!s}\n")
    assert "content check" in ended.err.splitlines()[-1]
    plain = lab.ask("photo.jpg", "-d", "imagev3")
    assert (plain.code, plain.out) == (1, "")
    lab.environment["IFLY_API_SECRET"] = "another"
    ended = lab.ask("photo.jpg", "-d", "imagev3", "--raw")
    assert ended.code != 0
    assert ended.out == 'HTTP 401 {"message": "HMAC signature does not match"}\n'
    assert "APISecret" in ended.err.splitlines()[-1]
    assert "another" not in ended.out + ended.err
    shown(CLAIM, cases=3)


def test_words_before_a_fault_are_printed_and_the_command_fails(lab: Lab, service: Upstream, shown: Shown) -> None:
    answers(service, [*spark.stream("图里有", finish=False), *spark.error(10012)])
    ended = lab.ask("photo.jpg", "-d", "imagev3")
    assert (ended.code, ended.out) == (1, "图里有\n")
    answers(service, [*spark.stream("图里有", finish=False), *spark.error(10014)])
    cut = lab.ask("photo.jpg", "-d", "imagev3")
    assert (cut.code, cut.out) == (0, "图里有\n")
    assert "content check" in cut.err
    shown(CLAIM, cases=2)
