"""One gateway for all tests of the vendors' own APIs: a scripted backend, the embedded OCR, and a key's credentials."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.accounts.interfaces import KeyRecord
from app.accounts.vendor_keys import VendorKeys
from app.store.secret import server_secret
from app.store.sql import SqlStore
from tests.api.pictures import data_url, picture
from tests.fakes.upstream import Upstream
from tests.support.server import Served, serving

PICTURES = Path(__file__).parents[3] / "samples" / "pictures"
PICTURE = data_url(picture((96, 80)))
PLUGIN = "/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin"

MODELS = """
[backends.fake]
kind = "openai"
base_url = "{url}/v1"

[backends.bare]
kind = "qianfan"
base_url = "{url}/v2"
api_key = "k"

[backends.gone]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.seer]
routes = [{{ backend = "fake", model = "remote-m" }}]
aliases = ["team/seer"]

[models.scorer]
routes = [{{ backend = "bare", model = "deepseek-vl2" }}]

[models.dead]
routes = [{{ backend = "gone", model = "x" }}]

[models."*"]
routes = [{{ backend = "gone", model = "*" }}]
"""


@dataclass(frozen=True)
class Vendor:
    """The gateway as a client of Baidu sees it.

    Args:
        host: where the sample pictures are served.
    """

    served: Served
    ak: str
    host: str

    @property
    def keys(self) -> VendorKeys:
        return VendorKeys(server_secret(self.served.settings.data_dir, None))

    @property
    def sk(self) -> str:
        return self.keys.secret_key(self.ak, 1)

    def token(self, **query: str) -> httpx2.Response:
        """Asks for an access token."""
        with self.stranger() as client:
            return client.post("/oauth/2.0/token", params=query)

    def access_token(self) -> str:
        asked = self.token(grant_type="client_credentials", client_id=self.ak, client_secret=self.sk)
        token: str = asked.json()["access_token"]
        return token

    def stranger(self) -> httpx2.Client:
        """A client that carries no key."""
        return httpx2.Client(base_url=self.served.url, timeout=20, trust_env=False)

    def ask(self, name: str = "seer", **fields: Any) -> httpx2.Response:
        """Asks the plugin, with a gateway key."""
        body = {"query": "图里有什么?", "plugins": ["uuid-chatocr"], "fileurl": PICTURE, **fields}
        return self.served.client.post(f"{PLUGIN}/{name}/", json=body)


async def key_of(data_dir: Path, name: str = "admin") -> KeyRecord:
    store = await SqlStore.open(data_dir / "tuwen.db")
    try:
        return next(key for key in await store.keys() if key.name == name)
    finally:
        await store.aclose()


@pytest.fixture(scope="package")
def pictures() -> Iterator[int]:
    """Serves the sample pictures; its port."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(PICTURES)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="package")
def _upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as upstream:
        yield upstream


@pytest.fixture(scope="package")
def _vendor(_upstream: Upstream, pictures: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    with _before(_upstream, pictures, tmp_path_factory.mktemp("vendor")) as vendor:
        vendor.ask("local-ocr-vision")  # loads the engine
        yield vendor


@contextmanager
def _before(upstream: Upstream, pictures: int, folder: Path, **settings: Any) -> Iterator[Vendor]:
    allowed = (f"127.0.0.1/32:{pictures}",)
    models = MODELS.format(url=upstream.url)
    with serving(folder, models, fetch_allow=allowed, max_body_bytes=1024 * 1024, **settings) as served:
        record = asyncio.run(key_of(served.settings.data_dir))
        yield Vendor(served, record.id, f"http://127.0.0.1:{pictures}")


@pytest.fixture
def eager(upstream: Upstream, pictures: int, tmp_path: Path) -> Iterator[Vendor]:
    """Another, which soon tells who waits that it is still there."""
    with _before(upstream, pictures, tmp_path, heartbeat_s=0.1) as vendor:
        yield vendor


@pytest.fixture
def upstream(_upstream: Upstream) -> Upstream:
    """The scripted backend, its memory empty."""
    _upstream.forget()
    return _upstream


@pytest.fixture
def vendor(_vendor: Vendor, upstream: Upstream) -> Vendor:
    """The gateway in front of it."""
    assert not upstream.requests
    return _vendor
