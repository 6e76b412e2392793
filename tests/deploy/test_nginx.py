"""nginx in front of the gateway: asked of nginx itself where it is installed, else of the file alone."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.config.settings import Settings
from tests.support.gateway import free_port
from tests.support.nginx import CONF, NGINX, nginx

MIB = 1024 * 1024


def directives() -> dict[str, list[str]]:
    """Directive → its values, wherever it stands. Checks that every one is closed and every brace paired."""
    text = re.sub(r"(?m)(^|\s)#.*$", "", CONF.read_text(encoding="utf-8"))
    text = re.sub(r"'[^']*'", lambda quoted: quoted[0].translate({ord(c): " " for c in "{};"}), text)
    assert text.count("{") == text.count("}")
    assert re.fullmatch(r"(?:[^{};]*[{;]|\s*\})*\s*", text), "a directive is not closed"
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"([a-z_]+)\s*([^{};]*)[{;]", text):
        found.setdefault(name, []).append(value.strip())
    return found


def test_answers_are_not_held_back() -> None:
    conf = directives()
    for name in ("proxy_buffering", "proxy_request_buffering", "proxy_cache", "gzip", "proxy_ignore_client_abort"):
        assert conf[name] == ["off"], name


def test_connections_to_the_gateway_are_kept() -> None:
    conf = directives()
    assert conf["proxy_http_version"] == ["1.1"]
    assert 'Connection ""' in conf["proxy_set_header"]
    assert int(conf["keepalive"][0]) >= 32


def test_its_bounds_lie_outside_the_gateways() -> None:
    conf, settings = directives(), Settings.model_fields
    assert int(conf["client_max_body_size"][0].removesuffix("m")) * MIB > settings["max_body_bytes"].default
    assert int(conf["proxy_read_timeout"][0].removesuffix("s")) > settings["deadline_s"].default


def test_a_gateway_can_be_restarted_while_another_serves() -> None:
    conf, settings = directives(), Settings.model_fields
    assert conf["proxy_next_upstream"] == ["error timeout"], "a question that was sent and is sent again is paid twice"
    kept_s, notice_s = int(conf["keepalive_timeout"][0].removesuffix("s")), settings["drain_notice_s"].default
    assert kept_s < notice_s, "nginx closes idle connections before the gateway does"
    server = re.fullmatch(r"127\.0\.0\.1:8000 max_fails=1 fail_timeout=(\d+)s", conf["server"][0])
    assert server is not None
    assert int(server[1]) < notice_s, "the one that is back is asked again before the other one's listener closes"


def test_credentials_in_a_query_stay_out_of_every_log() -> None:
    """An error log has the whole request line; a location's own words count over those around it."""
    block = re.search(r"location ~ \^/\(oauth\|rpc\)/ \{(.*?)\}", CONF.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert "access_log off;" in block[1]
    assert "error_log /dev/null emerg;" in block[1]
    assert "proxy_pass http://tuwen;" in block[1]


def test_headers_that_clients_sign_are_not_dropped() -> None:
    assert directives()["underscores_in_headers"] == ["on"]
    assert "Host $http_host" in directives()["proxy_set_header"]


class Gateway(BaseHTTPRequestHandler):
    """Answers as the gateway streams: one event, then nothing until the test lets it go on."""

    protocol_version = "HTTP/1.1"
    may_go_on = threading.Event()
    connections: set[tuple[str, int]] = set()  # noqa: RUF012 - the server makes a handler per connection; this is theirs

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        Gateway.connections.add(self.client_address)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk(b"data: first\n\n")
        Gateway.may_go_on.wait(timeout=10)
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def do_POST(self) -> None:
        read = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"read": len(read)}).encode()
        self.send_response(502 if len(read) == 1 else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


@pytest.fixture
def gateway() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    Gateway.may_go_on.clear()
    Gateway.connections.clear()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        Gateway.may_go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def ask(port: int, method: str = "GET", body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, "/v1/chat/completions", body)
    response = connection.getresponse()
    read = response.read()
    connection.close()
    return response, read


def test_an_event_passes_before_the_answer_is_over(tmp_path: Path, gateway: int) -> None:
    if NGINX is None:
        return
    with nginx(tmp_path, gateway) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/v1/chat/completions")
        response = connection.getresponse()
        assert response.read1() == b"data: first\n\n"
        Gateway.may_go_on.set()
        assert response.read() == b"data: [DONE]\n\n"
        connection.close()
        for _ in range(3):
            ask(port)
        assert len(Gateway.connections) == 1, "connections to the gateway are kept open"


def test_a_large_request_passes_and_one_too_large_is_refused_as_clients_read_it(tmp_path: Path, gateway: int) -> None:
    if NGINX is None:
        return
    with nginx(tmp_path, gateway) as port:
        _, read = ask(port, "POST", bytes(30 * MIB))
        assert json.loads(read) == {"read": 30 * MIB}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("Content-Length", str(33 * MIB))
        connection.endheaders()
        refused = connection.getresponse()
        error = json.loads(refused.read())["error"]
        connection.close()
    assert refused.status == 413
    assert refused.headers["Access-Control-Allow-Origin"] == "*"
    assert error["code"] == "request_too_large"


def test_the_gateways_own_errors_pass_unchanged(tmp_path: Path, gateway: int) -> None:
    if NGINX is None:
        return
    with nginx(tmp_path, gateway) as port:
        response, read = ask(port, "POST", b"x")
    assert (response.status, json.loads(read)) == (502, {"read": 1})


def test_a_gateway_that_is_away_is_told_as_clients_read_it(tmp_path: Path) -> None:
    if NGINX is None:
        return
    with nginx(tmp_path, free_port()) as port:
        response, read = ask(port)
    assert response.status == 503
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Retry-After"] == "5"
    assert json.loads(read)["error"].keys() == {"message", "type", "param", "code"}
