"""What a section of models.toml makes of a provider's row."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from app.backends.base import Capabilities
from app.backends.openai_codes import CODES
from app.backends.providers import PROVIDERS
from app.backends.registry import spec_of
from app.core.secret import Censor

SECTION = {"base_url": "http://vendor.test/v1"}


def able(provider: str, model: str, **section: Any) -> Capabilities:
    spec = spec_of("openai")
    return spec.capabilities(spec.options.model_validate({**SECTION, "provider": provider, **section}), model)


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_row_makes_a_section(provider: str) -> None:
    capabilities = able(provider, "some-model")
    assert capabilities.streaming
    assert (capabilities.max_images >= 1) == (provider != "iflytek"), "of all services only that one sees nothing"
    assert capabilities.image_rules.formats[0] == "jpeg"


def test_every_code_table_belongs_to_a_provider() -> None:
    assert CODES.keys() <= PROVIDERS.keys()


def test_the_section_overrides_the_row() -> None:
    assert able("zhipu", "glm-4.5v").json_object is False
    assert able("zhipu", "glm-4.5v", json_object=True).json_object is True
    assert able("zhipu", "glm-4.5v", json_object=True).json_schema is False


def test_one_image_rule_can_be_set_without_the_others() -> None:
    row = able("ark", "doubao").image_rules
    rules = able("ark", "doubao", image_rules={"max_side_px": 2048}).image_rules
    assert rules.max_side_px == 2048
    assert rules.min_side_px == row.min_side_px == 15


def test_a_text_only_service_sees_nothing() -> None:
    assert able("generic", "m", vision=False).max_images == 0


def test_models_of_one_provider_differ() -> None:
    flash, plus, newer = (able("zhipu", name) for name in ("GLM-4V-Flash", "glm-4v-plus-0111", "glm-4.5v"))
    assert (flash.max_images, plus.max_images) == (1, 5)
    assert (flash.image_input, plus.image_input) == ("url", "bytes")
    assert not plus.system_role
    assert newer.system_role


def test_parameters_beside_a_picture_may_be_passed_too() -> None:
    assert {"min_pixels", "vl_high_resolution_images"} <= able("dashscope", "qwen-vl-max").extra


def test_token_probabilities_are_never_promised() -> None:
    assert not {"logprobs", "top_logprobs", "n"} & able("generic", "m").knobs


@pytest.mark.parametrize(
    ("kind", "section", "at", "says"),
    [
        ("openai", {**SECTION, "provider": "openay"}, "provider", "no such provider"),
        ("openai", {**SECTION, "provider": ["zhipu"]}, "provider", "string"),
        ("openai", {**SECTION, "tols": True}, "tols", "not permitted"),
        ("openai", {**SECTION, "tools": "perhaps"}, "tools", "boolean"),
        ("openai", {**SECTION, "image_rules": {"max_side": 1}}, "image_rules", "no such rule: max_side"),
        ("openai", {}, "base_url", "required"),
        ("qianfan", {}, "api_key", "required"),
        ("qianfan", {"api_key": "k", "provider": "zhipu"}, "provider", "not permitted"),
    ],
)
def test_a_mistake_in_a_section_is_found_where_it_stands(
    kind: str, section: dict[str, Any], at: str, says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_of(kind).options.model_validate(section)
    (error,) = caught.value.errors()
    assert error["loc"][0] == at
    assert says in error["msg"].lower()


def test_keys_do_not_show_in_a_printed_section() -> None:
    options = spec_of("qianfan").options.model_validate({"api_key": "bce-v3/secret"})
    assert "secret" not in repr(options)


def test_credentials_in_an_address_are_secrets_too() -> None:
    """They are sent as HTTP Basic, and a backend may repeat them in base64."""
    options = spec_of("openai").options(base_url="https://me:p%40ssword-1@h/v1")
    sent = base64.b64encode(b"me:p@ssword-1").decode()
    assert sent[:12] not in Censor(options.secrets)(f"I know {sent} well")
    assert Censor(options.secrets)("I know p@ssword-1 well") == "I know *** well"


def test_qianfan_takes_what_its_pages_say() -> None:
    spec = spec_of("qianfan")
    capabilities = spec.capabilities(spec.options.model_validate({"api_key": "k"}), "deepseek-vl2")
    assert capabilities.image_rules.formats == ("jpeg", "png", "bmp")
    assert capabilities.image_rules.min_side_px == 5
    assert capabilities.image_input == "bytes"
    assert "penalty_score" in capabilities.extra
