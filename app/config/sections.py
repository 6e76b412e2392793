"""What a section of models.toml may hold. Checked here, at the edge; inside there are the dataclasses of `catalog`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from app.config.layers import Section
from app.config.locate import KeyPath
from app.config.problems import Problem, plain_words, unknown_key
from app.core.money import parse_yuan

_AMOUNT = re.compile(r"\d{1,9}(\.\d{1,6})?")
_BLANK = re.compile(r"\s")


def _amount(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError('a price stands in quotes, as "4.29", so that no digit is lost')  # noqa: TRY004 - pydantic asks for it
    if not _AMOUNT.fullmatch(value):
        raise ValueError('must be an amount in yuan, as "4.29", of at most six decimals')
    return parse_yuan(value)


def _tariff(value: object) -> object:
    match value:
        case "unknown":
            return None
        case "free":
            return TariffSection.model_validate({"input_per_million": "0", "output_per_million": "0"})
        case str():
            raise ValueError('must be a table of prices, "free" or "unknown"')
        case _:
            return value


def _name(value: object) -> object:
    if isinstance(value, str) and (not value or _BLANK.search(value)):
        raise ValueError("must not be empty or hold blanks")
    return value


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


Amount = Annotated[int, BeforeValidator(_amount)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_name)]
Names = Annotated[list[Name], BeforeValidator(_names)]
Volume = Literal["tokens", "pictures", "calls"]
MultiImage = Literal["refuse", "montage"]
ImageTokens = Literal["qwen2.5-vl", "qwen3-vl", "deepseek-vl2", "glm-4v", "ark", "spark-general"]


class SectionModel(BaseModel):
    """No unknown keys, and no value of one type read as another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LimitsSection(SectionModel):
    """What the vendor sold us."""

    rpm: Count | None = None
    tpm: Count | None = None
    concurrency: Count | None = None


class PaceSection(SectionModel):
    """A backend's `clocks`: seconds, where the process's own do not suit it."""

    connect_s: Seconds | None = None
    first_event_s: Seconds | None = None
    idle_s: Seconds | None = None


class PricesSection(SectionModel):
    """Prices in yuan, in quotes; read as micro-yuan."""

    input_per_million: Amount | None = None
    output_per_million: Amount | None = None
    cached_per_million: Amount | None = None
    per_image: Amount = 0
    per_call: Amount = 0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.input_per_million is None) != (self.output_per_million is None):
            raise ValueError("input_per_million and output_per_million go together")
        if self.input_per_million is None and not (self.per_image or self.per_call):
            raise ValueError('names no price; write "free" or "unknown" where there is none')
        return self


class TierSection(PricesSection):
    """One item of a tariff's `tiers`: all prices from a volume on."""

    from_units: Annotated[int, Field(ge=1, alias="from")]


class TariffSection(PricesSection):
    """A model's `tariff`."""

    currency: Literal["CNY"] = "CNY"
    volume: Volume = "tokens"
    tiers: list[TierSection] = []

    @model_validator(mode="after")
    def _rising(self) -> Self:
        edges = [tier.from_units for tier in self.tiers]
        if edges != sorted(set(edges)):
            raise ValueError("tiers stand in the order of their `from`, and no two have the same")
        if "volume" in self.model_fields_set and not edges:
            raise ValueError("volume does nothing without tiers; it says what their `from` counts")
        return self


class RouteSection(SectionModel):
    """One item of a model's `routes`."""

    backend: Name
    model: Name
    weight: Annotated[int, Field(ge=1, le=1000)] | None = None


class RecipeSection(SectionModel):
    """A model's `recipe`: the first configured model of `ocr` reads the pictures, that of `answer` answers."""

    ocr: Annotated[Names, Field(min_length=1)]
    answer: Names = []


class ModelSection(SectionModel):
    """`[models."id"]`."""

    routes: Annotated[list[RouteSection], Field(min_length=1)] = []
    recipe: RecipeSection | None = None
    multi_image: MultiImage = "refuse"
    text_model: Name | None = None
    tariff: Annotated[TariffSection | None, BeforeValidator(_tariff)] = None
    limits: LimitsSection = LimitsSection()
    context: Count | None = None
    max_output: Count | None = None
    owned_by: Name | None = None
    name: str | None = None
    aliases: list[Name] = []
    image_tokens: ImageTokens = "qwen2.5-vl"
    vision: bool = True
    released: date | None = None
    hidden: bool = False

    @model_validator(mode="after")
    def _served(self) -> Self:
        if self.recipe is not None and self.routes:
            raise ValueError("has routes and a recipe; a model has one of them")
        idle = self.model_fields_set & {"tariff", "multi_image", "text_model", "limits", "vision", "image_tokens"}
        if self.recipe is not None and idle:
            raise ValueError(f"{min(idle)} does nothing beside a recipe; it is the models of the recipe that say")
        return self


class BackendSection(SectionModel):
    """`[backends.NAME]` without the options of its kind, and without its accounts."""

    kind: str
    limits: LimitsSection = LimitsSection()
    clocks: PaceSection = PaceSection()
    hidden: bool = False


SectionT = TypeVar("SectionT", bound=SectionModel)

_INNER: Mapping[str, type[SectionModel]] = {
    "clocks": PaceSection,
    "limits": LimitsSection,
    "recipe": RecipeSection,
    "routes": RouteSection,
    "tariff": TariffSection,
    "tiers": TierSection,
}


def checked(
    schema: type[SectionT], values: Mapping[str, Any], section: Section, problems: list[Problem]
) -> SectionT | None:
    """Reads a section; `None` where it is wrong, which is added to `problems`."""
    try:
        return schema.model_validate(values)
    except ValidationError as failure:
        for error in failure.errors(include_url=False, include_input=False):
            path: KeyPath = error["loc"]
            text = _unknown(schema, path, values) if error["type"] == "extra_forbidden" else plain_words(error)
            problems.append(section.problem(path, text))
        return None


def _unknown(schema: type[SectionModel], path: KeyPath, values: Mapping[str, Any]) -> str:
    *parents, key = path
    if not parents and isinstance(values[str(key)], dict):
        return 'unknown key; a name with dots stands in quotes, as [models."qwen2.5-vl"]'
    holder = _INNER["tiers" if "tiers" in parents else str(parents[0])] if parents else schema
    return unknown_key(str(key), [field.alias or name for name, field in holder.model_fields.items()])
