"""What a user's program does with the official openai client, under whichever version is installed.

    python openai_session.py BASE_URL KEY MODEL PICTURE

Prints one JSON object: what came back, and which exceptions were raised. Knows nothing of the gateway's code.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from typing import Any

import openai


def picture_question(path: str) -> list[dict[str, Any]]:
    with open(path, "rb") as file:  # noqa: PTH123 - a user's program, as plain as can be
        encoded = base64.b64encode(file.read()).decode()
    url = {"url": f"data:image/jpeg;base64,{encoded}"}
    return [
        {"role": "user", "content": [{"type": "image_url", "image_url": url}, {"type": "text", "text": "what is it?"}]}
    ]


def raised(action: Callable[[], Any]) -> list[Any]:
    """The exception's class, status, code and param."""
    try:
        action()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param]
    except openai.APIError as error:
        return [type(error).__name__, None, error.code, error.param]
    return ["nothing"]


def streamed(client: openai.OpenAI, **asked: Any) -> dict[str, Any]:
    text, finish, usage, roles = "", [], None, []
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked):
        for choice in chunk.choices:
            roles.append(choice.delta.role)
            text += choice.delta.content or ""
            finish.append(choice.finish_reason)
        usage = chunk.usage or usage
    tokens = usage.total_tokens if usage else None
    return {"text": text, "finish": [reason for reason in finish if reason], "tokens": tokens, "role": roles[0]}


def helper_stream(client: openai.OpenAI, **asked: Any) -> str:
    """The SDK's own accumulating helper, which is strict about every field."""
    stream = getattr(client.chat.completions, "stream", None) or client.beta.chat.completions.stream
    with stream(**asked) as events:
        for _ in events:
            pass
        return str(events.get_final_completion().choices[0].message.content)


def main(base_url: str, key: str, model: str, path: str) -> dict[str, Any]:
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)
    asked: dict[str, Any] = {"model": model, "messages": picture_question(path)}
    whole = client.chat.completions.create(**asked)
    return {
        "version": openai.__version__,
        "models": [entry.id for entry in client.models.list()],
        "model": client.models.retrieve(model).id,
        "whole": {
            "text": whole.choices[0].message.content,
            "finish": whole.choices[0].finish_reason,
            "tokens": whole.usage.total_tokens if whole.usage else None,
        },
        "streamed": streamed(client, **asked),
        "helper": helper_stream(client, **asked),
        "unknown model": raised(lambda: client.chat.completions.create(**{**asked, "model": "nope"})),
        "bad field": raised(lambda: client.chat.completions.create(**asked, temperature=9)),
        "bad key": raised(lambda: client.with_options(api_key="sk-no").chat.completions.create(**asked)),
        "bad stream": raised(lambda: list(client.chat.completions.create(**asked, n=3, stream=True))),
    }


def faults(base_url: str, key: str, model: str) -> list[list[Any]]:
    """Asks `model` once per line of standard input (`whole` or `stream`) and says what each raised."""
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    found = []
    for line in sys.stdin:
        stream = line.strip() == "stream"

        def ask(stream: bool = stream) -> None:
            answer = client.chat.completions.create(model=model, messages=messages, stream=stream)
            _ = list(answer) if stream else answer

        found.append(raised(ask))
    return found


if __name__ == "__main__":
    result = main(*sys.argv[1:]) if len(sys.argv) == 5 else faults(*sys.argv[1:])
    sys.stdout.write(json.dumps(result))
