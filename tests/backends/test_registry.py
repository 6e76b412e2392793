from __future__ import annotations

import sys
from types import ModuleType

import pytest

from app.backends import registry
from app.backends.base import BackendSpec
from app.backends.registry import KINDS, spec_of


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_spec(kind: str) -> None:
    assert isinstance(spec_of(kind), BackendSpec)
    assert spec_of(kind) is spec_of(kind)


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        spec_of("telepathy")


def test_a_module_without_a_spec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tests.backends.half_done")
    module.SPEC = "soon"  # type: ignore[attr-defined]  # the mistake the test is about
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.KINDS, "half-done", module.__name__)
    with pytest.raises(TypeError, match="half_done"):
        spec_of("half-done")
