"""What can be wrong with the records as a whole. Told to the operator, never to a caller."""

from __future__ import annotations


class StoreUnusable(Exception):
    """The records cannot be opened. `str(error)` is one sentence for the operator, with the remedy."""
