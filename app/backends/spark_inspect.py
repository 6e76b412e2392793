"""What a Spark section looks like, before anybody is asked: shapes as iFlytek's console shows them (2026-11-20)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from pydantic import SecretStr

from app.backends.base import Finding
from app.backends.spark_models import MODELS, model_of

_APP_ID = re.compile(r"[0-9A-Za-z]{8}")
_KEY = re.compile(r"[0-9A-Fa-f]{32}")
_SECRET = re.compile(r"[A-Za-z0-9+/]{30,}={0,2}")

_LEAST_SECRET_CHARS = 32


class _Credentials(Protocol):
    @property
    def app_id(self) -> str: ...
    @property
    def api_key(self) -> SecretStr: ...
    @property
    def api_secret(self) -> SecretStr: ...


def inspect(options: _Credentials, model: str) -> Iterator[Finding]:
    """Shapes of the credentials, and whether there is such a model."""
    yield _app_id(options.app_id)
    yield _keys(options.api_key.get_secret_value(), options.api_secret.get_secret_value())
    if model:
        yield _model(model)


def _app_id(app_id: str) -> Finding:
    if _APP_ID.fullmatch(app_id):
        return Finding("credentials", True, "app_id has the shape of an APPID", "app_id 格式正确")
    return Finding(
        "credentials",
        False,
        "app_id is not 8 letters and digits: copy the APPID from the application's page in iFlytek's console",
        "app_id 不是 8 位字母或数字：请从讯飞控制台的应用页面复制 APPID",
    )


def _keys(key: str, secret: str) -> Finding:
    if _KEY.fullmatch(secret) and not _KEY.fullmatch(key):
        return Finding(
            "credentials",
            False,
            "api_key and api_secret look as if they were swapped: the APIKey is the one of 32 hexadecimal digits",
            "api_key 与 api_secret 似乎填反了：32 位十六进制数的是 APIKey",
        )
    well = _KEY.fullmatch(key) and _SECRET.fullmatch(secret) and len(secret) >= _LEAST_SECRET_CHARS
    if well and not _KEY.fullmatch(secret):
        return Finding("credentials", True, "api_key and api_secret are well shaped", "api_key 和 api_secret 格式正确")
    return Finding(
        "credentials",
        False,
        "api_key should be 32 hexadecimal digits and api_secret some 32 letters: copy both anew from iFlytek's console",
        "api_key 应为 32 位十六进制数，api_secret 约为 32 位字母：请从讯飞控制台重新复制",
    )


def _model(name: str) -> Finding:
    model = model_of(name)
    if model.documented:
        return Finding("model", True, f"{name} is a domain that iFlytek documents", f"{name} 是讯飞文档中的 domain")
    known = ", ".join(known.domain for known in MODELS.values())
    return Finding(
        "model",
        False,
        f"{name} is not a domain that iFlytek documents, and is asked as one for pictures; documented are {known}",
        f"{name} 不是讯飞文档中的 domain，将按图片模型调用；文档中的有 {known}",
    )
