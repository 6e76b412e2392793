"""A gateway with a canary in every secret, before backends that repeat whatever they hear."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx2
from PIL import Image

from tests.fakes.s3 import S3
from tests.fakes.upstream import Upstream
from tests.secrets.canaries import Canary
from tests.secrets.parrot import Parrot
from tests.support.gateway import RunningGateway, running_gateway

ROOT = Path(__file__).parents[2]
_PLANT = Path(__file__).with_name("plant")
_COMMAND_S = 60

_SECRETS = {
    "openai": ("api_key", "x-tenant-key"),
    "qianfan": ("api_key",),
    "spark": ("api_key", "api_secret"),
    "ccai": ("access_key_id", "access_key_secret", "security_token"),
    "chatocr": ("api_key", "secret_key"),
    "chatocr-account": ("access_key_id", "secret_access_key"),
    "baidu_ocr": ("api_key", "secret_key"),
    "baidu_ocr-account": ("access_key_id", "secret_access_key"),
}
_FORMS = {
    "qianfan api_key": "bce-v3/ALTAK-{}/+=",
    "ccai access_key_id": "STS.{}",
    "chatocr-account access_key_id": "ALTAK{}",
    "baidu_ocr-account access_key_id": "ALTAK{}",
}
_SECTIONS = {
    "openai": 'base_url = "{url}/v1"',
    "qianfan": 'base_url = "{url}/v2"',
    "spark": 'base_url = "{ws}/v2.1/image"\ntext_base_url = "{ws}"\napp_id = "canaryapp"',
    "ccai": 'base_url = "{url}"\nworkspace_id = "llm-canary"\napp_id = "0123456789abcdef0123456789abcdef"',
    "chatocr": 'base_url = "{url}"\nendpoint = "ep"\nbos_only = false',
    "baidu_ocr": 'base_url = "{url}"',
}
_REMOTE = {"spark": "imagev3", "chatocr": "uuid-chatocr", "baidu_ocr": "general"}


def _kind(backend: str) -> str:
    return backend.partition("-")[0]


def credentials() -> dict[str, dict[str, Canary]]:
    """A canary for each secret of each backend."""
    return {
        backend: {name: Canary.of(f"{backend} {name}", _FORMS.get(f"{backend} {name}", "{}/+=")) for name in names}
        for backend, names in _SECRETS.items()
    }


def picture() -> bytes:
    """A picture in whose pixels a canary lies: a row of bright noise that PNG keeps as it is."""
    out = io.BytesIO()
    noise = Image.frombytes(
        "RGB", (96, 96), b"".join(bytes([i * 37 % 256, i * 91 % 256, i * 53 % 256]) for i in range(96 * 96))
    )
    noise.save(out, "PNG", compress_level=0)
    return out.getvalue()


def models(url: str, *, lost: str, plain: str) -> str:
    """The operator's file: each backend once before the parrot, once where nobody listens, once by TLS where none is.

    Args:
        lost: an address nobody serves. plain: one that hangs up on whoever begins with TLS.
    """
    lines: list[str] = []
    for backend, names in _SECRETS.items():
        for suffix, root in (("", url), ("-lost", lost), ("-tls", plain.replace("http:", "https:"))):
            if backend.endswith("-account") and suffix:
                continue
            section = _SECTIONS[_kind(backend)].format(url=root, ws="ws" + root.removeprefix("http"))
            written = [_line(backend, name) for name in names]
            lines += [f"[backends.{backend}{suffix}]", f'kind = "{_kind(backend)}"', section, *written]
            remote = _REMOTE.get(_kind(backend), "remote-vision")
            lines += [f'[models."canary-{backend}{suffix}"]']
            lines += [f'routes = [{{ backend = "{backend}{suffix}", model = "{remote}" }}]']
            if _kind(backend) != "chatocr":
                lines += ['tariff = { input_per_million = "4.00", output_per_million = "12.00", currency = "CNY" }']
    return "\n".join(lines)


def _line(backend: str, name: str) -> str:
    value = f'"env::{variable(backend, name)}"'
    return f"headers = {{ {name} = {value} }}" if name.startswith("x-") else f"{name} = {value}"


def variable(backend: str, name: str) -> str:
    return f"CANARY_{backend}_{name}".replace("-", "_").upper()


@dataclass
class Site:
    """A gateway under watch, and all that came out of it so far, by name."""

    gateway: RunningGateway
    upstream: Upstream
    parrot: Parrot
    s3: S3
    environment: Mapping[str, str]
    models_file: Path
    canaries: list[Canary]
    client: httpx2.Client = field(repr=False)
    outputs: dict[str, bytes] = field(default_factory=dict)

    @property
    def backends(self) -> list[str]:
        return list(_SECRETS)

    def keep(self, name: str, output: bytes) -> None:
        """Adds to what came out."""
        self.outputs[name] = self.outputs.get(name, b"") + output

    def ask(self, method: str, path: str, **how: object) -> httpx2.Response:
        """One request; its answer is kept, headers included."""
        answer = self.client.request(method, path, **how)  # type: ignore[arg-type]  # checked by what is called
        self._keep_answer(answer)
        return answer

    def chat(self, bodies: Sequence[object], headers: Mapping[str, str]) -> None:
        """Chat requests at once, for each waits before it asks its backend again; their answers are kept."""

        def asked(body: object) -> httpx2.Response:
            return self.client.post("/v1/chat/completions", json=body, headers=headers)

        with ThreadPoolExecutor(len(bodies)) as pool:
            for answer in pool.map(asked, bodies):
                self._keep_answer(answer)

    def _keep_answer(self, answer: httpx2.Response) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        name = f"answer to {answer.request.method} {answer.request.url.path[:15]}"
        self.keep(name, f"{head}\n".encode() + answer.content)

    def run(self, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """A command, whatever becomes of it; what it prints is kept."""
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *words],
            cwd=self.gateway.data_dir,
            env={
                **_inherited(),
                **self.environment,
                "TUWEN_DATA_DIR": str(self.gateway.data_dir),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_S,
            check=False,
        )
        self.keep(f"tuwen {' '.join(words[:2])}", done.stdout + done.stderr)
        return done

    def everything(self) -> dict[str, bytes]:
        """All that came out, with what the process wrote and what lies in its data folder."""
        files = {
            str(path.relative_to(self.gateway.data_dir)): path.read_bytes()
            for path in self.gateway.data_dir.rglob("*")
            if path.is_file() and path.name != "secret" and path.parent.name != "blobs"
        }
        return {**self.outputs, "stdout and stderr": "".join(self.gateway.output).encode(), **files}


def _inherited() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TUWEN_")}
    return {**clean, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@contextmanager
def watched(folder: Path, log_format: str, *, plant: str = "crash", in_bucket: bool = True) -> Iterator[Site]:
    """Runs a gateway whose every secret is a canary.

    Args:
        plant: bugs to be planted into it, see `plant/sitecustomize.py`.
        in_bucket: pictures are published in a bucket; else in a folder, by the gateway itself.
    """
    owned = credentials()
    secrets = [canary for each in owned.values() for canary in each.values()]
    token = Canary.of("access token", "24.{}.2592000.x")
    server, redis = Canary.of("server"), Canary.of("redis")
    blob_id, blob_key = Canary.of("blob id", "AK{}"), Canary.of("blob key", "{}/+=")
    with ExitStack() as life:
        parrot = Parrot([[each.text for each in group.values()] for group in owned.values()], token.text)
        upstream = life.enter_context(Upstream().in_thread())
        upstream.otherwise(parrot)
        s3 = life.enter_context(S3(access_key_id=blob_id.text, secret_access_key=blob_key.text).in_thread())
        models_file = folder / "models.toml"
        models_file.write_text(models(upstream.url, lost="http://127.0.0.1:9", plain=s3.url))
        bucket = {
            "TUWEN_BLOB_STORE": "s3://pictures",
            "TUWEN_BLOB_ENDPOINT": s3.url,
            "TUWEN_BLOB_REGION": s3.region,
            "TUWEN_BLOB_ACCESS_KEY_ID": blob_id.text,
            "TUWEN_BLOB_SECRET_ACCESS_KEY": blob_key.text,
        }
        environment = {
            **{
                variable(backend, name): secret.text for backend, each in owned.items() for name, secret in each.items()
            },
            **(bucket if in_bucket else {"TUWEN_PUBLIC_URL": "https://pictures.example.com"}),
            "TUWEN_SECRET": server.text,
            "TUWEN_REDIS_URL": f"redis://:{quote(redis.text, safe='')}@127.0.0.1:{upstream.url.rpartition(':')[2]}/0",
            "TUWEN_MODELS_FILE": str(models_file),
            "TUWEN_LOG_LEVEL": "debug",
            "TUWEN_LOG_FORMAT": log_format,
            "PYTHONPATH": f"{_PLANT}:{ROOT}",
            "CANARY_PLANT": plant,
        }
        gateway = life.enter_context(running_gateway(folder / "data", environment))
        client = life.enter_context(httpx2.Client(base_url=gateway.root_url, timeout=30, trust_env=False))
        canaries = [*secrets, token, server, redis, blob_id, blob_key]
        yield Site(gateway, upstream, parrot, s3, environment, models_file, canaries, client)


def data_url() -> str:
    return f"data:image/png;base64,{base64.b64encode(picture()).decode()}"


def keys(site: Site) -> tuple[dict[str, str], Canary]:
    """An admin's key, made by a command whose output is not kept, for it is there to show the key."""
    made = site.run("keys", "create", "canary", "--admin")
    site.outputs.clear()
    key = made.stdout.decode().strip()
    return {"authorization": f"Bearer {key}"}, Canary.written("caller's key", key, key.removeprefix("sk-tw-"))
