"""What can be wrong with the records as a whole. Told to the operator, never to a caller."""

from __future__ import annotations

from pathlib import Path
from typing import Self


class StoreUnusable(Exception):
    """The records cannot be opened. `str(error)` is one line for the operator, with the remedy."""

    @classmethod
    def at(cls, path: Path, error: OSError) -> Self:
        """The file system refuses a file of the data folder."""
        reason = (error.strerror or str(error)).lower()
        return cls(f"{path} cannot be used: {reason}. Mend that, or name another folder with TUWEN_DATA_DIR.")
