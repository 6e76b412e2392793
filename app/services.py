"""Builds what a running gateway is made of; leaving the block ends it, the last opened first."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import stamina
import structlog

from app.accounts.answers import ClaimDigests
from app.accounts.details import Details, NoDetails
from app.accounts.interfaces import CallerSource, Ledger
from app.accounts.keys import Authenticator, KeyMint
from app.accounts.limits import Turns, Windows
from app.accounts.open_access import NoLedger, OpenDoor
from app.api.idempotency import Idempotency
from app.api.intake import Intake
from app.config.catalog import Catalog
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.environment import DOTENV, read_environment
from app.config.errors import ConfigError
from app.config.publishing import bucket_of, folder_of
from app.config.reload import CatalogHolder
from app.config.settings import Settings
from app.core.clock import Clock
from app.core.types import Call, HttpCall, LocalCall, WsCall
from app.gateway.admission import Admission
from app.gateway.attempt import Clocks
from app.gateway.books import Bookkeeping, Books, forget_details
from app.gateway.draining import Draining
from app.gateway.fitting import Fitting
from app.gateway.health import Health
from app.gateway.pipeline import Gateway
from app.gateway.queueing import UpstreamTurns
from app.gateway.retrying import RetryBudget, RetryRules
from app.media.blob_folder import FolderHosting
from app.media.blob_objects import Bucket, ObjectHosting
from app.media.blobs import CopyReader, Hosting, NoHosting, sweep_regularly
from app.media.decode_pool import DecodePool
from app.media.decode_process import DecodeBounds
from app.media.fetch import Fetcher
from app.media.fit import PictureFitter
from app.media.image import PictureBounds
from app.media.sheet_drawer import SheetDrawer
from app.media.source import Sources
from app.observe.metrics import Metrics, Reading
from app.store.engine import Place
from app.store.memory import MemoryWindows
from app.store.memory_turns import MemoryTurns
from app.store.secret import server_secret
from app.store.shared_limits import SharedLimits, shared_limits
from app.store.sql import SqlStore
from app.transports.base import Transport
from app.transports.http import HttpTransport
from app.transports.local import LocalTransport
from app.transports.websocket import WsTransport

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What a running gateway is made of.

    Args:
        door: lets callers in; the authenticator, unless nobody needs a key.
    """

    settings: Settings
    clock: Clock
    catalogs: CatalogHolder
    store: SqlStore
    authenticator: Authenticator
    door: CallerSource
    gateway: Gateway
    metrics: Metrics
    idempotency: Idempotency
    mint: KeyMint
    intake: Intake
    copies: CopyReader | None = None


def _as_is(value: T) -> T:
    return value


@asynccontextmanager
async def open_services(
    settings: Settings,
    clock: Clock,
    *,
    draining: Draining | None = None,
    catalog_view: Callable[[Catalog], Catalog] = _as_is,
    transport_view: Callable[[Transport], Transport] = _as_is,
) -> AsyncIterator[Services]:
    """Builds the services; leaving the block ends them, the last opened first.

    Args:
        draining: whoever ends the process tells it; unset: nobody does.
        catalog_view: what of each catalogue read is used; may raise `ConfigError`.
        transport_view: wraps each transport, to watch what passes.

    Raises:
        ConfigError: the catalogue is wrong.
        StoreUnusable: the ledger cannot be opened.
    """
    async with AsyncExitStack() as life:
        catalogs = _catalogs(settings, catalog_view)
        await life.enter_async_context(running(catalogs.watch()))
        place = Place.of(settings.data_dir, settings.database_address)
        store = await SqlStore.open(place, journal_dir=settings.data_dir)
        life.push_async_callback(store.aclose)
        secret = _secret(settings)
        hosting = await _hosting(settings, secret, clock, life)
        bookkeeping = await _bookkeeping(settings, store, clock, life)
        limits = await life.enter_async_context(_limits(settings, clock))
        queues = UpstreamTurns(limits.turns, clock, longest_s=settings.queue_s)
        intake = Intake(settings.intake_bytes, now_s=clock.monotonic)
        for source in (limits.readings, queues.readings, intake.readings):
            bookkeeping.metrics.read_from(source)
        gateway = Gateway(
            catalogs=catalogs,
            admission=Admission(limits.windows),
            queues=queues,
            fitting=_fitting(settings, hosting, bookkeeping.metrics, life),
            transports=_transports(settings, life, transport_view),
            bookkeeping=bookkeeping,
            retries=_retries(settings, clock, bookkeeping.metrics),
            clock=clock,
            clocks=Clocks(settings.connect_s, settings.first_event_s, settings.idle_s, settings.deadline_s),
            draining=draining or Draining(),
        )
        authenticator = Authenticator(store, secret, clock=clock)
        yield Services(
            settings=settings,
            clock=clock,
            catalogs=catalogs,
            store=store,
            authenticator=authenticator,
            door=OpenDoor() if settings.open_access else authenticator,
            gateway=gateway,
            metrics=bookkeeping.metrics,
            idempotency=await _idempotency(settings, store, secret, clock, life),
            intake=intake,
            mint=KeyMint(secret, clock=clock.now, random_bytes=os.urandom),
            copies=hosting if isinstance(hosting, FolderHosting) else None,
        )


def _retries(settings: Settings, clock: Clock, metrics: Metrics) -> RetryRules:
    stamina.instrumentation.set_on_retry_hooks(())  # what it would log says less than our own lines
    chance = random.Random().random  # noqa: S311 - spreads load, guards nothing
    rules = RetryRules(Health(clock, chance), RetryBudget(), chance, settings.attempts)
    for source in (rules.health.readings, rules.budget.readings):
        metrics.read_from(source)
    return rules


async def _bookkeeping(settings: Settings, store: SqlStore, clock: Clock, life: AsyncExitStack) -> Bookkeeping:
    """What is told of requests; kept true, and dropped by age, for as long as the services live."""
    ledger: Ledger = NoLedger() if settings.open_access else store
    details: Details = NoDetails() if settings.open_access else store.details
    books, metrics = Books(ledger, clock), Metrics()
    await life.enter_async_context(running(books.keep_leases()))
    await life.enter_async_context(running(books.keep_clean()))
    await life.enter_async_context(running(forget_details(details, clock, days=settings.details_days)))
    for source in (books.readings, store.readings):
        metrics.read_from(source)
    return Bookkeeping(ledger, books, details, metrics)


@dataclass(frozen=True, slots=True)
class _OwnLimits:
    """Limits that this process keeps by itself, for it is the only one."""

    windows: Windows
    turns: Turns

    def readings(self) -> Iterator[Reading]:
        return iter(())


@asynccontextmanager
async def _limits(settings: Settings, clock: Clock) -> AsyncIterator[_OwnLimits | SharedLimits]:
    """Where limits are kept: in this process, or together with others in Redis."""
    if settings.redis_address is None:
        yield _OwnLimits(MemoryWindows(clock), MemoryTurns(clock, length=settings.queue_length))
        return
    async with shared_limits(settings.redis_address, clock, queue_length=settings.queue_length) as limits:
        yield limits


async def _idempotency(
    settings: Settings, store: SqlStore, secret: bytes, clock: Clock, life: AsyncExitStack
) -> Idempotency:
    answers = store.answers(secret, max_bytes=settings.answers_max_bytes)
    max_bytes = min(settings.answer_max_bytes, settings.answers_max_bytes)
    idempotency = Idempotency(answers, ClaimDigests(secret), clock, max_bytes=max_bytes)
    await life.enter_async_context(running(idempotency.keep()))
    return idempotency


def _secret(settings: Settings) -> bytes:
    configured = settings.secret.get_secret_value() if settings.secret else None
    return server_secret(settings.data_dir, configured)


async def _hosting(settings: Settings, secret: bytes, clock: Clock, life: AsyncExitStack) -> Hosting:
    ttl_s = settings.blob_ttl_s
    hosting: FolderHosting | ObjectHosting
    if (bucket := _bucket(settings)) is not None:
        hosting = ObjectHosting(bucket, clock=clock, ttl_s=ttl_s)
        life.push_async_callback(hosting.aclose)
    elif (folder := copies_folder(settings)) is not None and settings.public_url is not None:
        url, max_bytes = settings.public_url, settings.blob_max_bytes
        hosting = FolderHosting(folder, public_url=url, secret=secret, clock=clock, ttl_s=ttl_s, max_bytes=max_bytes)
        await hosting.sweep()  # what a crash left
    else:
        return NoHosting()
    await life.enter_async_context(running(sweep_regularly(hosting.sweep, ttl_s=ttl_s)))
    return hosting


def _bucket(settings: Settings) -> Bucket | None:
    name, key = bucket_of(settings.blob_store), settings.blob_secret_access_key
    if name is None or key is None:
        return None
    return Bucket(
        name=name.bucket,
        prefix=name.prefix,
        endpoint=settings.blob_endpoint,
        region=settings.blob_region or "us-east-1",
        access_key_id=settings.blob_access_key_id or "",
        secret_access_key=key.get_secret_value(),
        virtual_host=settings.blob_virtual_host,
    )


def copies_folder(settings: Settings) -> Path | None:
    """The folder of published pictures, made if it is not there.

    Raises:
        ConfigError: it cannot be made or written.
    """
    folder = folder_of(settings, settings.data_dir)
    if folder is None:
        return None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"TUWEN_BLOB_STORE: {folder} cannot be used: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"TUWEN_BLOB_STORE: {folder} cannot be written to")
    return folder


def tell_where_copies_lie(settings: Settings, folder: Path | None) -> None:
    if folder is None or (settings.blob_store and settings.secret):
        return
    shared = "the same TUWEN_SECRET" if settings.blob_store else "a shared TUWEN_BLOB_STORE and the same TUWEN_SECRET"
    _log.info(
        f"published pictures lie in {folder}; gateways on other machines that serve under the same TUWEN_PUBLIC_URL "
        f"need {shared}"
    )


def _transports(
    settings: Settings, life: AsyncExitStack, view: Callable[[Transport], Transport]
) -> Mapping[type[Call], Transport]:
    event_bytes, body_bytes = settings.max_upstream_event_bytes, settings.max_upstream_body_bytes
    http = HttpTransport(max_event_bytes=event_bytes, max_body_bytes=body_bytes)
    life.push_async_callback(http.aclose)
    websocket = WsTransport(max_event_bytes=event_bytes, max_body_bytes=body_bytes)
    life.push_async_callback(websocket.aclose)
    local = LocalTransport(
        ocr_queue=settings.ocr_queue, ocr_threads=settings.ocr_threads, ocr_idle_s=settings.ocr_idle_s
    )
    life.push_async_callback(local.aclose)
    return {HttpCall: view(http), WsCall: view(websocket), LocalCall: view(local)}


def _catalogs(settings: Settings, view: Callable[[Catalog], Catalog]) -> CatalogHolder:
    def taken(catalog: Catalog) -> None:
        _log.info("models reloaded", models=len(catalog.listed()))

    def refused(reason: str) -> None:
        _log.error("models not reloaded, the old ones stay in use", reason=reason.replace("\n", "; "))

    files = CatalogFiles.of(settings.models_file)
    return CatalogHolder(
        lambda: view(load_catalog(files, read_environment())),
        files=(files.built_in, files.operator, DOTENV),
        on_reload=taken,
        on_refused=refused,
    )


def _fitting(settings: Settings, hosting: Hosting, metrics: Metrics, life: AsyncExitStack) -> Fitting:
    """What makes pictures fit, the first of its decode workers starting."""
    bounds = DecodeBounds(settings.decode_memory_bytes, settings.decode_cpu_s, settings.decode_s)
    decoders = DecodePool(bounds, workers=settings.decode_workers)
    life.push_async_callback(decoders.aclose)
    metrics.read_from(decoders.readings)
    decoders.warm()
    return Fitting(_fitter(settings, decoders, life), SheetDrawer(decoders), hosting)


def _fitter(settings: Settings, decoders: DecodePool, life: AsyncExitStack) -> PictureFitter:
    fetcher = Fetcher(
        allow=settings.fetch_allow,
        resolver=settings.fetch_resolver,
        max_bytes=settings.max_image_bytes,
        timeout_s=settings.fetch_timeout_s,
    )
    life.push_async_callback(fetcher.aclose)
    bounds = PictureBounds(
        max_image_bytes=settings.max_image_bytes,
        max_pixels=settings.max_image_pixels,
        max_side_px=settings.max_image_side_px,
    )
    sources = Sources(fetcher, max_bytes=settings.max_image_bytes)
    return PictureFitter(sources, bounds, decoders, cache_bytes=settings.image_cache_bytes)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work in the background for as long as the block lasts."""
    task = asyncio.create_task(work)
    task.add_done_callback(_tell_of_end)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _tell_of_end(task: asyncio.Task[None]) -> None:
    """Work in the background never ends by itself; where it does, its absence would be noticed late."""
    if not task.cancelled():
        _log.critical("work in the background has ended", work=str(task.get_coro()), exc_info=task.exception())
