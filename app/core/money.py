"""Integer money. One yuan is 1 000 000 micro-yuan; no float ever touches an amount.

A price per million tokens in yuan is, as a number, the price of one token in micro-yuan; it is kept per million tokens
in micro-yuan, so that prices like 4.29 stay whole. A cost is rounded once, at the end, half up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, assert_never

from app.core.events import UsageReport

VolumeUnit: TypeAlias = Literal["tokens", "pictures", "calls"]

MICROS_PER_YUAN = 1_000_000
_TOKENS_PER_PRICE = 1_000_000
_AMOUNT = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,6})0*)?")


def parse_yuan(text: str) -> int:
    """Reads an amount in yuan, as `"4.29"`, into micro-yuan.

    Raises:
        ValueError: not a plain decimal number, negative, or finer than a micro-yuan.
    """
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an amount in yuan of at most six decimals: {text!r}")
    yuan, decimals = match.groups()
    return int(yuan) * MICROS_PER_YUAN + int((decimals or "").ljust(6, "0"))


def format_yuan(micros: int) -> str:
    """Writes micro-yuan as yuan with six decimals, as `0.001234`."""
    sign = "-" if micros < 0 else ""
    yuan, rest = divmod(abs(micros), MICROS_PER_YUAN)
    return f"{sign}{yuan}.{rest:06d}"


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost. All amounts in micro-yuan; prices of tokens per million tokens.

    Args:
        cached_per_million: price of input tokens the backend had cached; `None` means the input price.
    """

    input_per_million: int = 0
    output_per_million: int = 0
    cached_per_million: int | None = None
    per_image: int = 0
    per_call: int = 0


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices from a volume on.

    Args:
        from_units: of the tariff's unit, used by one key of one model in a calendar month before; the unit that comes
            after so many is the first at these prices.
    """

    from_units: int
    prices: Prices


@dataclass(frozen=True, slots=True)
class Tariff(Prices):
    """What a model costs.

    Args:
        tiers: other prices from a volume on, in rising order; each holds all of its prices.
        volume: what a volume is counted in. Tokens that lie across an edge are split at it: first come those of the
            input, the cached ones before the others, then those of the output. So are pictures, where they are
            counted. All else of a request is paid at the prices that its first unit has.
    """

    tiers: tuple[Tier, ...] = ()
    volume: VolumeUnit = "tokens"

    def units(self, usage: UsageReport) -> int:
        """How much an answer adds to the volume."""
        match self.volume:
            case "tokens":
                return usage.input_tokens + usage.output_tokens
            case "pictures":
                return usage.image_count
            case "calls":
                return 1
            case _:  # pragma: no cover - the type checker proves it cannot be reached
                assert_never(self.volume)

    def cost_micros(self, usage: UsageReport, volume_before: int = 0) -> int:
        """The cost of one answer in micro-yuan, rounded half up once.

        Args:
            volume_before: what the key had used of the model that month; only tiers ask.
        """
        if not self.tiers:
            return _cost(self, usage)
        cached = min(usage.cached_tokens, usage.input_tokens)
        tokens = (cached, usage.input_tokens - cached, usage.output_tokens)
        shares = self._shares(tokens, volume_before) if self.volume == "tokens" else {self._at(volume_before): tokens}
        scaled = sum(_scaled(prices, *of_each) for prices, of_each in shares.items())
        images = (usage.image_count,)
        shown = self._shares(images, volume_before) if self.volume == "pictures" else {self._at(volume_before): images}
        pictures = sum(prices.per_image * count for prices, (count,) in shown.items())
        return _rounded(scaled) + pictures + self._at(volume_before).per_call

    def most_micros(self, usage: UsageReport) -> int:
        """The most that such an answer can cost, whatever the volume before and however much was cached: each thing at
        its dearest."""
        if not self.tiers and self.cached_per_million is None:
            return _cost(self, usage)
        all_prices = [self, *(tier.prices for tier in self.tiers)]
        dearest = Prices(
            input_per_million=max(max(each.input_per_million, each.cached_per_million or 0) for each in all_prices),
            output_per_million=max(each.output_per_million for each in all_prices),
            per_image=max(each.per_image for each in all_prices),
            per_call=max(each.per_call for each in all_prices),
        )
        return _cost(dearest, replace(usage, cached_tokens=0))

    def _at(self, volume: int) -> Prices:
        """The prices of the unit that comes after so many."""
        return next((tier.prices for tier in reversed(self.tiers) if tier.from_units <= volume), self)

    def _shares(self, counts: Sequence[int], volume_before: int) -> dict[Prices, list[int]]:
        """How many of each count are paid at which prices, where they follow each other from a volume on."""
        shares: dict[Prices, list[int]] = {}
        at = volume_before
        for place, count in enumerate(counts):
            end = at + count
            while at < end:
                edge = next((tier.from_units for tier in self.tiers if tier.from_units > at), end)
                share = shares.setdefault(self._at(at), [0] * len(counts))
                share[place] += min(edge, end) - at
                at = min(edge, end)
        return shares


def _cost(prices: Prices, usage: UsageReport) -> int:
    cached = min(usage.cached_tokens, usage.input_tokens)
    tokens = _rounded(_scaled(prices, cached, usage.input_tokens - cached, usage.output_tokens))
    return tokens + usage.image_count * prices.per_image + prices.per_call


def _scaled(prices: Prices, cached_tokens: int, input_tokens: int, output_tokens: int) -> int:
    cached_price = prices.input_per_million if prices.cached_per_million is None else prices.cached_per_million
    return (
        cached_tokens * cached_price
        + input_tokens * prices.input_per_million
        + output_tokens * prices.output_per_million
    )


def _rounded(scaled: int) -> int:
    return (scaled + _TOKENS_PER_PRICE // 2) // _TOKENS_PER_PRICE


FREE = Tariff()
