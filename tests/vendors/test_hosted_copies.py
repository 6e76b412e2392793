"""Hosted copies between real processes: a vendor that takes addresses fetches the picture in time, and only then."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletion
from PIL import Image

from tests.api.pictures import data_url, picture, question
from tests.commands.ask.lab import Lab
from tests.fakes import ccai
from tests.fakes.baidu import Baidu
from tests.fakes.ccai import CcaiAccount
from tests.fakes.http import Reply
from tests.fakes.s3 import S3
from tests.fakes.upstream import Upstream
from tests.support.gateway import RunningGateway, free_port, running_gateway
from tests.vendors.conftest import Shown

CLAIM = "hosted copies are fetched by those who were given their address"
SECRET = "a secret that two gateways of one cluster share"

MODELS = """
[backends.ccai]
kind = "ccai"
access_key_id = "LTAIfakefakefake"
access_key_secret = "fake-secret"
workspace_id = "llm-fake"
app_id = "0123456789abcdef0123456789abcdef"
base_url = "{ccai}"

[backends.chatocr]
kind = "chatocr"
endpoint = "testxxx"
base_url = "{baidu}"
bos_only = {bos_only}
api_key = "{key}"
secret_key = "{secret}"

[models.ccai-vision]
routes = [{{ backend = "ccai", model = "general" }}]

[models.chatocr-vision]
routes = [{{ backend = "chatocr", model = "uuid-chatocr" }}]
"""


class Vendors:
    """CCAI and Baidu, each of which fetches the picture it is told of."""

    def __init__(self, ccai_upstream: Upstream, baidu_upstream: Upstream) -> None:
        self.ccai_upstream = ccai_upstream
        self.baidu_upstream = baidu_upstream
        self.ccai = CcaiAccount(
            "LTAIfakefakefake",
            "fake-secret",
            workspace_id="llm-fake",
            app_id="0123456789abcdef0123456789abcdef",
            fetches=True,
        )
        self.baidu = Baidu(bos_only=False, fetches=True)
        ccai_upstream.otherwise(self.ccai.serving(ccai.says("一只", "猫")))
        baidu_upstream.otherwise(self.baidu)

    def models(self, folder: Path, *, bos_only: bool = False) -> Path:
        file = folder / "models.toml"
        text = MODELS.format(
            ccai=self.ccai_upstream.url,
            baidu=self.baidu_upstream.url,
            bos_only=str(bos_only).lower(),
            key=self.baidu.api_key,
            secret=self.baidu.secret_key,
        )
        file.write_text(text)
        return file

    @property
    def address(self) -> str:
        """Under which the newest picture was published for CCAI."""
        address: str = self.ccai_upstream.requests[-1].json["imageUrls"][0]
        return address


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with Upstream().in_thread() as first, Upstream().in_thread() as second:
        yield Vendors(first, second)


@contextmanager
def publishing(
    vendors: Vendors, folder: Path, settings: Mapping[str, str] = {}, *, proxy: str = "", bos_only: bool = False
) -> Iterator[RunningGateway]:
    """A gateway that publishes at its own port, unless told otherwise.

    Args:
        settings: more of them, each without TUWEN_; an empty text takes one away.
        proxy: leads names that are not looked up here to a store.
    """
    folder.mkdir(exist_ok=True)
    own = free_port()
    environment = {
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "TUWEN_PORT": str(own),
        "TUWEN_MODELS_FILE": str(vendors.models(folder, bos_only=bos_only)),
        "TUWEN_PUBLIC_URL": f"http://127.0.0.1:{own}",
        **{f"TUWEN_{name}": value for name, value in settings.items()},
    }
    given = {name: value for name, value in environment.items() if value}
    with running_gateway(folder / "data", given) as gateway:
        yield gateway


def asked(gateway: RunningGateway, model: str, *urls: str) -> ChatCompletion:
    with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=30) as client:
        messages = question(*urls)
        return client.chat.completions.create(model=model, messages=messages)  # type: ignore[arg-type]  # plain dicts


def got(address: str, **options: str) -> httpx2.Response:
    return httpx2.get(address, trust_env=False, **options)  # type: ignore[arg-type]  # only a proxy


def photo_with_a_place() -> bytes:
    """A JPEG whose EXIF tells a camera, a turn by a quarter, and a comment."""
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "Secret Camera", "at home"
    Image.new("RGB", (400, 300), "orange").save(out, "JPEG", exif=exif, comment=b"secret comment")
    return out.getvalue()


def text_of(answer: ChatCompletion) -> str | None:
    return answer.choices[0].message.content


def test_vendor_fetches_the_cleaned_picture_from_the_gateways_own_port(
    tmp_path: Path, vendors: Vendors, shown: Shown
) -> None:
    with publishing(vendors, tmp_path / "g") as gateway:
        answer = asked(gateway, "ccai-vision", data_url(photo_with_a_place(), "image/jpeg"))
        assert text_of(answer) == "一只猫"
        asked(gateway, "chatocr-vision", data_url(photo_with_a_place(), "image/jpeg"))
    [fetched] = vendors.ccai.fetched
    assert (fetched.status, fetched.media_type) == (200, "image/jpeg")
    assert fetched.url.startswith(f"{gateway.root_url}/blobs/")
    assert fetched.url.endswith(".jpg")
    for data in (fetched.data, vendors.baidu.pictures[0]):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (300, 400))
            assert not image.getexif()
        assert b"ecret" not in data
    shown(CLAIM, cases=2)


def test_copy_is_gone_after_its_time_and_guesses_find_nothing(tmp_path: Path, vendors: Vendors, shown: Shown) -> None:
    # two seconds of life, and it is looked at until they are over: a little over 3 s
    with publishing(vendors, tmp_path / "g", {"BLOB_TTL_S": "2"}) as gateway:
        asked(gateway, "ccai-vision", data_url(picture((100, 100))))
        assert vendors.ccai.fetched[0].status == 200
        place, _, token = vendors.address.rpartition("/")
        name, _, ending = token.partition(".")
        turned = name[:-1] + ("A" if name[-1] != "A" else "B")
        guesses = [
            f"{turned}.{ending}",
            f"{name[::-1]}.{ending}",
            f"{name}.gif",
            "",
            "..",
            "%2e%2e%2ftuwen.db",
            "a" * 64,
        ]
        assert [got(f"{place}/{guess}").status_code for guess in guesses] == [404] * len(guesses)
        deadline = time.monotonic() + 10
        while (answer := got(vendors.address)).status_code != 404:
            assert time.monotonic() < deadline, "the copy outlived its time"
        assert "error" in answer.json()
    shown(CLAIM, cases=1 + len(guesses))


def test_one_gateway_publishes_and_another_serves(tmp_path: Path, vendors: Vendors, shown: Shown) -> None:
    common = {"BLOB_STORE": str(tmp_path / "blobs"), "SECRET": SECRET}
    with (  # two processes start and stop: about 4 s
        publishing(vendors, tmp_path / "serving", common) as server,
        publishing(vendors, tmp_path / "publishing", {"PUBLIC_URL": server.root_url, **common}) as publisher,
    ):
        answer = asked(publisher, "ccai-vision", data_url(picture((100, 100), colour="blue")))
        assert text_of(answer) == "一只猫"
        assert urlsplit(vendors.address).port == server.port != publisher.port
    [fetched] = vendors.ccai.fetched
    assert fetched.status == 200
    with Image.open(io.BytesIO(fetched.data)) as image:
        assert image.convert("RGB").getpixel((50, 50)) == (0, 0, 255)
    shown(CLAIM, cases=1)


def test_without_a_place_to_publish_the_caller_is_told_what_to_set(
    tmp_path: Path, vendors: Vendors, shown: Shown
) -> None:
    with publishing(vendors, tmp_path / "g", {"PUBLIC_URL": ""}) as gateway:
        for model in ("ccai-vision", "chatocr-vision"):
            with pytest.raises(openai.BadRequestError, match="TUWEN_PUBLIC_URL") as refused:
                asked(gateway, model, data_url(picture((100, 100))))
            assert refused.value.code == "unsupported_feature"
            assert refused.value.param == "messages[0].content[0].image_url.url"
    assert not vendors.ccai_upstream.requests
    assert not vendors.baidu_upstream.requests
    shown(CLAIM, cases=2)


def test_callers_own_address_never_reaches_the_vendor(tmp_path: Path, vendors: Vendors, shown: Shown) -> None:
    with Upstream().in_thread() as host, Upstream().in_thread() as private:
        host.answer(Reply(200, {"content-type": "image/jpeg"}, [photo_with_a_place()], "length"))
        allowed = {"FETCH_ALLOW": f"127.0.0.1/32:{urlsplit(host.url).port}"}
        with publishing(vendors, tmp_path / "g", allowed) as gateway:
            asked(gateway, "ccai-vision", f"{host.url}/private/photo.jpg?token=secret")
            assert vendors.address.startswith(f"{gateway.root_url}/blobs/")
            [call] = vendors.ccai_upstream.requests
            assert b"secret" not in call.body
            assert b"photo.jpg" not in call.body
            assert b"ecret" not in vendors.ccai.fetched[0].data
            refusals = [
                f"{private.url}/x.png",
                f"{gateway.root_url}/blobs/x.png",
                "http://169.254.169.254/latest/meta-data/",
                "http://[::1]/x.png",
                "http://10.0.0.1/x.png",
            ]
            for url in refusals:
                with pytest.raises(openai.BadRequestError) as refused:
                    asked(gateway, "ccai-vision", url)
                assert refused.value.code == "image_url_not_allowed"
        assert not private.requests
    assert len(vendors.ccai_upstream.requests) == 1
    shown(CLAIM, cases=1 + len(refusals))


def test_a_service_that_takes_only_bcebos_gets_a_signed_address_of_a_bucket_there(
    tmp_path: Path, vendors: Vendors, shown: Shown
) -> None:
    vendors.baidu.bos_only, vendors.baidu.fetches = True, False  # no name under bcebos.com is looked up here
    with S3(virtual_host="s3.bj.bcebos.com").in_thread() as store:
        bucket = {
            "PUBLIC_URL": "",
            "BLOB_STORE": "s3://pictures",
            "BLOB_ENDPOINT": store.url,
            "BLOB_REGION": store.region,
            "BLOB_ACCESS_KEY_ID": store.access_key_id,
            "BLOB_SECRET_ACCESS_KEY": store.secret_access_key,
            "BLOB_VIRTUAL_HOST": "true",
        }
        with publishing(vendors, tmp_path / "g", bucket, bos_only=True, proxy=store.proxy) as gateway:
            answer = asked(gateway, "chatocr-vision", data_url(photo_with_a_place(), "image/jpeg"))
            assert text_of(answer) == "".join(vendors.baidu.says)
            address = vendors.baidu.asked[0]["fileurl"]
            assert urlsplit(address).hostname == "pictures.s3.bj.bcebos.com"
            fetched = got(address, proxy=store.proxy)
            assert (fetched.status_code, fetched.headers["content-type"]) == (200, "image/jpeg")
            forged = got(address[:-1] + ("0" if address[-1] != "0" else "1"), proxy=store.proxy)
            assert forged.status_code == 403
        assert not store.objects, "what a gateway published is deleted when it stops"
    with Image.open(io.BytesIO(fetched.content)) as image:
        assert image.size == (300, 400)
    shown(CLAIM, cases=2)


def test_a_folder_does_not_do_for_a_service_that_takes_only_bcebos(
    tmp_path: Path, vendors: Vendors, shown: Shown
) -> None:
    with (
        publishing(vendors, tmp_path / "g", bos_only=True) as gateway,
        pytest.raises(openai.BadRequestError, match=r"bcebos\.com.*TUWEN_BLOB_STORE"),
    ):
        asked(gateway, "chatocr-vision", data_url(picture((100, 100))))
    assert not vendors.baidu_upstream.requests
    shown(CLAIM, cases=1)


def test_a_command_publishes_through_the_gateway_beside_it_and_says_where_none_runs(
    tmp_path: Path, vendors: Vendors, shown: Shown
) -> None:
    (tmp_path / "photo.png").write_bytes(picture((100, 100)))
    port = str(free_port())
    common = {
        "TUWEN_PORT": port,
        "TUWEN_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TUWEN_MODELS_FILE": str(vendors.models(tmp_path)),
        "TUWEN_DATA_DIR": str(tmp_path / "data"),
    }
    lab = Lab(tmp_path, common)
    arguments = (str(tmp_path / "photo.png"), "-m", "ccai-vision", "--raw")
    alone = lab.ask(*arguments)
    assert alone.code == 1
    assert f"from http://127.0.0.1:{port}; no gateway runs here to serve it" in alone.err
    with running_gateway(tmp_path / "data", common):
        beside = lab.ask(*arguments)
    assert (beside.code, beside.out.count('"success":true')) == (0, 2)
    assert "no gateway" not in beside.err
    assert [fetched.status for fetched in vendors.ccai.fetched] == [0, 200]
    shown(CLAIM, cases=2)
