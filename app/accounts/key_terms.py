"""What an operator may write about a key, on the command line and over HTTP alike: read and checked in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.accounts import periods
from app.accounts.balances import Budget
from app.core.errors import InvalidRequest, shown
from app.core.limits import Limits
from app.core.money import format_yuan, parse_yuan

LIMIT_NAMES = ("rpm", "tpm", "concurrency")
BUDGET_FIELDS: Mapping[str, str] = {
    # as it is written: the field of `Budget`
    "budget": "total_micros",
    "day_budget": "day_micros",
    "month_budget": "month_micros",
}
_NAME_MAX_CHARS = 100
_MODEL_MAX_CHARS = 256
_ENTRIES_MAX = 200
_NOTE_MAX_CHARS = 500
_LIMIT_MAX = 1_000_000_000
_AMOUNT_MAX_MICROS = 10**15
"""A sum of many must still fit into 64 bits."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What was written about a key, and nothing else.

    Args:
        fields: of `KeyRecord`, and of its `Limits` by their own names.
        bounds: of `Budget`; `None` lifts the bound.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    bounds: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def budget(self) -> Budget:
        """What a new key may spend."""
        return Budget(**self.bounds)

    @property
    def limits(self) -> Limits:
        """Those of a new key."""
        return Limits(**{name: value for name, value in self.fields.items() if name in LIMIT_NAMES})


def read_terms(written: Mapping[str, Any], *, now: float) -> Terms:
    """Reads what was written.

    Args:
        written: `name`, `owner`, `models`, `tags`, `expires`, `budget`, `day_budget`, `month_budget`, `rpm`, `tpm`,
            `concurrency`, `model_limits`, `log_content`, as far as they are meant; `None` lifts a bound. Amounts are
            yuan, as `"10.00"`.
        now: Unix time in seconds.

    Raises:
        InvalidRequest: a value cannot be meant; `param` names it.
    """
    fields: dict[str, Any] = {}
    bounds: dict[str, int | None] = {}
    for name, value in written.items():
        if name in BUDGET_FIELDS:
            bounds[BUDGET_FIELDS[name]] = None if value is None else read_amount(value, name)
        elif name in LIMIT_NAMES:
            fields[name] = _limit(value, name)
        elif name == "expires":
            fields["expires_at"] = None if value is None else _expiry(value, now)
        else:
            fields[name] = _READERS[name](value)
    return Terms(fields, bounds)


def read_amount(text: str, param: str) -> int:
    """An amount in yuan, in micro-yuan.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        micros = parse_yuan(text)
    except ValueError as error:
        words = f'`{param}` is an amount in yuan of at most six decimals, as "10.00"; {shown(text)!r} is none.'
        raise InvalidRequest(words, param=param) from error
    if micros > _AMOUNT_MAX_MICROS:
        raise InvalidRequest(f"`{param}` is at most {format_yuan(_AMOUNT_MAX_MICROS)} yuan.", param=param)
    return micros


def read_credit(text: str) -> int:
    """An amount in yuan to credit, in micro-yuan; with a minus, to take back.

    Raises:
        InvalidRequest: it is none, or nothing.
    """
    micros = read_amount(text.removeprefix("-"), "amount")
    if micros == 0:
        raise InvalidRequest('`amount` is nothing; write an amount in yuan, as "10.00".', param="amount")
    return -micros if text.startswith("-") else micros


def read_note(text: str) -> str:
    """What a top-up is for.

    Raises:
        InvalidRequest: it is too long, or holds characters that cannot be printed.
    """
    if len(text) > _NOTE_MAX_CHARS or not text.isprintable():
        raise InvalidRequest(f"`note` has at most {_NOTE_MAX_CHARS} printable characters.", param="note")
    return text


def read_top_up_id(text: str) -> str:
    """The id of a top-up.

    Raises:
        InvalidRequest: it is empty, too long, or holds characters that cannot be printed.
    """
    if not text or len(text) > _NAME_MAX_CHARS or not text.isprintable():
        raise InvalidRequest(f"A top-up's `id` has 1 to {_NAME_MAX_CHARS} printable characters.", param="id")
    return text


def read_name(text: str) -> str:
    """The name of a key.

    Raises:
        InvalidRequest: it is empty, too long, or holds characters that cannot be printed.
    """
    name = text.strip()
    if not name or len(name) > _NAME_MAX_CHARS or not name.isprintable():
        raise InvalidRequest(f"A key's name has 1 to {_NAME_MAX_CHARS} printable characters.", param="name")
    return name


def _owner(text: str | None) -> str:
    owner = (text or "").strip()
    if len(owner) > _NAME_MAX_CHARS or not owner.isprintable():
        raise InvalidRequest(f"A key's `owner` has at most {_NAME_MAX_CHARS} printable characters.", param="owner")
    return owner


def _models(names: Sequence[str] | None, param: str = "models") -> tuple[str, ...]:
    for name in names or ():
        if not name or len(name) > _MODEL_MAX_CHARS or not name.isprintable() or "*" in name[:-1]:
            words = f"`{param}` holds ids of models, or beginnings of ids that end in `*`; {shown(name)!r} is neither."
            raise InvalidRequest(words, param=param)
    return _few(names, param)


def _tags(words: Sequence[str] | None) -> tuple[str, ...]:
    for word in words or ():
        if not word or len(word) > _NAME_MAX_CHARS or not word.isprintable():
            raise InvalidRequest(f"Each of `tags` has 1 to {_NAME_MAX_CHARS} printable characters.", param="tags")
    return _few(words, "tags")


def _few(entries: Sequence[str] | None, param: str) -> tuple[str, ...]:
    distinct = tuple(dict.fromkeys(entries or ()))
    if len(distinct) > _ENTRIES_MAX:
        raise InvalidRequest(f"`{param}` has at most {_ENTRIES_MAX} entries.", param=param)
    return distinct


def _model_limits(written: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Limits]:
    """By id of the model; a model none of whose bounds is left is left out."""
    _models(tuple(written or ()), "model_limits")
    found: dict[str, Limits] = {}
    for model, bounds in (written or {}).items():
        if model.endswith("*"):
            raise InvalidRequest(
                f"`model_limits.{shown(model)}` would limit each of many models; name one, by its id.",
                param="model_limits",
            )
        for name in bounds:
            if name not in LIMIT_NAMES:
                raise InvalidRequest(
                    f"`model_limits.{shown(model)}` has rpm, tpm or concurrency; {shown(name)!r} is none of them.",
                    param="model_limits",
                )
        limits = Limits(**{name: _limit(value, f"model_limits.{model}.{name}") for name, value in bounds.items()})
        if limits != Limits():
            found[model] = limits
    return found


def _limit(value: int | str | None, param: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:20])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LIMIT_MAX:
        raise InvalidRequest(f"`{shown(param)}` is a whole number from 1 to {_LIMIT_MAX}.", param=shown(param))
    return value


def _expiry(text: str, now: float) -> float:
    try:
        expires_at = periods.ahead(text, datetime.fromtimestamp(now).astimezone())
    except (ValueError, OverflowError) as error:
        words = f"`expires` is a span as 30d, or the last day as 2026-12-31; {shown(text)!r} is neither."
        raise InvalidRequest(words, param="expires") from error
    if expires_at <= now:
        raise InvalidRequest("`expires` lies in the past; to end a key at once, revoke it.", param="expires")
    return expires_at


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "name": read_name,
    "owner": _owner,
    "models": _models,
    "tags": _tags,
    "model_limits": _model_limits,
    "log_content": bool,
}
