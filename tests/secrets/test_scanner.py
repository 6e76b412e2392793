"""The scan finds a secret in each form in which it may be written."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from app.core.secret import Censor
from tests.secrets.canaries import Canary, found

CANARY = Canary.of("any")
FORMS = {
    "itself": lambda text: text,
    "quoted": lambda text: quote(text, safe=""),
    "json": lambda text: json.dumps({"a": text}),
    "json within json": lambda text: json.dumps(json.dumps({"a": text})),
    "hexadecimal": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 after one letter": lambda text: base64.b64encode(b"a" + text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(b"ab" + text.encode()).decode(),
    "bytes": lambda text: repr(text.encode()),
    "upper case": lambda text: text.upper(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_any_form(form: str) -> None:
    output = f"before {FORMS[form](CANARY.text)} after".encode()
    assert len(found([CANARY], {"log": output, "other": b"nothing"})) == 1


def test_what_is_no_secret_is_not_found() -> None:
    assert not found([CANARY], {"log": f"{CANARY.core[:12]} {CANARY.name}".encode()})


@pytest.mark.parametrize("form", [form for form in FORMS if form != "upper case"])
def test_the_censor_strikes_what_the_scan_finds(form: str) -> None:
    said = f"before {FORMS[form](CANARY.text)} after"
    censored = Censor([CANARY.text, ""])(said)
    assert not found([CANARY], {"log": censored.encode()})
    assert censored.startswith("before ")
    assert censored.endswith(" after")


def test_a_secret_cut_off_at_the_end_is_struck() -> None:
    assert Censor([CANARY.text])(f"before {CANARY.text[:9]}") == "before ***"


def test_short_secrets_are_struck_as_they_are_only() -> None:
    assert Censor(["abc"])("abc YWJj") == "*** YWJj"
