"""The server's secret: what key digests are keyed with.

It lives beside the database, in `secret`: 32 random bytes, readable by the owner only. Whoever loses it loses every
key, so it belongs into the same backup. Rule of change: the bytes are never rewritten; a new secret means new keys.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from app.store.errors import StoreUnusable

_SECRET_BYTES = 32
_CONFIGURED_MIN_CHARS = 16


def server_secret(data_dir: Path, configured: str | None) -> bytes:
    """The secret: the configured one, else that of the data directory, made by the first process to ask.

    Raises:
        StoreUnusable: the configured one is too short to be a secret, or the file is damaged or cannot be made.
    """
    if configured is not None:
        if len(configured) < _CONFIGURED_MIN_CHARS:
            raise StoreUnusable(
                f"The configured server secret is too short: give {_CONFIGURED_MIN_CHARS} characters or more."
            )
        return configured.encode()
    path = data_dir / "secret"
    try:
        secret = path.read_bytes() if path.exists() else _create(path)
    except OSError as error:
        raise StoreUnusable.at(path, error) from error
    if len(secret) != _SECRET_BYTES:
        raise StoreUnusable(
            f"{path} is damaged: it holds {len(secret)} bytes, not {_SECRET_BYTES}. Restore it from a backup; "
            "or delete it, and make new keys: the old ones will open nothing."
        )
    return secret


def _create(path: Path) -> bytes:
    """Writes the secret aside and links it into place: no reader sees half of it, and of two writers one wins."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first: its secret is the secret
            os.link(aside, path)
    finally:
        aside.unlink()
    return path.read_bytes()
