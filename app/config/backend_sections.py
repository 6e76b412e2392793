"""`[backends.NAME]` → its `Backend`s, one per account: secrets found, options checked by their kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from typing_extensions import override

from app.backends.base import BackendOptions
from app.backends.registry import KINDS, spec_of
from app.config.catalog import Backend, Pace
from app.config.layers import Section
from app.config.locate import KeyPath
from app.config.problems import Problem, did_you_mean, plain_words, unknown_key
from app.config.sections import BackendSection, LimitsSection, PaceSection, checked
from app.core.limits import Limits

_ENV = "env::"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class _Secrets:
    """What the `env::NAME` values of one section came to.

    Args:
        missing: where in the section → the variable that is not set.
        found: where in the section → (variable, value).
        malformed: where a value begins with `env::` and no name follows.
    """

    environ: Mapping[str, str]
    missing: dict[KeyPath, str] = field(default_factory=dict)
    found: dict[KeyPath, tuple[str, str]] = field(default_factory=dict)
    malformed: list[KeyPath] = field(default_factory=list)

    def resolve(self, value: Any, path: KeyPath = ()) -> Any:
        match value:
            case dict():
                return {key: self.resolve(item, (*path, key)) for key, item in value.items()}
            case list():
                return [self.resolve(item, (*path, index)) for index, item in enumerate(value)]
            case str() if value.startswith(_ENV):
                return self._variable(value.removeprefix(_ENV), path)
            case _:
                return value

    def _variable(self, name: str, path: KeyPath) -> str:
        if not _ENV_NAME.fullmatch(name):
            self.malformed.append(path)
            return ""
        value = self.environ.get(name, "").strip()  # files of secrets end in a line break
        if value:
            self.found[path] = (name, value)
        else:
            self.missing[path] = name
        return value

    def excuses(self, path: KeyPath) -> bool:
        """Whether an error at `path` may come from a variable that is not set."""
        return any(path[: len(lacking)] == lacking or lacking[: len(path)] == path for lacking in self.missing)

    def hide(self, path: KeyPath, text: str) -> str:
        """An error's text without the value of a variable, which may be a secret, and with its name."""
        for _, value in self.found.values():
            text = text.replace(value, "…")
        name = next((name for at, (name, _) in self.found.items() if path[: len(at)] == at), None)
        return f"the value of {name}: {text}" if name else text


@dataclass(slots=True)
class _Account(Section):
    """A section as one of its accounts fills it in. What is wrong with the account's own keys is said to be there."""

    index: int = 0
    own: Mapping[str, Any] = field(default_factory=dict)

    @override
    def problem(self, path: KeyPath, text: str) -> Problem:
        inside = ("accounts", self.index, *path) if path and path[0] in self.own else path
        return Section.problem(self, inside, text)


def backends_of(
    section: Section, known: Iterable[str], environ: Mapping[str, str], problems: list[Problem]
) -> tuple[Backend, ...]:
    """Reads a section: one backend, or one per account; none where it is wrong, which is added to `problems`.

    Args:
        known: the names of all backends, for sections that were meant to amend one.
    """
    if "kind" not in section.values:
        problems.append(section.amends_nothing(known))
        return ()
    before = len(problems)
    accounts = _accounts(section, problems)
    if not accounts and len(problems) == before:
        accounts = {section.name: section}
    backends = [_backend(name, account, environ, problems) for name, account in accounts.items()]
    return tuple(backend for backend in backends if backend is not None) if len(problems) == before else ()


def _accounts(section: Section, problems: list[Problem]) -> dict[str, Section]:
    """Name of the backend → the section with what the account says laid over it."""
    written = section.values.get("accounts", [])
    if not isinstance(written, list) or not all(isinstance(own, dict) for own in written):
        text = 'must be a list of tables, as [{ api_key = "env::FIRST" }, { api_key = "env::SECOND" }]'
        problems.append(section.problem(("accounts",), text))
        return {}
    shared = {key: value for key, value in section.values.items() if key != "accounts"}
    accounts: dict[str, Section] = {}
    for index, own in enumerate(written):
        misplaced = own.keys() & {"kind", "hidden", "accounts"}
        problems += [
            section.problem(("accounts", index, key), "belongs into the section, not into an account")
            for key in sorted(misplaced)
        ]
        values = {**shared, **{key: value for key, value in own.items() if key not in misplaced}}
        name = f"{section.name}#{index + 1}"
        accounts[name] = _Account(
            section.group, section.name, section.layer, values, section.origins, index=index, own=own
        )
    return accounts


def _backend(name: str, section: Section, environ: Mapping[str, str], problems: list[Problem]) -> Backend | None:
    head = {key: section.values[key] for key in BackendSection.model_fields if key in section.values}
    rest = {key: value for key, value in section.values.items() if key not in head}
    before = len(problems)
    parsed = checked(BackendSection, head, section, problems)
    if parsed is None:
        return None
    if parsed.kind not in KINDS:
        hint = did_you_mean(parsed.kind, KINDS) or f"; there are {', '.join(sorted(KINDS))}"
        problems.append(section.problem(("kind",), f'unknown kind "{parsed.kind}"{hint}'))
        return None
    secrets = _Secrets(environ)
    options = _options(section, parsed.kind, rest, secrets, problems)
    if len(problems) > before:
        return None
    missing = tuple(dict.fromkeys(secrets.missing.values()))
    return Backend(
        name=name,
        kind=parsed.kind,
        options=None if missing else options,
        limits=limits_of(parsed.limits),
        pace=_pace_of(parsed.clocks),
        missing_env=missing,
    )


def _options(
    section: Section, kind: str, written: Mapping[str, Any], secrets: _Secrets, problems: list[Problem]
) -> BackendOptions | None:
    schema = spec_of(kind).options
    values = secrets.resolve(written)
    problems += [
        section.problem(path, "env:: wants the name of a variable, as env::API_KEY") for path in secrets.malformed
    ]
    known = (*schema.model_fields, *BackendSection.model_fields, "accounts")
    try:
        return schema.model_validate(values)
    except ValidationError as failure:
        for error in failure.errors(include_url=False, include_input=False):
            path: KeyPath = error["loc"]
            if error["type"] == "extra_forbidden" and len(path) == 1:
                problems.append(section.problem(path, unknown_key(str(path[0]), known)))
            elif path not in secrets.malformed and not secrets.excuses(path):
                problems.append(section.problem(path, secrets.hide(path, plain_words(error))))
        return None


def limits_of(section: LimitsSection) -> Limits:
    """The checked limits as the catalogue keeps them."""
    return Limits(section.rpm, section.tpm, section.concurrency)


def _pace_of(section: PaceSection) -> Pace:
    return Pace(section.connect_s, section.first_event_s, section.idle_s)
