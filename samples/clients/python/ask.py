"""Asks a question about a picture and prints the answer as it comes.

pip install openai
TUWEN_API_KEY=sk-tw-… python ask.py PICTURE QUESTION [MODEL]
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI, OpenAIError


def ask(picture: str, question: str, model: str = "local-ocr-vision") -> None:
    data = base64.b64encode(Path(picture).read_bytes()).decode()
    client = OpenAI(
        base_url=os.environ.get("TUWEN_BASE_URL", "http://127.0.0.1:8000/v1"),
        api_key=os.environ.get("TUWEN_API_KEY", "none"),
    )
    stream = client.chat.completions.create(
        model=model,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": question},
                    # Tuwen looks at the bytes, so the label need not fit.
                    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
                ],
            }
        ],
        stream=True,
    )
    finish_reason = None
    for chunk in stream:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
            finish_reason = choice.finish_reason or finish_reason
    print()
    if finish_reason is None:
        sys.exit("the answer was cut short")


if len(sys.argv) not in (3, 4):
    sys.exit("usage: ask.py PICTURE QUESTION [MODEL]")
try:
    ask(*sys.argv[1:])
except (OpenAIError, OSError) as error:
    sys.exit(str(error))
