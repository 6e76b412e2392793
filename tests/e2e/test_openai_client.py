"""The official openai client, two major versions, against a real gateway process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PICTURES
from tests.fakes import openai, qianfan
from tests.fakes.http import Reply
from tests.fakes.upstream import Upstream
from tests.support.gateway import RunningGateway

SCRIPT = Path(__file__).with_name("openai_session.py")


def run(sdk: dict[str, str], *arguments: str, lines: str = "") -> Any:
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=sdk, input=lines, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def session(gateway: RunningGateway, sdk: dict[str, str], model: str) -> Any:
    found = run(sdk, gateway.base_url, gateway.key, model, str(PICTURES / "receipt.jpg"))
    assert found["version"].startswith("2.54" if "PYTHONPATH" in sdk else "3.")
    assert model in found["models"]
    assert found["model"] == model
    assert found["unknown model"] == ["NotFoundError", 404, "model_not_found", "model"]
    assert found["bad field"] == ["BadRequestError", 400, None, "temperature"]
    assert found["bad key"][:3] == ["AuthenticationError", 401, "invalid_api_key"]
    assert found["bad stream"][:2] == ["BadRequestError", 400]
    assert found["streamed"]["finish"] == ["stop"]
    assert found["streamed"]["role"] == "assistant"
    assert found["whole"]["finish"] == "stop"
    return found


@pytest.mark.parametrize(("model", "wire"), [("openai-vision", openai), ("qianfan-vision", qianfan)])
def test_client_gets_answers_streamed_and_whole(
    gateway: RunningGateway, fake: Upstream, sdk: dict[str, str], model: str, wire: Any
) -> None:
    fake.answer(wire.answer("一张小票"), wire.stream("一张", "小票"), wire.stream("一张", "小票"))
    found = session(gateway, sdk, model)
    assert found["whole"]["text"] == found["streamed"]["text"] == found["helper"] == "一张小票"
    assert found["whole"]["tokens"] == wire.USAGE["total_tokens"]
    assert found["streamed"]["tokens"] == wire.USAGE["total_tokens"]


def test_client_reads_a_receipt_with_the_engine_inside(gateway: RunningGateway, sdk: dict[str, str]) -> None:
    # three real readings of a real picture and the engine's start: over 5 s on a small machine
    found = session(gateway, sdk, "local-ocr-vision")
    truth = (PICTURES / "receipt.txt").read_text().split()
    assert found["whole"]["text"] == found["streamed"]["text"] == found["helper"]
    assert sum(word in found["whole"]["text"] for word in truth) > 0.8 * len(truth)


TOO_LONG = "context_length_exceeded"
NO_ANSWER = "backend_protocol_error"
HALF = Reply(200, openai.SSE, openai.stream("half").steps[:2])
FAULTS: list[tuple[str, Reply, int, list[Any]]] = [
    # how it is asked, the fault, how often the gateway meets it, what the client raises
    ("whole", openai.error(429), 2, ["RateLimitError", 429, "rate_limit_exceeded", None]),
    ("stream", openai.error(429), 2, ["RateLimitError", 429, "rate_limit_exceeded", None]),
    ("whole", openai.error(401), 1, ["InternalServerError", 502, "backend_misconfigured", None]),
    ("whole", openai.error(500), 2, ["InternalServerError", 503, "backend_unavailable", None]),
    ("stream", openai.error(400, code=TOO_LONG), 1, ["BadRequestError", 400, TOO_LONG, None]),
    ("whole", openai.reply({"error": {"message": "x"}}), 1, ["InternalServerError", 502, NO_ANSWER, None]),
    ("stream", HALF, 1, ["APIError", None, NO_ANSWER, None]),
]  # fmt: skip


def test_client_raises_the_right_class_for_each_fault(
    gateway: RunningGateway, fake: Upstream, sdk: dict[str, str]
) -> None:
    fake.answer(*[reply for _, reply, times, _ in FAULTS for _ in range(times)])
    lines = "".join(f"{mode}\n" for mode, *_ in FAULTS)
    found = run(sdk, gateway.base_url, gateway.key, "openai-vision", lines=lines)
    assert found == [expected for *_, expected in FAULTS]
