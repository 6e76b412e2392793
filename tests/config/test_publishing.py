"""Settings of published pictures: what they take, and what does not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.config.errors import ConfigError
from app.config.publishing import BucketName, bucket_of, folder_of
from app.config.settings import load_settings
from tests.config.conftest import Desk

KEYS = {"blob_access_key_id": "id", "blob_secret_access_key": "hush-hush"}
BOS = {"blob_store": "s3://pictures/tuwen", "blob_endpoint": "https://s3.bj.bcebos.com", **KEYS}


@pytest.fixture(autouse=True)
def _at_a_clean_desk(desk: Desk) -> None:
    """No variable of ours, no .env."""


def refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        load_settings(**settings)
    assert "hush" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://Tuwen.Example.com/", "https://tuwen.example.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://[::1]:8443/a/b/", "https://[::1]:8443/a/b"),
    ],
)
def test_a_public_address_is_taken_without_its_last_slash(written: str, read: str) -> None:
    assert load_settings(public_url=written).public_url == read


@pytest.mark.parametrize(
    "written",
    [
        "tuwen.example.com", "ftp://tuwen.example.com", "https://", "https://tuwen.example.com/?a=1",
        "https://tuwen.example.com?", "https://tuwen.example.com/#x", "https://me:pw@tuwen.example.com",
        "https://tuwen.example.com:port", "https://tuwen.example.com:0", "https://[::1", "https://图.example",
        "https://tuwen.example.com/{token}", "https://a b.example.com",
    ],
)  # fmt: skip
def test_what_is_no_public_address_is_told(written: str) -> None:
    assert refusal(public_url=written).startswith("TUWEN_PUBLIC_URL: must be an http or https address without query")


@pytest.mark.parametrize("written", ["s3.bj.bcebos.com", "https://s3.bj.bcebos.com/pictures", "s3://pictures"])
def test_what_is_no_endpoint_is_told(written: str) -> None:
    assert refusal(**BOS | {"blob_endpoint": written}).startswith("TUWEN_BLOB_ENDPOINT: must be an http or https")


@pytest.mark.parametrize("written", ["oss://pictures", "s3://", "s3://UPPER", "s3://b/pre fix", "https://b.s3.test"])
def test_what_is_no_bucket_is_told(written: str) -> None:
    assert refusal(**BOS | {"blob_store": written}).startswith("TUWEN_BLOB_STORE: must be a folder or s3://BUCKET")


def test_a_bucket_and_its_prefix_are_read() -> None:
    assert bucket_of("s3://my-pictures//a/b/") == BucketName("my-pictures", "a/b")
    assert bucket_of("s3://my-pictures") == BucketName("my-pictures", "")
    assert bucket_of("/var/copies") is None
    assert bucket_of(None) is None
    assert load_settings(**BOS, blob_region="bj", blob_virtual_host=True).blob_store == BOS["blob_store"]


def test_copies_lie_in_the_data_folder_unless_told_otherwise() -> None:
    data = Path("/srv/tuwen")
    assert folder_of(load_settings(), data) is None
    assert folder_of(load_settings(public_url="https://a.example"), data) == data / "blobs"
    assert folder_of(load_settings(public_url="https://a.example", blob_store="/mnt/x"), data) == Path("/mnt/x")
    assert folder_of(load_settings(public_url="https://a.example", **BOS), data) is None


def test_a_bucket_without_its_keys_is_told_with_the_remedy() -> None:
    assert refusal(blob_store="s3://pictures").splitlines() == [
        "TUWEN_BLOB_ACCESS_KEY_ID: must be set where TUWEN_BLOB_STORE is a bucket",
        "TUWEN_BLOB_SECRET_ACCESS_KEY: must be set where TUWEN_BLOB_STORE is a bucket",
        "TUWEN_BLOB_ENDPOINT: must be set, as https://s3.bj.bcebos.com; or TUWEN_BLOB_REGION, for AWS",
    ]


def test_keys_without_a_bucket_are_told() -> None:
    lines = refusal(**KEYS, blob_virtual_host=True, blob_store="/mnt/x", public_url="https://a.example").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "TUWEN_BLOB_ACCESS_KEY_ID",
        "TUWEN_BLOB_SECRET_ACCESS_KEY",
        "TUWEN_BLOB_VIRTUAL_HOST",
    ]
    assert all("set TUWEN_BLOB_STORE=s3://BUCKET too, or take it away" in line for line in lines)


def test_a_folder_that_nobody_serves_is_told() -> None:
    assert refusal(blob_store="/mnt/x").startswith("TUWEN_PUBLIC_URL: must be set where TUWEN_BLOB_STORE is a folder")


@pytest.mark.parametrize("ttl_s", ["0", "90000", "nan"])
def test_a_time_that_no_store_signs_for_is_refused(ttl_s: str) -> None:
    assert refusal(blob_ttl_s=ttl_s).startswith("TUWEN_BLOB_TTL_S: must be ")


def test_the_stores_key_is_not_shown() -> None:
    settings = load_settings(**BOS)
    assert "hush" not in repr(settings)
    refusal(blob_secret_access_key=["hush"])
