"""Every mistake in the file is told with its file, line and key, and what to write instead."""

from __future__ import annotations

import pytest

from app.backends.registry import KINDS
from tests.config.conftest import Desk

MODEL = '[models."m"]\nroutes = [{ backend = "ocr", model = "rapidocr" }]\n'

MISTAKES = {
    "unknown option": (
        '[backends.b]\nkind = "openai"\nbse_url = "https://x.example/v1"\nbase_url = "https://x.example/v1"\n',
        "models.local.toml:3: backends.b.bse_url: unknown key; did you mean base_url?",
    ),
    "required option missing": (
        '\n[backends.b]\nkind = "openai"\napi_key = "env::SOME_KEY"\n',
        "models.local.toml:2: backends.b.base_url: is missing",
    ),
    "unknown kind": (
        '[backends.b]\nkind = "opnai"\n',
        'models.local.toml:2: backends.b.kind: unknown kind "opnai"; did you mean openai?',
    ),
    "unknown kind far from any": (
        '[backends.b]\nkind = "zzz"\n',
        f'models.local.toml:2: backends.b.kind: unknown kind "zzz"; there are {", ".join(sorted(KINDS))}',
    ),
    "kind of a wrong type": (
        "[backends.b]\nkind = 3\n",
        "models.local.toml:2: backends.b.kind: must be text in quotes",
    ),
    "amending no backend": (
        "[backends.qwne]\nlimits = { rpm = 2 }\n",
        "models.local.toml:1: backends.qwne.kind: is missing, and the built-in catalogue has no backend of this name;"
        " did you mean qwen?",
    ),
    "limit misspelt": (
        "[backends.qwen]\nlimits = { concurency = 2 }\n",
        "models.local.toml:2: backends.qwen.limits.concurency: unknown key; did you mean concurrency?",
    ),
    "limit in quotes": (
        '[backends.qwen]\n\nlimits = { rpm = "2" }\n',
        "models.local.toml:3: backends.qwen.limits.rpm: must be a whole number, without quotes",
    ),
    "limit of nothing": (
        "[backends.qwen.limits]\nrpm = 0\n",
        "models.local.toml:2: backends.qwen.limits.rpm: must be at least 1",
    ),
    "env without a name": (
        '[backends.b]\nkind = "openai"\nbase_url = "https://x.example"\napi_key = "env::MY KEY"\n',
        "models.local.toml:4: backends.b.api_key: env:: wants the name of a variable, as env::API_KEY",
    ),
    "unknown section": (
        "[model.m]\nroutes = []\n",
        "models.local.toml:1: model: unknown section; did you mean models?",
    ),
    "section far from any": (
        "[settings]\nport = 1\n",
        "models.local.toml:1: settings: unknown section; there are backends and models",
    ),
    "a section that is a value": (
        "\nmodels = 3\n",
        "models.local.toml:2: models: must hold sections, as [models.NAME]",
    ),
    "a model that is a value": (
        '[models]\nm = "qwen"\n',
        "models.local.toml:2: models.m: must be a section, as [models.NAME]",
    ),
    "unknown key of a model": (
        MODEL + 'alias = ["x"]\n',
        "models.local.toml:3: models.m.alias: unknown key; did you mean aliases?",
    ),
    "an id with dots and no quotes": (
        "[models.qwen2.5-vl]\ntariff = 'free'\n[models.qwen2]\nroutes = [{ backend = 'ocr', model = 'x' }]\n",
        "models.local.toml:1: models.qwen2.5-vl: unknown key; a name with dots stands in quotes,"
        ' as [models."qwen2.5-vl"]',
    ),
    "amending no model": (
        '[models."qwen-v1"]\ntariff = "free"\n',
        "models.local.toml:1: models.qwen-v1.routes: is missing, and the built-in catalogue has no model of this name;"
        " did you mean qwen-vl?",
    ),
    "routes empty": ('[models."m.1"]\nroutes = []\n', 'models.local.toml:2: models."m.1".routes: must not be empty'),
    "routes no list": (
        '[models."m"]\nroutes = { backend = "ocr", model = "x" }\n',
        "models.local.toml:2: models.m.routes: must be a list, as [ … ]",
    ),
    "route no table": (
        '[models."m"]\nroutes = [\n  "ocr",\n]\n',
        "models.local.toml:3: models.m.routes[0]: must be a table, as { … }",
    ),
    "key of a route misspelt": (
        '[models."m"]\nroutes = [\n  { backend = "ocr", model = "x" },\n'
        '  { bakend = "ocr", backend = "ocr", model = "x" },\n]\n',
        "models.local.toml:4: models.m.routes[1].bakend: unknown key; did you mean backend?",
    ),
    "route without a model": (
        '[models."m"]\nroutes = [{ backend = "ocr" }]\n',
        "models.local.toml:2: models.m.routes[0].model: is missing",
    ),
    "route to an unknown backend": (
        '[models."m"]\n# a comment\nroutes = [{ backend = "qwenn", model = "x" }]\n',
        'models.local.toml:3: models.m.routes[0].backend: unknown backend "qwenn"; did you mean qwen?',
    ),
    "route to a backend far from any": (
        '[models."m"]\nroutes = [{ backend = "zzz", model = "x" }]\n',
        'models.local.toml:2: models.m.routes[0].backend: unknown backend "zzz"; there are ocr, qwen',
    ),
    "price as a number": (
        MODEL + "tariff = { input_per_million = 4.29, output_per_million = '1' }\n",
        'models.local.toml:3: models.m.tariff.input_per_million: a price stands in quotes, as "4.29",'
        " so that no digit is lost",
    ),
    "price that is none": (
        MODEL + "[models.m.tariff]\ninput_per_million = '1'\noutput_per_million = '-1'\n",
        'models.local.toml:5: models.m.tariff.output_per_million: must be an amount in yuan, as "4.29",'
        " of at most six decimals",
    ),
    "price misspelt": (
        MODEL + "tariff = { input_per_milion = '1', output_per_million = '1' }\n",
        "models.local.toml:3: models.m.tariff.input_per_milion: unknown key; did you mean input_per_million?",
    ),
    "one price of two": (
        MODEL + "tariff = { input_per_million = '1' }\n",
        "models.local.toml:3: models.m.tariff: input_per_million and output_per_million go together",
    ),
    "no price at all": (
        MODEL + "tariff = {}\n",
        'models.local.toml:3: models.m.tariff: names no price; write "free" or "unknown" where there is none',
    ),
    "a currency we do not count in": (
        MODEL + "tariff = { per_call = '1', currency = 'USD' }\n",
        "models.local.toml:3: models.m.tariff.currency: must be 'CNY'",
    ),
    "tariff in a word of its own": (
        MODEL + "tariff = 'cheap'\n",
        'models.local.toml:3: models.m.tariff: must be a table of prices, "free" or "unknown"',
    ),
    "tariff a number": (MODEL + "tariff = 3\n", "models.local.toml:3: models.m.tariff: must be a table, as { … }"),
    "several pictures in a word of its own": (
        MODEL + "multi_image = 'collage'\n",
        "models.local.toml:3: models.m.multi_image: must be 'refuse' or 'montage'",
    ),
    "several pictures as a switch": (
        MODEL + "multi_image = true\n",
        "models.local.toml:3: models.m.multi_image: must be 'refuse' or 'montage'",
    ),
    "several pictures misspelt": (
        MODEL + "multi_images = 'montage'\n",
        "models.local.toml:3: models.m.multi_images: unknown key; did you mean multi_image?",
    ),
    "model for text of no name": (
        MODEL + "text_model = ''\n",
        "models.local.toml:3: models.m.text_model: must not be empty or hold blanks",
    ),
    "model for text as a route": (
        MODEL + "text_model = { backend = 'ocr', model = 'x' }\n",
        "models.local.toml:3: models.m.text_model: must be text in quotes",
    ),
    "context as the page has it": (
        MODEL + "context = '128K'\n",
        "models.local.toml:3: models.m.context: must be a whole number, without quotes",
    ),
    "vision in quotes": (MODEL + "vision = 'yes'\n", "models.local.toml:3: models.m.vision: must be true or false"),
    "date in quotes": (
        MODEL + "released = '2025-02-13'\n",
        "models.local.toml:3: models.m.released: must be a date without quotes, as 2025-02-13",
    ),
    "family of no formula": (
        MODEL + "image_tokens = 'qwen'\n",
        "models.local.toml:3: models.m.image_tokens: must be 'qwen2.5-vl', 'qwen3-vl', 'deepseek-vl2', 'glm-4v', 'ark'"
        " or 'spark-general'",
    ),
    "option the kind refuses": (
        '[backends.b]\nkind = "openai"\nbase_url = "https://x.example/v1"\nprovider = "opnai"\n',
        "models.local.toml:4: backends.b.provider: no such provider; known are",
    ),
    "option of a strange shape": (
        "[backends.qwen]\nranges = { temperature = [0, 1, 2] }\n",
        "models.local.toml:2: backends.qwen.ranges.temperature: tuple should have at most 2 items",
    ),
    "list of secrets with one misnamed": (
        '[backends.qwen]\nextra = [\n  "env::QWEN_KEY",\n  "env::"\n]\n',
        "models.local.toml:4: backends.qwen.extra[1]: env:: wants the name of a variable, as env::API_KEY",
    ),
    "alias with a blank": (
        MODEL + "aliases = ['a', 'b c']\n",
        "models.local.toml:3: models.m.aliases[1]: must not be empty or hold blanks",
    ),
    "alias twice": (
        MODEL + "aliases = ['x', 'x']\n",
        'models.local.toml:3: models.m.aliases[1]: "x" is already a name of models."m"',
    ),
    "alias that is an id": (
        MODEL + "aliases = ['n']\n[models.n]\nroutes = [{ backend = 'ocr', model = 'x' }]\n",
        'models.local.toml:3: models.m.aliases[0]: "n" is already a name of models."n"',
    ),
    "star inside an id": (
        '[models."a*b"]\nroutes = [{ backend = "ocr", model = "x" }]\n',
        'models.local.toml:1: models."a*b": an id is not empty and has a * at its end or not at all',
    ),
    "star in an alias": (MODEL + "aliases = ['x*']\n", "models.local.toml:3: models.m.aliases[0]: an alias has no *"),
    "alias of a wildcard": (
        '[models."a-*"]\nroutes = [{ backend = "ocr", model = "*" }]\naliases = ["b"]\n',
        'models.local.toml:3: models."a-*".aliases: a model whose id ends in * has no aliases',
    ),
    "star as the model of a plain id": (
        '[models."m"]\nroutes = [{ backend = "ocr", model = "*" }]\n',
        "models.local.toml:2: models.m.routes[0].model: * passes the caller's model on; only a model whose own id ends"
        " in * can do that",
    ),
}


@pytest.mark.parametrize(("text", "complaint"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_told_with_its_line_and_key(desk: Desk, text: str, complaint: str) -> None:
    assert any(line.startswith(complaint) for line in desk.complaints_about(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "[backends.b]\nkind = openai\n",
            "models.local.toml:2: backends.b.kind: not TOML: invalid value, at column 8; text stands in quotes",
        ),
        (
            '[backends.b]\nkind = "openai\nbase_url = "x"\n',
            "models.local.toml:2: backends.b.kind: not TOML: illegal character '\\n', at column 15",
        ),
        (
            '[backends.b]\nkind = "ocr"\nkind = "ocr"\n',
            "models.local.toml:3: backends.b.kind: not TOML: cannot overwrite a value, at column 13",
        ),
        (
            '[models."a"]\n\n[models."a"]\n',
            "models.local.toml:3: models.\"a\": not TOML: cannot declare ('models', 'a') twice, at column 12",
        ),
        (
            '[models."a"]\nroutes = [',
            'models.local.toml:2: models."a".routes: not TOML: invalid value, at the end of the file;'
            " text stands in quotes",
        ),
        (
            "[backends.b\n",
            "models.local.toml:1: backends.b: not TOML: expected ']' at the end of a table declaration, at column 12",
        ),
        ("kind\n", "models.local.toml:1: not TOML: expected '=' after a key in a key/value pair, at column 5"),
    ],
)
def test_a_file_that_is_no_toml_is_told_with_its_line_and_key(desk: Desk, text: str, complaint: str) -> None:
    assert desk.complaints_about(text) == [complaint]


def test_windows_line_ends_do_not_hide_the_key(desk: Desk) -> None:
    (complaint,) = desk.complaints_about("[backends.b]\r\nkind = openai\r\n")
    assert complaint.startswith("models.local.toml:2: backends.b.kind: not TOML: ")


def test_a_file_in_another_encoding_is_told(desk: Desk) -> None:
    desk.operator.write_bytes('[models."m"]\nname = "图问"\n'.encode("gb18030"))
    with pytest.raises(Exception, match=r"^models.local.toml:2: not UTF-8; save the file in this encoding$"):
        desk.load()


def test_a_file_that_cannot_be_read_is_told(desk: Desk) -> None:
    desk.operator.mkdir()
    with pytest.raises(Exception, match=r"^models.local.toml:1: cannot be read: Is a directory$"):
        desk.load()


def test_a_mistake_in_an_amended_section_is_told_in_the_file_it_stands_in(desk: Desk) -> None:
    text = desk.built_in.read_text(encoding="utf-8").replace('"4.29"', "4.29")
    desk.built_in.write_text(text, encoding="utf-8")
    complaints = desk.complaints_about('[models."qwen-vl"]\ncontext = "8K"\n')
    assert complaints[0].startswith("models.local.toml:2: models.qwen-vl.context: ")
    assert complaints[1].startswith("models.toml:11: models.qwen-vl.tariff.input_per_million: ")


def test_the_first_ten_mistakes_are_told_at_once(desk: Desk) -> None:
    text = "".join(f"[models.m{index}]\nroutes = []\n" for index in range(12))
    complaints = desk.complaints_about(text)
    assert len(complaints) == 11
    assert complaints[9] == "models.local.toml:20: models.m9.routes: must not be empty"
    assert complaints[10] == "and 2 more"


def test_a_route_to_a_backend_that_is_wrong_is_not_a_second_mistake(desk: Desk) -> None:
    text = '[backends.b]\nkind = "opnai"\n[models.m]\nroutes = [{ backend = "b", model = "x" }]\n'
    assert len(desk.complaints_about(text)) == 1


def test_a_backend_that_lacks_its_secret_is_still_checked(desk: Desk) -> None:
    desk.environ = {}
    complaints = desk.complaints_about('[backends.qwen]\nbse_url = "x"\n')
    assert complaints == ["models.local.toml:2: backends.qwen.bse_url: unknown key; did you mean base_url?"]


def test_a_wrong_value_from_the_environment_is_told_by_its_variable_and_not_shown(desk: Desk) -> None:
    desk.environ = {"QWEN_KEY": "k", "LEVEL": "s3cret-by-mistake"}
    complaints = desk.complaints_about('[backends.qwen]\nmax_images = "env::LEVEL"\n')
    assert complaints == ["models.local.toml:2: backends.qwen.max_images: the value of LEVEL: must be a whole number"]


def test_a_secret_that_is_refused_loudly_is_not_shown(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "loud", "tests.config.loud_kind")
    desk.environ = {"QWEN_KEY": "k1", "PASSWORD": "hush-hush"}
    complaints = desk.complaints_about('[backends.b]\nkind = "loud"\npassword = "env::PASSWORD"\n')
    assert complaints == ["models.local.toml:3: backends.b.password: the value of PASSWORD: I do not like …"]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('api_key = "hush\\nx: hush"', "api_key"),
        ('api_key = "env::BROKEN"', "api_key"),
        ('headers = { x-key = "hush\\r\\nx: hush" }', "headers"),
        ('headers = { "x key" = "hush" }', "headers"),
    ],
)
def test_a_secret_that_no_header_can_hold_is_refused_and_not_shown(desk: Desk, line: str, key: str) -> None:
    desk.environ = {"QWEN_KEY": "k", "BROKEN": "hush\x00"}
    [complaint] = desk.complaints_about(f"[backends.qwen]\n{line}\n")
    assert complaint.startswith(f"models.local.toml:2: backends.qwen.{key}: ")
    assert "one line" in complaint
    assert "hush" not in complaint
