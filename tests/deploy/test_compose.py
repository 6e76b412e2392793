from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from app.commands.draining_server import ENDING_S
from app.config.settings import Settings, variable
from tests.deploy.dockerfile import parse

ROOT = Path(__file__).resolve().parents[2]
IMAGE = parse((ROOT / "Dockerfile").read_text(encoding="utf-8"))[-1]
SCHEMA = json.loads(Path(__file__).with_name("compose.schema.json").read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def test_the_file_is_what_the_compose_specification_allows() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator(SCHEMA).validate(compose())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", ["8000:8000"]),
        ("ports", [8000]),
        ("stop_grace_period", 30),
        ("mem_limit", "2 gigabytes"),
        ("restart", "maybe"),
    ],
)
def test_the_schema_refuses_what_compose_would(key: str, value: object) -> None:
    document = compose()
    document["services"]["tuwen"][key] = value
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(document)


def test_running_answers_may_end_before_the_engine_kills() -> None:
    grace = compose()["services"]["tuwen"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["drain_s"].default + 2 * ENDING_S


def test_it_agrees_with_the_image() -> None:
    document = compose()
    service = document["services"]["tuwen"]
    set_in_image = IMAGE.last("ENV").pairs
    assert {name: set_in_image[name] for name in service["environment"]} == service["environment"]
    assert service["ports"][0].endswith(f":{IMAGE.last('EXPOSE').text}")
    named, mounted = service["volumes"][0].split(":")
    assert mounted == IMAGE.last("VOLUME").text
    assert named in document["volumes"]


def test_it_names_settings_that_exist() -> None:
    known = {variable(name) for name in Settings.model_fields}
    assert known >= compose()["services"]["tuwen"]["environment"].keys()
    assert known >= {name for name in IMAGE.last("ENV").pairs if name.startswith("TUWEN_")}


def test_the_container_has_no_rights_it_does_not_need_and_is_not_open_to_the_network() -> None:
    service = compose()["services"]["tuwen"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
