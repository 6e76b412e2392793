"""Recipes for tests: what they are put together from, and what a scripted upstream was told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from tests.api.pictures import data_url, picture
from tests.fakes.upstream import Upstream
from tests.support.server import events_of
from tests.transports.drawn import png

PICTURES = Path(__file__).parents[2] / "samples" / "pictures"


def top_of(name: str, height_px: int) -> str:
    """The top of a sample picture: reading all of it takes the engine seconds on a busy machine."""
    with Image.open(PICTURES / name) as whole:
        return data_url(png(whole.crop((0, 0, whole.width, height_px)).convert("RGB")))


RECEIPT = top_of("receipt.jpg", 150)
SCREENSHOT = top_of("screenshot.png", 160)
BLANK = data_url(picture((200, 100), colour="white"))

SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
TOOL = {"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}

MODELS = """
[backends.far]
kind = "openai"
base_url = "{url}/v1"

[backends.far-one-picture]
kind = "openai"
base_url = "{url}/v1"
max_images = 1

[backends.gone]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[backends.unset]
kind = "openai"
base_url = "{url}/v1"
api_key = "env::TUWEN_TEST_KEY_THAT_IS_NEVER_SET"

[models.seer]
routes = [{{ backend = "far", model = "remote-seer" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00" }}
max_output = 500

[models.blind]
routes = [{{ backend = "far", model = "remote-blind" }}]
tariff = {{ input_per_million = "1.00", output_per_million = "2.00" }}
vision = false

[models.narrow]
routes = [{{ backend = "far", model = "remote-narrow" }}]
context = 160

[models.one-picture]
routes = [{{ backend = "far-one-picture", model = "remote-one" }}]

[models.toolless]
routes = [{{ backend = "ocr", model = "rapidocr" }}]

[models.second-try]
routes = [{{ backend = "gone", model = "remote-gone" }}, {{ backend = "far", model = "remote-seer" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00" }}

[models.not-here]
routes = [{{ backend = "unset", model = "x" }}]

[models.reader]
routes = [{{ backend = "far", model = "remote-reader" }}]
tariff = {{ per_image = "0.01", per_call = "0.002" }}

[models.unpriced-reader]
routes = [{{ backend = "far", model = "remote-reader" }}]

[models.gone-reader]
routes = [{{ backend = "gone", model = "x" }}]

[models.seeing]
recipe = {{ ocr = "local-ocr-vision", answer = ["not-here", "seer", "blind"] }}

[models.not-seeing]
recipe = {{ ocr = "local-ocr-vision", answer = ["blind"] }}

[models.seeing-one]
recipe = {{ ocr = "local-ocr-vision", answer = ["one-picture"] }}

[models.short]
recipe = {{ ocr = "local-ocr-vision", answer = ["narrow"] }}

[models.alone]
recipe = {{ ocr = "local-ocr-vision", answer = ["not-here"] }}

[models.without-tools]
recipe = {{ ocr = "reader", answer = ["toolless"] }}

[models.with-second-try]
recipe = {{ ocr = "reader", answer = ["second-try"] }}

[models.told]
recipe = {{ ocr = "reader", answer = ["seer"] }}

[models.unpriced]
recipe = {{ ocr = "unpriced-reader", answer = ["seer"] }}

[models.unread]
recipe = {{ ocr = "gone-reader", answer = ["seer"] }}

[models.unreachable]
recipe = {{ ocr = "not-here", answer = ["seer"] }}
"""


def asked_of(upstream: Upstream) -> dict[str, Any]:
    """What the only request to the upstream asked."""
    [request] = upstream.requests
    body: dict[str, Any] = json.loads(request.body)
    return body


def newest_parts(body: dict[str, Any]) -> tuple[list[str], int]:
    """The texts of the last message, in order, and how many pictures it has."""
    content = body["messages"][-1]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part["text"] for part in parts if part["type"] == "text"], sum(p["type"] == "image_url" for p in parts)


def readout(body: dict[str, Any]) -> list[str]:
    """The lines between the fences."""
    text = "\n".join(newest_parts(body)[0])
    fenced = re.search(r"^<(ocr-[0-9a-f]{8})>\n(.*)\n</\1>$", text, re.MULTILINE | re.DOTALL)
    assert fenced is not None
    return fenced[2].split("\n")


def deltas(body: str) -> list[dict[str, Any]]:
    *chunks, done = events_of(body)
    assert done == "[DONE]"
    choices = [choice for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    return [choice["delta"] for choice in choices]
