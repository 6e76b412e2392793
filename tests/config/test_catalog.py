"""What the catalogue answers once it is read."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from app.backends.base import Capabilities
from app.core.errors import BackendMisconfigured
from app.core.money import FREE, Tariff
from tests.config.conftest import Desk

WILDCARDS = """
[models."flt-*"]
routes = [{ backend = "qwen", model = "*" }]

[models."flt-deep-*"]
routes = [{ backend = "ocr", model = "rapidocr" }, { backend = "qwen", model = "*" }]
"""


def test_a_model_is_found_by_its_id_and_by_its_alias(desk: Desk) -> None:
    catalog = desk.load()
    model = catalog.find("qwen-vl")
    assert model is not None
    assert model is catalog.find("qwen-vl-vision")
    assert model.id == "qwen-vl"
    assert catalog.find("qwen") is None


def test_routes_keep_their_order_and_prices_are_micro_yuan(desk: Desk) -> None:
    model = desk.load().find("qwen-vl")
    assert model is not None
    assert [(route.backend.name, route.model) for route in model.routes] == [
        ("qwen", "qwen-vl-plus"),
        ("ocr", "rapidocr"),
    ]
    assert model.tariff == Tariff(input_per_million=4_290_000, output_per_million=12_860_000)
    assert model.owned_by == "qwen"
    assert model.created == 1_735_689_600


def test_a_configured_route_has_the_capabilities_of_its_kind_and_makes_translators(desk: Desk) -> None:
    model = desk.load().find("qwen-vl")
    assert model is not None
    route = model.usable_routes[0]
    assert route.capabilities.streaming
    assert route.translator() is not route.translator()


def test_a_secret_comes_from_the_environment_and_is_not_shown(desk: Desk) -> None:
    desk.environ = {"QWEN_KEY": "sk-of-a-test\n"}
    catalog = desk.load()
    options = catalog.backends["qwen"].options
    assert options is not None
    secret: SecretStr = options.api_key  # type: ignore[attr-defined]  # the options of the kind `openai`
    assert secret.get_secret_value() == "sk-of-a-test"
    assert "sk-of-a-test" not in repr(catalog)


@pytest.mark.parametrize("environ", [{}, {"QWEN_KEY": ""}, {"QWEN_KEY": " \n"}])
def test_a_backend_without_its_secret_is_not_configured(desk: Desk, environ: dict[str, str]) -> None:
    desk.environ = environ
    catalog = desk.load()
    backend = catalog.backends["qwen"]
    assert not backend.configured
    assert backend.missing_env == ("QWEN_KEY",)
    model = catalog.find("qwen-vl")
    assert model is not None
    assert [route.backend.name for route in model.usable_routes] == ["ocr"]
    assert model.routes[0].capabilities == Capabilities()
    with pytest.raises(BackendMisconfigured) as refused:
        model.routes[0].translator()
    assert refused.value.backend == "qwen"


def test_a_variable_that_is_missing_is_no_mistake_even_where_a_number_is_wanted(desk: Desk) -> None:
    backend = desk.load_with('[backends.qwen]\nmax_images = "env::HOW_MANY"\n').backends["qwen"]
    assert backend.missing_env == ("HOW_MANY",)


def test_a_model_without_a_configured_backend_is_found_but_not_listed(desk: Desk) -> None:
    desk.environ = {}
    catalog = desk.load_with('[models."only-qwen"]\nroutes = [{ backend = "qwen", model = "x" }]\n')
    model = catalog.find("only-qwen")
    assert model is not None
    assert not model.available
    assert "only-qwen" not in [model.id for model in catalog.listed()]


def test_every_variable_that_is_missing_is_named(desk: Desk) -> None:
    text = """
        [backends.far]
        kind = "openai"
        base_url = "env::FAR_URL"
        api_key = "env::FAR_KEY"
        headers = { x-team = "env::FAR_TEAM", x-key = "env::FAR_KEY" }
    """
    assert desk.load_with(text).backends["far"].missing_env == ("FAR_URL", "FAR_KEY", "FAR_TEAM")


def test_listed_are_ids_and_aliases_and_no_wildcards(desk: Desk) -> None:
    listed = desk.load_with(WILDCARDS).listed()
    assert [model.id for model in listed] == ["qwen-vl", "qwen-vl-vision", "local-ocr-vision"]
    assert [model.name for model in listed] == ["qwen-vl", "qwen-vl", "local-ocr-vision"]


def test_a_wildcard_passes_the_callers_model_on_and_the_longest_prefix_wins(desk: Desk) -> None:
    catalog = desk.load_with(WILDCARDS)
    short, long = catalog.find("flt-tiny"), catalog.find("flt-deep-1")
    assert short is not None
    assert long is not None
    assert (short.id, short.name) == ("flt-tiny", "flt-tiny")
    assert [route.model for route in short.routes] == ["flt-tiny"]
    assert [route.model for route in long.routes] == ["rapidocr", "flt-deep-1"]
    assert [route.model for route in long.usable_routes] == ["rapidocr", "flt-deep-1"]
    assert not short.wildcard
    assert catalog.find("flt-") is None
    assert catalog.find("fl") is None


def test_an_exact_id_wins_over_a_wildcard(desk: Desk) -> None:
    catalog = desk.load_with('[models."qwen*"]\nroutes = [{ backend = "qwen", model = "*" }]\n')
    exact, any_other = catalog.find("qwen-vl"), catalog.find("qwen-vl-2")
    assert exact is not None
    assert any_other is not None
    assert exact.routes[0].model == "qwen-vl-plus"
    assert any_other.routes[0].model == "qwen-vl-2"


def test_a_section_may_say_all_there_is_to_say(desk: Desk) -> None:
    model = desk.load_with(
        """
        [models."full"]
        routes = [{ backend = "ocr", model = "rapidocr" }]
        tariff = { per_image = "0.02", per_call = "0.1", cached_per_million = "1", currency = "CNY" }
        limits = { rpm = 60, tpm = 1000, concurrency = 2 }
        context = 32768
        max_output = 4096
        name = "Full name"
        owned_by = "us"
        released = 2025-02-13
        image_tokens = "qwen3-vl"
        vision = false
        """
    ).find("full")
    assert model is not None
    assert model.tariff == Tariff(per_image=20_000, per_call=100_000, cached_per_million=1_000_000)
    assert (model.limits.rpm, model.limits.tpm, model.limits.concurrency) == (60, 1000, 2)
    assert (model.context_tokens, model.max_output_tokens) == (32_768, 4_096)
    assert (model.name, model.owned_by, model.created) == ("Full name", "us", 1_739_404_800)
    assert (model.image_tokens, model.vision) == ("qwen3-vl", False)


@pytest.mark.parametrize(("written", "tariff"), [('tariff = "free"', FREE), ('tariff = "unknown"', None), ("", None)])
def test_a_tariff_may_be_free_or_unknown(desk: Desk, written: str, tariff: Tariff | None) -> None:
    text = f'[models."m"]\nroutes = [{{ backend = "ocr", model = "rapidocr" }}]\n{written}\n'
    model = desk.load_with(text).find("m")
    assert model is not None
    assert model.tariff == tariff


def test_several_pictures_are_refused_unless_a_model_says_montage(desk: Desk) -> None:
    text = '[models."m"]\nroutes = [{ backend = "qwen", model = "x" }]\n'
    plain, laying_out = (desk.load_with(text + said).find("m") for said in ("", 'multi_image = "montage"\n'))
    assert plain is not None
    assert laying_out is not None
    assert (plain.routes[0].montage, laying_out.routes[0].montage) == (False, True)


def test_a_model_for_text_is_another_model_of_the_same_backend(desk: Desk) -> None:
    text = '[models."m"]\nroutes = [{ backend = "qwen", model = "eyes" }]\n'
    plain, split = (desk.load_with(text + said).find("m") for said in ("", 'text_model = "words"\n'))
    assert plain is not None
    assert split is not None
    assert plain.routes[0].for_text is plain.routes[0]
    route = split.routes[0].for_text
    assert (route.backend.name, route.model, route.capabilities.max_images) == ("qwen", "words", 0)
    assert split.vision
