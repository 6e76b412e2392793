"""Copies in a bucket of an S3-compatible store (S3, OSS, BOS, MinIO), fetched from it by signed addresses.

The library's blocking calls are used, in threads of our own. Its awaitable ones hand their result over from a foreign
thread, and a process that ends at that moment is aborted (SIGABRT, seen in 1 of 5 short runs of obstore 0.12).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store
from typing_extensions import override

from app.core.clock import Clock
from app.core.errors import BackendError, BackendMisconfigured, BackendUnavailable
from app.core.secret import Censor, Guarded
from app.core.types import Image
from app.media.blobs import EXTENSIONS, Hosting, require_host

if TYPE_CHECKING:
    from obstore.store import S3Credential

_log = structlog.get_logger(__name__)
T = TypeVar("T")

_THREADS = 32
_DELETED_AT_ONCE = 1000
_SHOWN_CHARS = 400
_REFUSED = (PermissionDeniedError, UnauthenticatedError, FileNotFoundError)
"""What the store raises when it does not know our key, or has no such bucket; all else may pass."""


@dataclass(frozen=True, slots=True)
class Bucket(Guarded):
    """Where copies lie.

    Args:
        prefix: before their names, without slashes at its ends; may be empty.
        endpoint: the store's address without the bucket; `None`: that of AWS in the region.
        virtual_host: whether the bucket's name stands in the host, and not in the path.
    """

    name: str
    prefix: str
    endpoint: str | None
    region: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    virtual_host: bool = False

    @property
    def address(self) -> str:
        """The endpoint, with the bucket before its host where it belongs there."""
        parts = urlsplit(self.endpoint or f"https://s3.{self.region}.amazonaws.com")
        in_host = self.virtual_host and not parts.netloc.startswith(f"{self.name}.")
        return f"{parts.scheme}://{self.name}.{parts.netloc}" if in_host else f"{parts.scheme}://{parts.netloc}"

    def credential(self) -> S3Credential:
        """Ours and nothing else: a session token in the environment belongs to another key."""
        return {
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "token": None,
            "expires_at": None,
        }


class ObjectHosting(Hosting):
    """Publishes into a bucket.

    Args:
        ttl_s: how long a copy can be fetched; it is deleted then, as far as this process lives and the store lets it.
        timeout_s: the longest wait for the store.
    """

    def __init__(self, bucket: Bucket, *, clock: Clock, ttl_s: float, timeout_s: float = 15.0) -> None:
        self._bucket = bucket
        self._host = urlsplit(bucket.address).hostname or ""
        self._clock = clock
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._store = _store(bucket, timeout_s)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="object-store")
        self._due: deque[tuple[float, str]] = deque()  # (end, key), the earliest first

    @override
    async def publish(self, image: Image, hosts: tuple[str, ...], *, param: str | None) -> str:
        require_host(self._host, hosts, param=param)
        key = f"{self._clock.nonce()}.{EXTENSIONS[image.media_type]}"
        self._due.append((self._clock.now() + self._ttl_s, key))  # before it is there: this wait may be cut short
        return await self._done(partial(self._put, key, image))

    async def sweep(self) -> None:
        """Deletes copies past their end. What the store refuses is left to its own rules."""
        now = self._clock.now()
        while keys := self._taken(now):
            await self._delete(keys)

    async def aclose(self) -> None:
        """Deletes what it can of the rest: with this process ends every request that needed it."""
        if keys := self._taken(float("inf")):
            await self._delete(keys)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _put(self, key: str, image: Image) -> str:
        attributes = {"Content-Type": image.media_type, "Cache-Control": "private, no-store"}
        obstore.put(self._store, key, image.data, attributes=attributes, use_multipart=False)
        return obstore.sign(self._store, "GET", key, timedelta(seconds=self._ttl_s))

    def _taken(self, now: float) -> list[str]:
        keys: list[str] = []
        while self._due and self._due[0][0] <= now and len(keys) < _DELETED_AT_ONCE:
            keys.append(self._due.popleft()[1])
        return keys

    async def _delete(self, keys: list[str]) -> None:
        try:
            await self._done(partial(obstore.delete, self._store, keys))
        except BackendError as error:
            _log.warning("published pictures could not be deleted", pictures=len(keys), reason=error.detail)

    async def _done(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (BaseError, OSError, ValueError) as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> BackendError:
        detail = f"the object store: {self._without_keys(str(error)) or 'no answer in time'}"
        if isinstance(error, _REFUSED):
            return BackendMisconfigured(
                "This gateway's store for published pictures refuses its credentials or bucket; its operator must "
                "correct the TUWEN_BLOB settings.",
                chinese="本网关发布图片所用的存储拒绝了网关的凭据或 Bucket，请管理员更正 TUWEN_BLOB 各项设置。",
                detail=detail,
                retryable=True,  # a route that takes bytes needs no store
            )
        return BackendUnavailable(
            "This gateway's store for published pictures failed; try again.",
            chinese="本网关发布图片所用的存储出现故障，请重试。",
            detail=detail,
        )

    def _without_keys(self, text: str) -> str:
        """What the store said, without the library's dump of itself."""
        said = text.partition("Debug source")[0].strip()
        keys = Censor((self._bucket.secret_access_key, self._bucket.access_key_id))
        return keys(said)[:_SHOWN_CHARS]


def _store(bucket: Bucket, timeout_s: float) -> S3Store:
    patience = timedelta(seconds=timeout_s)
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        # all that the library would else take from AWS_* variables, which are somebody else's
        endpoint=bucket.address,
        region=bucket.region,
        virtual_hosted_style_request=bucket.virtual_host,
        skip_signature=False,
        unsigned_payload=False,
        s3_express=False,
        disable_bulk_delete=True,  # OSS and BOS know no such request
        client_options={
            "allow_http": bucket.address.startswith("http://"),
            "connect_timeout": min(patience, timedelta(seconds=5)),
            "timeout": patience,
        },
        retry_config={"max_retries": 2, "retry_timeout": patience},
        credential_provider=bucket.credential,
    )
