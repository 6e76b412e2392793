from __future__ import annotations

import pytest

from app.accounts.answers import Claim, ClaimDigests

DIGESTS = ClaimDigests(b"a secret of the server's")


def claim(
    digests: ClaimDigests = DIGESTS,
    *,
    key_id: str = "key_a",
    name: str = "order 7",
    path: str = "/v1/chat/completions",
    body: bytes = b'{"model": "m"}',
    request_id: str = "r1",
) -> Claim:
    return digests.claim(key_id, name, path, body, request_id)


def test_same_request_makes_the_same_claim_under_its_own_id() -> None:
    first, second = claim(), claim(request_id="r2")
    assert (first.key_id, first.request_id, second.request_id) == ("key_a", "r1", "r2")
    assert (first.digest, first.body_digest) == (second.digest, second.body_digest)


@pytest.mark.parametrize("changed", [{"body": b'{"model": "n"}'}, {"path": "/v1/responses"}], ids=["body", "route"])
def test_another_question_differs_in_what_was_asked_alone(changed: dict[str, str]) -> None:
    first, other = claim(), claim(**changed)  # type: ignore[arg-type] - of several types
    assert other.digest == first.digest
    assert other.body_digest != first.body_digest


def test_another_idempotency_key_makes_another_claim() -> None:
    assert claim(name="order 8").digest != claim().digest


def test_two_callers_who_ask_the_same_cannot_be_told_to() -> None:
    first, other = claim(), claim(key_id="key_b")
    assert other.digest != first.digest
    assert other.body_digest != first.body_digest


def test_digests_are_those_of_the_servers_secret() -> None:
    first, other = claim(), claim(ClaimDigests(b"another secret"))
    assert other.digest != first.digest
    assert other.body_digest != first.body_digest


def test_neither_header_nor_body_can_be_read_off_a_claim() -> None:
    assert "order" not in repr(claim())
    assert "model" not in repr(claim())
