"""The operator's file over the built-in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.catalog_file import CatalogFiles, built_in_file, load_catalog
from app.config.errors import ConfigError
from app.core.money import FREE
from tests.config.conftest import Desk


def test_without_a_file_of_the_operator_the_built_in_one_stands(desk: Desk) -> None:
    assert [model.id for model in desk.load().models] == ["qwen-vl", "local-ocr-vision"]


def test_an_operators_model_is_added(desk: Desk) -> None:
    catalog = desk.load_with('[models."mine"]\nroutes = [{ backend = "qwen", model = "x" }]\n')
    assert [model.id for model in catalog.models] == ["qwen-vl", "local-ocr-vision", "mine"]


def test_a_section_without_routes_amends_the_built_in_model_key_by_key(desk: Desk) -> None:
    model = desk.load_with('[models."qwen-vl"]\ntariff = "free"\n').find("qwen-vl")
    assert model is not None
    assert model.tariff == FREE
    assert model.aliases == ("qwen-vl-vision",)
    assert len(model.routes) == 2


def test_a_section_with_routes_replaces_the_built_in_model(desk: Desk) -> None:
    model = desk.load_with('[models."qwen-vl"]\nroutes = [{ backend = "ocr", model = "x" }]\n').find("qwen-vl")
    assert model is not None
    assert model.tariff is None
    assert model.aliases == ()


def test_a_section_without_kind_amends_the_built_in_backend(desk: Desk) -> None:
    backend = desk.load_with("[backends.qwen]\nlimits = { concurrency = 2 }\n").backends["qwen"]
    assert backend.limits.concurrency == 2
    assert backend.configured


def test_a_section_with_kind_replaces_the_built_in_backend(desk: Desk) -> None:
    desk.environ = {}
    backend = desk.load_with('[backends.qwen]\nkind = "ocr"\n').backends["qwen"]
    assert (backend.kind, backend.configured) == ("ocr", True)


def test_a_hidden_model_is_gone(desk: Desk) -> None:
    catalog = desk.load_with('[models."qwen-vl"]\nhidden = true\n')
    assert catalog.find("qwen-vl") is None
    assert catalog.find("qwen-vl-vision") is None


def test_a_hidden_backend_takes_its_routes_and_the_models_left_without_any(desk: Desk) -> None:
    catalog = desk.load_with("[backends.ocr]\nhidden = true\n")
    model = catalog.find("qwen-vl")
    assert model is not None
    assert [route.backend.name for route in model.routes] == ["qwen"]
    assert catalog.find("local-ocr-vision") is None
    assert list(catalog.backends) == ["qwen"]


def test_the_operators_names_win_over_built_in_ones(desk: Desk) -> None:
    catalog = desk.load_with(
        '[models."qwen-vl-vision"]\nroutes = [{ backend = "ocr", model = "a" }]\naliases = ["local-ocr-vision"]\n'
    )
    mine, theirs = catalog.find("local-ocr-vision"), catalog.find("qwen-vl")
    assert mine is not None
    assert theirs is not None
    assert mine.id == "qwen-vl-vision"
    assert theirs.aliases == ()
    assert [model.id for model in catalog.models] == ["qwen-vl", "qwen-vl-vision"]


def test_a_file_that_was_named_must_be_there(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"^TUWEN_MODELS_FILE: there is no file nowhere\.toml$"):
        load_catalog(CatalogFiles(desk.built_in, Path("nowhere.toml"), operator_required=True), {})


def test_a_file_that_was_not_named_is_looked_for_beside_the_process(desk: Desk) -> None:
    assert CatalogFiles.of(None) == CatalogFiles(built_in_file(), Path("models.local.toml"))
    assert CatalogFiles.of(Path("x.toml")) == CatalogFiles(built_in_file(), Path("x.toml"), operator_required=True)


def test_a_byte_order_mark_and_windows_line_ends_are_read(desk: Desk) -> None:
    desk.operator.write_bytes(b'\xef\xbb\xbf[models."m"]\r\nroutes = [{ backend = "ocr", model = "x" }]\r\n')
    assert desk.load().find("m") is not None
