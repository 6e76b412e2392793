"""`tuwen doctor`: what it says of sections, addresses and clocks, whoever the vendor is."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import Result

from tests.fakes import openai
from tests.fakes.http import Received, Reply
from tests.fakes.upstream import Upstream
from tests.support.gateway import free_port

Tuwen = Callable[..., Result]

LONG_AGO = "Mon, 06 May 2024 04:34:56 GMT"
CERTIFICATE = Path(__file__).parents[1] / "media" / "self_signed.pem"
CATALOGUE = """
[backends.ocr]
hidden = true

[backends.near]
kind = "openai"
base_url = "{url}"

[backends.far]
kind = "openai"
base_url = "env::FAR_BASE_URL"
api_key = "env::FAR_API_KEY"

[models.near-vision]
routes = [{{ backend = "near", model = "small" }}, {{ backend = "far", model = "big" }}]
"""


@pytest.fixture
def catalogue(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes the operator's catalogue, with the address of `near`; nothing else is configured."""
    assert data_dir
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_BASE_URL")):
            monkeypatch.delenv(name)

    def written(url: str, catalogue: str = CATALOGUE) -> None:
        Path("models.local.toml").write_text(catalogue.format(url=url))

    return written


def observed(result: Result, check: str, backend: str = "near") -> Mapping[str, Any]:
    """The only observation of a check."""
    (found,) = (item for item in json.loads(result.stdout) if item["backend"] == backend)
    (seen,) = (item for item in found["observations"] if item["check"] == check)
    observation: Mapping[str, Any] = seen
    return observation


def wrong_in(result: Result) -> list[tuple[str, str]]:
    """Which checks failed, of which backends."""
    found = json.loads(result.stdout)
    return [(item["backend"], seen["check"]) for item in found for seen in item["observations"] if seen["ok"] is False]


def answering(head: Reply) -> Callable[[Received], Reply]:
    """A service that answers HEAD so, and questions well."""

    def answered(request: Received) -> Reply:
        if request.method == "HEAD":
            return head
        return openai.stream("红") if request.json.get("stream") else openai.answer("红")

    return answered


def head(status: int = 404, **headers: str) -> Reply:
    return Reply(status, headers, (), "length")


@pytest.fixture
def leading(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets a name lead to addresses, as a resolver would; each to its own port where one is given."""
    looked_up = socket.getaddrinfo

    def lead(name: str, *addresses: str) -> None:
        def found(host: Any, *rest: Any, **options: Any) -> Any:
            hosts = addresses if host in {name, name.encode()} else (host,)
            return [item for one in hosts for item in looked_up(one, *rest, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", found)

    return lead


def test_unknown_backend_is_named_with_what_was_meant(tuwen: Tuwen, catalogue: Callable[[str], None]) -> None:
    catalogue("http://127.0.0.1:9")
    result = tuwen("doctor", "neer")
    assert result.exit_code == 2
    assert "There is no backend neer; did you mean near?" in result.stderr
    assert "qianfan" in tuwen("doctor", "zzzzzz").stderr


def test_backends_without_credentials_are_no_failure_unless_named(
    tuwen: Tuwen, catalogue: Callable[[str], None]
) -> None:
    with Upstream().in_thread() as up:
        up.otherwise(answering(head(date=LONG_AGO)))
        catalogue(up.url)
        result = tuwen("doctor", "--no-probe", "--json")
        far = observed(result, "credentials", "far")
        named = tuwen("doctor", "far", "--json")
    assert ("far", "credentials") not in wrong_in(result)
    assert far["ok"] is None
    assert "set FAR_BASE_URL, FAR_API_KEY, in the environment or in .env" in far["english"]
    assert "请在环境变量或 .env 中设置 FAR_BASE_URL、FAR_API_KEY" in far["chinese"]
    assert named.exit_code == 1
    assert wrong_in(named) == [("far", "credentials")]


def test_one_that_is_wrong_among_many_is_a_failure(tuwen: Tuwen, catalogue: Callable[[str], None]) -> None:
    catalogue(f"http://127.0.0.1:{free_port()}")
    result = tuwen("doctor", "--json")
    assert result.exit_code == 1
    assert wrong_in(result) == [("near", "connection")]
    assert {item["backend"]: item["sound"] for item in json.loads(result.stdout)}["far"] is True


def test_all_is_well_where_nothing_is_wrong(tuwen: Tuwen, catalogue: Callable[[str], None]) -> None:
    with Upstream().in_thread() as up:
        up.otherwise(answering(head()))
        catalogue(up.url)
        result = tuwen("doctor", "--json")
    assert (result.exit_code, wrong_in(result)) == (0, [])
    assert observed(result, "probe")["english"].startswith("small answered a question in ")
    assert observed(result, "credentials")["chinese"] == "无需凭据"


def test_engine_of_this_machine_has_no_address(tuwen: Tuwen, data_dir: Path) -> None:
    result = tuwen("doctor", "ocr", "--no-probe", "--json")
    assert result.exit_code == 0
    (found,) = json.loads(result.stdout)
    assert [item["check"] for item in found["observations"]] == ["credentials"]
    assert not data_dir.exists(), "no question, no ledger"


@pytest.mark.parametrize("columns", ["60", "80", "300"])
def test_lines_fit_a_terminal_and_come_in_two_languages(
    tuwen: Tuwen, catalogue: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with Upstream().in_thread() as up:
        up.otherwise(answering(head(date=LONG_AGO)))
        catalogue(up.url)
        result = tuwen("doctor")
    lines = result.stdout.splitlines()
    assert max(map(cell_len, lines)) <= min(int(columns), 100)
    assert "near (openai)" in lines
    together = "".join(line.strip() for line in lines)
    assert "本机时钟比服务器" in together
    assert "timedatectl set-ntp true" in together.replace("timedatectlset-ntp", "timedatectl set-ntp")
    assert [line for line in lines if line.split()[:5] == ["FAIL", "clock", "this", "machine's", "clock"]]
    assert [line for line in lines if line.split()[:4] == ["ok", "probe", "small", "answered"]]
    assert not [line for line in lines if line.strip()[:1] in {"，", "。", "；", "：", "）"}]


@pytest.mark.parametrize(
    "answer",
    [
        head(502, date=LONG_AGO),
        head(407, date=LONG_AGO),
        head(200, date=LONG_AGO, age="31536000"),
        head(200),
        head(200, date="soon"),
        head(200, date="Fri, 20 Nov 99999 08:00:00 GMT"),
    ],
    ids=["proxy failed", "proxy wants a password", "out of a cache", "no date", "no date that is one", "no year"],
)
def test_time_is_not_compared_where_it_may_not_be_the_servers(
    tuwen: Tuwen, catalogue: Callable[[str], None], answer: Reply
) -> None:
    with Upstream().in_thread() as up:
        up.otherwise(answering(answer))
        catalogue(up.url)
        result = tuwen("doctor", "near", "--no-probe", "--json")
    assert (result.exit_code, observed(result, "clock")["ok"]) == (0, None)


def test_date_without_a_zone_is_taken_for_utc(tuwen: Tuwen, catalogue: Callable[[str], None]) -> None:
    with Upstream().in_thread() as up:
        up.otherwise(answering(head(date="Mon, 06 May 2024 04:34:56 -0000")))
        catalogue(up.url)
        result = tuwen("doctor", "near", "--no-probe", "--json")
    assert "(2024-05-06 04:34:5" in observed(result, "clock")["english"]


@pytest.mark.parametrize(
    "url",
    ["localhost:11434/v1", "/v1", "ftp://127.0.0.1/v1", "http://127.0.0.1:70000/v1", "https://", "http://[::1/v1"],
)
def test_address_that_is_none_is_told_as_such(tuwen: Tuwen, catalogue: Callable[[str], None], url: str) -> None:
    catalogue(url)
    result = tuwen("doctor", "near", "--json")
    assert wrong_in(result) == [("near", "name")]
    assert "base_url is not an address" in observed(result, "name")["english"]
    assert observed(result, "probe")["ok"] is None


def test_name_too_long_to_be_one_leads_nowhere(tuwen: Tuwen, catalogue: Callable[[str], None]) -> None:
    catalogue(f"http://{'a' * 64}.invalid")
    result = tuwen("doctor", "near", "--json")
    assert wrong_in(result) == [("near", "name")]
    assert "has no address here" in observed(result, "name")["english"]


def test_resolver_that_does_not_answer_is_told_as_such(
    tuwen: Tuwen, catalogue: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUWEN_CONNECT_S", "0.1")
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [never.wait(0.5)])
    catalogue("http://slow.test")
    result = tuwen("doctor", "near", "--no-probe", "--json")
    assert wrong_in(result) == [("near", "name")]
    assert "not be looked up within 0.1 s" in observed(result, "name")["english"]


def test_host_none_of_whose_addresses_answers_is_down(
    tuwen: Tuwen, catalogue: Callable[[str], None], leading: Callable[..., None]
) -> None:
    leading("two.test", "127.0.0.1", "::1")
    catalogue(f"http://two.test:{free_port()}")
    result = tuwen("doctor", "near", "--json")
    assert wrong_in(result) == [("near", "connection")]
    assert observed(result, "name")["english"] == "two.test has 2 addresses"
    assert "cannot be reached" in observed(result, "connection")["english"]


def test_server_without_tls_is_told_apart_from_one_with_a_bad_certificate(
    tuwen: Tuwen, catalogue: Callable[[str], None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=_greet, args=(plain,), daemon=True).start()
        catalogue(f"https://127.0.0.1:{plain.getsockname()[1]}")
        result = tuwen("doctor", "near", "--json")
    assert wrong_in(result) == [("near", "connection")]
    seen = observed(result, "connection")
    assert "does not speak TLS as it should" in seen["english"]
    assert "TLS 握手失败" in seen["chinese"]


def test_server_that_never_shakes_hands_is_not_waited_for(
    tuwen: Tuwen, catalogue: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUWEN_CONNECT_S", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes the connection, and nobody reads
        catalogue(f"https://127.0.0.1:{silent.getsockname()[1]}")
        result = tuwen("doctor", "near", "--json")
    assert wrong_in(result) == [("near", "connection")]
    assert "does not answer within 0.2 s" in observed(result, "connection")["english"]
    assert "0.2 秒内无响应" in observed(result, "connection")["chinese"]


def _greet(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(4096)


def test_certificate_is_told_with_the_days_it_holds(
    tuwen: Tuwen, catalogue: Callable[[str], None], leading: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    leading("img.test", "127.0.0.1")
    with Upstream(tls=context).in_thread() as up:
        up.otherwise(answering(head(date=LONG_AGO)))
        catalogue(up.url.replace("127.0.0.1", "img.test"))
        result = tuwen("doctor", "near", "--no-probe", "--json")
        assert [request.method for request in up.requests] == ["HEAD"]
    assert "speaks TLS, its certificate is valid for 3" in observed(result, "connection")["english"]
    assert observed(result, "name")["english"] == "img.test has an address"
    assert observed(result, "clock")["ok"] is not None, "the same certificates count for the clock"


@pytest.mark.parametrize(
    "models", ["", '[models."near/*"]\nroutes = [{{ backend = "near", model = "*" }}]'], ids=["none", "a wildcard"]
)
def test_backend_of_no_model_is_looked_at_and_not_asked(
    tuwen: Tuwen, catalogue: Callable[..., None], models: str
) -> None:
    with Upstream().in_thread() as up:
        up.otherwise(answering(head(date=LONG_AGO)))
        catalogue(up.url, '[backends.near]\nkind = "openai"\nbase_url = "{url}"\n' + models)
        result = tuwen("doctor", "near", "--json")
        assert [request.method for request in up.requests] == ["HEAD"]
    assert observed(result, "model")["ok"] is None
    assert "no model of the catalogue leads here by name" in observed(result, "model")["english"]


def test_model_of_words_behind_a_model_of_pictures_is_asked_too(tuwen: Tuwen, catalogue: Callable[..., None]) -> None:
    models = '[models.m]\nroutes = [{{ backend = "near", model = "sees" }}]\ntext_model = "reads"'
    with Upstream().in_thread() as up:
        up.otherwise(answering(head()))
        catalogue(up.url, '[backends.near]\nkind = "openai"\nbase_url = "{url}"\n' + models)
        result = tuwen("doctor", "near", "--json")
        questions = [request for request in up.requests if request.method == "POST"]
    assert result.exit_code == 0
    assert [(request.json["model"], len(request.pictures)) for request in questions] == [("sees", 1), ("reads", 0)]


def test_ledger_that_cannot_be_opened_is_one_line(
    tuwen: Tuwen, catalogue: Callable[[str], None], data_dir: Path
) -> None:
    data_dir.mkdir()
    (data_dir / "tuwen.db").write_bytes(b"no ledger" * 1000)
    with Upstream().in_thread() as up:
        up.otherwise(answering(head()))
        catalogue(up.url)
        result = tuwen("doctor", "near")
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert tuwen("doctor", "near", "--no-probe").exit_code == 0, "who asks nothing books nothing"
