"""`tuwen ask` where no gateway runs, and where one really does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.commands.ask.lab import ROOT, SAMPLES, Ended, Lab
from tests.fakes import openai
from tests.fakes.upstream import Upstream
from tests.support.gateway import running_gateway

VENDOR_KEY = "sk-vendor-secret"


@pytest.fixture
def vendor(lab: Lab) -> Iterator[Upstream]:
    """A backend with two models behind `fake-vision`."""
    with Upstream(api_key=VENDOR_KEY).in_thread() as upstream:
        (lab.folder / "models.local.toml").write_text(
            f"""
            [backends.fake]
            kind = "openai"
            base_url = "{upstream.url}/v1"
            api_key = "env::FAKE_API_KEY"
            [models."fake-vision"]
            routes = [{{ backend = "fake", model = "large" }}, {{ backend = "fake", model = "small" }}]
            tariff = {{ input_per_million = "4.00", output_per_million = "12.00" }}
            """
        )
        lab.environment["FAKE_API_KEY"] = VENDOR_KEY
        yield upstream


def booked(lab: Lab) -> list[dict[str, str]]:
    """The ledger, newest first."""
    rows: list[dict[str, str]] = json.loads(lab.run("usage", "--rows", "9", "--json").out)
    return rows


def assert_mistaken(ended: Ended, *words: str) -> None:
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended.err
    assert all(word in ended.err for word in words)


def test_receipt_is_read_without_gateway_or_account(lab: Lab) -> None:  # loads the OCR engine, which may take over 5 s
    ended = lab.run("ask", str(SAMPLES / "receipt.jpg"))
    assert ended.code == 0
    assert "惠民生活超市\n" in ended.out
    assert "Asking in this process: no gateway runs at http://127.0.0.1:" in ended.err
    (row,) = booked(lab)
    assert (row["key_id"], row["model"], row["outcome"]) == ("local", "local-ocr-vision", "finished")


def test_answer_of_a_backend_has_its_cost(lab: Lab, vendor: Upstream) -> None:
    picture = lab.picture("cat.png")
    vendor.answer(openai.answer("a cat"))
    (record,) = lab.run("ask", "cat.png", "-m", "fake-vision", "-t", "0.5", "--max-tokens", "7", "--json").records
    assert (record["answer"], record["cost_yuan"]) == ("a cat", "0.000576")
    assert (vendor.requests[0].pictures, vendor.requests[0].json["temperature"]) == ([picture], 0.5)
    assert booked(lab)[0]["cost_yuan"] == "0.000576"


def test_answer_by_a_recipe_has_the_cost_of_both_steps(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    models = lab.folder / "models.local.toml"
    models.write_text(models.read_text() + '[models.both]\nrecipe = { ocr = "fake-vision", answer = "fake-vision" }\n')
    vendor.answer(openai.answer("a word"), openai.answer("a cat"))
    (record,) = lab.run("ask", "cat.png", "-m", "both", "--json").records
    assert (record["answer"], record["cost_yuan"]) == ("a cat", "0.001152")
    assert booked(lab)[0]["cost_yuan"] == "0.001152"


def test_batch_runs_in_process_too(lab: Lab, vendor: Upstream) -> None:
    lab.picture("a.png")
    lab.picture("b.png")
    vendor.otherwise(openai.answer("a cat"))
    for _ in range(2):
        assert lab.run("ask", "a.png", "b.png", "-m", "fake-vision").code == 0
    assert len(vendor.requests) == len(lab.lines()) == 2


def test_raw_shows_the_call_and_every_frame_but_no_key(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    vendor.answer(openai.stream("a", " cat"))
    ended = lab.run("ask", "cat.png", "-m", "fake-vision", "--raw")
    assert ended.code == 0
    frames = ended.out.splitlines()  # nothing else on stdout: programs read it
    assert f"POST {vendor.url}/v1/chat/completions" in ended.err.splitlines()
    assert [f"data: {frame}" for frame in frames] == openai.stream("a", " cat").wire.decode().split("\n\n")[
        : len(frames)
    ]
    assert any('"content":" cat"' in frame for frame in frames)
    assert VENDOR_KEY not in ended.out + ended.err
    assert "Asking in this process: --raw shows" in ended.err


def test_raw_shows_a_refusal_as_the_backend_worded_it(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    vendor.otherwise(openai.error(400, code="bad", message="vendor's own words"))
    ended = lab.run("ask", "cat.png", "-m", "fake-vision", "--raw")
    assert ended.code == 1
    assert "HTTP 400 {" in ended.out
    assert "vendor's own words" in ended.out
    assert "vendor's own words" not in ended.err


def test_domain_chooses_the_route_of_its_name(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    vendor.otherwise(openai.stream("a cat"))
    for domain, wanted in ((), "large"), (("-d", "small"), "small"), (("-d", "large"), "large"):
        assert lab.run("ask", "cat.png", "-m", "fake-vision", *domain).out == "a cat\n"
        assert vendor.requests[-1].json["model"] == wanted


def test_domain_nobody_has_is_told_with_those_there_are(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    ended = lab.run("ask", "cat.png", "-m", "fake-vision", "-d", "imagev3")
    assert_mistaken(ended, "no domain imagev3", "large, small")


def test_model_nobody_has_is_told_with_the_one_meant(lab: Lab) -> None:
    lab.picture("cat.png")
    assert_mistaken(lab.run("ask", "cat.png", "-m", "local-ocr-visoin"), "did you mean local-ocr-vision?")


def test_model_that_is_not_configured_is_told_with_what_to_set(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    del lab.environment["FAKE_API_KEY"]
    assert_mistaken(lab.run("ask", "cat.png", "-m", "fake-vision"), "set FAKE_API_KEY.")


def test_wrong_catalogue_is_one_line(lab: Lab) -> None:
    lab.picture("cat.png")
    (lab.folder / "models.local.toml").write_text("[backends.a]\nkind = 1\n[backends.b]\nkind = 2\n")
    assert_mistaken(lab.run("ask", "cat.png"), "models.local.toml:2: backends.a.kind", "(1 more: see 'tuwen check')")


def test_picture_that_is_none_is_told(lab: Lab) -> None:
    (lab.folder / "cat.png").write_bytes(b"not a picture")
    ended = lab.run("ask", "cat.png")
    assert ended.code == 1
    asked, fault = ended.err.splitlines()
    assert asked.startswith("Asking in this process")
    assert fault.startswith("cat.png is in a format that is not taken")


def test_nobody_reading_to_the_end_does_not_spoil_the_answer(lab: Lab, vendor: Upstream) -> None:
    lab.picture("cat.png")
    vendor.otherwise(openai.stream(*("words " * 50 for _ in range(50))))
    command = f"{sys.executable} -m app.cli ask cat.png -m fake-vision | head -c 5"
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **lab.environment}
    done = subprocess.run(["sh", "-c", command], cwd=lab.folder, env=environment, capture_output=True, check=True)
    assert done.stdout == b"words"
    assert b"120 tokens in" in done.stderr
    assert b"Error" not in done.stderr
    assert booked(lab)[0]["outcome"] == "finished"


def test_running_gateway_is_asked_and_books_it(lab: Lab, vendor: Upstream) -> None:
    picture = lab.picture("cat.png")
    vendor.otherwise(openai.stream("a", " cat"))
    environment = {**lab.environment, "PYTHONPATH": str(ROOT)}
    del environment["TUWEN_PORT"]
    with running_gateway(lab.folder / "data", environment) as gateway:
        lab.environment |= {"TUWEN_PORT": str(gateway.port), "TUWEN_API_KEY": gateway.key}
        ended = lab.run("ask", "cat.png", "-m", "fake-vision")
        assert (ended.code, ended.out) == (0, "a cat\n")
        assert f"Asking the gateway at {gateway.base_url}." in ended.err
        lab.environment["TUWEN_API_KEY"] = ""
        assert_mistaken(lab.run("ask", "cat.png"), "asks for a key: set TUWEN_API_KEY")
    assert [request.pictures for request in vendor.requests] == [[picture]]
    (row,) = booked(lab)
    assert row["key_id"].startswith("key_")


def test_command_is_quick_to_import() -> None:
    heavy = ("aiohttp", "fastapi", "httpx2", "numpy", "onnxruntime", "PIL", "pydantic", "rich.progress", "sqlalchemy")
    program = f"import sys, app.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
