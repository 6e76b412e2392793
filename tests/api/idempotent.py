"""Questions that are asked twice, and a gateway to ask."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes import openai
from tests.fakes.http import Gate, Reply

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[models.m]
routes = [{{ backend = "fake", model = "r" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}
"""
PATH = "/v1/chat/completions"


def body_of(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def wire(stream: bool, *words: str) -> Reply:
    return openai.stream(*words) if stream else openai.answer("".join(words))


def waiting(gate: Gate, stream: bool, *words: str) -> Reply:
    """An answer that begins once the gate is open."""
    reply = wire(stream, *words)
    return Reply(reply.status, reply.headers, [gate, *reply.steps], "chunked")
