"""The catalogue as plain rows, for `tuwen backends` and `tuwen check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.config.catalog import Catalog, Model, Recipe
from app.core.money import FREE, Prices, Tariff, format_yuan


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend.

    Args:
        missing_env: variables to set before it can be used; empty when it is configured.
        models: ids of the models that have a route to it.
    """

    name: str
    kind: str
    configured: bool
    missing_env: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoutingRow:
    """One route of one model; of a recipe, one way to put it together: the first usable one is taken.

    Args:
        rank: 1 for the route tried first; equal routes have the same.
        weight: its share among equal routes; `None` where it has no equal.
        backend: `recipe` where it is none.
        remote_model: the backend's own name of the model; `*` passes the caller's on; of a recipe `reader → answer`.
        usable: whether its backend is configured.
        tariff: in words: prices in yuan per million tokens, `free` or `unknown`; of a recipe `by step`.
        missing_env: variables to set before it can be used.
    """

    model: str
    aliases: tuple[str, ...]
    rank: int
    backend: str
    remote_model: str
    usable: bool
    tariff: str
    missing_env: tuple[str, ...] = ()
    weight: int | None = None


def backend_rows(catalog: Catalog) -> Sequence[BackendRow]:
    """All backends, in the order of the file."""
    return [
        BackendRow(
            name=backend.name,
            kind=backend.kind,
            configured=backend.configured,
            missing_env=backend.missing_env,
            models=tuple(
                model.id
                for model in catalog.models
                if any(route.backend.name == backend.name for route in model.routes)
            ),
        )
        for backend in catalog.backends.values()
    ]


def routing_rows(catalog: Catalog) -> Sequence[RoutingRow]:
    """All routes of all models and all ways of all recipes, in the order of the file, those not usable included."""
    return [row for model in catalog.models for row in _rows_of(model)]


def _rows_of(model: Model) -> Iterator[RoutingRow]:
    return _route_rows(model) if model.recipe is None else _ways(model, model.recipe)


def _route_rows(model: Model) -> Iterator[RoutingRow]:
    ranks = [route.rank for route in model.routes]
    dense = {rank: place for place, rank in enumerate(dict.fromkeys(ranks), start=1)}
    for route in model.routes:
        yield RoutingRow(
            model=model.id,
            aliases=model.aliases,
            rank=dense[route.rank],
            backend=route.backend.name,
            remote_model=route.model,
            usable=route.backend.configured,
            tariff=tariff_words(model.tariff),
            missing_env=route.backend.missing_env,
            weight=route.weight if ranks.count(route.rank) > 1 else None,
        )


def _ways(model: Model, recipe: Recipe) -> Iterator[RoutingRow]:
    """A recipe's answering models in their order; last the reader alone, whose text is the answer where none can."""
    ways = [(recipe.ocr, answer) for answer in recipe.answers] + [(recipe.ocr,)]
    for rank, steps in enumerate(ways, start=1):
        missing = [name for step in steps if not step.available for name in _missing_env(step)]
        yield RoutingRow(
            model=model.id,
            aliases=model.aliases,
            rank=rank,
            backend="recipe",
            remote_model=" → ".join(step.id for step in steps),
            usable=all(step.available for step in steps),
            tariff="by step",
            missing_env=tuple(dict.fromkeys(missing)),
        )


def _missing_env(model: Model) -> Sequence[str]:
    return [name for route in model.routes for name in route.backend.missing_env]


def tariff_words(tariff: Tariff | None) -> str:
    """A tariff as one reads it: `in 4.29, out 12.86`, `0.02 a picture`, `free`, `unknown`; its tiers behind it, as
    `from 1000000 tokens in 3.00, out 9.00`."""
    if tariff is None:
        return "unknown"
    if tariff == FREE:
        return "free"
    tiers = [f"from {tier.from_units} {tariff.volume} {_price_words(tier.prices)}" for tier in tariff.tiers]
    return "; ".join([_price_words(tariff), *tiers])


def _price_words(tariff: Prices) -> str:
    prices = []
    if tariff.input_per_million or tariff.output_per_million:
        prices += [f"in {_yuan(tariff.input_per_million)}", f"out {_yuan(tariff.output_per_million)}"]
    if tariff.cached_per_million is not None:
        prices.append(f"cached {_yuan(tariff.cached_per_million)}")
    if tariff.per_image:
        prices.append(f"{_yuan(tariff.per_image)} a picture")
    if tariff.per_call:
        prices.append(f"{_yuan(tariff.per_call)} a call")
    return ", ".join(prices) or "free"


def _yuan(micros: int) -> str:
    """Without the zeros at the end, but with the two decimals of a price: `4.29`, `16.00`, `0.001`."""
    yuan, decimals = format_yuan(micros).split(".")
    return f"{yuan}.{decimals.rstrip('0').ljust(2, '0')}"
