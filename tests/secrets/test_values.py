"""No value of ours shows a secret, or what a caller said, in whatever way it is written down."""

from __future__ import annotations

import io
import json
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from pydantic import SecretStr
from structlog.processors import ExceptionRenderer, format_exc_info
from structlog.tracebacks import ExceptionDictTransformer

from app.accounts.keys import KeyMint
from app.backends.baidu_auth import BaiduOptions, BaiduTokenFlow
from app.backends.ccai import CcaiOptions
from app.backends.openai_chat import OpenAIOptions
from app.backends.spark import SparkOptions
from app.config.settings import Settings
from app.core.types import (
    AccessToken,
    ChatRequest,
    Frame,
    HttpCall,
    Image,
    ImagePart,
    Message,
    TextPart,
    ToolCall,
    WsCall,
)
from app.media.blob_objects import Bucket
from app.store.engine import Place
from app.transports.auth import _Kept

S = "canary-of-values-0123456789"

MINT = KeyMint(b"k" * 32, clock=lambda: 0.0, random_bytes=lambda count: b"\x01" * count)
CREDENTIALS: dict[str, Any] = {
    "http call": HttpCall("POST", f"https://h/p?access_token={S}", {"authorization": S}, S.encode()),
    "websocket call": WsCall(f"wss://h/p?authorization={S}", (S.encode(),), {"authorization": S}),
    "access token": AccessToken(S, 1.0),
    "kept token": _Kept(S, 1.0),
    "token flow": BaiduTokenFlow("b", "https://h", S, S),
    "bucket": Bucket("b", "", None, "r", S, S),
    "minted key": KeyMint(b"k" * 32, clock=lambda: 0.0, random_bytes=lambda count: b"\x01" * count).mint(
        "n", admin=False
    ),
    "openai options": OpenAIOptions(base_url="https://h/v1", api_key=SecretStr(S), headers={"x-key": S}),
    "spark options": SparkOptions(app_id="a", api_key=SecretStr(S), api_secret=SecretStr(S)),
    "baidu options": BaiduOptions(api_key=SecretStr(S), secret_key=SecretStr(S)),
    "ccai options": CcaiOptions(
        access_key_id=SecretStr(S), access_key_secret=SecretStr(S), workspace_id="w", app_id="a"
    ),
    "settings": Settings(secret=SecretStr(S), database_url=SecretStr(f"postgresql://u:{S}@h/d")),
}
WORDS: dict[str, Any] = {
    "request": ChatRequest(
        "m",
        (
            Message("user", (TextPart(S), ImagePart(Image(S.encode(), "image/png", 1, 1, "0", f"https://h/{S}")))),
            Message("assistant", (), (ToolCall("i", "n", S),)),
        ),
        stop=(S,),
        user=S,
        tools=({"description": S},),
        response_format={"json_schema": {"name": S}},
        extra={"any": S},
    ),
    "frame": Frame(S.encode()),
}
_MINTED = CREDENTIALS["minted key"].key


def _format(value: Any) -> str:
    return f"{value} {value!r} {value!s} {format(value)} {[value]} { {1: value} } {(value, 1)!r}"


def _fail_with(value: Any) -> NoReturn:
    held = value  # noqa: F841 - where a traceback may show locals
    raise RuntimeError(f"{value} {value!r}", value) from ValueError(value)


def _failure_with(value: Any) -> RuntimeError:
    with pytest.raises(RuntimeError) as failure:
        _fail_with(value)
    return failure.value


def _chain(value: Any) -> str:
    error = _failure_with(value)
    return "".join(traceback.format_exception(error)) + repr(error) + str(error.__cause__)


def _locals(value: Any) -> str:
    """A traceback that shows locals, as some renderers do."""
    error = _failure_with(value)
    frames = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    shown = ExceptionDictTransformer(show_locals=True)((type(error), error, error.__traceback__))
    return frames + json.dumps(shown, default=repr)


def _logged(value: Any) -> str:
    out = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[format_exc_info, ExceptionRenderer(), structlog.processors.KeyValueRenderer()],
    )
    logger.error("x", value=value, nested={"a": [value]})
    record = logging.LogRecord("n", logging.ERROR, "f", 1, "%s %r", (value, value), None)
    return out.getvalue() + record.getMessage()


WAYS: dict[str, Callable[[Any], str]] = {
    "format": _format, "exception": _chain, "locals": _locals, "log": _logged,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CREDENTIALS, *WORDS])
def test_nothing_secret_is_shown(name: str, way: str) -> None:
    shown = WAYS[way]({**CREDENTIALS, **WORDS}[name])
    assert S not in shown
    assert _MINTED not in shown


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_are_not_pickled(name: str) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="holds secrets"):
            pickle.dumps([CREDENTIALS[name]], protocol)


def test_the_database_is_shown_without_its_password() -> None:
    place = Place.of(Path("x"), f"postgresql://u:{S}@h:1/d?password={S}&sslpassword={S}")
    assert S not in f"{place} {place!r}"
    assert place.censor(f"said {S}.") == "said ***."
