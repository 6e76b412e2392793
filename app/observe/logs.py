"""Logs: one line per happening, to stderr, in which no key can be read.

Ours come through structlog, those of libraries through the standard library; both end in the same renderer, and every
finished line passes the same redaction. It works on the line and not on the fields alone, so that a key in the text of
an exception, in a nested field or in a library's message is caught as well. It rather takes a word too many.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Literal, TextIO, TypeAlias

import structlog
from structlog.processors import TimeStamper, add_log_level, format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

LogForm: TypeAlias = Literal["console", "json"]

_to_json = json.JSONEncoder(ensure_ascii=False, default=repr).encode

_CHATTY = ("alembic", "uvicorn.error", "watchfiles")
"""Libraries whose every step is news to them; what they say below a warning is shown at `debug` only."""

_REDACTED = "[redacted]"
_SECRET_FIELDS = frozenset(
    {"authorization", "api_key", "api_secret", "secret", "x-api-key", "access_token", "client_secret"}
)

# A line that holds none of these is passed on unread: one search per hint is thirty times cheaper than the patterns.
_HINTS = (
    *("sk-", "bearer", "authorization", "api_key", "api-key", "api_secret", "access_token"),
    *("client_secret", "secret_key", "bce-auth-", ".2592000."),
    *("/blobs/", "x-amz-"),
)
_PATTERNS = (
    # ours, and those of vendors who write keys as OpenAI does
    re.compile(r"(?<![A-Za-z0-9])()sk-[\w-]{4,}"),
    re.compile(r"(?i)(\bbearer\s+)[^\s\"'\\,;)\]]+"),
    # a header with its value, up to the closing quote or the end of the line: signatures hold spaces and commas
    re.compile(r"(?i)(\bauthorization[\"'\\]*\s*[:=,]\s*b?[\"'\\]*)[^\"'\\\n]+"),
    # Baidu's, as it and we write them, wherever they stand: a signature, an access token
    re.compile(r"(?i)(\bbce-auth-v\d/)[^\s\"'\\,)\]}]+"),
    re.compile(r"()\b24\.[0-9a-f]{32}\.2592000\.[\w.-]+"),
    # a field or a query parameter
    re.compile(
        r"(?i)((?:api[_-]key|api_secret|access_token|client_secret|secret_key)[\"'\\]*\s*[:=,]\s*b?[\"'\\]*)[^\s\"'\\,;&)\]}]+"
    ),
    # a published picture, open to whoever has its address, which is served with doubled slashes as well
    re.compile(r"(/blobs/+)[\w-]{8,}"),
    re.compile(r"(?i)(x-amz-(?:signature|credential|security-token)=)[\w%/.-]+"),
)


def configure_logging(*, level: str, form: LogForm, stream: TextIO | None = None) -> None:
    """Sets up logging of this process; the program's first step. Calling it again replaces what was.

    uvicorn must be started with `log_config=None`: its lines then come here, and its access log, which would double
    ours, stays off, and so do its remarks on starting and stopping, unless the level is `debug`.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        form: `console` for people, `json` (one object per line, times in UTC) for machines.
        stream: where to; `None` means stderr.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    out = sys.stderr if stream is None else stream
    stamp = TimeStamper(fmt="iso", utc=True, key="time") if form == "json" else TimeStamper("%H:%M:%S", False, "time")
    gather: list[Processor] = [add_log_level, stamp, _hide_secret_fields]
    finish: list[Processor] = [format_exc_info, _json_line if form == "json" else _console_line]
    structlog.configure(
        processors=[*gather, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # loggers outlive a configuration
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=gather, processors=[ProcessorFormatter.remove_processors_meta, *finish])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(number)
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number < logging.INFO else max(number, logging.WARNING))
    logging.getLogger("websockets").setLevel(max(number, logging.WARNING))  # else it tells the frames it carries


def redact(line: str) -> str:
    """Takes keys and credentials out of a finished line."""
    lower = line.lower()
    if any(hint in lower for hint in _HINTS):
        for pattern in _PATTERNS:
            line = pattern.sub(rf"\1{_REDACTED}", line)
    return line


def _hide_secret_fields(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    for name in _SECRET_FIELDS & fields.keys():
        fields[name] = _REDACTED
    return fields


def _json_line(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    return redact(_to_json(fields))


def _console_line(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """`10:42:07 info     request status=200 …`, and below it the traceback. Plain text: a terminal obeys no field."""
    head = f"{fields.pop('time')} {fields.pop('level'):8} {_tame(fields.pop('event'))}"
    trace = fields.pop("exception", None)
    line = " ".join((head, *(f"{name}={_tame(value)}" for name, value in fields.items())))
    return redact(line if trace is None else f"{line}\n{trace}")


def _tame(value: object) -> str:
    """One line, and nothing a terminal would obey: names of models are written by callers."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
