"""What is wrong with the configuration. Told to the operator at start or on reload, never to a caller."""

from __future__ import annotations


class ConfigError(Exception):
    """The configuration cannot be used. `str(error)` has one line per problem; each names what to mend."""
