"""Alibaba's own SDK asks CCAI: cases are read from stdin, one JSON object a line; what the SDK made of each is printed.

Its asynchronous client: the synchronous one loses events of more than 8 KiB with Chinese text.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from alibabacloud_contactcenterai20240603 import models
from alibabacloud_contactcenterai20240603.client import Client
from alibabacloud_tea_openapi import utils_models
from darabonba.runtime import RuntimeOptions


def made_of(body: Any) -> dict[str, Any]:
    names = ("text", "finish_reason", "input_tokens", "output_tokens", "request_id")
    return {name: getattr(body, name) for name in names}


async def ask(case: dict[str, Any]) -> dict[str, Any]:
    client = Client(
        utils_models.Config(
            access_key_id=case["access_key_id"],
            access_key_secret=case["access_key_secret"],
            security_token=case.get("security_token"),
            endpoint=case["endpoint"],
            protocol="http",
        )
    )
    runtime = RuntimeOptions(read_timeout=20_000, connect_timeout=5_000)
    request = models.GeneralAnalyzeImageRequest(**case["request"])
    place = (case["workspace_id"], case["app_id"])
    headers = case.get("headers", {})
    if not request.stream:
        answer = await client.general_analyze_image_with_options_async(*place, request, headers, runtime)
        return made_of(answer.body)
    last: dict[str, Any] = {}
    events = 0
    async for event in client.general_analyze_image_with_sse_async(*place, request, headers, runtime):
        last, events = made_of(event.body), events + 1
    return {**last, "events": events}


async def main() -> None:
    for line in sys.stdin:
        try:
            made = await ask(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is what is looked at
            made = {"code": str(getattr(error, "code", "")), "raised": type(error).__name__}
        print(json.dumps(made))


asyncio.run(main())
