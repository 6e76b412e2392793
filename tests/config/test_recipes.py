"""Recipes in the catalogue: what they are put together from, and the mistakes in writing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.report import RoutingRow, routing_rows
from tests.config.conftest import ENVIRON, Desk

RECIPE = """
[models.mixed]
recipe = { ocr = "local-ocr-vision", answer = ["qwen-vl-vision"] }
aliases = ["mix"]
"""


def mixed(desk: Desk, text: str = RECIPE) -> list[RoutingRow]:
    return [row for row in routing_rows(desk.load_with(text)) if row.model == "mixed"]


def test_recipe_names_models_by_id_or_alias(desk: Desk) -> None:
    model = desk.load_with(RECIPE).find("mix")
    assert model is not None
    assert model.recipe is not None
    assert (model.recipe.ocr.id, [answer.id for answer in model.recipe.answers]) == ("local-ocr-vision", ["qwen-vl"])
    assert model.available
    assert model.vision
    assert [entry.id for entry in desk.load().listed() if entry.recipe] == ["mixed", "mix"]


def test_rows_of_a_recipe_are_its_ways_in_order_and_last_the_text_itself(desk: Desk) -> None:
    text = RECIPE.replace('"qwen-vl-vision"]', '"far-vision", "qwen-vl"]') + (
        '[backends.far]\nkind = "openai"\nbase_url = "env::FAR_URL"\napi_key = "env::FAR_KEY"\n'
        '[models.far-vision]\nroutes = [{ backend = "far", model = "a" }, { backend = "far", model = "b" }]\n'
    )
    ways = [(row.rank, row.remote_model, row.usable, row.missing_env) for row in mixed(desk, text)]
    assert ways == [
        (1, "local-ocr-vision → far-vision", False, ("FAR_URL", "FAR_KEY")),
        (2, "local-ocr-vision → qwen-vl", True, ()),
        (3, "local-ocr-vision", True, ()),
    ]
    assert {(row.backend, row.tariff, row.aliases) for row in mixed(desk, text)} == {("recipe", "by step", ("mix",))}


def test_answering_model_with_one_usable_route_of_two_lacks_nothing(desk: Desk) -> None:
    desk.environ = {}
    assert [(row.remote_model, row.usable, row.missing_env) for row in mixed(desk)] == [
        ("local-ocr-vision → qwen-vl", True, ()),
        ("local-ocr-vision", True, ()),
    ]


def test_recipe_whose_reader_is_not_configured_is_not_listed(desk: Desk) -> None:
    text = RECIPE + '[models.far]\nroutes = [{ backend = "qwen", model = "x" }]\n'
    desk.environ = {}
    catalog = desk.load_with(text.replace('ocr = "local-ocr-vision"', 'ocr = "far"'))
    assert "mixed" not in [model.id for model in catalog.listed()]
    [first, alone] = [row for row in routing_rows(catalog) if row.model == "mixed"]
    assert (first.usable, first.missing_env) == (alone.usable, alone.missing_env) == (False, ("QWEN_KEY",))


def test_unknown_models_are_told_with_what_may_have_been_meant(desk: Desk) -> None:
    text = RECIPE.replace('"local-ocr-vision"', '"local-ocr-visoin"').replace('"qwen-vl-vision"]', '"nobody-x"]')
    first, second = desk.complaints_about(text)
    assert 'models.mixed.recipe.ocr: unknown model "local-ocr-visoin"; did you mean local-ocr-vision?' in first
    assert 'unknown model "nobody-x"; `tuwen check` lists them' in second


def test_each_part_of_a_recipe_is_a_model_or_a_list_of_which_the_first_configured_does(desk: Desk) -> None:
    one = RECIPE.replace('["qwen-vl-vision"]', '"qwen-vl-vision"')
    assert [row.remote_model for row in mixed(desk, one)] == ["local-ocr-vision → qwen-vl", "local-ocr-vision"]
    several = RECIPE.replace('"local-ocr-vision"', '["far-vision", "local-ocr-vision"]') + (
        '[backends.far]\nkind = "openai"\nbase_url = "http://far.test"\napi_key = "env::FAR_KEY"\n'
        '[models.far-vision]\nroutes = [{ backend = "far", model = "a" }]\n'
    )
    for environ, reader in (({}, "local-ocr-vision"), ({"FAR_KEY": "k"}, "far-vision")):
        desk.environ = environ
        assert mixed(desk, several)[-1].remote_model == reader


@pytest.mark.parametrize("key", ['tariff = "free"', 'multi_image = "montage"', 'text_model = "t"', "vision = false"])
def test_keys_that_do_nothing_beside_a_recipe_are_told(desk: Desk, key: str) -> None:
    text = RECIPE.replace("recipe =", f"{key}\nrecipe =")
    [complaint] = desk.complaints_about(text)
    assert f"{key.split(maxsplit=1)[0]} does nothing beside a recipe" in complaint


@pytest.mark.parametrize("name", ["mixed", "mix"])
def test_recipe_of_a_recipe_is_refused(desk: Desk, name: str) -> None:
    text = RECIPE + f'[models.twice]\nrecipe = {{ ocr = "local-ocr-vision", answer = ["{name}"] }}\n'
    [complaint] = desk.complaints_about(text)
    assert f'"{name}" is a recipe itself; name a model that has routes' in complaint


def test_recipe_of_whatever_a_wildcard_stands_for_is_refused(desk: Desk) -> None:
    far = '[backends.far]\nkind = "openai"\nbase_url = "http://far.test"\n'
    wild = '[models."far/*"]\nroutes = [{ backend = "far", model = "*" }]\n'
    [complaint] = desk.complaints_about(RECIPE.replace('["qwen-vl-vision"]', '"far/*"') + far + wild)
    assert '"far/*" stands for many models; name one' in complaint


def test_model_has_routes_or_a_recipe(desk: Desk) -> None:
    [complaint] = desk.complaints_about(RECIPE + 'routes = [{ backend = "ocr", model = "rapidocr" }]\n')
    assert "has routes and a recipe; a model has one of them" in complaint


def test_recipe_without_a_reader_is_refused(desk: Desk) -> None:
    [complaint] = desk.complaints_about('[models.mixed]\nrecipe = { answer = ["qwen-vl"] }\n')
    assert "models.mixed.recipe.ocr" in complaint


BUILT_IN = Path(__file__).parents[2] / "models.toml"
NO_FILE = Path("no such file")


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({}, None),
        ({"DASHSCOPE_API_KEY": "sk-of-a-test"}, "qwen-vl-plus"),
        ({"QIANFAN_API_KEY": "bce-v3/ALTAK-a/b"}, "ernie-4.5-turbo-vl-32k"),
        ({"ZHIPU_API_KEY": "id.secret-of-a-test"}, "glm-4.5v"),
    ],
)
def test_built_in_chatocr_answers_with_whatever_is_configured(environ: dict[str, str], answer: str | None) -> None:
    model = load_catalog(CatalogFiles(BUILT_IN, NO_FILE), environ).find("chatocr")
    assert model is not None
    assert model.recipe is not None
    assert (model.id, model.available, model.vision) == ("chatocr-vision", True, True)
    assert (model.recipe.answer.id if model.recipe.answer else None) == answer


def test_models_of_the_built_in_recipe_all_see(desk: Desk) -> None:
    assert ENVIRON
    environ = dict.fromkeys(("DASHSCOPE_API_KEY", "QIANFAN_API_KEY", "ZHIPU_API_KEY"), "sk-of-a-test")
    model = load_catalog(CatalogFiles(BUILT_IN, NO_FILE), environ).find("chatocr-vision")
    assert model is not None
    assert model.recipe is not None
    assert all(answer.vision for answer in model.recipe.answers if answer.available)
