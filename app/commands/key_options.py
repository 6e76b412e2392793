"""The options of `tuwen keys create` and `tuwen keys change`, as `read_terms` takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app.accounts.key_terms import BUDGET_FIELDS, LIMIT_NAMES
from app.commands.errors import CommandFailed
from app.core.limits import Limits

NOTHING = "none"
"""Typed in place of a value: the bound is lifted."""

_SINGLE = ("owner", "expires", *BUDGET_FIELDS, *LIMIT_NAMES)
_LISTS = {"model": "models", "tag": "tags"}
_PER_MODEL = {"model_rpm": "rpm", "model_tpm": "tpm"}


def written_terms(typed: Mapping[str, Any], standing: Mapping[str, Limits]) -> dict[str, Any]:
    """What was typed of a key's terms; what was not is left out.

    Args:
        typed: the command's parameters.
        standing: the limits per model that the key has.

    Raises:
        CommandFailed: a limit of a model is not written as ID=N.
    """
    written: dict[str, Any] = {name: _value(typed[name]) for name in _SINGLE if typed.get(name) is not None}
    if typed.get("name") is not None:
        written["name"] = typed["name"]  # a key may be called "none"
    for option, name in _LISTS.items():
        if typed.get(option):
            written[name] = None if typed[option] == [NOTHING] else typed[option]
    if typed.get("log_content") is not None:
        written["log_content"] = typed["log_content"]
    per_model = [(option, entry) for option in _PER_MODEL for entry in typed.get(option) or ()]
    if per_model:
        written["model_limits"] = _model_limits(per_model, standing)
    return written


def _model_limits(typed: Sequence[tuple[str, str]], standing: Mapping[str, Limits]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {model: asdict(limits) for model, limits in standing.items()}
    for option, entry in typed:
        model, equals, value = entry.rpartition("=")
        if not equals or not model:
            flag = option.replace("_", "-")
            raise CommandFailed(f"--{flag} {entry}: write ID=N, as qwen-vl-vision=60, or ID=none.", exit_code=2)
        merged.setdefault(model, {})[_PER_MODEL[option]] = _value(value)
    return merged


def _value(text: str) -> str | None:
    return None if text == NOTHING else text
