"""How well and how fast the embedded engine reads the sample pictures: `python -m tests.bench.ocr_accuracy`.

Character accuracy is 1 - edit distance / length of what is written there. White space is folded: a run of it counts as
one blank, and none counts beside a Chinese character, where it is a matter of taste.
"""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from app.backends.ocr import SPEC, OcrOptions, OcrTranslator
from app.core.events import Event, TextDelta, collect
from app.core.types import ChatRequest, Context, Image, ImagePart, ImageRules, Message
from app.media.image import PictureBounds, fit_picture
from app.transports.local import LocalTransport

PICTURES = Path(__file__).parents[2] / "samples" / "pictures"
NAMES = tuple(sorted(path.name for path in PICTURES.iterdir() if path.suffix != ".txt"))

_CONTEXT = Context(request_id="bench", attempt=1, now=0.0, deadline=0.0, nonce="")
_BESIDE_CHINESE = re.compile(r"(?<=[\u2e80-\uffef]) | (?=[\u2e80-\uffef])")


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and when."""

    text: str
    first_line_s: float
    total_s: float


def fitted(path: Path, rules: ImageRules) -> Image:
    """A picture as the engine gets it: turned upright and otherwise, wherever possible, as it is."""
    return fit_picture(path.read_bytes(), rules, PictureBounds(), param=path.name)


async def read(transport: LocalTransport, image: Image) -> Reading:
    """Has one picture read, through the translator and the transport that serve requests."""
    translator = OcrTranslator("ocr", OcrOptions(), "rapidocr")
    request = ChatRequest(model="local-ocr-vision", messages=(Message("user", (ImagePart(image),)),))
    call = translator.call(request, _CONTEXT)
    events: list[Event] = []
    began, first_line_s = perf_counter(), 0.0
    async with transport.open(call, backend="ocr", connect_s=10) as reply:
        async for frames in reply.frames():
            events += [event for frame in frames for event in translator.receive(frame)]
            if not first_line_s and any(isinstance(event, TextDelta) for event in events):
                first_line_s = perf_counter() - began
    total_s = perf_counter() - began
    events += translator.receive_eof()
    return Reading(collect(events).text, first_line_s, total_s)


def written(name: str) -> str:
    """What a sample picture shows."""
    return (PICTURES / name).with_suffix(".txt").read_text(encoding="utf-8")


def accuracy(read_text: str, written_text: str) -> float:
    """Character accuracy, 1 for a perfect reading."""
    got, wanted = _folded(read_text), _folded(written_text)
    return 1 - _distance(got, wanted) / len(wanted)


def _folded(text: str) -> str:
    return _BESIDE_CHINESE.sub("", " ".join(text.split()))


def _distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and replacements that make one text the other."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (left != right))
    return row[-1]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


async def _main() -> None:
    rules = SPEC.capabilities(OcrOptions(), "rapidocr").image_rules
    transport = LocalTransport()
    try:
        await read(transport, fitted(PICTURES / NAMES[0], rules))  # the first picture also loads the models
        say(f"{'picture':<24}{'accuracy':>10}{'first line s':>14}{'whole s':>10}")
        for name in NAMES:
            reading = await read(transport, fitted(PICTURES / name, rules))
            share = accuracy(reading.text, written(name))
            say(f"{name:<24}{share:>10.2%}{reading.first_line_s:>14.2f}{reading.total_s:>10.2f}")
        status = Path(f"/proc/{transport.worker_pid}/status").read_text(encoding="ascii")
        peak, rest = (re.search(rf"{field}:\s+(\d+)", status) for field in ("VmHWM", "VmRSS"))
        if peak and rest:
            say(f"worker's memory: {int(rest[1]) >> 10} MiB, at most {int(peak[1]) >> 10} MiB")
    finally:
        await transport.aclose()


if __name__ == "__main__":
    asyncio.run(_main())
