"""Nothing that a gateway lets out holds a secret, a caller's words or pictures: a canary in each, and 0 hits.

Runs for longer than five seconds: two gateways, each asked some 400 times before backends that repeat what they hear.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.secrets.canaries import Canary, found
from tests.secrets.parrot import VOICES
from tests.secrets.site import Site, data_url, keys, picture, watched

PROMPT = Canary.written("prompt", "canary-prompt 保密内容 qzwxecrvtbynumikolpa", "qzwxecrvtbynumikolpa")
SYSTEM = Canary.written("system text", "canary-prompt plokmijnuhbygvtfcrdx", "plokmijnuhbygvtfcrdx")
STRANGER = Canary.of("wrong key", "sk-tw-{}" + "x" * 23)
FOREIGN = Canary.of("foreign key", "{}!")


def pictures() -> list[Canary]:
    """Bytes out of the middle of the caller's picture."""
    data = picture()
    return [
        Canary.written(f"picture at {at}", "", data[at : at + 24].decode("utf-8", "surrogateescape"))
        for at in (2000, 9000, 20000)
    ]


def question(model: str, *, stream: bool, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": PROMPT.text}, {"type": "image_url", "image_url": {"url": data_url()}}]
    messages = [{"role": "system", "content": SYSTEM.text}, {"role": "user", "content": parts}]
    return {"model": model, "stream": stream, "messages": messages, **fields}


def ask_all(site: Site, headers: dict[str, str]) -> None:
    """Every backend in every voice, streamed and whole by turns."""
    models = [f"canary-{backend}" for backend in site.backends]
    for (number, voice), begins in itertools.product(enumerate(VOICES), range(5)):
        if (number + begins) % 2 and number > 4:  # the odd voices are all the same to what they begin with
            continue
        site.parrot.voice, site.parrot.begins = voice, begins
        site.chat([question(model, stream=begins % 2 == 0) for model in models], headers)
    site.parrot.gives_tokens = False
    for voice in VOICES:
        site.parrot.voice = voice
        site.chat([question(model, stream=False) for model in ("canary-chatocr", "canary-baidu_ocr")], headers)
    out_of_reach = itertools.product(models, ("-lost", "-tls"))
    site.chat([question(f"{model}{suffix}", stream=True) for model, suffix in out_of_reach], headers)


def go_wrong(site: Site, headers: dict[str, str]) -> None:
    """What callers do wrong, and a bug of ours."""
    crash = question("canary-openai", stream=False, user="crash")
    assert site.ask("POST", "/v1/chat/completions", json=crash, headers=headers).status_code == 500
    path = "/v1/chat/completions"
    for wrong in (STRANGER, FOREIGN):
        site.ask("POST", path, json=crash, headers={"authorization": f"Bearer {wrong.text}"})
        site.ask("POST", path, json=crash, headers={"x-api-key": wrong.text})
        site.ask("POST", path, json=crash, headers={"authorization": wrong.text})
        site.ask("GET", f"/v1/models?key={wrong.text}&access_token={wrong.text}", headers=headers)
        site.ask("GET", f"/oauth/2.0/token?grant_type=client_credentials&client_id=a&client_secret={wrong.text}")
        plugin = f"/rpc/2.0/ai_custom/v1/wenxinworkshop/plugin/x?access_token={wrong.text}"
        site.ask("POST", plugin, json={"query": PROMPT.text})
        site.ask("POST", path, json=crash, headers={"authorization": f"bce-auth-v1/{wrong.text}/x/1/host/0"})
    for content in (f'{{"model": "m", "messages": [{{"role": "user", "content": "{PROMPT.text}"', PROMPT.text, "[]"):
        site.ask("POST", path, content=content.encode(), headers=headers)
    site.ask("POST", path, json={**crash, "messages": [{"role": PROMPT.text, "content": "x"}]}, headers=headers)
    broken = {"type": "image_url", "image_url": {"url": data_url()[:4000] + "!"}}
    site.ask("POST", path, json={**crash, "messages": [{"role": "user", "content": [broken]}]}, headers=headers)
    for where in ("/healthz", "/metrics", "/v1/usage", "/v1/models", "/openapi.json", "/no/such/page", "/admin/keys"):
        site.ask("GET", where, headers=headers)
        site.ask("GET", where)
    for where in ("/admin/usage", "/admin/requests?limit=1000", "/admin/export?format=jsonl", "/admin/keys/key_x"):
        site.ask("GET", where, headers=headers)
    listed = site.ask("GET", "/admin/requests?limit=500", headers=headers).json()["data"]
    for row in listed[-60:]:  # the first ones: of so many faults of one key, the last are not kept
        site.ask("GET", f"/admin/requests/{row['request_id']}", headers=headers)


def reload(site: Site) -> None:
    """Files of models that cannot be used, a key written into each, laid under the running gateway."""
    text, literal = site.models_file.read_text(), Canary.of("key written into models.toml", "{}")
    site.canaries.append(literal)
    for wrong in (
        f'base_url = "x"\nnonsense = 1\napi_key = "{literal.text}"',
        f'api_key = {{ a = "{literal.text}" }}',
        f'app_id = "a"\napi_secret = ["{literal.text}"]\napi_key = "{literal.text}',
    ):
        heard = len(site.gateway.output)
        site.models_file.write_text(f'{text}\n[backends.more]\nkind = "openai"\n{wrong}\n')
        site.gateway.wait_for_line("more", after=heard, timeout_s=20)
    site.models_file.write_text(text)


@pytest.mark.parametrize(("log_format", "in_bucket"), [("console", True), ("json", False)])
def test_nothing_secret_comes_out(tmp_path: Path, log_format: str, in_bucket: bool) -> None:
    with watched(tmp_path, log_format, in_bucket=in_bucket) as site:
        headers, key = keys(site)
        site.canaries += [key, STRANGER, FOREIGN]
        ask_all(site, headers)
        go_wrong(site, headers)
        reload(site)
    outputs = site.everything()
    # faults were told of, in both places where they are
    assert b"backend fault" in outputs["stdout and stderr"]
    assert b"nobody hears of" in outputs["stdout and stderr"]
    assert b"BackendRefused" in outputs["answer to GET /admin/requests"]
    hits = found(site.canaries, outputs)
    others = {name: output for name, output in outputs.items() if not name.startswith("answer to POST /v1")}
    hits += found([PROMPT, SYSTEM, *pictures()], others)  # a caller may be told his own words
    assert not hits, f"{len(hits)} hits\n" + "\n".join(hits[:60])
    assert len(site.upstream.requests) > 300


def test_a_leak_is_found(tmp_path: Path) -> None:
    """The scan itself can fail: a gateway into which a leak was planted."""
    with watched(tmp_path, "json", plant="leak") as site:
        headers, _ = keys(site)
        body = question("canary-openai", stream=False, user="leak")
        assert site.ask("POST", "/v1/chat/completions", json=body, headers=headers).status_code == 400
    [hit] = found(site.canaries, site.everything())
    assert hit.startswith("openai api_key in stdout and stderr")
