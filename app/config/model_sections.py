"""`[models."id"]` → `Model`: routes led to their backends, names claimed once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from typing import Any

from app.config.backend_sections import limits_of
from app.config.catalog import WILDCARD, Backend, Model, Recipe, Route
from app.config.layers import Section
from app.config.locate import KeyPath
from app.config.problems import Problem, did_you_mean
from app.config.sections import ModelSection, PricesSection, TariffSection, checked
from app.core.money import Prices, Tariff, Tier

_RELEASED_UNKNOWN = date(2025, 1, 1)  # clients want a date of every model

_ANY_ROUTES = [{"backend": "any", "model": "any"}]


@dataclass(frozen=True, slots=True)
class Draft:
    """A model's section, checked by itself."""

    section: Section
    parsed: ModelSection

    @property
    def id(self) -> str:
        return self.section.name


@dataclass(frozen=True, slots=True)
class _Claim:
    """A model's wish to be found under a name."""

    name: str
    draft: Draft
    rank: int
    path: KeyPath


def draft_of(section: Section, known: Iterable[str], problems: list[Problem]) -> Draft | None:
    """Reads a section by itself; `None` where it is wrong, which is added to `problems`.

    Args:
        known: the names of all models, for sections that were meant to amend one.
    """
    if not section.values.keys() & {"routes", "recipe"}:
        problems.append(section.amends_nothing(known))
        checked(ModelSection, {**section.values, "routes": _ANY_ROUTES}, section, problems)  # a typo may be the cause
        return None
    before = len(problems)
    parsed = checked(ModelSection, section.values, section, problems)
    if parsed is not None:
        problems += _misused_wildcards(section, parsed)
    return Draft(section, parsed) if parsed is not None and len(problems) == before else None


def models_of(
    drafts: Sequence[Draft], backends: Mapping[str, tuple[Backend, ...]], problems: list[Problem]
) -> Sequence[Model]:
    """The models of all drafts that are not hidden. What is wrong between sections is added to `problems`.

    Args:
        backends: by the name of their section, one per account; none of one that is hidden or wrong.
    """
    visible = [draft for draft in drafts if not draft.parsed.hidden]
    names = _names(visible, problems)
    named = [draft for draft in visible if draft.id in names]
    plain = [_model(draft, names[draft.id], backends, problems) for draft in named if draft.parsed.recipe is None]
    found = {model.id: model for model in plain if model.routes}
    for model in list(found.values()):
        found |= dict.fromkeys(model.aliases, model)
    mixed = {
        draft.id: replace(_model(draft, names[draft.id], backends, problems), recipe=recipe)
        for draft in named
        if draft.parsed.recipe is not None and (recipe := _recipe(draft, found, drafts, problems)) is not None
    }
    models = [mixed.get(draft.id) or found.get(draft.id) for draft in named]
    return [model for model in models if model is not None]


def _recipe(
    draft: Draft, found: Mapping[str, Model], drafts: Sequence[Draft], problems: list[Problem]
) -> Recipe | None:
    """The models a recipe names; those hidden or wrong are left out. `None`: its reader is among these."""
    section, parsed = draft.section, draft.parsed.recipe
    if parsed is None:  # pragma: no cover - called for recipes only
        return None
    written = {draft.id for draft in drafts} | {alias for draft in drafts for alias in draft.parsed.aliases}
    written_so = section.values["recipe"]
    roles = {"ocr": parsed.ocr, "answer": parsed.answer}
    wanted: list[tuple[str, KeyPath]] = [
        (name, ("recipe", role) if isinstance(written_so[role], str) else ("recipe", role, index))
        for role, names in roles.items()
        for index, name in enumerate(names)
    ]
    recipes = {
        name for other in drafts if other.parsed.recipe is not None for name in (other.id, *other.parsed.aliases)
    }
    for name, path in wanted:
        if name in recipes:
            problems.append(section.problem(path, f'"{name}" is a recipe itself; name a model that has routes'))
        elif name.endswith(WILDCARD):
            problems.append(section.problem(path, f'"{name}" stands for many models; name one'))
        elif name not in written:
            hint = did_you_mean(name, sorted(found)) or "; `tuwen check` lists them"
            problems.append(section.problem(path, f'unknown model "{name}"{hint}'))
    readers = [found[name] for name in parsed.ocr if name in found]
    answers = tuple(found[name] for name in parsed.answer if name in found)
    return Recipe(next((model for model in readers if model.available), readers[0]), answers) if readers else None


def _misused_wildcards(section: Section, parsed: ModelSection) -> list[Problem]:
    wildcard = section.name.endswith(WILDCARD)
    found = []
    if WILDCARD in section.name.removesuffix(WILDCARD) or not section.name.strip():
        found.append(section.problem((), "an id is not empty and has a * at its end or not at all"))
    if wildcard and parsed.aliases:
        found.append(section.problem(("aliases",), "a model whose id ends in * has no aliases"))
    for index, alias in enumerate(parsed.aliases):
        if WILDCARD in alias:
            found.append(section.problem(("aliases", index), "an alias has no *"))
    for index, route in enumerate(parsed.routes):
        if route.model == WILDCARD and not wildcard:
            text = "* passes the caller's model on; only a model whose own id ends in * can do that"
            found.append(section.problem(("routes", index, "model"), text))
    return found


def _names(drafts: Sequence[Draft], problems: list[Problem]) -> Mapping[str, tuple[str, ...]]:
    """Model id → its aliases. The operator's names win over built-in ones; two claims of one file clash."""
    claims: dict[str, list[_Claim]] = {}
    for draft in drafts:
        for claim in _claims(draft):
            claims.setdefault(claim.name, []).append(claim)
    owners = {name: _winner(rivals, problems).draft for name, rivals in claims.items()}
    return {
        draft.id: tuple(alias for alias in draft.parsed.aliases if owners[alias] is draft)
        for draft in drafts
        if owners[draft.id] is draft
    }


def _claims(draft: Draft) -> list[_Claim]:
    section = draft.section
    rank = section.origins.get("aliases", section.layer).rank
    own = _Claim(section.name, draft, section.layer.rank, ())
    return [own, *(_Claim(alias, draft, rank, ("aliases", at)) for at, alias in enumerate(draft.parsed.aliases))]


def _winner(rivals: Sequence[_Claim], problems: list[Problem]) -> _Claim:
    top = max(claim.rank for claim in rivals)
    first, *others = sorted((claim for claim in rivals if claim.rank == top), key=lambda claim: bool(claim.path))
    for other in others:
        text = f'"{other.name}" is already a name of models."{first.draft.id}"'
        problems.append(other.draft.section.problem(other.path, text))
    return first


def _model(
    draft: Draft, aliases: tuple[str, ...], backends: Mapping[str, tuple[Backend, ...]], problems: list[Problem]
) -> Model:
    section, parsed = draft.section, draft.parsed
    routes = _routes(section, parsed, backends, problems)
    released = datetime.combine(parsed.released or _RELEASED_UNKNOWN, time(), UTC)
    return Model(
        id=draft.id,
        name=parsed.name or draft.id,
        routes=routes,
        tariff=_tariff_of(parsed.tariff),
        owned_by=parsed.owned_by or (parsed.routes[0].backend if parsed.routes else "tuwen"),
        created=int(released.timestamp()),
        limits=limits_of(parsed.limits),
        context_tokens=parsed.context,
        max_output_tokens=parsed.max_output,
        image_tokens=parsed.image_tokens,
        aliases=aliases,
    )


def _routes(
    section: Section, parsed: ModelSection, backends: Mapping[str, tuple[Backend, ...]], problems: list[Problem]
) -> tuple[Route, ...]:
    """One per account. Neighbours that have a weight are equal, as are the accounts of one backend."""
    routes: list[Route] = []
    rank, before = 0, None
    for index, route in enumerate(parsed.routes):
        if index and (route.weight is None or before is None):
            rank += 1
        before = route.weight
        if route.backend not in backends:
            hint = did_you_mean(route.backend, backends) or f"; there are {', '.join(sorted(backends))}"
            problems.append(section.problem(("routes", index, "backend"), f'unknown backend "{route.backend}"{hint}'))
        routes += [
            Route(
                backend=backend,
                model=route.model,
                vision=parsed.vision,
                montage=parsed.multi_image == "montage",
                text_model=parsed.text_model,
                rank=rank,
                weight=route.weight or 1,
            )
            for backend in backends.get(route.backend, ())
        ]
    return tuple(routes)


def _tariff_of(section: TariffSection | None) -> Tariff | None:
    if section is None:
        return None
    tiers = tuple(Tier(tier.from_units, Prices(**_prices(tier))) for tier in section.tiers)
    return Tariff(**_prices(section), tiers=tiers, volume=section.volume)


def _prices(section: PricesSection) -> dict[str, Any]:
    return {
        "input_per_million": section.input_per_million or 0,
        "output_per_million": section.output_per_million or 0,
        "cached_per_million": section.cached_per_million,
        "per_image": section.per_image,
        "per_call": section.per_call,
    }
