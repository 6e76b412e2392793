"""What one attempt took: the prompt that was sent, and what came back, counted as it passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.accounts.interfaces import AttemptRow, Outcome
from app.accounts.usage import book_attempt
from app.config.catalog import Model, Route
from app.core.events import Event, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport, UsageSource
from app.gateway.estimates import cautious
from app.media.tokens import TextTokens

_LONGEST_TOKENS_PER_DELTA = 3
"""A backend that streams sends a token at a time; where deltas hold more than a token can, they are no tokens. The
estimate of their text, which this is held to, may be half as much again as the truth."""

_UNSAID_OUTPUT_TOKENS = 4096
"""How long an answer may get where neither the caller nor the catalogue says."""


@dataclass(slots=True)
class Tally:
    """One attempt.

    Args:
        prompt_tokens: an estimate. image_count: the pictures that were sent.
        longest_output_tokens: what its answer may take.
        streamed: whether the answer comes delta by delta; of one that comes whole nothing can be counted.
        start_s, end_s: monotonic; `end_s` is `None` while it runs.
        dispatched: whether the backend was asked, and so may bill us.
        begun: whether it has said anything.
        output: its text, whose deltas are not kept. deltas: how many there were.
    """

    model: Model
    route: Route
    prompt_tokens: int
    image_count: int
    longest_output_tokens: int
    streamed: bool
    start_s: float
    dispatched: bool
    end_s: float | None = None
    backend_request_id: str | None = None
    begun: bool = False
    reported: UsageReport | None = None
    output: TextTokens = field(default_factory=TextTokens)
    deltas: int = 0
    outcome: Outcome = "gone"
    error_code: str | None = None

    def note(self, events: Sequence[Event]) -> None:
        """Counts what passes."""
        self.begun = True
        texts = []
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta):
                texts.append(event.text)
            elif isinstance(event, ToolCallDelta):
                texts.append((event.name or "") + event.arguments)
            elif isinstance(event, UsageReport):
                self.reported = event
        self.deltas += sum(map(bool, texts))
        self.output.add("".join(texts))

    def end(self, outcome: Outcome, now_s: float, error_code: str | None = None) -> None:
        """It ended; what is said of it later does not count."""
        if self.end_s is None:
            self.end_s, self.outcome, self.error_code = now_s, outcome, error_code

    @property
    def is_paid(self) -> bool:
        """Whether anything is to be paid: not where it was not asked, or failed before its first word."""
        return self.dispatched and (self.begun or self.outcome != "failed")

    def usage(self) -> UsageReport | None:
        """What is to be paid: the backend's report; else what was counted, or estimated, which then says so. `None`:
        nothing is."""
        if not self.is_paid:
            return None
        if self.reported is not None:
            return replace(self.reported, image_count=self.reported.image_count or self.image_count)
        output_tokens, source = _counted(self.output.tokens, self.deltas, streamed=self.streamed)
        return UsageReport(
            input_tokens=self.prompt_tokens,
            output_tokens=output_tokens,
            image_count=self.image_count,
            source=source,
        )

    def most_micros(self) -> int:
        """The most it can cost; 0 where no tariff is known."""
        if self.model.tariff is None:
            return 0
        return self.model.tariff.most_micros(
            UsageReport(
                input_tokens=cautious(self.prompt_tokens),
                output_tokens=self.longest_output_tokens,
                image_count=self.image_count,
            )
        )

    def row(self, number: int, now_s: float, *, open_: bool) -> AttemptRow:
        """The row of it.

        Args:
            open_: whether the request goes on: then an attempt without an end still runs.
        """
        running = open_ and self.end_s is None
        return book_attempt(
            number=number,
            model=self.model.id,
            backend=self.route.backend.name,
            backend_model=self.route.model,
            backend_request_id=self.backend_request_id,
            usage=self.usage(),
            tariff=self.model.tariff,
            total_ms=((now_s if self.end_s is None else self.end_s) - self.start_s) * 1000,
            outcome="running" if running else self.outcome,
            error_code=self.error_code,
        )


def longest_output_tokens(wish: int | None, model: Model, route: Route, prompt_tokens: int) -> int:
    """What an answer may take: what was asked for, else what the catalogue or the backend allows; never more than the
    model's context has room for."""
    bounds = [model.max_output_tokens, route.capabilities.max_output_tokens]
    known = [bound for bound in (wish, *bounds) if bound is not None] or [_UNSAID_OUTPUT_TOKENS]
    if model.context_tokens is not None:
        known.append(max(model.context_tokens - prompt_tokens, 1))
    return min(known)


def _counted(by_length: int, deltas: int, *, streamed: bool) -> tuple[int, UsageSource]:
    """Tokens of what passed, which may be nothing: one a delta where deltas are as short as tokens, else by the text's
    length."""
    if (streamed or not deltas) and by_length <= _LONGEST_TOKENS_PER_DELTA * deltas:
        return deltas, "counted"
    return by_length, "estimated"
