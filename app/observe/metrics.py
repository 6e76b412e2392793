"""Metrics: plain integers of this process, written in Prometheus' format when somebody asks.

| metric | of | what it counts |
|---|---|---|
| tuwen_requests_total | model, outcome | requests that ended, by the ledger's outcome, or `refused` |
| tuwen_tokens_total | model, kind | input and output tokens booked |
| tuwen_cost_micros_total | model | micro-yuan booked |
| tuwen_open_requests | | requests under way |
| tuwen_queue_waiting | scope | requests that wait for a backend or model that has no room |
| tuwen_queue_turns_total | scope | requests that got their turn after a wait |
| tuwen_queue_waited_ms_total | scope | how long they waited, together |
| tuwen_queue_refused_total | scope | requests told to come again, for the queue was full or too slow |
| tuwen_backend_in_flight | backend | attempts under way |
| tuwen_backend_faults_total | backend, error | attempts that failed |
| tuwen_backend_shut | backend | remote models that are left alone now |
| tuwen_retries_total | | attempts that repeated another |
| tuwen_retries_refused_total | | attempts not repeated, as too many were |
| tuwen_decode_workers | | processes that run to decode pictures |
| tuwen_decode_waiting | | pictures that wait for one |
| tuwen_decode_starts_total | | how many were started |
| tuwen_decodes_total | outcome | pictures `made`, `refused`, too `slow`, `crashed`, or `left` by who asked |
| tuwen_limits_alone | | 1 while this process keeps limits by itself, as Redis is away |
| tuwen_intake_bytes | | bytes of request bodies that are held |
| tuwen_intake_max_bytes | | how many may be |
| tuwen_intake_refused_total | | requests told to come again for want of memory |
| tuwen_ledger_commits_total | | commits of this process; requests share them |
| tuwen_journal_waiting | | 1 while rows wait for the database to come back |
| tuwen_details_dropped_total | | details that were not kept |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MODELS_MAX = 1000
_OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Reading:
    """A number somebody else keeps.

    Args:
        name: of the metric; one that ends in `_total` is a counter.
        labels: by name.
    """

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


Source = Callable[[], Iterable[Reading]]


class Metrics(Collector):
    """The numbers of this process."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._tokens: Counter[tuple[str, str]] = Counter()
        self._cost_micros: Counter[str] = Counter()
        self._models: set[str] = set()
        self._sources: list[Source] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def ended(
        self, model: str, outcome: str, *, input_tokens: int = 0, output_tokens: int = 0, cost_micros: int = 0
    ) -> None:
        """A request has ended, and was booked so; `refused`: it was not."""
        model = self._model(model)
        self._requests[model, outcome] += 1
        self._tokens[model, "input"] += input_tokens
        self._tokens[model, "output"] += output_tokens
        self._cost_micros[model] += cost_micros

    def read_from(self, source: Source) -> None:
        """Asks for further numbers whenever it is asked."""
        self._sources.append(source)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    @override
    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("tuwen_requests", "Requests that ended.", labels=("model", "outcome"))
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        tokens = CounterMetricFamily("tuwen_tokens", "Tokens booked.", labels=("model", "kind"))
        for labels, count in self._tokens.items():
            tokens.add_metric(labels, count)
        cost = CounterMetricFamily("tuwen_cost_micros", "Micro-yuan booked.", labels=("model",))
        for model, micros in self._cost_micros.items():
            cost.add_metric((model,), micros)
        yield from (requests, tokens, cost)
        yield from _families(reading for source in self._sources for reading in source())

    def _model(self, name: str) -> str:
        """Callers make names up, where a wildcard takes them: only so many are told apart."""
        if name not in self._models:
            if len(self._models) >= _MODELS_MAX:
                return _OTHER
            self._models.add(name)
        return name


def _families(readings: Iterable[Reading]) -> Iterable[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for reading in readings:
        names = [name for name, _ in reading.labels]
        kind = CounterMetricFamily if reading.name.endswith("_total") else GaugeMetricFamily
        if reading.name not in families:
            families[reading.name] = kind(reading.name.removesuffix("_total"), reading.help, labels=names)
        families[reading.name].add_metric([value for _, value in reading.labels], reading.value)
    return families.values()
