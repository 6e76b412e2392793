"""A kind of backend whose options repeat what they are given when they refuse it."""

from __future__ import annotations

from pydantic import field_validator

from app.backends import ocr
from app.backends.base import BackendOptions, BackendSpec


class LoudOptions(BackendOptions):
    password: str

    @field_validator("password")
    @classmethod
    def _refuse(cls, password: str) -> str:
        raise ValueError(f"I do not like {password}")


SPEC = BackendSpec(LoudOptions, ocr.SPEC.capabilities, ocr.SPEC.translator)
