"""`tuwen check`: whether the configuration holds, and where each model's requests go."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import typer

from app.commands.tables import print_table
from app.config.catalog import Catalog
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.environment import read_environment
from app.config.publishing import bucket_of
from app.config.report import RoutingRow, routing_rows
from app.config.settings import Settings, load_settings, mistyped_variables
from app.core.limits import Limits


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
    unpublished = _unpublished(catalog, load_settings())
    usable = {row.model for row in rows if row.usable} - unpublished.keys()
    typer.echo(f"\nThe configuration is sound. {len(usable)} of {len(catalog.models)} models can be asked.")
    for model, where in unpublished.items():
        typer.echo(f"{model} fetches pictures by address: {where}.")


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


def _unpublished(catalog: Catalog, settings: Settings) -> Mapping[str, str]:
    """Models that could be asked if pictures were published where they fetch them → what to set."""
    host = _publishing_host(settings)
    found: dict[str, str] = {}
    for model in catalog.models:
        routes = [route.capabilities for route in model.routes if route.backend.configured]
        if routes and all(
            route.image_input == "url" and not _fetches_from(host, route.image_hosts) for route in routes
        ):
            domains = routes[0].image_hosts
            found[model.id] = (
                f"set a bucket under {' or '.join(domains)}, TUWEN_BLOB_STORE=s3://BUCKET and TUWEN_BLOB_ENDPOINT"
                if domains
                else "set TUWEN_PUBLIC_URL or TUWEN_BLOB_STORE"
            )
    return found


def _publishing_host(settings: Settings) -> str:
    """Where published pictures lie; empty where none are published. A bucket without an endpoint is one of AWS."""
    if bucket_of(settings.blob_store) is not None:
        return urlsplit(settings.blob_endpoint or "https://amazonaws.com").hostname or ""
    return urlsplit(settings.public_url or "").hostname or ""


def _fetches_from(host: str, domains: Sequence[str]) -> bool:
    return bool(host) and (not domains or any(f".{host}".endswith(f".{domain}") for domain in domains))


def _cells(rows: Sequence[RoutingRow], catalog: Catalog) -> list[tuple[str, ...]]:
    limits = _limits(catalog)
    above = ["", *(row.model for row in rows)]
    return [
        (
            row.model if row.model != before else "",
            f"{row.rank}." if row.weight is None else f"{row.rank}. ×{row.weight}",
            row.backend,
            row.remote_model,
            state_in_words(row.missing_env),
            row.tariff if row.model != before else "",
            limits_in_words(limits[row.model]) if row.model != before else "",
        )
        for row, before in zip(rows, above, strict=False)
    ]


def _record(row: RoutingRow, catalog: Catalog) -> Mapping[str, Any]:
    return {**asdict(row), "limits": asdict(_limits(catalog)[row.model])}


def _limits(catalog: Catalog) -> Mapping[str, Limits]:
    return {model.id: model.limits for model in catalog.models}
