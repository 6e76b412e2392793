"""`tuwen migrate`: brings the records to the form of this program, before a gateway of it starts."""

from __future__ import annotations

import typer

from app.commands.records import place_of
from app.config.settings import Settings
from app.store.engine import engine_of, prepare_place
from app.store.schema import HEAD


def migrate(settings: Settings) -> None:
    """Brings the database forward and says at which version it stands.

    Raises:
        StoreUnusable: it cannot be made, reached or read, is no database, is locked, or a newer program wrote it.
    """
    place = place_of(settings)
    engine = engine_of(place, "write")
    try:
        found = prepare_place(place, engine)
    finally:
        engine.dispose()
    if found == HEAD:
        typer.echo(f"{place} stands at {HEAD}; there is nothing to do.")
    elif found is None:
        typer.echo(f"Made {place} at {HEAD}.")
    else:
        typer.echo(f"Brought {place} from {found} to {HEAD}.")
