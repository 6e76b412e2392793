"""The catalogue that comes with the program."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from app.config.catalog import Catalog, Model
from app.config.catalog_file import CatalogFiles, built_in_file, load_catalog
from app.core.money import FREE, Tariff
from tests.config.conftest import Desk

TOP = Path(__file__).parents[2]
KEYS = {
    name: "https://llm.example/v1" if name.endswith("_URL") else "a-key"
    for name in re.findall(r"env::([A-Z_]+)\"", (TOP / "models.toml").read_text(encoding="utf-8"))
}

# id: context, rpm, tpm, concurrency, yuan per million input and output tokens in micro-yuan, alias
AGGREGATOR_PAGE = {
    "Qwen2.5-VL-72B-Instruct": (131_072, 120, 500_000, None, 16_000_000, 48_000_000, "qwen2.5-vl-72b-vision"),
    "Qwen2.5-VL-32B-Instruct": (131_072, 60, 100_000, None, 8_000_000, 24_000_000, "qwen2.5-vl-32b-vision"),
    "Qwen2.5-VL-7B-Instruct": (131_072, 1200, 1_000_000, None, 2_000_000, 5_000_000, "qwen2.5-vl-7b-vision"),
    "Qwen2.5-VL-3B-Instruct": (131_072, 1200, 1_000_000, None, 1_200_000, 3_600_000, "qwen2.5-vl-3b-vision"),
    "GLM-4V-Flash": (4_096, None, None, 30, 0, 0, "glm-4v-flash-vision"),
    "GLM-4V": (8_192, None, None, 30, 50_000_000, 50_000_000, "glm-4v-vision"),
    "GLM-4V-Plus": (8_192, None, None, 10, 4_000_000, 4_000_000, "glm-4v-plus-vision"),
    "ERNIE-4.5-Turbo-32K": (32_768, 1000, 200_000, None, 4_290_000, 12_860_000, "ernie-4.5-turbo-32k-vision"),
}

# LobeChat hides ids that hold the first kind and takes the second for painters
HIDDEN_BY_CLIENTS = (
    "ada", "tts", "davinci", "curie", "babbage", "whisper", "embed", "moderation", "dall-e", "audio",
    "sd", "flux", "-image",
)  # fmt: skip


@pytest.fixture
def built_in(desk: Desk) -> Catalog:
    return load_catalog(CatalogFiles(built_in_file(), desk.operator), KEYS)


def found(catalog: Catalog, model_id: str) -> Model:
    model = catalog.find(model_id)
    assert model is not None, f"{model_id} is not in the catalogue"
    return model


@pytest.mark.parametrize("model_id", AGGREGATOR_PAGE)
def test_the_models_of_the_aggregator_have_the_numbers_of_its_page(built_in: Catalog, model_id: str) -> None:
    context, rpm, tpm, concurrency, input_price, output_price, alias = AGGREGATOR_PAGE[model_id]
    model = found(built_in, model_id)
    assert model.context_tokens == context
    assert (model.limits.rpm, model.limits.tpm, model.limits.concurrency) == (rpm, tpm, concurrency)
    assert model.tariff == Tariff(input_per_million=input_price, output_per_million=output_price)
    assert found(built_in, alias) is model
    assert model.vision
    assert [(route.backend.name, route.model) for route in model.routes] == [("aggregator", model_id)]


@pytest.mark.parametrize(
    "model_id",
    [
        "deepseek-vl2",
        "deepseek-vl2-small",
        "ernie-4.5-turbo-vl",
        "ernie-4.5-turbo-vl-32k",
        "qwen-vl-plus",
        "qwen-vl-max",
        "qwen3-vl-plus",
        "qwen2.5-vl-72b-instruct",
        "glm-4v-flash",
        "glm-4v-plus",
        "glm-4.5v",
        "doubao-seed-1-6-vision-250815",
        "local-ocr-vision",
    ],
)
def test_the_models_people_ask_for_are_there(built_in: Catalog, model_id: str) -> None:
    assert found(built_in, model_id).available


def test_no_id_holds_what_clients_hide_and_every_model_has_an_id_they_know_as_seeing(built_in: Catalog) -> None:
    for model in built_in.models:
        ids = (model.id, *model.aliases)
        sees = model.recipe is not None or any(route.vision for route in model.routes)
        assert any(name.endswith("-vision") for name in ids) == sees, ids
        assert not [bad for bad in HIDDEN_BY_CLIENTS for name in ids if bad in name.lower()], ids


def test_every_tariff_is_stated(built_in: Catalog) -> None:
    sections = tomllib.loads((TOP / "models.toml").read_text(encoding="utf-8"))["models"]
    unstated = [name for name, section in sections.items() if "tariff" not in section and "recipe" not in section]
    assert unstated == []
    assert found(built_in, "local-ocr-vision").tariff == FREE
    assert found(built_in, "deepseek-vl2").tariff is None


def test_with_no_key_at_all_the_embedded_engine_answers(desk: Desk) -> None:
    catalog = load_catalog(CatalogFiles(built_in_file(), desk.operator), {})
    assert [model.id for model in catalog.listed()] == ["local-ocr-vision", "chatocr-vision", "chatocr"]
    assert catalog.backends["aggregator"].missing_env == ("AGGREGATOR_BASE_URL", "AGGREGATOR_API_KEY")


def test_every_picture_route_takes_pictures(built_in: Catalog) -> None:
    routes = [(model.id, route) for model in built_in.models for route in model.routes if route.vision]
    blind = [name for name, route in routes if route.capabilities.max_images == 0]
    assert blind == []


def test_the_servers_in_the_comments_can_be_taken_over_as_they_stand(desk: Desk) -> None:
    text = (TOP / "models.toml").read_text(encoding="utf-8")
    own = text.split("# Servers of your own.")[1].split("# -----")[0]
    example = "\n".join(line.removeprefix("#   ") for line in own.splitlines() if line.startswith("#   "))
    catalog = load_catalog(_with(desk, example), {})
    assert {"ollama", "vllm", "lmstudio"} <= catalog.backends.keys()
    assert found(catalog, "my-vision").available


def _with(desk: Desk, text: str) -> CatalogFiles:
    desk.operator.write_text(text, encoding="utf-8")
    return CatalogFiles(built_in_file(), desk.operator)
