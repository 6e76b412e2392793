"""Callers, models and time for the tests of limits."""

from __future__ import annotations

from itertools import count
from typing import NoReturn

from app.accounts.interfaces import Caller
from app.config.catalog import Backend, Model, Route
from app.core.clock import Clock
from app.core.limits import NO_LIMITS, Limits


class Time:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        numbers = count()
        self.clock = Clock(monotonic=lambda: self.now_s, nonce=lambda: f"nonce-{next(numbers)}")


def caller(limits: Limits = NO_LIMITS, models: tuple[str, ...] = (), **of_models: Limits) -> Caller:
    """Limits of models by the model's id, its dashes written as underscores."""
    model_limits = {name.replace("_", "-"): bounds for name, bounds in of_models.items()}
    return Caller("key_a", "a", admin=False, models=models, limits=limits, model_limits=model_limits)


def model(model_id: str = "qwen-vl", *, limits: Limits = NO_LIMITS, of_backend: Limits = NO_LIMITS) -> Model:
    route = Route(Backend("spark", "openai", None, of_backend), "remote")
    return Model(model_id, model_id, (route,), None, limits=limits, aliases=(f"{model_id}-alias",))


def not_asked() -> NoReturn:
    """An estimate that must not be made."""
    raise AssertionError("the tokens of a request without a limit on them were estimated")
