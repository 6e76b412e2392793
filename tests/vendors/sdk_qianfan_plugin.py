"""Baidu's own SDK, unmodified, asks this gateway as its plugin 智慧图问. Runs in an interpreter that has `qianfan` 0.4.

    python sdk_qianfan_plugin.py BASE_URL AK SK PICTURE_URL

prints one JSON object: the name of each session, and what the SDK made of the answer, or the exception it raised.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

QUESTION = "图里写了什么?"


def sessions(ak: str, sk: str, picture_url: str) -> dict[str, Callable[[], Any]]:
    import qianfan  # it reads the environment when it is imported

    def plugin(way: str, secret: str = sk, key: str = ak) -> Any:
        names = ("ak", "sk") if way == "oauth" else ("access_key", "secret_key")
        return qianfan.Plugin(endpoint="testxxx", **dict(zip(names, (key, secret), strict=True)))

    def ask(way: str, *credentials: str, **fields: Any) -> Any:
        asked = {"query": QUESTION, "plugins": ["uuid-chatocr"], "fileurl": picture_url, "retry_count": 1, **fields}
        return plugin(way, *credentials).do(**asked)

    def whole(way: str, **fields: Any) -> Any:
        return ask(way, **fields).body

    def streamed(way: str, **fields: Any) -> Any:
        return [packet.body for packet in ask(way, stream=True, **fields)]

    async def aside(way: str, **fields: Any) -> Any:
        asked = {"query": QUESTION, "plugins": ["uuid-chatocr"], "fileurl": picture_url, "retry_count": 1, **fields}
        answer = await plugin(way).ado(**asked)
        return [packet.body async for packet in answer] if fields.get("stream") else answer.body

    def after_a_stale_token() -> Any:
        """The SDK is handed a token that is no longer good, and gets another by itself."""
        client = qianfan.Plugin(endpoint="testxxx", ak=ak, sk=sk, access_token="24.stale")
        return client.do(query=QUESTION, plugins=["uuid-chatocr"], fileurl=picture_url).body

    found: dict[str, Callable[[], Any]] = {"stale token": after_a_stale_token}
    for way in ("oauth", "iam"):
        found |= {
            f"{way} whole": lambda way=way: whole(way),
            f"{way} whole verbose": lambda way=way: whole(way, verbose=True),
            f"{way} streamed": lambda way=way: streamed(way),
            f"{way} streamed verbose": lambda way=way: streamed(way, verbose=True),
            f"{way} async whole": lambda way=way: asyncio.run(aside(way)),
            f"{way} async streamed": lambda way=way: asyncio.run(aside(way, stream=True, verbose=True)),
            f"{way} options": lambda way=way: whole(
                way,
                llm={"temperature": 0.1, "top_p": 1, "penalty_score": 1},
                input_variables={"key1": "value1"},
                history=[{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好"}],
            ),
            f"{way} wrong secret": lambda way=way: ask(way, "0" * 32),
            f"{way} wrong secret streamed": lambda way=way: streamed_with(ask, way, "0" * 32),
            f"{way} unknown key": lambda way=way: ask(way, sk, "key_000000000000"),
            f"{way} long query": lambda way=way: whole(way, query="长" * 1001),
            f"{way} long query streamed": lambda way=way: streamed(way, query="长" * 1001),
            f"{way} four plugins": lambda way=way: whole(way, plugins=["a", "b", "c", "d"]),
            f"{way} broken picture": lambda way=way: streamed(way, fileurl="data:image/png;base64,AAAA"),
        }
    return found


def streamed_with(ask: Callable[..., Any], way: str, secret: str) -> Any:
    return [packet.body for packet in ask(way, secret, stream=True)]


def outcome(session: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answer": session()}
    except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is looked at
        return {
            "raised": type(error).__name__,
            "code": getattr(error, "error_code", None),
            "text": str(error),
        }


def main(base_url: str, ak: str, sk: str, picture_url: str) -> None:
    os.environ["QIANFAN_BASE_URL"] = base_url
    logging.disable(logging.CRITICAL)
    print(json.dumps({name: outcome(run) for name, run in sessions(ak, sk, picture_url).items()}, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
