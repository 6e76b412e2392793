"""Numbers in Prometheus' format, and no more of them than a server bears."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from app.observe.metrics import Metrics, Reading


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_model_and_outcome() -> None:
    metrics = Metrics()
    metrics.ended("m", "finished", input_tokens=10, output_tokens=5, cost_micros=70)
    metrics.ended("m", "finished", input_tokens=1, cost_micros=4)
    metrics.ended("m", "refused")
    found = samples(metrics)
    assert found["tuwen_requests_total", ("m", "finished")] == 2
    assert found["tuwen_requests_total", ("m", "refused")] == 1
    assert found["tuwen_tokens_total", ("input", "m")] == 11
    assert found["tuwen_cost_micros_total", ("m",)] == 74


def test_numbers_of_others_are_read_when_asked() -> None:
    metrics, waiting = Metrics(), [1]
    metrics.read_from(lambda: [Reading("tuwen_queue_waiting", "Waits.", waiting[0], (("scope", "backend:b"),))])
    metrics.read_from(lambda: [Reading("tuwen_ledger_commits_total", "Commits.", 7)])
    waiting[0] = 3
    found = samples(metrics)
    assert found["tuwen_queue_waiting", ("backend:b",)] == 3
    assert found["tuwen_ledger_commits_total", ()] == 7


def test_names_that_callers_make_up_are_told_apart_up_to_a_bound() -> None:
    metrics = Metrics()
    for number in range(1500):
        metrics.ended(f"m-{number}", "finished")
    found = samples(metrics)
    assert found["tuwen_requests_total", ("m-0", "finished")] == 1
    assert found["tuwen_requests_total", ("(other)", "finished")] == 500
