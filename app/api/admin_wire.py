"""The administration's JSON: what is written about keys, and what is told. Amounts are written in yuan, as `"10.00"`,
and told in micro-yuan, as `…_micros`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from starlette.responses import Response

from app.accounts.balances import Balance, TopUp
from app.accounts.exports import iso_time, row_record
from app.accounts.interfaces import HeldKey, LedgerRow

_YUAN = 'In yuan, as "10.00"; null: no bound.'
# told on the API page; checked by `accounts.key_terms`, whose words say more
_AMOUNT: dict[str, Any] = {"pattern": r"^[0-9]{1,8}(\.[0-9]{1,6})?$"}
_CREDITED: dict[str, Any] = {"pattern": r"^-?[1-9][0-9]{0,7}(\.[0-9]{1,6})?$"}
_PRINTABLE: dict[str, Any] = {"pattern": r"^[!-~]([ -~]{0,98}[!-~])?$"}
_SPAN: dict[str, Any] = {"pattern": r"^[1-9][0-9]{0,2}[dwh]$"}
_LIMIT: dict[str, Any] = {"minimum": 1, "maximum": 1_000_000_000}


def _either(form: dict[str, Any], of: str = "string") -> Any:
    """Schema of a value of this form, or null."""
    return {"anyOf": [{"type": of, **form}, {"type": "null"}]}


def _several(form: dict[str, Any]) -> Any:
    """Schema of a list of values of this form, or null."""
    return {"anyOf": [{"type": "array", "items": {"type": "string", **form}, "maxItems": 200}, {"type": "null"}]}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelLimits(_Body):
    """Bounds of the requests to one model."""

    rpm: StrictInt | None = Field(None, json_schema_extra=_either(_LIMIT, "integer"))
    tpm: StrictInt | None = Field(None, json_schema_extra=_either(_LIMIT, "integer"))
    concurrency: StrictInt | None = Field(None, json_schema_extra=_either(_LIMIT, "integer"))


class KeyChanges(_Body):
    """What may be changed of a key; what is left out stays, null lifts a bound."""

    name: str = Field("", json_schema_extra=_PRINTABLE)
    owner: str | None = Field(None, json_schema_extra=_either(_PRINTABLE))
    models: list[str] | None = Field(
        None, description="Ids it may ask; * may end one. null: all.", json_schema_extra=_several(_PRINTABLE)
    )
    tags: list[str] | None = Field(None, json_schema_extra=_several(_PRINTABLE))
    expires: str | None = Field(
        None,
        description="Last day it works, as 2026-12-31, or a span as 30d; null: never.",
        json_schema_extra=_either(_SPAN),
    )
    budget: str | None = Field(None, description=f"What it may spend ever. {_YUAN}", json_schema_extra=_either(_AMOUNT))
    day_budget: str | None = Field(None, description=f"In a calendar day. {_YUAN}", json_schema_extra=_either(_AMOUNT))
    month_budget: str | None = Field(
        None, description=f"In a calendar month. {_YUAN}", json_schema_extra=_either(_AMOUNT)
    )
    rpm: StrictInt | None = Field(
        None, description="Requests in any sixty seconds.", json_schema_extra=_either(_LIMIT, "integer")
    )
    tpm: StrictInt | None = Field(
        None,
        description="Tokens in any sixty seconds, input and output together.",
        json_schema_extra=_either(_LIMIT, "integer"),
    )
    concurrency: StrictInt | None = Field(
        None, description="Requests at the same time.", json_schema_extra=_either(_LIMIT, "integer")
    )
    model_limits: dict[str, ModelLimits] | None = Field(None, description="Limits per model, all of them anew.")
    log_content: StrictBool | None = Field(
        None, description="Whether what it asks, and what it is answered, is logged; null: false."
    )

    def written(self) -> dict[str, Any]:
        """What was written, as `read_terms` takes it."""
        return self.model_dump(exclude_unset=True, exclude={"admin"})


class NewKey(KeyChanges):
    """A key to be made."""

    name: str = Field(json_schema_extra=_PRINTABLE)
    admin: StrictBool = Field(False, description="May also administer the gateway.")


class Credit(_Body):
    """An amount to credit."""

    amount: str = Field(description='In yuan, as "10.00"; with a minus, to take back.', json_schema_extra=_CREDITED)
    note: str = Field(
        "", description="What it is for, as the number of an invoice.", json_schema_extra={"pattern": "^[ -~]{0,500}$"}
    )
    id: str | None = Field(
        None, description="Of the top-up: the same one twice changes nothing.", json_schema_extra=_either(_PRINTABLE)
    )


def key_object(held: HeldKey, day: str) -> dict[str, Any]:
    """A key and where it stands on a day; never the key itself."""
    record = held.record
    return {
        "object": "key",
        "id": record.id,
        "name": record.name,
        "owner": record.owner,
        "admin": record.admin,
        "models": record.models,
        "tags": record.tags,
        "log_content": record.log_content,
        "created_at": iso_time(record.created_at),
        "expires_at": _time(record.expires_at),
        "revoked_at": _time(record.revoked_at),
        **asdict(record.limits),
        "model_limits": {model: asdict(limits) for model, limits in record.model_limits.items()},
        "balance": balance_object(held.balance, day),
    }


def balance_object(balance: Balance, day: str) -> dict[str, Any]:
    """Where a key stands on a day. A budget that is null bounds nothing."""
    spent_today, spent_this_month = balance.spent_on(day)
    return {
        "budget_micros": balance.budget.total_micros,
        "day_budget_micros": balance.budget.day_micros,
        "month_budget_micros": balance.budget.month_micros,
        "spent_micros": balance.spent_micros,
        "held_micros": balance.held_micros,
        "day": day,
        "day_micros": spent_today,
        "month_micros": spent_this_month,
        "left_micros": balance.left_micros(day),
    }


def top_up_object(credit: TopUp) -> dict[str, Any]:
    """What was credited."""
    return {
        "object": "top_up",
        "id": credit.id,
        "key_id": credit.key_id,
        "at": iso_time(credit.at),
        "micros": credit.micros,
        "note": credit.note,
    }


def page_object(rows: Sequence[LedgerRow], limit: int) -> dict[str, Any]:
    """A page of requests, and where the next one begins."""
    last = rows[-1] if len(rows) == limit else None
    return {
        "object": "list",
        "data": [row_record(row) for row in rows],
        "next": None if last is None else f"{last.started_at!r}_{last.request_id}",
    }


def answer(content: object, status_code: int = 200) -> Response:
    """An answer in JSON."""
    headers = {"cache-control": "no-store"}
    return Response(
        msgspec.json.encode(content), status_code=status_code, media_type="application/json", headers=headers
    )


async def answer_beside(content: Callable[[], object]) -> Response:
    """An answer that takes a while to put together: beside the event loop, which others wait for."""
    return await asyncio.to_thread(lambda: answer(content()))


def _time(at: float | None) -> str | None:
    return None if at is None else iso_time(at)
