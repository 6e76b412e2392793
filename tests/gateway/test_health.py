"""Who is left alone, for how long, and who is asked of several."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from app.config.catalog import Backend, Route
from app.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendProtocolError,
    BackendTimeout,
    BackendUnavailable,
    BackendUsedUp,
    ContentFiltered,
    ContextTooLong,
    NoRoom,
)
from app.gateway.health import FAULTS_TO_SHUT, LONGEST_SHUT_S, SHUT_S, Health
from tests.gateway.limited import Time


def route(name: str, *, rank: int = 0, weight: int = 1, model: str = "remote") -> Route:
    return Route(Backend(name, "openai", None), model, rank=rank, weight=weight)


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def health(time: Time) -> Health:
    return Health(time.clock, random.Random(7).random)


def fail(health: Health, route: Route, fault: BaseException, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(type(fault)), health.trial(route):
            raise fault


def chosen(health: Health, routes: Sequence[Route], times: int) -> Counter[str]:
    return Counter(health.choice(routes).backend.name for _ in range(times))


A, B = route("a"), route("b", rank=1)


@pytest.mark.parametrize("kind", [BackendUnavailable, BackendTimeout, BackendProtocolError])
def test_faults_in_a_row_shut_a_route_and_time_opens_it(health: Health, time: Time, kind: type[BackendError]) -> None:
    fail(health, A, kind("x"), FAULTS_TO_SHUT - 1)
    assert health.choice([A, B]) is A
    fail(health, A, kind("x"))
    assert health.choice([A, B]) is B
    time.now_s += SHUT_S
    assert health.choice([A, B]) is A


@pytest.mark.parametrize("kind", [BackendMisconfigured, BackendUsedUp])
def test_fault_that_does_not_pass_shuts_at_once(health: Health, kind: type[BackendError]) -> None:
    fail(health, A, kind("x"))
    assert health.choice([A, B]) is B


@pytest.mark.parametrize("error", [ContentFiltered("x"), ContextTooLong("x"), NoRoom("x"), KeyboardInterrupt()])
def test_what_is_not_the_backends_fault_shuts_nothing(health: Health, error: BaseException) -> None:
    fail(health, A, error, 10)
    assert health.choice([A, B]) is A


def test_answer_between_faults_begins_the_count_anew(health: Health) -> None:
    for _ in range(5):
        fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT - 1)
        with health.trial(A) as trial:
            trial.answered()
    assert health.choice([A, B]) is A


def test_half_open_lets_one_through_and_is_shut_for_twice_as_long_if_that_fails(health: Health, time: Time) -> None:
    fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT)
    time.now_s += SHUT_S
    with health.trial(health.choice([A, B])):
        assert [health.choice([A, B]) for _ in range(3)] == [B, B, B]
    fail(health, A, BackendUnavailable("x"))
    time.now_s += SHUT_S
    assert health.choice([A, B]) is B
    time.now_s += SHUT_S
    assert health.choice([A, B]) is A


def test_half_open_is_open_again_as_soon_as_it_answers(health: Health, time: Time) -> None:
    fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT)
    time.now_s += SHUT_S
    with health.trial(health.choice([A, B])) as trial:
        trial.answered()
        assert health.choice([A, B]) is A


def test_trial_whose_caller_left_leaves_it_to_the_next(health: Health, time: Time) -> None:
    fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT)
    time.now_s += SHUT_S
    fail(health, A, GeneratorExit())
    assert health.choice([A, B]) is A


def test_nobody_is_left_alone_for_more_than_a_minute(health: Health, time: Time) -> None:
    for _ in range(10):
        fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT)
    time.now_s += LONGEST_SHUT_S
    assert health.choice([A, B]) is A


def test_busy_backend_is_left_alone_as_long_as_it_asks(health: Health, time: Time) -> None:
    fail(health, A, BackendBusy("x", retry_after_s=7))
    time.now_s += 6.9
    assert health.choice([A, B]) is B
    time.now_s += 0.2
    assert health.choice([A, B]) is A


def test_where_all_are_shut_the_first_is_asked(health: Health) -> None:
    for each in (A, B):
        fail(health, each, BackendUnavailable("x"), FAULTS_TO_SHUT)
    assert health.choice([A, B]) is A
    assert health.choice([A]) is A


def test_model_that_fails_does_not_shut_the_backends_other_models(health: Health) -> None:
    other = route("a", model="other")
    fail(health, A, BackendUnavailable("x"), FAULTS_TO_SHUT)
    assert health.choice([other, B]) is other


def test_idle_equals_are_asked_by_weight(health: Health) -> None:
    counts = chosen(health, [route("a", weight=3), route("b", weight=1)], 4000)
    assert 0.72 < counts["a"] / 4000 < 0.78


def test_least_busy_for_its_weight_is_asked(health: Health) -> None:
    heavy, light = route("a", weight=3), route("b", weight=1)
    with health.trial(heavy), health.trial(heavy), health.trial(light):
        assert chosen(health, [heavy, light], 20) == {"a": 20}
        with health.trial(heavy), health.trial(heavy):
            assert chosen(health, [heavy, light], 20) == {"b": 20}


def test_made_up_models_do_not_fill_the_memory(health: Health) -> None:
    for number in range(10_100):
        fail(health, route("a", model=f"made-up-{number}"), BackendMisconfigured("x"))
    assert next(each.value for each in health.readings() if each.name == "tuwen_backend_shut") == 10_000
