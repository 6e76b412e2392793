"""`tuwen ask`: questions about pictures, from the terminal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from app.commands.ask_batch import Batch
from app.commands.ask_gateway import GatewayAddress, gateway_asker
from app.commands.ask_pictures import NamedPictures, named_pictures
from app.commands.ask_question import Asker, AskFailed, Question
from app.commands.ask_results import ResultsFile, answer_record, json_line
from app.commands.ask_show import Progressing, StreamedText, note, note_told, write_line
from app.commands.check import configured_catalog
from app.commands.errors import CommandFailed
from app.config.environment import read_environment
from app.config.errors import ConfigError
from app.config.settings import Settings, load_settings

DEFAULT_OUT = Path("tuwen-answers.jsonl")
DEFAULT_MODEL = "local-ocr-vision"
INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask.

    Args:
        raw: show the backend's frames instead of the answer.
        together: all pictures in one request.
        out: where a batch keeps its answers; `None`: `DEFAULT_OUT`.
        jobs: how many pictures are asked at the same time.
        base_url, key: of the gateway; `None`: as the environment says.
    """

    raw: bool = False
    as_json: bool = False
    together: bool = False
    out: Path | None = None
    jobs: int = 2
    base_url: str | None = None
    key: str | None = None


def ask(arguments: Sequence[str], question: Question, options: AskOptions) -> None:
    """Asks about pictures and prints what is answered.

    Raises:
        CommandFailed: with exit code 2 where what was typed or configured is at fault, else 1.
    """
    named = named_pictures(arguments)
    batch = (named.many or options.out is not None) and not options.together
    _check(options, batch=batch)
    settings = _settings()
    work = _ask_each(named, question, options, settings) if batch else _ask_once(named, question, options, settings)
    _run(work, [picture.name for picture in named.pictures])


def model_to_ask(model: str | None, domain: str | None) -> str:
    """Which model is meant: the one named, else the one that has the domain, else the embedded engine.

    Raises:
        CommandFailed: no model has the domain, or the configuration is wrong.
    """
    if model is not None or domain is None:
        return model or DEFAULT_MODEL
    from app.commands.ask_in_process import model_of_domain  # noqa: PLC0415 - half a second that a gateway saves

    try:
        return model_of_domain(configured_catalog(), domain)
    except ConfigError as error:
        raise CommandFailed(str(error).splitlines()[0], exit_code=2) from error


def _check(options: AskOptions, *, batch: bool) -> None:
    if options.raw and options.as_json:
        raise CommandFailed("Choose one of --raw and --json.", exit_code=2)
    if options.raw and batch:
        raise CommandFailed("--raw shows one request: give one picture, or add --together.", exit_code=2)
    if options.together and options.out is not None:
        raise CommandFailed(
            "--together gets one answer, and prints it; --out is for pictures asked apart.", exit_code=2
        )


def _settings() -> Settings:
    try:
        return load_settings()
    except ConfigError as error:
        raise CommandFailed(str(error).splitlines()[0], exit_code=2) from error


def _run(work: Coroutine[Any, Any, None], pictures: Sequence[str]) -> None:
    try:
        asyncio.run(work)
    except AskFailed as error:
        raise CommandFailed(str(error.naming(pictures)), exit_code=2 if error.mistaken else 1) from error
    except KeyboardInterrupt:
        raise CommandFailed("Stopped.", exit_code=INTERRUPTED) from None


async def _ask_once(named: NamedPictures, question: Question, options: AskOptions, settings: Settings) -> None:
    loaded = [picture.load() for picture in named.pictures]
    urls = [picture.url for picture in loaded]
    async with _asker(question, options, settings) as asker:
        if options.as_json:
            told = await asker.ask(question, urls)
            names = {"pictures": [picture.name for picture in named.pictures]}
            together = {**names, **question.as_fields(), **told.as_fields()}
            alone = answer_record(named.pictures[0], loaded[0], question, told)
            write_line(json_line(together if options.together else alone))
            return
        text = StreamedText()
        try:
            told = await asker.ask(question, urls, _no_text if options.raw else text.add)
        finally:
            text.end()
        note_told(told)


def _no_text(_text: str) -> None:
    """For `--raw`: the frames, which hold the text, are shown already."""


async def _ask_each(named: NamedPictures, question: Question, options: AskOptions, settings: Settings) -> None:
    out = options.out or DEFAULT_OUT
    with ResultsFile(out) as results:
        async with _asker(question, options, settings) as asker:
            view = Progressing(len(named.pictures), as_json=options.as_json)
            batch = Batch(asker, question, results, view, jobs=options.jobs)
            try:
                with view:
                    await batch.run(named.pictures)
            finally:
                note(f"{batch.tally.in_words(len(named.pictures))}; the answers are in {out}.")
    if batch.tally.failed:
        raise typer.Exit(1)


@asynccontextmanager
async def _asker(question: Question, options: AskOptions, settings: Settings) -> AsyncIterator[Asker]:
    """A running gateway, or one in this process; says which."""
    environment = read_environment()
    address = GatewayAddress.of(options.base_url or environment.get("TUWEN_BASE_URL"), settings)
    reason = await _why_in_process(question, options, address)
    if reason is None:
        key = options.key or environment.get("TUWEN_API_KEY")
        async with gateway_asker(address, key, deadline_s=settings.deadline_s) as asker:
            note(f"Asking the gateway at {address.shown}.")
            yield asker
        return
    from app.commands.ask_in_process import in_process_asker  # noqa: PLC0415 - half a second that a gateway saves

    async with in_process_asker(settings, question, write_line if options.raw else None) as local:
        note(f"Asking in this process: {reason}.")
        if local.published_at is not None and not await GatewayAddress.of(None, settings).listens():
            note(f"The backend will fetch the picture from {local.published_at}; no gateway runs here to serve it.")
        yield local


async def _why_in_process(question: Question, options: AskOptions, address: GatewayAddress) -> str | None:
    if options.raw:
        return "--raw shows what passes between gateway and backend"
    if question.domain is not None:
        return "--domain chooses among the routes of the configuration here"
    if address.here and not await address.listens():
        return f"no gateway runs at {address.shown}"
    return None
