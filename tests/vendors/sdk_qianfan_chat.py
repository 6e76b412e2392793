"""Baidu's own SDK asks Qianfan V2 at the address given; each line of stdin is one question: `whole` or `streamed`."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from qianfan import Qianfan

logging.disable(logging.CRITICAL)
MESSAGES = [{"role": "user", "content": [{"type": "text", "text": "图里有什么?"}]}]


def ask(client: Any, kind: str) -> dict[str, Any]:
    asked = {"model": "deepseek-vl2", "messages": MESSAGES, "stream": kind == "streamed", "retry_count": 1}
    if kind != "streamed":
        answer = client.chat.completions.create(**asked)
        text, usage = answer.choices[0].message.content, answer.usage
    else:
        text, usage = "", None
        for chunk in client.chat.completions.create(**asked):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage or usage
    return {"text": text, "input": usage.prompt_tokens, "output": usage.completion_tokens}


def main(base_url: str) -> None:
    client = Qianfan(api_key="bce-v3/ALTAK-fake/fake", app_id="app-x", console_api_base_url=base_url)
    for line in sys.stdin:
        try:
            made = ask(client, line.strip())
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is looked at
            made = {"raised": type(error).__name__, "text": str(error)}
        print(json.dumps(made))


main(sys.argv[1])
