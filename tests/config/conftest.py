"""A catalogue in a folder of its own, and how tests read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from app.config.catalog import Catalog
from app.config.catalog_file import CatalogFiles, load_catalog
from app.config.errors import ConfigError

BUILT_IN = """\
[backends.ocr]
kind = "ocr"

[backends.qwen]
kind = "openai"
base_url = "https://qwen.example/v1"
api_key = "env::QWEN_KEY"

[models."qwen-vl"]
routes = [{ backend = "qwen", model = "qwen-vl-plus" }, { backend = "ocr", model = "rapidocr" }]
tariff = { input_per_million = "4.29", output_per_million = "12.86" }
aliases = ["qwen-vl-vision"]

[models."local-ocr-vision"]
routes = [{ backend = "ocr", model = "rapidocr" }]
tariff = "free"
"""

ENVIRON = {"QWEN_KEY": "sk-of-a-test"}


class Desk:
    """Where an operator sits: a built-in file, their own file, and an environment."""

    def __init__(self, folder: Path) -> None:
        self.built_in = folder / "models.toml"
        self.operator = folder / "models.local.toml"
        self.environ: Mapping[str, str] = ENVIRON
        self.built_in.write_text(BUILT_IN, encoding="utf-8")

    def load(self) -> Catalog:
        return load_catalog(CatalogFiles(self.built_in, self.operator), self.environ)

    def load_with(self, text: str) -> Catalog:
        """The catalogue with `text` as the operator's file."""
        self.operator.write_text(text, encoding="utf-8")
        return self.load()

    def complaints_about(self, text: str) -> list[str]:
        """The lines of the error `text` earns as the operator's file."""
        with pytest.raises(ConfigError) as refused:
            self.load_with(text)
        return str(refused.value).split("\n")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An operator's desk, in a working directory of its own, without any TUWEN_ variable."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TUWEN_")]:
        monkeypatch.delenv(name)
    return Desk(tmp_path)
