"""The recipe for 智慧图问 before the vendors' servers: who reads, who answers, and what one row in the ledger says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.pictures import question
from tests.fakes import spark
from tests.fakes.baidu import Baidu
from tests.fakes.http import Received
from tests.fakes.spark import SparkAccount
from tests.fakes.upstream import Upstream
from tests.gateway.recipes import RECEIPT
from tests.support.server import Served, serving
from tests.vendors.conftest import Shown

KEY, SECRET = "0123456789abcdef0123456789abcdef", "ZmFrZS1zZWNyZXQtZm9yLXRlc3RzLW9ubHk="
ANSWER = "一共 42 元。"
MODELS = """
[backends.spark]
kind = "spark"
app_id = "a1b2c3d4"
api_key = "{key}"
api_secret = "{secret}"
base_url = "{ws_url}/v2.1/image"
text_base_url = "{ws_url}"

[backends.baidu-ocr]
kind = "baidu_ocr"
base_url = "{url}"
api_key = "{baidu.api_key}"
secret_key = "{baidu.secret_key}"

[models.seer]
routes = [{{ backend = "spark", model = "imagev3" }}]

[models.blind]
routes = [{{ backend = "spark", model = "generalv3.5" }}]
vision = false

[models.seeing]
recipe = {{ ocr = "local-ocr-vision", answer = "seer" }}

[models.blindfold]
recipe = {{ ocr = "baidu-ocr-vision", answer = ["blind"] }}

[models.alone]
recipe = {{ ocr = "baidu-ocr-vision" }}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as up:
        yield up


@pytest.fixture(scope="module")
def site(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    baidu = Baidu()
    answers = SparkAccount("a1b2c3d4", KEY, SECRET).serving(spark.stream("一共", " 42 元。"))

    def vendor(request: Received) -> object:
        return answers(request) if request.wants_websocket else baidu(request)

    upstream.otherwise(vendor)  # type: ignore[arg-type]  # each gives the reply of its protocol
    models = MODELS.format(key=KEY, secret=SECRET, ws_url=upstream.ws_url, url=upstream.url, baidu=baidu)
    with serving(tmp_path_factory.mktemp("recipe"), models) as served:
        yield served


@pytest.mark.parametrize(
    ("model", "said", "steps"),
    [
        ("seeing", ANSWER, ["rapidocr", "imagev3"]),
        ("blindfold", ANSWER, ["general", "generalv3.5"]),
        ("alone", "某某大学", ["general"]),
    ],
)
def test_one_reads_another_answers_and_one_row_has_both(
    site: Served, upstream: Upstream, shown: Shown, *, model: str, said: str, steps: list[str]
) -> None:
    upstream.requests.clear()
    answer = site.chat(model, messages=question(RECEIPT, text="一共多少钱？"))
    assert answer.json()["choices"][0]["message"]["content"] == said
    row = site.booked(answer)
    assert [step.backend_model for step in row.attempts] == steps
    assert answer.json()["usage"]["completion_tokens"] == sum(step.output_tokens for step in row.attempts)
    asked = [request for request in upstream.requests if request.wants_websocket]
    assert len(asked) == (len(steps) == 2)
    if asked:
        texts = asked[0].json["payload"]["message"]["text"]
        assert (texts[0].get("content_type") == "image") == (model == "seeing")
        assert texts[-1]["content"].endswith("一共多少钱？")
        assert "[" in texts[-1]["content"], "what was read, with its places, stands before the question"
    shown("the recipe, with an answering model and without", cases=1)
