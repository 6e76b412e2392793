"""`tuwen check`: whether the configuration holds, and where each model's requests go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer

from app.commands.tables import print_table
from app.config.catalog import Catalog, Limits
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.environment import read_environment
from app.config.report import RoutingRow, routing_rows
from app.config.settings import load_settings, mistyped_variables


def check(*, as_json: bool) -> None:
    """Prints the routing table.

    Raises:
        ConfigError: the settings or the catalogue are wrong; one line per problem.
    """
    catalog = configured_catalog()
    rows = routing_rows(catalog)
    if as_json:
        typer.echo(json.dumps([_record(row, catalog) for row in rows], ensure_ascii=False, indent=2))
        return
    print_table(("MODEL", "", "BACKEND", "ITS MODEL", "STATE", "TARIFF (YUAN)", "LIMITS"), _cells(rows, catalog))
    usable = {row.model for row in rows if row.usable}
    typer.echo(f"\nThe configuration is sound. {len(usable)} of {len(catalog.models)} models can be asked.")


def configured_catalog() -> Catalog:
    """The catalogue as a gateway started here would have it. Variables that look like mistyped settings are named on
    stderr.

    Raises:
        ConfigError: the settings or the catalogue are wrong.
    """
    settings = load_settings()
    environment = read_environment()
    warn_of_mistyped(environment)
    return load_catalog(CatalogFiles.of(settings.models_file), environment)


def warn_of_mistyped(environment: Mapping[str, str]) -> None:
    """Names variables that look like mistyped settings on stderr."""
    for name, meant in mistyped_variables(environment).items():
        typer.echo(f"{name} is no setting and does nothing; did you mean {meant}?", err=True)


def state_in_words(missing_env: Sequence[str]) -> str:
    """Whether a backend can be asked, and if not, what to do."""
    return f"set {', '.join(missing_env)}" if missing_env else "ready"


def limits_in_words(limits: Limits) -> str:
    """As one reads it: `60 rpm, 100000 tpm, 2 at once`; empty where no bound is known."""
    units = ((limits.rpm, "rpm"), (limits.tpm, "tpm"), (limits.concurrency, "at once"))
    return ", ".join(f"{bound} {unit}" for bound, unit in units if bound is not None)


def _cells(rows: Sequence[RoutingRow], catalog: Catalog) -> list[tuple[str, ...]]:
    limits = _limits(catalog)
    return [
        (
            row.model if row.rank == 1 else "",
            f"{row.rank}.",
            row.backend,
            row.remote_model,
            state_in_words(row.missing_env),
            row.tariff if row.rank == 1 else "",
            limits_in_words(limits[row.model]) if row.rank == 1 else "",
        )
        for row in rows
    ]


def _record(row: RoutingRow, catalog: Catalog) -> Mapping[str, Any]:
    return {**asdict(row), "limits": asdict(_limits(catalog)[row.model])}


def _limits(catalog: Catalog) -> Mapping[str, Limits]:
    return {model.id: model.limits for model in catalog.models}
