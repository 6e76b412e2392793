"""A gateway with recipes for the tests of them, and the upstream that answers it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.pictures import question
from tests.fakes.upstream import Upstream
from tests.gateway.recipes import BLANK, MODELS
from tests.support.server import Served, serving


@pytest.fixture(scope="session")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def _site(_upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("recipes")
    with serving(folder, MODELS.format(url=_upstream.url), first_event_s=10, deadline_s=15) as site:
        site.chat("local-ocr-vision", messages=question(BLANK))  # the engine starts once for all
        yield site


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    _upstream.forget()
    return _upstream


@pytest.fixture
def site(_site: Served, upstream: Upstream) -> Served:
    return _site
