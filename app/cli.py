"""`tuwen`: what can be typed. What a command does stands in `app/commands/`, and is imported when it is asked for."""

# ruff: noqa: PLC0415 - a command imports what it needs when it is typed, so that `tuwen --help` answers at once
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app import __version__
from app.commands.errors import CommandFailed, OneLineErrors

if TYPE_CHECKING:
    from app.config.settings import Settings


_PLAIN: Mapping[str, Any] = {
    "no_args_is_help": True,
    "add_completion": False,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
}
app = typer.Typer(
    cls=OneLineErrors, help="Vision models of many clouds behind one OpenAI-compatible address.", **_PLAIN
)
keys = typer.Typer(help="Make, list and revoke the keys callers present.", **_PLAIN)
app.add_typer(keys, name="keys")


def main() -> None:
    """The `tuwen` command."""
    app(prog_name="tuwen")


def _settings(**overrides: object) -> Settings:
    from app.config.settings import load_settings

    return load_settings(**{name: value for name, value in overrides.items() if value is not None})


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tuwen {__version__}")
        raise typer.Exit


@app.callback()
def tuwen(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None: ...


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; else TUWEN_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; else TUWEN_PORT.")] = None,
) -> None:
    """Run the gateway."""
    from app.commands.serve import serve as run

    run(_settings(host=host, port=port))


@app.command("serve-worker", hidden=True)
def serve_worker(descriptor: Annotated[int, typer.Argument(help="Of the listening socket.")]) -> None:
    """Serve as one of several processes that 'tuwen serve' started."""
    from app.commands.serve import serve_worker as run

    run(_settings(), descriptor)


@app.command()
def ask(
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE...", help="A file, a folder, an http(s) URL, or - for stdin.")
    ],
    *,
    question: Annotated[str, typer.Option("-q", "--question", help="What to ask of each picture.")] = "图里有什么？",
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Which model to ask; else the one of the domain, or local-ocr-vision."),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("-d", "--domain", help="The backend's own name of the model, as imagev3: only this route."),
    ] = None,
    temperature: Annotated[float | None, typer.Option("-t", "--temperature", min=0, max=2)] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show what the backend sends; runs in this process.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per picture.")] = False,
    together: Annotated[bool, typer.Option("--together", help="Send all pictures in one request.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the answers about several pictures are kept; else tuwen-answers.jsonl. A second run "
            "goes on from it."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="How many pictures are asked at the same time.")] = 2,
    base_url: Annotated[str | None, typer.Option(help="Of the gateway; else TUWEN_BASE_URL.")] = None,
    key: Annotated[str | None, typer.Option(help="Of the gateway; else TUWEN_API_KEY.")] = None,
) -> None:
    """Ask about pictures, through a running gateway or without one."""
    from app.commands.ask import AskOptions, model_to_ask
    from app.commands.ask import ask as run
    from app.commands.ask_question import Question

    options = AskOptions(raw, as_json, together, out, jobs, base_url, key)
    run(pictures, Question(question, model_to_ask(model, domain), temperature, max_tokens, domain), options)


@app.command()
def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the configuration and show where each model's requests go."""
    from app.commands.check import check as run

    run(as_json=as_json)


@app.command()
def backends(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the backends, and what those lack that are not configured."""
    from app.commands.backends import backends as run

    run(as_json=as_json)


@app.command()
def errors(
    code: Annotated[str | None, typer.Argument(help="As the vendor writes it; none: all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a vendor's error code: what it means, and what to do."""
    from app.commands.explain_errors import explain

    explain(code, as_json=as_json)


@app.command()
def doctor(
    backend: Annotated[str | None, typer.Argument(help="One of 'tuwen backends'; none: all of them.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Ask each model one small question; vendors may charge for it.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at each backend: credentials, address, certificate, clock, models, and a question with a picture."""
    from app.commands.doctor import doctor as run

    run(backend, _settings(), probe=probe, as_json=as_json)


_KeyId = Annotated[str, typer.Argument(metavar="ID", help="As 'tuwen keys list' shows it.")]
_Owner = Annotated[str | None, typer.Option(help="Who answers for it.")]
_Models = Annotated[
    list[str] | None, typer.Option(metavar="ID", help="A model it may ask; repeat it for more, * may end it. Else all.")
]
_Expires = Annotated[str | None, typer.Option(help="Last day it works, as 2026-12-31, or a span as 30d.")]
_Budget = Annotated[str | None, typer.Option(metavar="YUAN", help="What it may spend ever; top-ups raise it.")]
_DayBudget = Annotated[str | None, typer.Option(metavar="YUAN", help="What it may spend in a calendar day.")]
_MonthBudget = Annotated[str | None, typer.Option(metavar="YUAN", help="What it may spend in a calendar month.")]
_Rpm = Annotated[str | None, typer.Option(metavar="N", help="Requests in any sixty seconds.")]
_Tpm = Annotated[str | None, typer.Option(metavar="N", help="Tokens in any sixty seconds, input and output.")]
_Concurrency = Annotated[str | None, typer.Option(metavar="N", help="Requests at the same time.")]
_ModelRpm = Annotated[list[str] | None, typer.Option(metavar="ID=N", help="Requests a minute to one model.")]
_ModelTpm = Annotated[list[str] | None, typer.Option(metavar="ID=N", help="Tokens a minute of one model.")]
_Tags = Annotated[list[str] | None, typer.Option(metavar="WORD", help="For reports; repeat it for more.")]
_LogContent = Annotated[
    bool | None,
    typer.Option(
        "--log-content/--no-log-content",
        help="Log what it asks and is answered, texts and descriptions of pictures; off unless asked for.",
    ),
]


@keys.command("create")
def keys_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose it is; shown in lists and in usage.")],
    *,
    admin: Annotated[bool, typer.Option("--admin", help="May also administer the gateway.")] = False,
    owner: _Owner = None,
    model: _Models = None,
    expires: _Expires = None,
    budget: _Budget = None,
    day_budget: _DayBudget = None,
    month_budget: _MonthBudget = None,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    concurrency: _Concurrency = None,
    model_rpm: _ModelRpm = None,
    model_tpm: _ModelTpm = None,
    tag: _Tags = None,
    log_content: _LogContent = None,
) -> None:
    """Make a key and show it once."""
    from app.commands.keys import create

    create(_settings(), name, admin=admin, typed=context.params)


@keys.command("change")
def keys_change(
    context: typer.Context,
    key_id: _KeyId,
    *,
    name: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    owner: _Owner = None,
    model: _Models = None,
    expires: _Expires = None,
    budget: _Budget = None,
    day_budget: _DayBudget = None,
    month_budget: _MonthBudget = None,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    concurrency: _Concurrency = None,
    model_rpm: _ModelRpm = None,
    model_tpm: _ModelTpm = None,
    tag: _Tags = None,
    log_content: _LogContent = None,
) -> None:
    """Change what is given of a key; 'none' lifts a bound, or empties a list."""
    from app.commands.keys import change

    change(_settings(), key_id, typed=context.params)


@keys.command("list")
def keys_list() -> None:
    """List the keys with where they stand, revoked ones included. Amounts are yuan."""
    from app.commands.keys import show_all

    show_all(_settings())


@keys.command("show")
def keys_show(key_id: _KeyId) -> None:
    """Show one key: what it may do, where it stands, what was credited to it."""
    from app.commands.keys import show

    show(_settings(), key_id)


@keys.command("top-up", context_settings={"ignore_unknown_options": True})
def keys_top_up(
    key_id: _KeyId,
    amount: Annotated[str, typer.Argument(metavar="YUAN", help="As 10.00; with a minus, to take back.")],
    note: Annotated[str, typer.Option(help="What it is for, as the number of an invoice.")] = "",
    credit_id: Annotated[
        str | None, typer.Option("--id", help="Of the top-up: the same one twice changes nothing.")
    ] = None,
) -> None:
    """Credit a key with an amount; one without a budget gets one by that."""
    from app.commands.keys import top_up

    top_up(_settings(), key_id, amount, note=note, credit_id=credit_id)


@keys.command("revoke")
def keys_revoke(key_id: _KeyId) -> None:
    """Revoke a key; a running gateway refuses it within 2 seconds."""
    from app.commands.keys import revoke

    revoke(_settings(), key_id)


@keys.command("vendor")
def keys_vendor(
    key_id: _KeyId,
    renew: Annotated[bool, typer.Option("--renew", help="Make a new secret; the old one opens nothing more.")] = False,
) -> None:
    """Show the AK and SK of a key, for clients written for a vendor's own API."""
    from app.commands.keys import show_vendor_credentials

    show_vendor_credentials(_settings(), key_id, renew=renew)


_Since = Annotated[str, typer.Option(help="A span as 12h, 7d or 4w, or a day as 2026-11-01.")]
_Until = Annotated[str | None, typer.Option(help="As --since; a day counts whole. Unset: now.")]
_OfKey = Annotated[str | None, typer.Option(metavar="ID", help="Only requests of this key.")]
_OfModel = Annotated[str | None, typer.Option(metavar="ID", help="Only requests to this model.")]
_OfBackend = Annotated[str | None, typer.Option(metavar="NAME", help="Only requests this backend was asked for.")]


@app.command()
def usage(
    *,
    by: Annotated[
        Literal["day", "model", "key", "backend"], typer.Option(help="What to add up by; days are of local time.")
    ] = "day",
    since: _Since = "30d",
    until: _Until = None,
    key: _OfKey = None,
    model: _OfModel = None,
    backend: _OfBackend = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Show so many of the newest requests instead of sums.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Show what was asked and what it cost."""
    from app.commands.usage import show
    from app.commands.wanted import wanted

    if as_json and as_csv:
        raise CommandFailed("Choose one of --json and --csv.", exit_code=2)
    of = wanted(since, until, key=key, model=model, backend=backend)
    show(_settings(), of, by=by, newest=rows, form="json" if as_json else "csv" if as_csv else "table")


@app.command()
def export(
    *,
    form: Annotated[Literal["csv", "jsonl"], typer.Option(help="jsonl holds every backend that was asked.")] = "csv",
    since: _Since = "30d",
    until: _Until = None,
    key: _OfKey = None,
    model: _OfModel = None,
    backend: _OfBackend = None,
    out: Annotated[Path | None, typer.Option(help="The file, written anew; unset: stdout.")] = None,
) -> None:
    """Write out every request, newest first."""
    from app.commands.export import export as run
    from app.commands.wanted import wanted

    run(_settings(), wanted(since, until, key=key, model=model, backend=backend), form=form, out=out)


@app.command()
def reconcile(
    bill: Annotated[Path, typer.Argument(metavar="BILL.csv", help="As the cloud's console hands it out.")],
    *,
    backend: Annotated[str, typer.Option(metavar="NAME", help="Whose bill it is: one of 'tuwen backends'.")],
    id_column: Annotated[str | None, typer.Option(help="Head of the request ids, where it is not found.")] = None,
    amount_column: Annotated[str | None, typer.Option(help="Head of the amounts, in yuan.")] = None,
    day_column: Annotated[str | None, typer.Option(help="Head of the days.")] = None,
    since: Annotated[str | None, typer.Option(help="As of 'tuwen usage'; unset: the days of the bill.")] = None,
    until: _Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all that differs.")] = False,
) -> None:
    """Compare a cloud's bill with what was booked, by its request ids, or by days."""
    from app.accounts.bills import Columns
    from app.commands.reconcile import reconcile as run
    from app.commands.wanted import period

    columns = Columns(id_column, amount_column, day_column)
    run(_settings(), bill, backend, columns=columns, of=period(since, until), as_json=as_json)


@app.command()
def migrate() -> None:
    """Bring the records to the form of this program, and say at which version they stand."""
    from app.commands.migrate import migrate as run

    run(_settings())


if __name__ == "__main__":
    main()
