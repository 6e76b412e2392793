"""GET /readyz while nothing can be booked."""

from __future__ import annotations

from pathlib import Path

import httpx2

from tests.e2e.test_workers import wait_until
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.services import private_postgres, require_postgres


def readiness(gateway: RunningGateway) -> tuple[int, str]:
    answer = httpx2.get(f"{gateway.root_url}/readyz", trust_env=False)
    return answer.status_code, answer.json()["status"]


def test_gateway_whose_records_are_away_is_not_ready_but_lives(tmp_path: Path) -> None:
    """Over five seconds: a gateway notices by its own commits, one every five seconds."""
    require_postgres()
    with (
        private_postgres() as server,
        running_gateway(tmp_path, {"TUWEN_DATABASE_URL": server.url}) as gateway,
    ):
        assert readiness(gateway) == (200, "ready")
        server.stop()
        wait_until(lambda: readiness(gateway) == (503, "records away"))
        assert httpx2.get(f"{gateway.root_url}/healthz", trust_env=False).status_code == 200
        server.start()
        wait_until(lambda: readiness(gateway) == (200, "ready"))


def test_gateway_that_books_nothing_is_ready_without_its_records(tmp_path: Path) -> None:
    """Over five seconds: it too notices by its own commits."""
    require_postgres()
    with (
        private_postgres() as server,
        running_gateway(tmp_path, {"TUWEN_DATABASE_URL": server.url, "TUWEN_OPEN_ACCESS": "true"}) as gateway,
    ):
        assert readiness(gateway) == (200, "ready")
        server.stop()
        gateway.wait_for_line("claims of Idempotency-Keys cannot be renewed")
        assert readiness(gateway) == (200, "ready")
