"""What the embedded engine reads, through the translator and the transport that serve requests.

A test takes half a second to a second on two free cores. The worker gives way to everything else, so that on a busy
machine some take over five.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from io import BytesIO

import pytest
import pytest_asyncio
from PIL import Image as Pillow

from app.backends.ocr import SPEC, OcrOptions, OcrTranslator
from app.core.events import Answer, Event, OcrRegion, collect
from app.core.types import ChatRequest, Context, Image, ImagePart, Message
from app.transports.local import LocalTransport
from tests.bench.ocr_accuracy import NAMES, PICTURES, accuracy, fitted, read, written
from tests.transports.drawn import Box, lines, png

pytestmark = pytest.mark.asyncio(loop_scope="module")

RULES = SPEC.capabilities(OcrOptions(), "rapidocr").image_rules
CARD = ("Tuwen reads this card", "Invoice 2026 0318", "Total 180.00 yuan", "Thank you for coming")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ocr() -> AsyncGenerator[LocalTransport, None]:
    local = LocalTransport()
    yield local
    await local.aclose()


def image(picture: Pillow.Image, source_size_px: tuple[int, int] = (0, 0)) -> Image:
    data = png(picture)
    digest = hashlib.sha256(data).hexdigest()
    return Image(data, "image/png", *picture.size, digest, None, *source_size_px)


async def answer(ocr: LocalTransport, *images: Image) -> Answer:
    """The answer to pictures, with regions."""
    translator = OcrTranslator("ocr", OcrOptions(), "rapidocr")
    message = Message("user", tuple(ImagePart(each) for each in images))
    request = ChatRequest(model="m", messages=(message,), extra={"ocr": {"regions": True}})
    call = translator.call(request, Context("r", 1, 0.0, 60.0, ""))
    events: list[Event] = []
    async with ocr.open(call, backend="ocr", connect_s=1) as reply:
        async for frames in reply.frames():
            events += [event for frame in frames for event in translator.receive(frame)]
    return collect([*events, *translator.receive_eof()])


def holds(region: OcrRegion, box: Box) -> bool:
    """Whether the region's upright bounds hold the drawn text, give or take three pixels."""
    xs, ys = [x for x, _ in region.polygon_px], [y for _, y in region.polygon_px]
    left, top, right, bottom = box
    return min(xs) <= left + 3 and min(ys) <= top + 3 and max(xs) >= right - 3 and max(ys) >= bottom - 3


async def test_there_are_six_sample_pictures_straight_and_photographed() -> None:
    kinds = {"page", "receipt", "screenshot"}
    assert {name.partition(".")[0] for name in NAMES} == kinds | {f"{kind}-photo" for kind in kinds}
    for kind in kinds:
        with Pillow.open(PICTURES / f"{kind}-photo.jpg") as photo:
            assert photo.getexif().get(0x0112) in {6, 8}  # its pixels lie on their side


@pytest.mark.parametrize("name", NAMES)
async def test_sample_pictures_are_read(ocr: LocalTransport, name: str) -> None:
    reading = await read(ocr, fitted(PICTURES / name, RULES))
    assert accuracy(reading.text, written(name)) >= (0.97 if "photo" in name else 0.98)
    assert reading.text.count("\n") == written(name).strip().count("\n")
    if "receipt" in name:
        assert "东北大米5kg 1 42.00 42.00" in reading.text.splitlines()


async def test_regions_stand_where_the_text_is_in_the_callers_picture(ocr: LocalTransport) -> None:
    picture, boxes = lines(*CARD, size_px=(480, 280))
    read_as_sent, read_as_shrunk = await answer(ocr, image(picture)), await answer(ocr, image(picture, (960, 840)))
    for region, box in zip(read_as_sent.regions[0].regions, boxes, strict=True):
        assert holds(region, box)
        assert region.confidence > 0.8
    for region, (left, top, right, bottom) in zip(read_as_shrunk.regions[0].regions, boxes, strict=True):
        assert holds(region, (2 * left, 3 * top, 2 * right, 3 * bottom))


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
async def test_a_page_on_its_side_or_head_is_read_and_its_regions_stay_put(
    ocr: LocalTransport, quarter_turns: int
) -> None:
    picture, (box, *_) = lines(*CARD, size_px=(480, 280))
    turned = picture.rotate(90 * quarter_turns, expand=True)
    reading = await answer(ocr, image(turned))
    assert reading.text.splitlines() == list(CARD)
    left, top, right, bottom = box
    first = reading.regions[0].regions[0]
    assert holds(
        first,
        {
            1: (top, 480 - right, bottom, 480 - left),
            2: (480 - right, 280 - bottom, 480 - left, 280 - top),
            3: (280 - bottom, left, 280 - top, right),
        }[quarter_turns],
    )
    start, end, *_ = first.polygon_px
    x_runs, y_runs = end[0] - start[0], end[1] - start[1]
    assert {1: -y_runs, 2: -x_runs, 3: y_runs}[quarter_turns] > 100  # corners begin where the text does


async def test_a_long_screenshot_is_read_whole_and_nothing_twice(ocr: LocalTransport) -> None:
    texts = [f"Line number {number} of a long page" for number in range(60)]
    picture, boxes = lines(*texts, size_px=(560, 6040), step_px=100)
    reading = await answer(ocr, image(picture))
    assert reading.text.splitlines() == texts
    for region, box in zip(reading.regions[0].regions, boxes, strict=True):
        assert holds(region, box)


async def test_pictures_without_text_are_answered_one_by_one(ocr: LocalTransport) -> None:
    specks = [image(Pillow.new("RGB", size_px, colour)) for size_px, colour in (((1, 1), "red"), ((300, 200), "white"))]
    long_blank = image(Pillow.new("RGB", (500, 4500), "white"))
    card = image(lines(CARD[0], size_px=(480, 80))[0])
    reading = await answer(ocr, *specks, card, long_blank)
    nothing = "No text was found in the picture. / 图片中没有识别到文字。"
    assert reading.text == "\n\n".join([nothing, nothing, CARD[0], nothing])
    assert reading.usage is not None
    assert reading.usage.image_count == 4


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
async def test_pictures_of_any_colour_model_are_read(ocr: LocalTransport, mode: str) -> None:
    picture, _ = lines(CARD[1], size_px=(480, 80))
    data = BytesIO()
    picture.convert(mode).save(data, "WEBP" if mode == "RGB" else "PNG")
    assert (await read(ocr, Image(data.getvalue(), "image/png", 480, 80, ""))).text == CARD[1]
