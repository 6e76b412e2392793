from __future__ import annotations

import re
import time

from app.core.clock import Clock


def test_the_real_clock_tells_the_time() -> None:
    clock = Clock()
    before = time.time()
    assert before <= clock.now() <= time.time()
    assert clock.monotonic() <= clock.monotonic()


def test_nonces_are_fresh_and_hexadecimal() -> None:
    clock = Clock()
    nonces = {clock.nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in nonces)


def test_a_test_may_hand_in_its_own_time() -> None:
    clock = Clock(now=lambda: 1763600000.0, monotonic=lambda: 5.0, nonce=lambda: "0" * 32)
    assert (clock.now(), clock.monotonic(), clock.nonce()) == (1763600000.0, 5.0, "0" * 32)
