"""/admin/usage, /admin/requests, /admin/export, /admin/reconcile: what was asked, and what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from app.accounts.bills import Bill, Columns
from app.accounts.details import Details
from app.accounts.exports import (
    ExportForm,
    export_head,
    export_lines,
    reconciliation_record,
    row_record,
    summary_record,
)
from app.accounts.interfaces import LedgerRow
from app.accounts.reconcile import Reconciler, add_ours
from app.accounts.reports import Records, all_rows
from app.api.admin_queries import BillQuery, ExportQuery, PageQuery, UsageQuery, read_cursor, read_period
from app.api.admin_wire import answer, answer_beside, page_object
from app.api.intake import Intake, Place
from app.core.clock import Clock
from app.core.errors import PathNotFound, PayloadTooLarge, UnsupportedMediaType, shown

_MEDIA_TYPES: dict[ExportForm, str] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_CALLER_LEFT = 499
"""nginx's status of a caller who hung up; nobody sees it but the log."""


class ReportRoutes:
    """Sums, requests, exports, bills.

    Args:
        intake: the room for bodies.
        max_body_bytes: of a bill.
    """

    def __init__(
        self, records: Records, details: Details, clock: Clock, intake: Intake, *, max_body_bytes: int
    ) -> None:
        self._records = records
        self._details = details
        self._clock = clock
        self._intake = intake
        self._max_body_bytes = max_body_bytes

    def add_to(self, routes: APIRouter) -> None:
        """Adds the routes."""
        routes.add_api_route("/usage", self.usage, methods=["GET"], summary="Add up what was used")
        routes.add_api_route("/requests", self.requests, methods=["GET"], summary="List requests, newest first")
        routes.add_api_route("/requests/{request_id}", self.request, methods=["GET"], summary="Show one request")
        routes.add_api_route("/export", self.export, methods=["GET"], summary="Write out every request, newest first")
        routes.add_api_route(
            "/reconcile", self.reconcile, methods=["POST"], summary="Compare a cloud's bill (CSV) with the ledger"
        )

    async def usage(self, asked: Annotated[UsageQuery, Query()]) -> Response:
        """Sums per day (local time), model, key or backend."""
        start, only = asked.wanted(self._clock.now())
        groups = await self._records.summary(asked.by, since=start, only=only)
        data = [summary_record(asked.by, group) for group in groups]
        return answer({"object": "list", "by": asked.by, "data": data})

    async def requests(self, asked: Annotated[PageQuery, Query()]) -> Response:
        """Requests with all backends that were asked for them."""
        start, only = asked.wanted(self._clock.now())
        after = read_cursor(asked.after)
        rows = await self._records.rows(since=start, limit=asked.limit, only=only, after=after)
        return await answer_beside(lambda: page_object(rows, asked.limit))

    async def request(self, request_id: str) -> Response:
        """One request, with what backends said where something went wrong, for as long as that is kept."""
        row = await self._records.row(request_id)
        detail = await self._details.detail(request_id)
        if row is None and detail is None:
            raise PathNotFound(f"No request of the id `{shown(request_id)}` was booked.")
        booked = {} if row is None else row_record(row)
        return answer({"request_id": request_id, **booked, "detail": None if detail is None else asdict(detail)})

    async def export(self, asked: Annotated[ExportQuery, Query()]) -> Response:
        """A page of rows is in memory at a time; an export that was cut off has no whole body."""
        start, only = asked.wanted(self._clock.now())
        pages = all_rows(self._records, since=start, only=only)
        first = await anext(pages, None) or ()  # what is wrong is told before the headers
        name = f"tuwen-usage.{asked.form}"
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return StreamingResponse(_lines(asked.form, first, pages), media_type=_MEDIA_TYPES[asked.form], headers=headers)

    async def reconcile(self, request: Request, asked: Annotated[BillQuery, Query()]) -> Response:
        """The body is the CSV file as the cloud's console hands it out, in UTF-8 or GBK."""
        since, until = read_period(asked.since, asked.until, self._clock.now())
        columns = Columns(asked.id_column, asked.amount_column, asked.day_column)
        with self._intake.place() as place:
            try:
                data = await self._body(request, place)
            except ClientDisconnect:
                return Response(status_code=_CALLER_LEFT)
            reconciler = await asyncio.to_thread(lambda: Reconciler(Bill.read(data, columns)))
        await add_ours(reconciler, self._records, asked.backend, since=since, until=until)
        return await answer_beside(lambda: reconciliation_record(reconciler.result()))

    async def _body(self, request: Request, place: Place) -> bytes:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise UnsupportedMediaType("Send the CSV file itself as the body (curl --data-binary @bill.csv).")
        data = bytearray()
        async for piece in request.stream():
            data += piece
            place.hold(len(data))
            if len(data) > self._max_body_bytes:
                mib = self._max_body_bytes // (1024 * 1024)
                raise PayloadTooLarge(f"The bill is larger than {mib} MiB; send it in parts, a day each.")
        return bytes(data)


async def _lines(
    form: ExportForm, first: Sequence[LedgerRow], rest: AsyncGenerator[Sequence[LedgerRow], None]
) -> AsyncIterator[str]:
    async with aclosing(rest):
        yield export_head(form) + await asyncio.to_thread(export_lines, form, first)
        async for page in rest:
            yield await asyncio.to_thread(export_lines, form, page)
