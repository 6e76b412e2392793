"""The address of Redis: its options are looked at before anything is served."""

from __future__ import annotations

from traceback import format_exception

import pytest

from app.store.errors import StoreUnusable
from app.store.redis_line import client_of


@pytest.mark.parametrize(
    "address",
    [
        "redis://127.0.0.1:6379/0",
        "redis://:a@b@127.0.0.1/1?socket_keepalive=yes&protocol=3",
        "rediss://u:p@h:1/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
async def test_an_address_with_options_is_taken(address: str) -> None:
    await client_of(address).aclose()


@pytest.mark.parametrize(
    "options", ["hunter2=hunter2", "socket_timeout=hunter2", "protocol=hunter2", "db=hunter2", "ssl_cert_reqs=hunter2"]
)
def test_options_that_are_none_are_refused_and_not_told(options: str) -> None:
    with pytest.raises(StoreUnusable, match=r"^TUWEN_REDIS_URL: .*redis://:PASSWORD@HOST:6379/0$") as refused:
        client_of(f"rediss://:{options[-7:]}@127.0.0.1/0?{options}")
    assert "hunter2" not in "".join(format_exception(refused.value))
