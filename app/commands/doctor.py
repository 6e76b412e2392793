"""`tuwen doctor`: whether each backend could answer, looked at step by step, in English and Chinese."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

import typer
from pydantic import SecretStr

from app.backends.registry import spec_of
from app.commands.check import configured_catalog
from app.commands.doctor_network import look_at, origin_of
from app.commands.doctor_probe import Prober, opened_prober
from app.commands.doctor_report import Examined, in_words
from app.commands.errors import CommandFailed
from app.commands.observation import Observation
from app.config.catalog import Backend, Catalog, Route
from app.config.problems import did_you_mean
from app.config.settings import Settings
from app.observe.logs import configure_logging

_NO_MODEL = Observation(
    "model", None, "no model of the catalogue leads here by name", "模型目录中没有指名使用此后端的模型"
)
_UNREACHED = Observation("probe", None, "not asked, for it cannot be reached", "无法连接，未提问")


def doctor(name: str | None, settings: Settings, *, probe: bool, as_json: bool) -> None:
    """Looks at one backend, or at all, and prints what was found.

    Args:
        probe: also ask each model one small question, which the vendor may charge for.

    Raises:
        CommandFailed: there is no such backend, or no ledger to book the questions in.
        typer.Exit: something is wrong with one that was looked at.
    """
    catalog = configured_catalog()
    configure_logging(level="critical", form=settings.log_format)  # what goes wrong is told here, in words
    chosen = _chosen(catalog, name)
    found = asyncio.run(_examine(chosen, catalog, settings, probe=probe, named=name is not None))
    if as_json:
        records = [{**asdict(item), "sound": item.sound} for item in found]
        typer.echo(json.dumps(records, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n\n".join(in_words(item) for item in found))
    if not all(item.sound for item in found):
        raise typer.Exit(1)


def _chosen(catalog: Catalog, name: str | None) -> Sequence[Backend]:
    if name is None:
        return [*catalog.backends.values()]
    if name not in catalog.backends:
        hint = did_you_mean(name, catalog.backends) or f"; there are {', '.join(sorted(catalog.backends))}."
        raise CommandFailed(f"There is no backend {name}{hint}", exit_code=2)
    return [catalog.backends[name]]


async def _examine(
    chosen: Sequence[Backend], catalog: Catalog, settings: Settings, *, probe: bool, named: bool
) -> list[Examined]:
    async with AsyncExitStack() as life:
        prober = await life.enter_async_context(opened_prober(settings, catalog)) if probe else None
        work = [_examine_one(item, catalog, settings, prober, named=named) for item in chosen]
        return list(await asyncio.gather(*work))


async def _examine_one(
    backend: Backend, catalog: Catalog, settings: Settings, prober: Prober | None, *, named: bool
) -> Examined:
    if not backend.configured:
        return Examined(backend.name, backend.kind, (_not_configured(backend, named=named),))
    routes = _routes(backend, catalog)
    models = [route.model for route in routes] or [""]
    found = [*_findings(backend, models)]
    if not routes:
        found = [*(item for item in found if item.check != "model"), _NO_MODEL]
    unreachable: set[str] = set()
    for origin in dict.fromkeys(origin for model in models for origin in _origins(backend, model)):
        seen = await look_at(origin, timeout_s=settings.connect_s)
        if any(item.ok is False and item.check in {"name", "connection"} for item in seen):
            unreachable.add(origin)
        found += seen
    if prober is not None:
        found += await _probed(prober, backend, routes, unreachable)
    return Examined(backend.name, backend.kind, tuple(dict.fromkeys(found)))


async def _probed(
    prober: Prober, backend: Backend, routes: Sequence[Route], unreachable: Collection[str]
) -> list[Observation]:
    asked = [route for route in routes if not any(origin in unreachable for origin in _origins(backend, route.model))]
    hosting = await prober.hosting(asked)
    found = [] if hosting is None else [hosting]
    found += [await prober.ask(route) for route in asked]
    return found if len(asked) == len(routes) else [*found, _UNREACHED]


def _origins(backend: Backend, model: str) -> Sequence[str]:
    return [origin_of(url) for url in spec_of(backend.kind).addresses(backend.options, model)]


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
        yield Observation("credentials", True, "all that it needs is set", "所需的凭据均已设置")
    else:
        yield Observation("credentials", True, "it needs none", "无需凭据")
    findings = (item for model in models for item in spec_of(backend.kind).inspect(backend.options, model))
    for item in dict.fromkeys(findings):
        yield Observation(item.check, item.ok, item.english, item.chinese)


def _not_configured(backend: Backend, *, named: bool) -> Observation:
    names = backend.missing_env
    return Observation(
        "credentials",
        False if named else None,
        f"not configured: set {', '.join(names)}, in the environment or in .env",
        f"未配置：请在环境变量或 .env 中设置 {'、'.join(names)}",
    )
