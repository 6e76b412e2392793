"""Who may ask is decided by the route that answers, however its path is written."""

from __future__ import annotations

import json

import pytest
from starlette.routing import Route

from app.main import create_app
from tests.support.rawhttp import exchange
from tests.support.server import Served

OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/oauth/2.0/token"}
"""What needs no key: it tells nothing of anybody. The last asks for credentials of its own."""


def test_every_route_but_a_few_asks_for_a_key(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method in operations:
            target = path.replace("{", "").replace("}", "")
            head = (
                f"{method.upper()} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
            )
            status, _, body = exchange(served.port, head)
            if path not in OPEN:
                asked += 1
                # Baidu says with status 200 that a token is no good
                assert status == 401 or (status == 200 and json.loads(body)["error_code"] == 110), (method, path)
    assert asked > 15


@pytest.mark.parametrize(
    "target",
    [
        "/admin/keys", "//admin/keys", "/admin//keys", "/admin/keys/", "/./admin/keys", "/healthz/../admin/keys",
        "/healthz/%2e%2e/admin/keys", "/%61dmin/keys", "/admin%2fkeys", "/admin/keys%3f", "/admin/keys;x",
        "/ADMIN/keys", "http://127.0.0.1/admin/keys", "/admin/keys?x=/healthz", "/admin/keys#/healthz",
        "/v1/../admin/keys", "/admin/%6beys", "/v1/models/../../admin/keys", "/admin\\keys", "/v1/v1/models",
        "//v1//models/", "/v1/%6dodels", "/models",
    ],
)  # fmt: skip
def test_no_way_of_writing_a_path_leads_around_the_key(served: Served, target: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "get"):
        status, _, body = exchange(served.port, f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert status in {400, 401, 404, 405}, (method, target)
        assert b'"object":"list"' not in body


def test_a_key_lets_its_holder_in_by_each_of_them(served: Served) -> None:
    for target in ("/admin/keys", "//admin/keys", "/admin//keys", "/admin/keys/", "/%61dmin/keys"):
        head = f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {served.key}\r\n\r\n"
        assert exchange(served.port, head)[0] == 200


def test_routes_outside_the_document_are_the_open_ones(served: Served) -> None:
    app = create_app(served.settings)
    described = set(served.client.get("/openapi.json").json()["paths"])
    others = {route.path for route in app.routes if isinstance(route, Route)} - described
    assert others <= OPEN
