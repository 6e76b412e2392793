"""Which requests of a key are let in, and what the others are told."""

from __future__ import annotations

import asyncio

import pytest

from app.accounts.limits import Admitted, Demand, Refused, Windows
from app.api.errors import error_response
from app.core.errors import PermissionDenied, RateLimited
from app.core.limits import Limits
from app.gateway.admission import ALONE, Admission
from app.store.memory import MemoryWindows
from tests.gateway.limited import Time, caller, model, not_asked


class Untouchable(Windows):
    """A store that nobody is to ask."""

    async def enter(self, demand: Demand) -> Admitted | Refused:
        raise AssertionError(demand)

    def leave(self, admitted: Admitted, used: int | None = None) -> None:
        raise AssertionError(admitted)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def admission(time: Time) -> Admission:
    return Admission(MemoryWindows(time.clock))


async def passes(admission: Admission, limits: Limits, *, tokens: int = 1, used: int | None = None) -> dict[str, str]:
    """Lets one request through; its headers."""
    async with admission.admitted(caller(limits), model(), "qwen-vl", lambda: tokens) as entry:
        if used is not None:
            entry.used(used)
        return dict(entry.rates)


async def refusal(admission: Admission, limits: Limits, *, tokens: int = 1) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        await passes(admission, limits, tokens=tokens)
    return caught.value


async def test_key_without_limits_costs_nothing() -> None:
    async with Admission(Untouchable()).admitted(caller(), model(), "qwen-vl", not_asked) as entry:
        assert entry.rates == {}
        assert entry.notice is None


async def test_limits_of_another_model_cost_nothing() -> None:
    somebody = caller(another=Limits(rpm=1))
    async with Admission(Untouchable()).admitted(somebody, model(), "qwen-vl", not_asked):
        pass


@pytest.mark.parametrize("models", [(), ("qwen-vl",), ("qwen-vl-alias",), ("qwen*",), ("other", "*")])
async def test_key_may_ask_models_on_its_list(admission: Admission, models: tuple[str, ...]) -> None:
    async with admission.admitted(caller(models=models), model(), "qwen-vl", not_asked):
        pass


@pytest.mark.parametrize("models", [("other",), ("qwen",), ("qwen-vl-*-x",)])
async def test_key_may_ask_no_other(admission: Admission, models: tuple[str, ...]) -> None:
    with pytest.raises(PermissionDenied, match="`qwen-vl`") as caught:
        admission.admitted(caller(models=models), model(), "qwen-vl", not_asked)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_allowed")


async def test_requests_over_the_limit_are_told_which_and_when(admission: Admission, time: Time) -> None:
    for _ in range(2):
        await passes(admission, Limits(rpm=2))
    time.now_s += 57
    error = await refusal(admission, Limits(rpm=2))
    assert str(error) == "This key may make 2 requests a minute, and has. Ask again in 4 s."
    assert error.chinese == "此密钥每分钟最多可发起 2 次请求，现已用完。请在 4 秒后重试。"
    assert error.retry_after_s == 4
    time.now_s += error.retry_after_s
    await passes(admission, Limits(rpm=2))


async def test_tokens_over_the_limit_are_told(admission: Admission) -> None:
    await passes(admission, Limits(tpm=100), tokens=60)
    assert str(await refusal(admission, Limits(tpm=100), tokens=50)).startswith("This key may use 100 tokens a minute")


async def test_limit_of_one_model_names_it_and_leaves_others_alone(admission: Admission) -> None:
    somebody = caller(qwen_vl=Limits(rpm=1))
    async with admission.admitted(somebody, model(), "qwen-vl", not_asked):
        pass
    with pytest.raises(RateLimited, match="1 requests to the model `qwen-vl` a minute"):
        await admission.admitted(somebody, model(), "qwen-vl-alias", not_asked).__aenter__()
    async with admission.admitted(somebody, model("other"), "other", not_asked):
        pass


async def test_request_refused_for_one_limit_counts_in_no_other(admission: Admission) -> None:
    somebody = caller(Limits(rpm=2), qwen_vl=Limits(rpm=1))
    async with admission.admitted(somebody, model(), "qwen-vl", not_asked):
        pass
    with pytest.raises(RateLimited):
        await admission.admitted(somebody, model(), "qwen-vl", not_asked).__aenter__()
    async with admission.admitted(somebody, model("other"), "other", not_asked) as entry:
        assert entry.rates["x-ratelimit-remaining-requests"] == "0"


async def test_place_is_free_again_however_it_is_left(admission: Admission) -> None:
    limits = Limits(concurrency=1)
    inside = asyncio.Event()

    async def stays() -> None:
        async with admission.admitted(caller(limits), model(), "qwen-vl", not_asked):
            inside.set()
            await asyncio.Event().wait()

    staying = asyncio.create_task(stays())
    await inside.wait()
    error = await refusal(admission, limits)
    assert str(error).startswith("This key may have 1 requests under way at once")
    assert error.retry_after_s == 1
    staying.cancel()
    await asyncio.wait([staying])
    await passes(admission, limits)


async def test_what_was_used_takes_the_place_of_the_estimate(admission: Admission) -> None:
    limits = Limits(tpm=100)
    await passes(admission, limits, tokens=90, used=20)
    assert (await passes(admission, limits, tokens=10))["x-ratelimit-remaining-tokens"] == "70"


async def test_headers_tell_of_requests_and_tokens(admission: Admission, time: Time) -> None:
    await passes(admission, Limits(rpm=5, tpm=100), tokens=30)
    time.now_s += 0.1
    assert await passes(admission, Limits(rpm=5, tpm=100), tokens=30) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "3",
        "x-ratelimit-reset-requests": "1m0.1s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "40",
        "x-ratelimit-reset-tokens": "1m0.1s",
    }


async def test_headers_tell_of_the_tightest_window(admission: Admission) -> None:
    somebody = caller(Limits(rpm=10), qwen_vl=Limits(rpm=3))
    async with admission.admitted(somebody, model(), "qwen-vl", not_asked) as entry:
        assert entry.rates["x-ratelimit-limit-requests"] == "3"


@pytest.mark.parametrize(("passed_s", "told"), [(59.98, "120ms"), (58.6, "1.5s"), (0.1, "1m0s")])
async def test_reset_is_written_as_openai_writes_it(
    admission: Admission, time: Time, passed_s: float, told: str
) -> None:
    await passes(admission, Limits(rpm=1))
    time.now_s += passed_s
    assert (await refusal(admission, Limits(rpm=1))).rates["x-ratelimit-reset-requests"] == told


async def test_refusal_carries_the_headers(admission: Admission) -> None:
    await passes(admission, Limits(rpm=1))
    answer = error_response(await refusal(admission, Limits(rpm=1)))
    assert answer.status_code == 429
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["retry-after"] == "60"


async def test_limits_kept_alone_come_with_a_notice(time: Time) -> None:
    admission = Admission(MemoryWindows(time.clock, alone=True))
    async with admission.admitted(caller(Limits(rpm=1)), model(), "qwen-vl", not_asked) as entry:
        assert entry.notice == ALONE
    error = await refusal(admission, Limits(rpm=1))
    assert "kept by this process alone" in str(error)
    assert "由本进程单独执行" in error.chinese
