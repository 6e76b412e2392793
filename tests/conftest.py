"""What holds for every test. Sockets are limited to loopback by pytest-socket, see pyproject.toml."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes single examples slow; that is no failure.
settings.register_profile("tuwen", deadline=None, print_blob=True)
settings.load_profile("tuwen")
