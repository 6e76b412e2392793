"""`tuwen doctor`: whether each backend could answer, looked at step by step, in English and Chinese."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import typer
from pydantic import SecretStr

from app.backends.registry import spec_of
from app.commands.check import configured_catalog
from app.commands.doctor_network import look_at
from app.commands.doctor_probe import Prober, opened_prober
from app.commands.errors import CommandFailed
from app.commands.observation import Observation
from app.config.catalog import Backend, Catalog, Route
from app.config.problems import did_you_mean
from app.config.settings import Settings
from app.observe.logs import configure_logging

_UNREACHED = Observation("probe", None, "no question asked, for it cannot be reached", "无法连接，未提问")
_MARKS = {True: "ok", False: "FAIL", None: "-"}


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found at one backend."""

    backend: str
    kind: str
    observations: tuple[Observation, ...]

    @property
    def sound(self) -> bool:
        return all(item.ok is not False for item in self.observations)


def doctor(name: str | None, settings: Settings, *, probe: bool, as_json: bool) -> None:
    """Looks at one backend, or at all, and prints what was found.

    Args:
        probe: also ask each model one small question, which the vendor may charge for.

    Raises:
        CommandFailed: there is no such backend, or something is wrong with one that was looked at.
    """
    catalog = configured_catalog()
    configure_logging(level="critical", form=settings.log_format)  # what goes wrong is told here, in words
    chosen = _chosen(catalog, name)
    found = asyncio.run(_examine(chosen, catalog, settings, probe=probe, named=name is not None))
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], ensure_ascii=False, indent=2))
    else:
        typer.echo("\n\n".join(_in_words(item) for item in found))
    if not all(item.sound for item in found):
        raise typer.Exit(1)


def _chosen(catalog: Catalog, name: str | None) -> Sequence[Backend]:
    if name is None:
        return [*catalog.backends.values()]
    if name not in catalog.backends:
        hint = did_you_mean(name, catalog.backends) or f"; there are {', '.join(sorted(catalog.backends))}"
        raise CommandFailed(f"There is no backend {name}{hint}.", exit_code=2)
    return [catalog.backends[name]]


async def _examine(
    chosen: Sequence[Backend], catalog: Catalog, settings: Settings, *, probe: bool, named: bool
) -> list[Examined]:
    async with opened_prober(settings, catalog) as prober:
        work = [_examine_one(item, catalog, settings, prober if probe else None, named=named) for item in chosen]
        return list(await asyncio.gather(*work))


async def _examine_one(
    backend: Backend, catalog: Catalog, settings: Settings, prober: Prober | None, *, named: bool
) -> Examined:
    if not backend.configured:
        return Examined(backend.name, backend.kind, (_not_configured(backend, named=named),))
    routes = _routes(backend, catalog)
    spec = spec_of(backend.kind)
    models = [route.model for route in routes] or [""]
    found = [*_findings(backend, models)]
    origins = dict.fromkeys(_origin(url) for model in models for url in spec.addresses(backend.options, model))
    for origin in origins:
        found += await look_at(origin, timeout_s=settings.connect_s)
    if prober is not None:
        reached = not any(item.ok is False and item.check in {"name", "connection"} for item in found)
        found += [await prober.ask(route) if reached else _UNREACHED for route in routes]
    return Examined(backend.name, backend.kind, tuple(dict.fromkeys(found)))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _routes(backend: Backend, catalog: Catalog) -> Sequence[Route]:
    """The routes of the catalogue that lead there, each remote model once; text models behind them included."""
    found: dict[str, Route] = {}
    for model in catalog.models:
        for route in model.routes:
            if route.backend.name == backend.name and not model.wildcard:
                found.setdefault(route.model, route)
                found.setdefault(route.for_text.model, route.for_text)
    return list(found.values())


def _findings(backend: Backend, models: Iterable[str]) -> Iterable[Observation]:
    """What the section looks like; what holds for all its models is said once."""
    if any(isinstance(value, SecretStr) for _, value in backend.options or ()):
        yield Observation("credentials", True, "all that it needs are set", "所需的凭据均已设置")
    else:
        yield Observation("credentials", True, "it needs none", "无需凭据")
    findings = (item for model in models for item in spec_of(backend.kind).inspect(backend.options, model))
    for item in dict.fromkeys(findings):
        yield Observation(item.check, item.ok, item.english, item.chinese)


def _not_configured(backend: Backend, *, named: bool) -> Observation:
    names = ", ".join(backend.missing_env)
    return Observation(
        "credentials",
        False if named else None,
        f"not configured: set {names}, in the environment or in .env",
        f"未配置：请在环境变量或 .env 中设置 {names}",
    )


def _in_words(item: Examined) -> str:
    lines = [f"{item.backend} ({item.kind})"]
    for seen in item.observations:
        lines.append(f"  {_MARKS[seen.ok]:5} {seen.check:12} {seen.english}")
        lines.append(f"  {'':5} {'':12} {seen.chinese}")
    return "\n".join(lines)
