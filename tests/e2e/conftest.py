"""A real gateway process for all end-to-end tests, and the openai clients they run with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.upstream import Upstream
from tests.support.gateway import RunningGateway, running_gateway

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "samples" / "pictures"
OLD_SDK = Path(sys.prefix) / "openai-2.54"

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"
api_key = "env::FAKE_API_KEY"

[backends.bare]
kind = "qianfan"
base_url = "{url}/v2"
api_key = "env::FAKE_API_KEY"

[models.openai-vision]
routes = [{{ backend = "fake", model = "remote" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}

[models.qianfan-vision]
routes = [{{ backend = "bare", model = "deepseek-vl2" }}]
"""


@pytest.fixture(scope="session")
def models_file(tmp_path_factory: pytest.TempPathFactory, fake: Upstream) -> Path:
    file = tmp_path_factory.mktemp("models") / "models.toml"
    file.write_text(MODELS.format(url=fake.url))
    return file


@pytest.fixture(scope="session")
def fake() -> Iterator[Upstream]:
    with Upstream(api_key="sk-fake").in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, models_file: Path) -> Iterator[RunningGateway]:
    """`tuwen serve`, started once."""
    environment = {"TUWEN_MODELS_FILE": str(models_file), "FAKE_API_KEY": "sk-fake", "TUWEN_OCR_THREADS": "2"}
    with running_gateway(tmp_path_factory.mktemp("data"), environment) as running:
        yield running


@pytest.fixture(scope="session", params=["2.54", "3"])
def sdk(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which `import openai` gives that version."""
    if request.param == "3":
        return dict(os.environ)
    assert OLD_SDK.is_dir(), "openai 2.54 is not there: run `make test` once, it installs it"
    return {**os.environ, "PYTHONPATH": str(OLD_SDK)}
