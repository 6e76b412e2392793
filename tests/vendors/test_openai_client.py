"""The official openai client → a real gateway process → each vendor's server, which checks all that reaches it."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from PIL import Image

from app.accounts.interfaces import LedgerRow
from app.store.sql import SqlStore
from tests.api.pictures import data_url, picture, question
from tests.fakes.http import Gate
from tests.support.gateway import RunningGateway, free_port, running_gateway
from tests.vendors.conftest import Shown
from tests.vendors.photos import judge_photo, noisy_photo
from tests.vendors.vendor import Trouble, Vendor
from tests.vendors.vendors import KINDS, Vendors, everyone

CLAIM = "openai client through the gateway to every vendor"
MODELS = [kind.model for kind in KINDS]
SEEING = [kind.model for kind in KINDS if kind.sees]
STREAMING = [kind.model for kind in KINDS if kind.streams]
OLD_SDK = Path(sys.prefix) / "openai-2.54"
SESSION = Path(__file__).parents[1] / "e2e" / "openai_session.py"
HAN = "的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心"


@pytest.fixture(scope="module")
def vendors() -> Iterator[Vendors]:
    with everyone() as all_of_them:
        yield all_of_them


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, vendors: Vendors) -> Iterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("gateway")
    models = folder / "models.toml"
    models.write_text(vendors.models())
    port = free_port()
    environment = {
        "TUWEN_PORT": str(port),
        "TUWEN_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TUWEN_MODELS_FILE": str(models),
    }
    with running_gateway(folder / "data", environment) as running:
        yield running


@pytest.fixture
def client(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=30) as made:
        yield made


@pytest.fixture
def vendor(request: pytest.FixtureRequest, vendors: Vendors) -> Vendor:
    """The one of the model that the test is about."""
    found = vendors[request.param]
    found.forget()
    return found


def of(models: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vendor", models, indirect=True)


def odd_picture(size: tuple[int, int], *, form: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").convert(mode).save(out, form)
    return out.getvalue()


def asked(vendor: Vendor, *urls: str, **fields: Any) -> dict[str, Any]:
    """A question about a small picture, or of none where the model sees nothing."""
    pictures = (urls or (data_url(picture((120, 90))),)) if vendor.sees else ()
    return {"model": vendor.model, "messages": question(*pictures, text="这是什么？"), **fields}


def whole(client: openai.OpenAI, **fields: Any) -> ChatCompletion:
    answer = client.chat.completions.create(**fields)
    assert isinstance(answer, ChatCompletion)
    return answer


def chunks_of(client: openai.OpenAI, **fields: Any) -> list[ChatCompletionChunk]:
    stream = client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **fields)
    return list(stream)


def text_of(answer: ChatCompletion | list[ChatCompletionChunk]) -> str:
    if isinstance(answer, ChatCompletion):
        return answer.choices[0].message.content or ""
    return "".join(choice.delta.content or "" for chunk in answer for choice in chunk.choices)


def reasons_of(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def newest_row(gateway: RunningGateway) -> LedgerRow:
    async def read() -> LedgerRow:
        store = await SqlStore.open(gateway.data_dir / "tuwen.db")
        try:
            return (await store.rows(since=0, limit=1))[0]
        finally:
            await store.aclose()

    return asyncio.run(read())


@of(MODELS)
def test_an_answer_is_the_same_streamed_and_whole_with_the_vendors_own_counts(
    client: openai.OpenAI, gateway: RunningGateway, vendor: Vendor, shown: Shown
) -> None:
    vendor.says("一只", "猫，", "在睡觉。🐈")
    text = "一只猫，在睡觉。🐈"
    one = whole(client, **asked(vendor))
    first = newest_row(gateway)
    many = chunks_of(client, **asked(vendor))
    second = newest_row(gateway)
    assert text_of(one) == text_of(many) == text
    assert one.choices[0].finish_reason == "stop"
    assert reasons_of(many) == ["stop"]
    used = many[-1].usage
    assert one.usage is not None
    assert used is not None
    reported = vendor.counts(text)
    passed = "counted" if vendor.usage_source == "estimated" else vendor.usage_source  # delta by delta
    for usage, row, source in ((one.usage, first, vendor.usage_source), (used, second, passed)):
        assert (row.model, row.backend, row.outcome, row.usage_source) == (
            vendor.model,
            vendor.backend,
            "finished",
            source,
        )
        assert (usage.prompt_tokens, usage.completion_tokens) == (row.input_tokens, row.output_tokens)
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        assert reported is None or (usage.prompt_tokens, usage.completion_tokens) == reported
        assert usage.completion_tokens > 0
        assert row.image_count == int(vendor.sees)
    shown(CLAIM, cases=2)


@of(MODELS)
def test_a_whole_answer_in_one_frame_is_not_lost(client: openai.OpenAI, vendor: Vendor, shown: Shown) -> None:
    vendor.says("是")
    assert text_of(whole(client, **asked(vendor))) == "是"
    many = chunks_of(client, **asked(vendor))
    assert text_of(many) == "是"
    assert reasons_of(many) == ["stop"]
    shown(CLAIM, cases=2)


@of(MODELS)
def test_twenty_thousand_characters_arrive_as_they_were_said(
    client: openai.OpenAI, vendor: Vendor, shown: Shown
) -> None:
    draw = random.Random(20)
    text = "".join(draw.choice(HAN) for _ in range(20_000))
    bounds = [0, *sorted(draw.sample(range(1, 20_000), 40)), 20_000]
    words = [text[start:end] for start, end in itertools.pairwise(bounds)]
    vendor.says(*words)
    assert text_of(whole(client, **asked(vendor))) == text
    assert text_of(chunks_of(client, **asked(vendor))) == text
    shown(CLAIM, cases=2)


@of(SEEING)
def test_a_photo_of_twelve_megapixels_is_fitted_and_keeps_its_colours(
    client: openai.OpenAI, vendor: Vendor, shown: Shown
) -> None:
    vendor.says("一张", "照片")
    url = data_url(noisy_photo(), "image/jpeg")
    assert text_of(chunks_of(client, **asked(vendor, url))) == "一张照片"
    [arrived] = vendor.pictures()
    judge_photo(arrived, max_bytes=vendor.max_image_bytes, max_side_px=vendor.max_side_px)
    shown(CLAIM, cases=1)


ODD_PICTURES = {
    "a dot": odd_picture((1, 1)),
    "a strip": odd_picture((2000, 10)),
    "a pole": odd_picture((9, 3000), form="GIF", mode="P"),
    "a panorama": odd_picture((14_000, 300), form="JPEG"),
    "forty megapixels": odd_picture((6400, 6300), mode="L"),
    "transparent": odd_picture((300, 200), mode="RGBA"),
    "for print": odd_picture((300, 200), form="TIFF", mode="CMYK"),
    "of one bit": odd_picture((300, 200), form="BMP", mode="1"),
    "for the web": odd_picture((300, 200), form="WEBP"),
}


@of(SEEING)
@pytest.mark.parametrize("name", ODD_PICTURES)
def test_pictures_of_any_shape_and_form_become_what_the_vendor_takes(
    client: openai.OpenAI, vendor: Vendor, shown: Shown, name: str
) -> None:
    vendor.says("看到了")
    url = data_url(ODD_PICTURES[name], "application/octet-stream")
    assert text_of(whole(client, **asked(vendor, url))) == "看到了"
    [arrived] = vendor.pictures()
    assert len(arrived) <= vendor.max_image_bytes
    with Image.open(io.BytesIO(arrived)) as image:
        image.load()
    shown(CLAIM, cases=1)


@of(STREAMING)
def test_a_caller_who_leaves_ends_the_vendors_work(
    client: openai.OpenAI, gateway: RunningGateway, vendor: Vendor, shown: Shown
) -> None:
    gate = Gate()
    vendor.says("一只", gate, "猫")
    with client.chat.completions.create(stream=True, **asked(vendor)) as stream:
        for chunk in stream:
            if any(choice.delta.content for choice in chunk.choices):
                break
    vendor.upstream.requests[-1].wait_closed()
    gate.open()
    deadline = time.monotonic() + 5
    while (row := newest_row(gateway)).outcome != "gone":
        assert time.monotonic() < deadline, row
    assert (row.model, row.backend) == (vendor.model, vendor.backend)
    shown(CLAIM, cases=1)


@of(MODELS)
async def test_the_asynchronous_client_gets_the_same(gateway: RunningGateway, vendor: Vendor, shown: Shown) -> None:
    vendor.says("你", "好")
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=30) as client:
        answer = await client.chat.completions.create(**asked(vendor))
        stream = await client.chat.completions.create(stream=True, **asked(vendor))
        chunks = [chunk async for chunk in stream]
    assert text_of(answer) == text_of(chunks) == "你好"
    shown(CLAIM, cases=2)


RAISED: dict[Trouble, tuple[type[openai.APIStatusError], int]] = {
    "filtered": (openai.BadRequestError, 400),
    "refused": (openai.BadRequestError, 400),
    "busy": (openai.RateLimitError, 429),
    "down": (openai.InternalServerError, 503),
    "ours": (openai.InternalServerError, 502),
}


@of(MODELS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_refusal_before_the_first_word_raises_its_class(
    client: openai.OpenAI, gateway: RunningGateway, vendor: Vendor, shown: Shown, *, stream: bool
) -> None:
    for trouble in vendor.troubles:
        vendor.refuses(trouble)
        kind, status = RAISED[trouble]
        with pytest.raises(kind) as raised:
            client.chat.completions.create(stream=stream, **asked(vendor))
        assert raised.value.status_code == status
        assert "scripted" not in str(raised.value)
        if trouble == "filtered":
            assert raised.value.code == "content_filter"
        assert newest_row(gateway).outcome == "failed"
    shown(CLAIM, cases=len(vendor.troubles))


@of(STREAMING)
def test_a_fault_after_words_raises_after_the_words_are_there(
    client: openai.OpenAI, gateway: RunningGateway, vendor: Vendor, shown: Shown
) -> None:
    vendor.breaks("一只")
    text = ""
    with pytest.raises(openai.APIError) as raised:  # noqa: PT012 - what came before it counts
        for chunk in client.chat.completions.create(stream=True, **asked(vendor)):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            assert not any(choice.finish_reason for choice in chunk.choices)
    assert text == "一只"
    assert not isinstance(raised.value, openai.APIStatusError | openai.APIConnectionError)
    assert raised.value.code in {"backend_unavailable", "backend_protocol_error"}
    row = newest_row(gateway)
    assert (row.outcome, row.error_code) == ("failed", raised.value.code)
    shown(CLAIM, cases=1)


@of(["spark-vision", "ccai-vision", "chatocr-app-vision", "maas-vision"])
def test_client_of_the_last_major_version_understands_as_much(
    gateway: RunningGateway, vendor: Vendor, tmp_path: Path, shown: Shown
) -> None:
    assert OLD_SDK.is_dir(), "openai 2.54 is not there: run `make test` once, it installs it"
    vendor.says("一张", "小票")
    file = tmp_path / "photo.jpg"
    file.write_bytes(picture((200, 150), "JPEG"))
    command = [sys.executable, str(SESSION), gateway.base_url, gateway.key, vendor.model, str(file)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(OLD_SDK)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["version"].startswith("2.54")
    assert found["whole"]["text"] == found["streamed"]["text"] == found["helper"] == "一张小票"
    assert found["streamed"]["finish"] == ["stop"]
    shown(CLAIM, cases=3)
