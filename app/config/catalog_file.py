"""models.toml → `Catalog`, checked as a whole: all of it can be used, or a `ConfigError` names what cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.config.backend_sections import backends_of
from app.config.catalog import Backend, Catalog
from app.config.errors import ConfigError
from app.config.layers import Layer, Section, overlay, read_layer
from app.config.model_sections import draft_of, models_of
from app.config.problems import Problem, config_error

OPERATOR_FILE = Path("models.local.toml")


def built_in_file() -> Path:
    """The catalogue that comes with the program: beside this module when installed, at the top of a checkout."""
    packaged = Path(__file__).with_name("models.toml")
    return packaged if packaged.exists() else Path(__file__).parents[2] / "models.toml"


@dataclass(frozen=True, slots=True)
class CatalogFiles:
    """Which files make the catalogue.

    Args:
        operator: laid over `built_in`, section by section.
        operator_required: whether it must be there.
    """

    built_in: Path
    operator: Path
    operator_required: bool = False

    @classmethod
    def of(cls, models_file: Path | None) -> CatalogFiles:
        """The built-in file and the operator's.

        Args:
            models_file: `TUWEN_MODELS_FILE`; `None`: `models.local.toml` in the working directory, if there is one.
        """
        return cls(built_in_file(), models_file or OPERATOR_FILE, operator_required=models_file is not None)


def load_catalog(files: CatalogFiles, environ: Mapping[str, str]) -> Catalog:
    """Reads and checks the catalogue.

    Args:
        environ: where `env::NAME` is looked up; a variable that is not set leaves its backend not configured.

    Raises:
        ConfigError: something in the files is wrong; one line per problem, as `models.toml:12: backends.qwen.bse_url:
            unknown key; did you mean base_url?`.
    """
    problems: list[Problem] = []
    catalog = _catalog(_layers(files, problems), environ, problems)
    if problems:
        raise config_error(problems)
    return catalog


def _layers(files: CatalogFiles, problems: list[Problem]) -> list[Layer]:
    layers = [read_layer(files.built_in, 0, problems)]
    if files.operator.exists():
        layers.append(read_layer(files.operator, 1, problems))
    elif files.operator_required:
        raise ConfigError(f"TUWEN_MODELS_FILE: there is no file {files.operator}")
    return layers


def _catalog(layers: list[Layer], environ: Mapping[str, str], problems: list[Problem]) -> Catalog:
    backends = _backends(overlay("backends", layers), environ, problems)
    models = overlay("models", layers)
    drafts = [draft_of(section, models, problems) for section in models.values()]
    served = models_of([draft for draft in drafts if draft is not None], backends, problems)
    return Catalog({backend.name: backend for accounts in backends.values() for backend in accounts}, served)


def _backends(
    sections: Mapping[str, Section], environ: Mapping[str, str], problems: list[Problem]
) -> Mapping[str, tuple[Backend, ...]]:
    """Name of the section → its backends, one per account; none of one that is hidden or wrong."""
    backends: dict[str, tuple[Backend, ...]] = {}
    for name, section in sections.items():
        accounts = backends_of(section, sections, environ, problems)
        backends[name] = () if section.values.get("hidden") is True else accounts
    return backends
