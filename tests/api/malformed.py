"""What is told of a request that cannot be meant."""

from __future__ import annotations

from typing import Any

import httpx2


def refusal(answer: httpx2.Response) -> dict[str, Any]:
    """The error object of a 4xx."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].isprintable()
    return error
