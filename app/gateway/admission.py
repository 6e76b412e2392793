"""Whether a key may ask now: the models it is for, and its limits, for all models together and for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from types import TracebackType

from app.accounts.interfaces import Caller
from app.accounts.limits import Admitted, Demand, Refused, Slots, Standing, Window, Windows
from app.config.catalog import Model
from app.core.errors import PermissionDenied, RateLimited, shown
from app.core.limits import NO_LIMITS, Limits

ALONE = "limits are kept by this process alone for the moment"
"""The notice callers get while the store that limits are shared in is away."""

# in English and Chinese; `{model}` is the words below, or nothing
_FULL: Mapping[str, tuple[str, str]] = {
    "rpm": (
        "This key may make {limit} requests{model} a minute, and has. Ask again in {wait_s} s.",
        "此密钥每分钟最多可发起 {limit} 次{model}请求，现已用完。请在 {wait_s} 秒后重试。",
    ),
    "tpm": (
        "This key may use {limit} tokens{model} a minute, and this request would take more than is left. Ask again in "
        "{wait_s} s.",
        "此密钥每分钟最多可使用 {limit} 个{model} token，剩余额度不足以完成本次请求。请在 {wait_s} 秒后重试。",
    ),
    "concurrency": (
        "This key may have {limit} requests{model} under way at once, and has. Ask again when one has ended.",
        "此密钥最多可同时进行 {limit} 个{model}请求，现已达到上限。请在其中之一结束后重试。",
    ),
}
_OF_MODEL = (" to the model `{id}`", "对模型 `{id}` 的")
_ALONE_WORDS = (f" ({ALONE[0].upper()}{ALONE[1:]}.)", "（目前限额由本进程单独执行。）")


class Entry:
    """A request's place within its key's limits. An async context: leaving it frees the place, however it is left.

    Attributes:
        rates: the `x-ratelimit-*` headers; empty where the key has no such limit.
        notice: what the caller is to know of how its limits are kept; `None`: nothing.
    """

    __slots__ = ("_admitted", "_demand", "_used", "_windows", "notice", "rates")

    def __init__(self, windows: Windows, demand: Demand | None) -> None:
        self._windows = windows
        self._demand = demand
        self._admitted: Admitted | None = None
        self._used: int | None = None
        self.rates: Mapping[str, str] = {}
        self.notice: str | None = None

    def used(self, tokens: int) -> None:
        """What it really took, of input and output together; counted when it is left. Unsaid, the estimate stands."""
        self._used = tokens

    async def __aenter__(self) -> Entry:
        """Takes the place.

        Raises:
            RateLimited: there is none now.
        """
        if self._demand is None:
            return self
        outcome = await self._windows.enter(self._demand)
        if isinstance(outcome, Refused):
            raise _limited(outcome, _rates(self._demand, outcome.standings))
        self._admitted = outcome
        self.rates = _rates(self._demand, outcome.standings)
        self.notice = ALONE if outcome.alone else None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Frees the place, if that was not done before. An answer's last bytes come after it: who asks again as soon as
        it has them must find room."""
        admitted, self._admitted = self._admitted, None
        if admitted is not None:
            self._windows.leave(admitted, self._used)


class Admission:
    """Lets requests in."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    def admitted(self, caller: Caller, model: Model, asked_as: str, tokens: Callable[[], int]) -> Entry:
        """The place of a request, to be entered.

        Args:
            asked_as: the id or alias that the caller used.
            tokens: estimates what the request will take, of input and output together; asked where that is limited.

        Raises:
            PermissionDenied: the key is not for this model.
        """
        if not caller.may_ask(asked_as, model.id, *model.aliases):
            raise _not_allowed(asked_as)
        own, of_model = caller.limits, _limits_of(model, caller)
        if own == NO_LIMITS and of_model == NO_LIMITS:
            return Entry(self._windows, None)
        windows: list[Window] = []
        slots: list[Slots] = []
        weight = tokens() if own.tpm is not None or of_model.tpm is not None else 0
        _gather(own, "", weight, windows, slots)
        _gather(of_model, f":{model.id}", weight, windows, slots)
        return Entry(self._windows, Demand(caller.key_id, tuple(windows), tuple(slots)))


def _limits_of(model: Model, caller: Caller) -> Limits:
    """Those of the key for this model, under whichever of its names the operator wrote them."""
    if not caller.model_limits:
        return NO_LIMITS
    names = (model.id, *model.aliases)
    return next((caller.model_limits[name] for name in names if name in caller.model_limits), NO_LIMITS)


def _gather(limits: Limits, suffix: str, weight: int, windows: list[Window], slots: list[Slots]) -> None:
    if limits.rpm is not None:
        windows.append(Window(f"rpm{suffix}", limits.rpm))
    if limits.tpm is not None:
        windows.append(Window(f"tpm{suffix}", limits.tpm, weight, of_tokens=True))
    if limits.concurrency is not None:
        slots.append(Slots(f"concurrency{suffix}", limits.concurrency))


def _rates(demand: Demand, standings: Iterable[Standing]) -> Mapping[str, str]:
    """Of requests and of tokens, the window that has the least left."""
    tightest: dict[str, Standing] = {}
    for window, standing in zip(demand.windows, standings, strict=True):
        noun = "tokens" if window.of_tokens else "requests"
        if noun not in tightest or standing.remaining < tightest[noun].remaining:
            tightest[noun] = standing
    rates = {}
    for noun, standing in tightest.items():
        rates[f"x-ratelimit-limit-{noun}"] = str(standing.limit)
        rates[f"x-ratelimit-remaining-{noun}"] = str(standing.remaining)
        rates[f"x-ratelimit-reset-{noun}"] = _duration(standing.reset_s)
    return rates


def _duration(seconds: float) -> str:
    """As OpenAI writes it: `120ms`, `1.5s`, `6m0s`."""
    whole_ms = ceil(seconds * 1000)
    if whole_ms < 1000:
        return f"{whole_ms}ms"
    minutes, rest_ms = divmod(whole_ms, 60_000)
    return f"{minutes}m{rest_ms / 1000:g}s" if minutes else f"{rest_ms / 1000:g}s"


def _limited(refusal: Refused, rates: Mapping[str, str]) -> RateLimited:
    kind, _, model_id = refusal.by.name.partition(":")
    said = []
    for text, of_model, alone in zip(_FULL[kind], _OF_MODEL, _ALONE_WORDS, strict=True):
        words = of_model.format(id=shown(model_id)) if model_id else ""
        line = text.format(limit=refusal.by.limit, model=words, wait_s=round(refusal.retry_after_s))
        said.append(line + alone if refusal.alone else line)
    return RateLimited(said[0], chinese=said[1], retry_after_s=refusal.retry_after_s, rates=rates)


def _not_allowed(asked_as: str) -> PermissionDenied:
    return PermissionDenied(
        f"This key is not for the model `{shown(asked_as)}`; GET /v1/models lists those it is for.",
        chinese=f"此密钥无权使用模型 `{shown(asked_as)}`；可用模型见 GET /v1/models。",
        param="model",
        code="model_not_allowed",
    )
