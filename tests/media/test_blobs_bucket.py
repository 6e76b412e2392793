"""Copies in a bucket: a real client of the library against a store that checks signatures itself."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import obstore.exceptions
import pytest

from app.core.clock import Clock
from app.core.errors import BackendError, BackendMisconfigured, BackendUnavailable, UnsupportedFeature
from app.core.types import Image
from app.media.blob_objects import Bucket, ObjectHosting
from tests.fakes.s3 import S3

PARAM = "messages[0].content[0].image_url.url"
JPEG = Image(b"\xff\xd8 a picture", "image/jpeg", 80, 80, "0" * 64)


class Wound:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.time_s = time.time()

    def now(self) -> float:
        return self.time_s


@pytest.fixture
def wound() -> Wound:
    return Wound()


@pytest.fixture
def store(wound: Wound) -> Iterator[S3]:
    with S3(clock=wound.now).in_thread() as s3:
        yield s3


def bucket_of(store: S3, **changes: Any) -> Bucket:
    bucket = Bucket(
        name=store.bucket,
        prefix="tuwen/copies",
        endpoint=store.url,
        region=store.region,
        access_key_id=store.access_key_id,
        secret_access_key=store.secret_access_key,
    )
    return replace(bucket, **changes)


@asynccontextmanager
async def publishing(bucket: Bucket, wound: Wound, timeout_s: float = 5.0) -> AsyncIterator[ObjectHosting]:
    hosting = ObjectHosting(bucket, clock=Clock(now=wound.now), ttl_s=600, timeout_s=timeout_s)
    try:
        yield hosting
    finally:
        await hosting.aclose()


def fetched(url: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.build_opener().open(url, timeout=5) as answer:
            return answer.status, answer.headers["content-type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], error.read()


async def test_anyone_with_the_address_can_fetch_the_picture_until_it_ends(store: S3, wound: Wound) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        url = await hosting.publish(JPEG, (), param=PARAM)
        assert ".jpg?" in url
        assert len(url) <= 1024  # the shortest bound of a vendor
        assert await asyncio.to_thread(fetched, url) == (200, "image/jpeg", JPEG.data)
        [stored] = store.objects.values()
        assert stored.headers["cache-control"] == "private, no-store"
        wound.time_s += 605
        assert (await asyncio.to_thread(fetched, url))[0] == 403


async def test_a_changed_address_opens_nothing(store: S3, wound: Wound) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        url = await hosting.publish(JPEG, (), param=PARAM)
        for forged in (url.replace("X-Amz-Expires=600", "X-Amz-Expires=60000"), url.partition("?")[0]):
            assert (await asyncio.to_thread(fetched, forged))[0] == 403


async def test_two_publications_of_one_picture_share_nothing(store: S3, wound: Wound) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        urls = {(await hosting.publish(JPEG, (), param=PARAM)).partition("?")[0] for _ in range(2)}
        assert len(urls) == 2
        assert all(url.startswith(f"{store.url}/pictures/tuwen/copies/") for url in urls)


async def test_the_sweeper_deletes_what_is_over_and_nothing_else(store: S3, wound: Wound) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        await hosting.publish(JPEG, (), param=PARAM)
        wound.time_s += 400
        kept = await hosting.publish(JPEG, (), param=PARAM)
        await hosting.sweep()
        assert len(store.objects) == 2
        wound.time_s += 201
        await hosting.sweep()
        [key] = store.objects
        assert key in kept
        assert {asked.method for asked in store.requests} == {"PUT", "DELETE"}


async def test_closing_deletes_the_rest(store: S3, wound: Wound) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        await hosting.publish(JPEG, (), param=PARAM)
    assert not store.objects
    async with publishing(bucket_of(store), wound):
        pass  # nothing was published


async def test_the_bucket_can_stand_in_the_host(wound: Wound, monkeypatch: pytest.MonkeyPatch) -> None:
    with S3(clock=wound.now, virtual_host="s3.test").in_thread() as store:
        monkeypatch.setenv("HTTP_PROXY", store.proxy)
        async with publishing(bucket_of(store, virtual_host=True), wound) as hosting:
            url = await hosting.publish(JPEG, ("s3.test",), param=PARAM)
            assert url.startswith("http://pictures.s3.test/tuwen/copies/")
            monkeypatch.setenv("http_proxy", store.proxy)
            assert await asyncio.to_thread(fetched, url) == (200, "image/jpeg", JPEG.data)


def test_where_a_bucket_is() -> None:
    bucket = Bucket("b", "", None, "eu-west-1", "id", "secret")
    assert bucket.address == "https://s3.eu-west-1.amazonaws.com"
    assert replace(bucket, virtual_host=True).address == "https://b.s3.eu-west-1.amazonaws.com"
    named = replace(bucket, endpoint="https://b.oss-cn-hangzhou.aliyuncs.com", virtual_host=True)
    assert named.address == "https://b.oss-cn-hangzhou.aliyuncs.com"
    assert "secret" not in repr(bucket)


async def test_variables_of_another_store_are_not_used(
    store: S3, wound: Wound, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"SESSION_TOKEN": "x", "ENDPOINT_URL": "http://127.0.0.1:1", "SKIP_SIGNATURE": "true", "REGION": "mars"}
    for name, value in others.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    async with publishing(bucket_of(store), wound) as hosting:
        url = await hosting.publish(JPEG, (), param=PARAM)
        assert (await asyncio.to_thread(fetched, url))[0] == 200
    assert all("x-amz-security-token" not in asked.headers for asked in store.requests)


@pytest.mark.parametrize("change", [{"secret_access_key": "wrong/secret"}, {"access_key_id": "NOBODY"}, {"name": "no"}])
async def test_a_store_that_refuses_our_key_or_bucket_is_the_operators_to_mend(
    store: S3, wound: Wound, change: dict[str, str]
) -> None:
    async with publishing(bucket_of(store, **change), wound) as hosting:
        with pytest.raises(BackendMisconfigured) as caught:
            await hosting.publish(JPEG, (), param=PARAM)
    error = caught.value
    assert error.retryable  # another route may take bytes
    assert "TUWEN_BLOB" in str(error)
    assert "TUWEN_BLOB" in error.said_in("zh")
    assert "http" not in str(error)
    assert "the object store: " in error.detail
    assert "wrong/secret" not in error.detail
    assert "NOBODY" not in error.detail
    assert "Debug" not in error.detail


async def fault(hosting: ObjectHosting) -> tuple[BackendError, float]:
    """What a publication fails with, and after how many seconds."""
    start_s = time.monotonic()
    with pytest.raises(BackendUnavailable) as caught:
        await hosting.publish(JPEG, (), param=PARAM)
    return caught.value, time.monotonic() - start_s


async def test_a_store_that_is_down_is_told_in_bounded_time(wound: Wound) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bucket = bucket_of(S3(port=port))
    async with publishing(bucket, wound, timeout_s=2) as hosting:
        error, took_s = await fault(hosting)
        assert took_s < 3
        assert error.retryable
        assert "http" not in str(error)


async def test_a_store_that_is_silent_is_told_in_bounded_time(store: S3, wound: Wound) -> None:
    store.silent.set()
    async with publishing(bucket_of(store), wound, timeout_s=0.3) as hosting:
        error, took_s = await fault(hosting)
        assert took_s < 2
        assert error.detail == "the object store: no answer in time" or "timed out" in error.detail
        store.ended.set()


async def test_an_address_outside_the_backends_domains_is_refused_before_anything_is_stored(
    store: S3, wound: Wound
) -> None:
    async with publishing(bucket_of(store), wound) as hosting:
        with pytest.raises(UnsupportedFeature) as caught:
            await hosting.publish(JPEG, ("bcebos.com",), param=PARAM)
    assert caught.value.param == PARAM
    for said in (str(caught.value), caught.value.said_in("zh")):
        assert "TUWEN_BLOB_STORE=s3://BUCKET, TUWEN_BLOB_ENDPOINT=https://s3.bj.bcebos.com" in said
    assert not store.requests


def test_every_error_of_the_library_is_one_that_hosting_catches() -> None:
    raised = [kind for kind in vars(obstore.exceptions).values() if isinstance(kind, type)]
    assert len(raised) > 5
    for kind in raised:
        assert issubclass(kind, obstore.exceptions.BaseError)


def test_a_process_that_ends_right_after_publishing_ends_well(store: S3) -> None:
    script = (
        "import asyncio\n"
        "from app.core.clock import Clock\n"
        "from app.core.types import Image\n"
        "from app.media.blob_objects import Bucket, ObjectHosting\n"
        f"bucket = Bucket({store.bucket!r}, '', {store.url!r}, {store.region!r}, "
        f"{store.access_key_id!r}, {store.secret_access_key!r})\n"
        "async def main():\n"
        "    hosting = ObjectHosting(bucket, clock=Clock(), ttl_s=600)\n"
        "    await hosting.publish(Image(b'x', 'image/png', 1, 1, ''), (), param=None)\n"
        "asyncio.run(main())\n"
    )
    ended = [subprocess.run([sys.executable, "-c", script], check=False).returncode for _ in range(2)]
    assert ended == [0, 0]
    assert len(store.objects) == 2
