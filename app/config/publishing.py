"""Rules of the settings that publish pictures: TUWEN_PUBLIC_URL and TUWEN_BLOB_*."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

_BUCKET = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/+([A-Za-z0-9._/-]*))?")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_HOST = re.compile(r"[a-z0-9.:-]+")


@dataclass(frozen=True, slots=True)
class BucketName:
    """A bucket, and what stands before the names in it, without slashes at its ends."""

    bucket: str
    prefix: str


class PublishingSettings(Protocol):
    """The settings these rules are about."""

    @property
    def public_url(self) -> str | None: ...
    @property
    def blob_store(self) -> str | None: ...
    @property
    def blob_endpoint(self) -> str | None: ...
    @property
    def blob_region(self) -> str | None: ...
    @property
    def blob_access_key_id(self) -> str | None: ...
    @property
    def blob_secret_access_key(self) -> SecretStr | None: ...
    @property
    def blob_virtual_host(self) -> bool: ...


def public_address(text: str) -> str:
    """An http(s) address, perhaps with a path, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    parts = _address_parts(text)
    if parts is None or not _PATH.fullmatch(parts.path):
        raise ValueError('must be an http or https address without query, as "https://tuwen.example.com"')
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def endpoint_address(text: str) -> str:
    """An http(s) address without a path.

    Raises:
        ValueError: it is none.
    """
    parts = _address_parts(text)
    if parts is None or parts.path.strip("/"):
        raise ValueError('must be an http or https address without path, as "https://s3.bj.bcebos.com"')
    return f"{parts.scheme}://{parts.netloc.lower()}"


def store_place(text: str) -> str:
    """A folder's path, or a bucket.

    Raises:
        ValueError: it looks like an address but is no bucket's.
    """
    if "://" in text and not _BUCKET.fullmatch(text):
        raise ValueError("must be a folder or s3://BUCKET/PREFIX; OSS, BOS and MinIO are s3:// too, by their endpoint")
    return text


def bucket_of(store: str | None) -> BucketName | None:
    """The bucket of a TUWEN_BLOB_STORE; `None` where it is a folder or unset."""
    match = _BUCKET.fullmatch(store or "")
    return BucketName(match[1], (match[2] or "").strip("/")) if match else None


def folder_of(settings: PublishingSettings, data_dir: Path) -> Path | None:
    """The folder in which the gateway keeps copies that it serves itself; `None` where it serves none."""
    if settings.public_url is None or bucket_of(settings.blob_store):
        return None
    return Path(settings.blob_store).absolute() if settings.blob_store else data_dir.absolute() / "blobs"


def misfits(settings: PublishingSettings) -> Iterator[str]:
    """What does not go together, a line each that names the variable and what to do."""
    of_bucket = {
        "TUWEN_BLOB_ACCESS_KEY_ID": settings.blob_access_key_id,
        "TUWEN_BLOB_SECRET_ACCESS_KEY": settings.blob_secret_access_key,
        "TUWEN_BLOB_ENDPOINT": settings.blob_endpoint,
        "TUWEN_BLOB_REGION": settings.blob_region,
        "TUWEN_BLOB_VIRTUAL_HOST": settings.blob_virtual_host or None,
    }
    if bucket_of(settings.blob_store):
        for name in ("TUWEN_BLOB_ACCESS_KEY_ID", "TUWEN_BLOB_SECRET_ACCESS_KEY"):
            if of_bucket[name] is None:
                yield f"{name}: must be set where TUWEN_BLOB_STORE is a bucket"
        if settings.blob_endpoint is None and settings.blob_region is None:
            yield "TUWEN_BLOB_ENDPOINT: must be set, as https://s3.bj.bcebos.com; or TUWEN_BLOB_REGION, for AWS"
        return
    for name, value in of_bucket.items():
        if value is not None:
            yield f"{name}: is for buckets only; set TUWEN_BLOB_STORE=s3://BUCKET too, or take it away"
    if settings.blob_store and settings.public_url is None:
        yield "TUWEN_PUBLIC_URL: must be set where TUWEN_BLOB_STORE is a folder: the gateway serves what lies there"


def _address_parts(text: str) -> SplitResult | None:
    """The parts of an address that has a host and neither credentials nor a query; else `None`."""
    try:
        parts = urlsplit(text)
        sound = parts.hostname is not None and _HOST.fullmatch(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return None
    extras = parts.query or parts.fragment or "@" in parts.netloc or "?" in text or "#" in text
    return parts if sound and parts.scheme in {"http", "https"} and not extras else None
