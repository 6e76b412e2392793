"""/admin/keys: who may ask, and what they may spend."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter
from starlette.responses import Response

from app.accounts.balances import Balance, TopUp, credit_once
from app.accounts.interfaces import HeldKey
from app.accounts.key_terms import read_credit, read_note, read_terms, read_top_up_id
from app.accounts.keys import KeyMint
from app.accounts.reports import Records
from app.api.admin_wire import Credit, KeyChanges, NewKey, answer, answer_beside, key_object, top_up_object
from app.api.bounded_route import BoundedRoute
from app.core.clock import Clock, local_day
from app.core.errors import PathNotFound, shown


class KeyRoutes:
    """Keys, their terms and their money."""

    def __init__(self, records: Records, mint: KeyMint, clock: Clock) -> None:
        self._records = records
        self._mint = mint
        self._clock = clock

    def add_to(self, routes: APIRouter) -> None:
        """Adds the routes."""
        one, credits_ = "/keys/{key_id}", "/keys/{key_id}/top-ups"
        add, add_bounded = routes.add_api_route, partial(routes.add_api_route, route_class_override=BoundedRoute)
        add("/keys", self.list_keys, methods=["GET"], summary="List the keys and their balances")
        add_bounded("/keys", self.make_key, methods=["POST"], status_code=201, summary="Make a key")
        add(one, self.show_key, methods=["GET"], summary="Show one key")
        add_bounded(one, self.change_key, methods=["PATCH"], summary="Change what is given of a key")
        add(one, self.revoke_key, methods=["DELETE"], summary="Revoke a key")
        add(credits_, self.list_top_ups, methods=["GET"], summary="List what was credited to a key")
        add_bounded(credits_, self.top_up, methods=["POST"], summary="Credit a key with an amount")

    async def list_keys(self) -> Response:
        """All keys, oldest first, revoked ones included."""
        records, balances = await self._records.keys(), await self._records.balances()
        day = self._today()
        each = [HeldKey(record, balances.get(record.id) or Balance(record.id)) for record in records]
        return await answer_beside(lambda: {"object": "list", "data": [key_object(held, day) for held in each]})

    async def make_key(self, body: NewKey) -> Response:
        """The key itself is `key`: shown here, this once, and kept nowhere."""
        terms = read_terms(body.written(), now=self._clock.now())
        minted = self._mint.mint(body.name, admin=body.admin, terms=terms)
        await self._records.add_key(minted.record, terms.budget)
        held = HeldKey(minted.record, Balance(minted.record.id, terms.budget))
        return answer({**key_object(held, self._today()), "key": minted.key}, status_code=201)

    async def show_key(self, key_id: str) -> Response:
        """Its terms and where it stands."""
        return answer(key_object(await self._held(key_id), self._today()))

    async def change_key(self, key_id: str, body: KeyChanges) -> Response:
        """What is left out stays as it is; gateways go by it within 2 seconds."""
        terms = read_terms(body.written(), now=self._clock.now())
        if not await self._records.change_key(key_id, terms.fields, terms.bounds):
            raise _no_key(key_id, "in use")
        return await self.show_key(key_id)

    async def revoke_key(self, key_id: str) -> Response:
        """Gateways refuse it within 2 seconds."""
        if not await self._records.revoke_key(key_id, self._clock.now()):
            raise _no_key(key_id, "in use")
        return await self.show_key(key_id)

    async def list_top_ups(self, key_id: str) -> Response:
        """Oldest first."""
        await self._held(key_id)
        return answer({"object": "list", "data": [top_up_object(each) for each in await self._records.top_ups(key_id)]})

    async def top_up(self, key_id: str, body: Credit) -> Response:
        """A key without a budget gets one by that."""
        credit_id = f"top_{self._clock.nonce()}" if body.id is None else read_top_up_id(body.id)
        credit = TopUp(credit_id, key_id, self._clock.now(), read_credit(body.amount), read_note(body.note))
        balance = await credit_once(self._records, credit)
        if balance is None:
            raise _no_key(key_id, "there")
        made = next(each for each in await self._records.top_ups(key_id) if each.id == credit_id)
        return answer({**top_up_object(made), "key": key_object(await self._held(key_id), self._today())})

    async def _held(self, key_id: str) -> HeldKey:
        held = await self._records.key_by_id(key_id)
        if held is None:
            raise _no_key(key_id, "there")
        return held

    def _today(self) -> str:
        return local_day(self._clock.now())


def _no_key(key_id: str, where: str) -> PathNotFound:
    return PathNotFound(f"No key of the id `{shown(key_id)}` is {where}; GET /admin/keys lists them.")
