"""One gateway and one scripted upstream for all tests of the HTTP surface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

UPSTREAM_KEY = "sk-upstream-canary-7f3a"

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"
api_key = "{key}"

[backends.blind]
kind = "openai"
base_url = "{url}/v1"
api_key = "{key}"
vision = false

[backends.bare]
kind = "qianfan"
base_url = "{url}/v2"
api_key = "{key}"

[backends.single]
kind = "openai"
max_images = 1
base_url = "{url}/v1"
api_key = "{key}"

[backends.gone]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[backends.secretless]
kind = "openai"
base_url = "{url}/v1"
api_key = "env::TUWEN_TEST_KEY_THAT_IS_NEVER_SET"

[models.m]
routes = [{{ backend = "fake", model = "remote-m" }}]
tariff = {{ input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }}
context = 32768
max_output = 4096
aliases = ["m-vision", "team/m:latest"]

[models.narrow]
routes = [{{ backend = "fake", model = "narrow" }}]
context = 4096

[models.text-only]
routes = [{{ backend = "blind", model = "text" }}]

[models.said-blind]
routes = [{{ backend = "fake", model = "x" }}]
vision = false

[models.qf-vision]
routes = [{{ backend = "bare", model = "deepseek-vl2" }}]

[models.one-picture]
routes = [{{ backend = "single", model = "glm-4v-plus" }}]

[models.dead]
routes = [{{ backend = "gone", model = "x" }}]

[models.fallback]
routes = [{{ backend = "gone", model = "x" }}, {{ backend = "fake", model = "second" }}]

[models.unset]
routes = [{{ backend = "secretless", model = "x" }}]

[models."any-*"]
routes = [{{ backend = "fake", model = "*" }}]
"""


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with Upstream(api_key=UPSTREAM_KEY).in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def _served(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    models = MODELS.format(url=_upstream.url, key=UPSTREAM_KEY)
    with serving(folder, models, first_event_s=10, idle_s=10, max_body_bytes=4 * 1024 * 1024) as site:
        yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The scripted upstream, its memory of requests empty."""
    _upstream.forget()
    return _upstream


@pytest.fixture
def eager(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    """Another, which soon tells who waits that it is still there."""
    with serving(tmp_path, MODELS.format(url=upstream.url, key=UPSTREAM_KEY), heartbeat_s=0.1) as site:
        yield site


@pytest.fixture
def served(_served: Served, upstream: Upstream) -> Served:
    """The gateway in front of it."""
    return _served
