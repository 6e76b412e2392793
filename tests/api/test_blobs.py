"""Published pictures through the running gateway: a backend that takes addresses only fetches what it is told of."""

from __future__ import annotations

import io
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import PIL.Image
import pytest
import structlog
from structlog.testing import capture_logs

from app.config.errors import ConfigError
from app.config.settings import load_settings
from app.main import create_app
from app.observe.logs import redact
from tests.api.pictures import data_url, question
from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.s3 import S3
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

PUBLIC_URL = "https://pictures.example.com/gw"
SECRET = b"GPS 31.2304 N, 121.4737 E"
MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"
image_input = "url"

[models.m]
routes = [{{ backend = "fake", model = "remote-m" }}]
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture
def served(upstream: Upstream, tmp_path: Path) -> Iterator[Served]:
    port = urlsplit(upstream.url).port
    settings = {"public_url": PUBLIC_URL, "fetch_allow": (f"127.0.0.1/32:{port}",)}
    with serving(tmp_path, MODELS.format(url=upstream.url), **settings) as site:
        yield site


def photograph() -> bytes:
    """A JPEG that says where it was taken."""
    fields = PIL.Image.Exif()
    fields[0x010E] = SECRET.decode()
    out = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), "red").save(out, "JPEG", exif=fields)
    assert SECRET in out.getvalue()
    return out.getvalue()


def url_of(asked: Received) -> str:
    """The address of the picture a backend was sent."""
    [part] = [part for part in asked.json["messages"][-1]["content"] if part["type"] == "image_url"]
    url: str = part["image_url"]["url"]
    return url


class Fetching:
    """A backend that fetches the picture before it answers, as vendors do.

    Args:
        place: where the public address leads.
        fetched: content type and bytes of each picture.
    """

    def __init__(self, place: Callable[[str], str]) -> None:
        self.place = place
        self.fetched: list[tuple[str, bytes]] = []

    def __call__(self, asked: Received) -> Reply:
        with urllib.request.build_opener().open(self.place(url_of(asked)), timeout=5) as answer:
            self.fetched.append((answer.headers["content-type"], answer.read()))
        return openai.answer("red")


def assert_is_cleaned(fetched: tuple[str, bytes]) -> None:
    media_type, data = fetched
    assert media_type == "image/jpeg"
    assert SECRET not in data
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def published(served: Served, upstream: Upstream) -> str:
    """The path, below the gateway, of a picture just published."""
    upstream.answer(openai.answer("red"))
    assert served.chat(messages=question(data_url(photograph(), "image/jpeg"))).status_code == 200
    return url_of(upstream.requests[-1]).removeprefix(PUBLIC_URL)


@pytest.mark.parametrize("strips", [True, False])
def test_a_backend_fetches_the_cleaned_picture_and_not_the_one_that_was_sent(
    served: Served, upstream: Upstream, strips: bool
) -> None:
    """Args: strips: whether the proxy before the gateway takes the prefix of the public address away."""
    prefix = PUBLIC_URL if strips else PUBLIC_URL.removesuffix("/gw")
    backend = Fetching(lambda url: url.replace(prefix, served.url))
    upstream.answer(backend)
    assert served.chat(messages=question(data_url(photograph(), "image/jpeg"))).status_code == 200
    assert_is_cleaned(backend.fetched[0])


def test_a_callers_address_never_reaches_the_backend(served: Served, upstream: Upstream) -> None:
    backend = Fetching(lambda url: url.replace(PUBLIC_URL, served.url))
    picture = Reply(headers={"content-type": "image/jpeg"}, steps=[photograph()], body="length")
    upstream.answer(picture, backend)
    theirs = f"{upstream.url}/holiday.jpg"
    assert served.chat(messages=question(theirs)).status_code == 200
    assert [asked.path for asked in upstream.requests] == ["/holiday.jpg", "/v1/chat/completions"]
    assert theirs not in upstream.requests[1].body.decode()
    assert url_of(upstream.requests[1]).startswith(f"{PUBLIC_URL}/blobs/")
    assert_is_cleaned(backend.fetched[0])


def test_a_callers_address_that_may_not_be_fetched_is_not_handed_on(served: Served, upstream: Upstream) -> None:
    response = served.chat(messages=question("http://169.254.169.254/latest/meta-data"))
    assert response.status_code == 400
    assert not upstream.requests


def test_a_copy_says_what_it_is_and_may_not_be_kept(served: Served, upstream: Upstream) -> None:
    path = published(served, upstream)
    with httpx2.Client(base_url=served.url, trust_env=False) as stranger:  # without a key
        got, told = stranger.get(path), stranger.head(path)
    assert_is_cleaned((got.headers["content-type"], got.content))
    for answer in (got, told):
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(got.content))
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert told.content == b""


def test_whatever_is_wrong_with_a_token_is_answered_alike(served: Served, upstream: Upstream) -> None:
    path = published(served, upstream)
    folder = served.settings.data_dir / "blobs"
    [file] = folder.iterdir()
    file.unlink()
    wrong = [path, path.replace(".jpg", ".png"), f"/blobs/{'A' * 72}.jpg", "/blobs/x", "/blobs/..%2Fsecret"]
    wrong += [f"/blobs/{file.name}", "/blobs/a/b", "/blobs/%00", "/blobs/图"]
    answers = [served.client.get(one) for one in wrong]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert json.loads(answers[0].content)["error"]["message"] == "No picture is published here, or no longer."
    assert served.client.get("/blobs").status_code == served.client.get("/blobs/").status_code == 404
    assert served.client.post(path).status_code == 405


def test_two_gateways_serve_each_others_copies(served: Served, upstream: Upstream, tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "data" / "secret").write_bytes((served.settings.data_dir / "secret").read_bytes())
    shared = str(served.settings.data_dir / "blobs")
    models = MODELS.format(url=upstream.url)
    path = published(served, upstream)
    with serving(other, models, public_url=PUBLIC_URL, blob_store=shared) as second:
        assert second.client.get(path).content == served.client.get(path).content


def test_what_a_crash_left_is_gone_once_the_gateway_is_up(upstream: Upstream, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "blobs"
    folder.mkdir(parents=True)
    left = folder / f"000000000001-{'0' * 32}.jpg"
    left.touch()
    with serving(tmp_path, MODELS.format(url=upstream.url), public_url=PUBLIC_URL):
        assert not left.exists()


def test_over_the_bound_the_caller_is_told_to_come_again(upstream: Upstream, tmp_path: Path) -> None:
    with serving(tmp_path, MODELS.format(url=upstream.url), public_url=PUBLIC_URL, blob_max_bytes=1) as served:
        response = served.chat(messages=question(data_url(photograph(), "image/jpeg")))
    assert response.status_code == 429
    assert "retry-after" in response.headers
    assert not upstream.requests


def test_through_a_bucket_the_backend_fetches_from_the_store(upstream: Upstream, tmp_path: Path) -> None:
    with S3().in_thread() as store:
        settings: dict[str, Any] = {
            "blob_store": f"s3://{store.bucket}/copies",
            "blob_endpoint": store.url,
            "blob_region": store.region,
            "blob_access_key_id": store.access_key_id,
            "blob_secret_access_key": store.secret_access_key,
            "public_url": PUBLIC_URL,
        }
        backend = Fetching(str)
        upstream.answer(backend)
        with serving(tmp_path, MODELS.format(url=upstream.url), **settings) as served:
            assert served.chat(messages=question(data_url(photograph(), "image/jpeg"))).status_code == 200
            assert served.client.get(f"/blobs/{'A' * 72}.jpg").json()["error"]["message"].startswith("Nothing is")
        assert_is_cleaned(backend.fetched[0])
        assert not store.objects  # the gateway cleaned up as it stopped
        assert not (tmp_path / "data" / "blobs").exists()


def test_without_a_place_to_publish_the_caller_is_told_what_the_operator_must_set(
    upstream: Upstream, tmp_path: Path
) -> None:
    with serving(tmp_path, MODELS.format(url=upstream.url)) as served:
        response = served.chat(messages=question(data_url(photograph(), "image/jpeg")))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "unsupported_feature"
    assert "TUWEN_PUBLIC_URL" in response.json()["error"]["message"]
    assert response.json()["error"]["param"] == "messages[0].content[0].image_url.url"


def told_at_start(folder: Path, **settings: Any) -> list[str]:
    """What the log says of published pictures while a gateway starts."""
    structlog.reset_defaults()
    folder.mkdir(exist_ok=True)
    with capture_logs() as lines, serving(folder, "", **settings):
        pass
    return [line["event"] for line in lines if "published pictures" in line["event"]]


def test_the_log_says_where_copies_lie_and_what_other_machines_need(tmp_path: Path) -> None:
    [line] = told_at_start(tmp_path, public_url=PUBLIC_URL)
    assert str(tmp_path / "data" / "blobs") in line
    assert "TUWEN_BLOB_STORE" in line
    assert "TUWEN_SECRET" in line


def test_a_shared_folder_needs_a_shared_secret_and_the_log_says_so(tmp_path: Path) -> None:
    shared = {"public_url": PUBLIC_URL, "blob_store": str(tmp_path / "shared")}
    [line] = told_at_start(tmp_path / "one", **shared)
    assert line.endswith("need the same TUWEN_SECRET")
    assert told_at_start(tmp_path / "two", **shared, secret="a secret of many gateways") == []
    assert told_at_start(tmp_path / "three") == []


def test_a_folder_that_cannot_be_used_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = tmp_path / "file" / "copies"
    settings = load_settings(data_dir=tmp_path / "data", public_url=PUBLIC_URL, blob_store=str(store))
    with pytest.raises(ConfigError, match=r"^TUWEN_BLOB_STORE: .* cannot be used: "):
        create_app(settings)


def test_a_folder_that_may_not_be_written_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root, who may write everywhere
    with pytest.raises(ConfigError, match=r"^TUWEN_BLOB_STORE: .* cannot be written to$"):
        create_app(load_settings(data_dir=tmp_path / "data", public_url=PUBLIC_URL))


def test_addresses_of_pictures_are_not_readable_in_the_log(served: Served, upstream: Upstream) -> None:
    path = published(served, upstream)
    assert redact(f"GET {PUBLIC_URL}{path}") == f"GET {PUBLIC_URL}/blobs/[redacted].jpg"
    doubled = path.replace("/blobs/", "/blobs//")
    assert served.client.get(doubled).status_code == 200
    assert redact(f"GET {PUBLIC_URL}{doubled}") == f"GET {PUBLIC_URL}/blobs//[redacted].jpg"
    signed = "cannot fetch https://b.test/x.jpg?X-Amz-Expires=600&X-Amz-Signature=0123456789abcdef now"
    assert re.search(r"X-Amz-Signature=\[redacted\] now$", redact(signed))
