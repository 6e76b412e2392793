"""/admin/keys: keys, their terms and their money, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.server import Served, serving

MODELS = """
[backends.gone]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"

[models.m]
routes = [{ backend = "gone", model = "x" }]
aliases = ["m-alias"]

[models.other]
routes = [{ backend = "gone", model = "x" }]
"""
_WITHIN_S = 2.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("admin")
    with serving(folder, MODELS, max_body_bytes=64 * 1024) as served:
        yield served


def make(site: Served, **body: Any) -> dict[str, Any]:
    """A key made over HTTP, as it was answered."""
    response = site.client.post("/admin/keys", json={"name": "laptop", **body})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def refused(response: httpx2.Response, status: int = 400) -> dict[str, Any]:
    """The error object of a refusal."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


ROUTES = [
    ("GET", "/admin/keys"), ("POST", "/admin/keys"), ("GET", "/admin/keys/key_1"), ("PATCH", "/admin/keys/key_1"),
    ("DELETE", "/admin/keys/key_1"), ("GET", "/admin/keys/key_1/top-ups"), ("POST", "/admin/keys/key_1/top-ups"),
    ("GET", "/admin/usage"), ("GET", "/admin/requests"), ("GET", "/admin/requests/r1"), ("GET", "/admin/export"),
    ("POST", "/admin/reconcile?backend=b"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("body", [b"{}", b"{no json", b" " * 70_000], ids=["sound", "malformed", "too large"])
def test_only_administrators_are_let_in(site: Served, method: str, path: str, body: bytes) -> None:
    plain, _ = site.new_key()
    headers = {"authorization": f"Bearer {plain}"}
    error = refused(site.client.request(method, path, headers=headers, content=body), 403)
    assert (error["code"], "admin key" in error["message"]) == ("permission_denied", True)
    assert refused(httpx2.request(method, site.url + path, content=body), 401)["code"] == "invalid_api_key"


def test_routes_of_the_page_are_those_that_are_tested(site: Served) -> None:
    page = site.client.get("/openapi.json").json()
    told = {(method.upper(), path) for path, methods in page["paths"].items() for method in methods}
    admins = {(method, path) for method, path in told if path.startswith("/admin")}
    assert len(admins) == len(ROUTES)


def test_made_key_opens_the_door_under_its_terms_and_is_shown_once(site: Served) -> None:
    made = make(
        site, owner="ops", models=["m*"], tags=["a"], budget="10.00", day_budget="1.5", rpm=60,
        model_limits={"m": {"tpm": 1000}},
    )  # fmt: skip
    assert made["key"].startswith("sk-tw-")
    shown = site.client.get(f"/admin/keys/{made['id']}").json()
    assert "key" not in shown
    assert made["key"] not in site.client.get("/admin/keys").text
    assert {name: value for name, value in made.items() if name != "key"} == shown
    assert (shown["owner"], shown["models"], shown["tags"], shown["rpm"]) == ("ops", ["m*"], ["a"], 60)
    assert shown["model_limits"] == {"m": {"rpm": None, "tpm": 1000, "concurrency": None}}
    balance = shown["balance"]
    assert (balance["budget_micros"], balance["day_budget_micros"], balance["month_budget_micros"]) == (
        10_000_000,
        1_500_000,
        None,
    )
    assert (balance["left_micros"], balance["spent_micros"]) == (1_500_000, 0)
    listed = site.client.get("/v1/models", headers={"authorization": f"Bearer {made['key']}"}).json()["data"]
    assert [entry["id"] for entry in listed] == ["m", "m-alias"]


def test_keys_are_listed_with_where_they_stand_revoked_ones_included(site: Served) -> None:
    made = make(site, name="listed", budget="2")
    site.client.delete(f"/admin/keys/{made['id']}")
    listed = {key["id"]: key for key in site.client.get("/admin/keys").json()["data"]}
    assert listed[made["id"]]["balance"]["left_micros"] == 2_000_000
    assert listed[made["id"]]["revoked_at"] is not None


def test_what_is_left_out_of_a_change_stays_and_null_lifts(site: Served) -> None:
    made = make(site, owner="ops", models=["m"], budget="10", rpm=60, tpm=1000, expires="30d")
    path = f"/admin/keys/{made['id']}"
    changed = site.client.patch(path, json={"rpm": 5, "tpm": None, "budget": None, "name": "phone"}).json()
    assert (changed["name"], changed["owner"], changed["models"]) == ("phone", "ops", ["m"])
    assert (changed["rpm"], changed["tpm"], changed["balance"]["budget_micros"]) == (5, None, None)
    assert changed["expires_at"] == made["expires_at"]
    lifted = site.client.patch(path, json={"models": None, "expires": None, "owner": None, "tags": None}).json()
    assert (lifted["models"], lifted["expires_at"], lifted["owner"], lifted["tags"]) == ([], None, "", [])
    assert site.client.patch(path, json={}).json() == lifted


def test_key_works_to_the_end_of_its_last_day(site: Served) -> None:
    made = make(site, expires="2099-12-31")
    assert datetime.fromisoformat(made["expires_at"]) == datetime(2100, 1, 1).astimezone()
    soon = datetime.fromisoformat(make(site, expires="2h")["expires_at"])
    assert timedelta(hours=1.9) < soon - datetime.now().astimezone() <= timedelta(hours=2)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"budget": "ten"}, "budget"),
        ({"budget": "1.1234567"}, "budget"),
        ({"day_budget": "99999999999"}, "day_budget"),
        ({"budget": 10}, "budget"),
        ({"month_budget": "-1"}, "month_budget"),
        ({"rpm": 0}, "rpm"),
        ({"rpm": "60"}, "rpm"),
        ({"tpm": 10**10}, "tpm"),
        ({"concurrency": True}, "concurrency"),
        ({"models": ["a*b"]}, "models"),
        ({"models": ["x"] * 3 + [str(number) for number in range(200)]}, "models"),
        ({"models": "m"}, "models"),
        ({"tags": [""]}, "tags"),
        ({"owner": "a\nb"}, "owner"),
        ({"owner": "x" * 101}, "owner"),
        ({"expires": "yesterday"}, "expires"),
        ({"expires": "2020-01-01"}, "expires"),
        ({"model_limits": {"m": {"rpm": -1}}}, "model_limits.m.rpm"),
        ({"model_limits": {"a*b": {"rpm": 1}}}, "model_limits"),
        ({"model_limits": {"m": {"rps": 1}}}, "model_limits.m.rps"),
        ({"buget": "10"}, "buget"),
        ({"name": "\x1b[31m"}, "name"),
        ({"name": ""}, "name"),
    ],
)
def test_term_that_cannot_be_meant_is_named(site: Served, body: dict[str, Any], param: str) -> None:
    error = refused(site.client.post("/admin/keys", json={"name": "laptop", **body}))
    assert error["param"] == param
    assert error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b"null", None),
        (b'{"name": 5}', "name"),
        (b'{"name": "a", "name": "b"}', "name"),
        (b'{"name": "a", "admin": false, "admin": true}', "admin"),
        (b'{"name": "a", "model_limits": {"m": {"rpm": 1, "rpm": 2}}}', "model_limits.m.rpm"),
        (b'{"name": "a", "admin": "true"}', "admin"),
        (b'{"name": "a", "admin": 1}', "admin"),
        (b'{"name": "a", "rpm": NaN}', None),
        (b'{"name": "a", "rpm": 1e999}', "rpm"),
        (b'{"name": "a", "rpm": ' + b"9" * 5000 + b"}", "rpm"),
        (b'{"name": "a"} x', None),
        (b'\xef\xbb\xbf{"name": "a"}', None),
        ('{"name": "a"}'.encode("utf-16"), None),
        ('{"name": "a"}'.encode("utf-32-le"), None),
        (b'{"name": "\xff"}', None),
        (b'{"name": "a", "x": ' + b"[" * 100 + b"]" * 100 + b"}", None),
    ],
)
def test_body_that_is_none_is_refused(site: Served, content: bytes, param: str | None) -> None:
    before = site.client.get("/admin/keys").json()
    response = site.client.post("/admin/keys", content=content, headers={"content-type": "application/json"})
    error = refused(response)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert "None" not in error["message"]
    assert site.client.get("/admin/keys").json() == before


@pytest.mark.parametrize(
    "label", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"]
)
def test_body_is_read_as_json_however_it_is_labelled(site: Served, label: str) -> None:
    response = site.client.post("/admin/keys", content=b'{"name": "a"}', headers={"content-type": label})
    assert response.status_code == 201


@pytest.mark.parametrize(("header", "value"), [("content-type", "multipart/form-data"), ("content-encoding", "gzip")])
def test_forms_and_packed_bodies_are_415(site: Served, header: str, value: str) -> None:
    refused(site.client.post("/admin/keys", content=b'{"name": "a"}', headers={header: value}), 415)


@pytest.mark.parametrize(("method", "under"), [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/top-ups")])
def test_key_that_is_not_there_is_404(site: Served, method: str, under: str) -> None:
    body = {"json": {"rpm": 1}} if method == "PATCH" else {}
    answer = site.client.request(method, f"/admin/keys/key_0{under}", **body)  # type: ignore[arg-type] # of a table
    error = refused(answer, 404)
    assert "key_0" in error["message"]


def test_revoked_key_is_neither_changed_nor_revoked_again(site: Served) -> None:
    made = make(site)
    assert site.client.delete(f"/admin/keys/{made['id']}").json()["revoked_at"] is not None
    refused(site.client.delete(f"/admin/keys/{made['id']}"), 404)
    refused(site.client.patch(f"/admin/keys/{made['id']}", json={"rpm": 1}), 404)


def test_revoked_key_is_refused_within_two_seconds(site: Served) -> None:
    made = make(site)
    theirs = {"authorization": f"Bearer {made['key']}"}
    assert site.client.get("/v1/models", headers=theirs).status_code == 200
    site.client.delete(f"/admin/keys/{made['id']}")
    deadline = time.monotonic() + _WITHIN_S
    while site.client.get("/v1/models", headers=theirs).status_code == 200:
        assert time.monotonic() < deadline, "a revoked key opened the door for longer than promised"
        time.sleep(0.05)


def test_top_up_raises_the_budget_and_is_kept(site: Served) -> None:
    path = f"/admin/keys/{make(site, budget='1')['id']}/top-ups"
    credited = site.client.post(path, json={"amount": "2.50", "note": "invoice 7"}).json()
    assert (credited["micros"], credited["note"]) == (2_500_000, "invoice 7")
    assert credited["key"]["balance"]["budget_micros"] == 3_500_000
    back = site.client.post(path, json={"amount": "-0.5"}).json()
    assert back["key"]["balance"]["left_micros"] == 3_000_000
    listed = site.client.get(path).json()["data"]
    assert [(each["id"], each["micros"]) for each in listed] == [
        (credited["id"], 2_500_000),
        (back["id"], -500_000),
    ]


def test_top_up_of_the_same_id_changes_nothing(site: Served) -> None:
    path = f"/admin/keys/{make(site)['id']}/top-ups"
    first = site.client.post(path, json={"amount": "2", "id": "order-7"}).json()
    assert first["key"]["balance"]["budget_micros"] == 2_000_000, "a key without a budget gets one"
    assert site.client.post(path, json={"amount": "2", "id": "order-7"}).json() == first
    assert len(site.client.get(path).json()["data"]) == 1


def test_id_of_another_top_up_is_refused_and_nothing_is_credited(site: Served) -> None:
    one, other = (f"/admin/keys/{make(site, budget='1')['id']}" for _ in range(2))
    site.client.post(f"{one}/top-ups", json={"amount": "2", "id": "order-8"})
    for key in (one, other):
        assert refused(site.client.post(f"{key}/top-ups", json={"amount": "3", "id": "order-8"}))["param"] == "id"
    assert site.client.get(other).json()["balance"]["budget_micros"] == 1_000_000


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "amount"), ({"amount": "0"}, "amount"), ({"amount": "--1"}, "amount"), ({"amount": 5}, "amount"),
        ({"amount": "1", "note": "\n"}, "note"), ({"amount": "1", "id": ""}, "id"), ({"amount": "1", "at": 5}, "at"),
    ],
)  # fmt: skip
def test_top_up_that_cannot_be_meant_is_named(site: Served, body: dict[str, Any], param: str) -> None:
    assert refused(site.client.post(f"/admin/keys/{make(site)['id']}/top-ups", json=body))["param"] == param


def test_top_up_of_no_key_is_404(site: Served) -> None:
    refused(site.client.post("/admin/keys/key_0/top-ups", json={"amount": "1"}), 404)


@pytest.mark.parametrize(
    ("models", "visible"),
    [
        ([], ["m", "m-alias", "other"]),
        (["other"], ["other"]),
        (["m-alias"], ["m", "m-alias"]),
        (["o*", "unknown"], ["other"]),
        (["unknown"], []),
    ],
)
def test_key_sees_the_models_it_is_for_and_no_other(site: Served, models: list[str], visible: list[str]) -> None:
    theirs = {"authorization": f"Bearer {make(site, models=models)['key']}"}
    listed = {entry["id"] for entry in site.client.get("/v1/models", headers=theirs).json()["data"]}
    ours = {"m", "m-alias", "other"}
    assert sorted(listed & ours) == visible
    assert bool(listed - ours) is (not models), "a key without a list is for the built-in models as well"
    for model in ours:
        status = site.client.get(f"/v1/models/{model}", headers=theirs).status_code
        assert status == (200 if model in visible else 404)
