"""Integer money. One yuan is 1 000 000 micro-yuan; no float ever touches an amount.

A price per million tokens in yuan is, as a number, the price of one token in micro-yuan; it is kept per million tokens
in micro-yuan, so that prices like 4.29 stay whole. A cost is rounded once, at the end, half up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from app.core.events import UsageReport

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
class Tariff:
    """What a model costs. All amounts in micro-yuan; prices of tokens per million tokens.

    Args:
        cached_per_million: price of input tokens the backend had cached; `None` means the input price.
    """

    input_per_million: int = 0
    output_per_million: int = 0
    cached_per_million: int | None = None
    per_image: int = 0
    per_call: int = 0

    def cost_micros(self, usage: UsageReport) -> int:
        """The cost of one answer in micro-yuan, rounded half up once."""
        cached_price = self.input_per_million if self.cached_per_million is None else self.cached_per_million
        cached = min(usage.cached_tokens, usage.input_tokens)
        scaled = (
            (usage.input_tokens - cached) * self.input_per_million
            + cached * cached_price
            + usage.output_tokens * self.output_per_million
        )
        tokens = (scaled + _TOKENS_PER_PRICE // 2) // _TOKENS_PER_PRICE
        return tokens + usage.image_count * self.per_image + self.per_call


FREE = Tariff()
