"""`tuwen backends`: which places can answer, and what those lack that cannot."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from app.commands.check import configured_catalog, limits_in_words, state_in_words
from app.commands.tables import print_table
from app.config.report import backend_rows


def backends(*, as_json: bool) -> None:
    """Prints the table.

    Raises:
        ConfigError: the settings or the catalogue are wrong; one line per problem.
    """
    catalog = configured_catalog()
    rows = [(row, catalog.backends[row.name].limits) for row in backend_rows(catalog)]
    if as_json:
        records = [{**asdict(row), "limits": asdict(limits)} for row, limits in rows]
        typer.echo(json.dumps(records, ensure_ascii=False, indent=2))
        return
    cells = (
        (row.name, row.kind, state_in_words(row.missing_env), limits_in_words(limits), ", ".join(row.models))
        for row, limits in rows
    )
    print_table(("BACKEND", "KIND", "STATE", "LIMITS", "MODELS"), cells)
