"""The catalogue: which models there are, which backends serve them, at what price and pace.

Made whole by `catalog_file.load_catalog`, never changed after. Every request looks up a model, so all that can be known
beforehand is prepared here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.backends.base import BackendOptions, Capabilities, Translator
from app.backends.registry import spec_of
from app.core.errors import BackendMisconfigured
from app.core.limits import Limits
from app.core.money import Tariff

WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a backend is waited for, in seconds; `None`: as long as any."""

    connect_s: float | None = None
    first_event_s: float | None = None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """A configured place that answers, with one account there. A section that has several accounts is as many backends,
    named `NAME#1`, `NAME#2`, …

    Args:
        options: of its kind; `None` while it is not configured.
        missing_env: the variables its section asks for and the environment lacks.
    """

    name: str
    kind: str
    options: BackendOptions | None
    limits: Limits = field(default_factory=Limits)
    pace: Pace = field(default_factory=Pace)
    missing_env: tuple[str, ...] = ()

    @property
    def configured(self) -> bool:
        return self.options is not None


@dataclass(frozen=True, slots=True)
class Route:
    """One backend that can serve a model.

    Args:
        model: the backend's own name of the model.
        vision: false where the model takes no pictures, whatever the backend can.
        montage: more pictures than it takes are laid out on one sheet.
        text_model: the backend's own name of the model that answers requests without any picture; `None`: the same.
        rank: equal routes have the same; the lower is tried first.
        weight: its share of the requests among equal ones.
        capabilities: the poorest while the backend is not configured.
    """

    backend: Backend
    model: str
    vision: bool = True
    montage: bool = False
    text_model: str | None = None
    rank: int = 0
    weight: int = 1
    capabilities: Capabilities = field(init=False)

    def __post_init__(self) -> None:
        known = self.backend.configured
        capabilities = spec_of(self.backend.kind).capabilities(self.backend.options, self.model) if known else None
        capabilities = capabilities or Capabilities()
        object.__setattr__(self, "capabilities", capabilities if self.vision else replace(capabilities, max_images=0))

    @property
    def for_text(self) -> Route:
        """The route that requests without any picture take."""
        if self.text_model is None:
            return self
        return Route(self.backend, self.text_model, vision=False, rank=self.rank, weight=self.weight)

    def translator(self) -> Translator:
        """A translator for one request.

        Raises:
            BackendMisconfigured: the backend is not configured.
        """
        if not self.backend.configured:
            raise BackendMisconfigured("The backend of this model is not configured.", backend=self.backend.name)
        return spec_of(self.backend.kind).translator(self.backend.name, self.backend.options, self.model)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One model reads the pictures, another answers from what it read.

    Args:
        answers: who may answer, in order of preference; the first available does. Where none is, the text is the
            answer.
    """

    ocr: Model
    answers: tuple[Model, ...] = ()

    @property
    def answer(self) -> Model | None:
        """Who answers."""
        return next((model for model in self.answers if model.available), None)


@dataclass(frozen=True, slots=True)
class Model:
    """A public id and what stands behind it.

    Args:
        id: what callers name. Of a wildcard, the prefix and a `*`.
        routes: in the order they are tried, those of backends not configured included; none of a recipe.
        recipe: the models it is put together from; `None`: its own routes serve it.
        tariff: `None`: not known; requests are booked without a cost.
        context_tokens, max_output_tokens: `None`: the vendor's page does not say.
        created: Unix time in seconds, of its release.
        image_tokens: the family whose formula estimates a picture's tokens.
        aliases: its other ids.
    """

    id: str
    name: str
    routes: tuple[Route, ...]
    tariff: Tariff | None
    owned_by: str = "tuwen"
    created: int = 0
    limits: Limits = field(default_factory=Limits)
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    image_tokens: str = "qwen2.5-vl"
    aliases: tuple[str, ...] = ()
    recipe: Recipe | None = None
    usable_routes: tuple[Route, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "usable_routes", tuple(route for route in self.routes if route.backend.configured))

    @property
    def available(self) -> bool:
        """Whether a route leads to a configured backend; of a recipe, whether the pictures can be read."""
        return bool(self.usable_routes) if self.recipe is None else self.recipe.ocr.available

    @property
    def vision(self) -> bool:
        """Whether a configured backend of it takes pictures."""
        return self.recipe is not None or any(route.capabilities.max_images > 0 for route in self.usable_routes)

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every id of a prefix."""
        return self.id.endswith(WILDCARD)

    def named(self, name: str) -> Model:
        """What a wildcard becomes for one id: routes to `*` pass the id on to the backend."""
        routes = tuple(replace(route, model=name) if route.model == WILDCARD else route for route in self.routes)
        return replace(self, id=name, name=name, routes=routes)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All backends and models.

    Args:
        backends: by name.
        models: in the order of the file, wildcards included; no two share an id or alias.
    """

    backends: Mapping[str, Backend]
    models: Sequence[Model]
    _by_id: Mapping[str, Model] = field(init=False, repr=False, compare=False)
    _wildcards: Sequence[tuple[str, Model]] = field(init=False, repr=False, compare=False)
    _listed: Sequence[Model] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        exact = [model for model in self.models if not model.wildcard]
        wildcards = [(model.id.removesuffix(WILDCARD), model) for model in self.models if model.wildcard]
        by_id = {name: model for model in exact for name in (model.id, *model.aliases)}
        listed = tuple(replace(model, id=name) for name, model in by_id.items() if model.available)
        object.__setattr__(self, "_by_id", by_id)
        object.__setattr__(self, "_wildcards", sorted(wildcards, key=lambda item: len(item[0]), reverse=True))
        object.__setattr__(self, "_listed", listed)

    def find(self, model_id: str) -> Model | None:
        """The model behind an id, an alias, or, where neither is, the wildcard of the longest prefix.

        A model found by its alias keeps its own id, so that all its names share its limits. It may be unavailable.
        """
        model = self._by_id.get(model_id)
        if model is not None:
            return model
        for prefix, wildcard in self._wildcards:
            if model_id.startswith(prefix) and model_id != prefix:
                return wildcard.named(model_id)
        return None

    def listed(self) -> Sequence[Model]:
        """What callers are shown: available models, each alias as an entry of its own, no wildcards."""
        return self._listed
