"""What commands print holds no secret either, whatever goes wrong with them.

Runs for longer than five seconds: a dozen commands, each a process of its own.
"""

from __future__ import annotations

from pathlib import Path

from tests.secrets.canaries import Canary, found
from tests.secrets.parrot import VOICES
from tests.secrets.site import Site, keys, picture, watched

STRANGER = Canary.of("wrong key", "sk-tw-{}" + "x" * 23)


def look(site: Site) -> None:
    """Commands that look at what is there."""
    for words in (("check",), ("backends", "--json"), ("doctor", "--json"), ("keys", "list")):
        site.run(*words)
    for words in (("export", "--form", "jsonl"), ("usage", "--rows", "20")):
        site.run(*words)


def ask(site: Site, key: str) -> None:
    """Questions that are not answered, in this process and through the gateway."""
    site.models_file.with_name("picture.png").write_bytes(picture())
    asked = ("ask", "../picture.png", "-q", "what is it", "-m", "canary-openai")
    through = ("--base-url", site.gateway.base_url, "--key")
    for site.parrot.begins, site.parrot.voice in ((1, VOICES[0]), (4, VOICES[6])):
        assert b"remote-vision" in site.run(*asked, "--raw").stdout
        site.run(*asked, *through, key)
    site.run(*asked, *through, STRANGER.text)


def start_wrongly(site: Site) -> None:
    """Settings with which nothing starts."""
    database = Canary.of("database")
    site.canaries.append(database)
    for address in (
        f"postgresql://u:{database.core}@127.0.0.1:9/tuwen?connect_timeout=1",
        f"postgresql://u:{database.core}@127.0.0.1:{database.core}/x",
        f"postgresql://u:{database.core}@127.0.0.1:9/x?password={database.core}&{database.core}={database.core}",
        f"postgresql://u:p@{database.core}@127.0.0.1:9/x",
    ):
        assert site.run("serve", environment={"TUWEN_DATABASE_URL": address, "TUWEN_PORT": "0"}).returncode
    assert site.run("usage", environment={"TUWEN_DATABASE_URL": f"mysql://u:{database.core}@127.0.0.1/x"}).returncode
    assert site.run("serve", environment={"TUWEN_REDIS_URL": f"redis//:{database.core}@x"}).returncode
    for options in (f"{database.core}={database.core}", f"protocol={database.core}"):
        address = f"redis://:{database.core}@127.0.0.1:9/0?{options}"
        assert site.run("serve", environment={"TUWEN_REDIS_URL": address, "TUWEN_PORT": "0"}).returncode
    address = f"https://AK:{database.core}@oss.example.com"
    assert site.run("check", environment={"TUWEN_BLOB_ENDPOINT": address}).returncode
    assert site.run("serve", environment={"TUWEN_SECRET": database.core[:15], "TUWEN_PORT": "0"}).returncode
    literal = Canary.of("key written into models.toml", "{}")
    site.canaries.append(literal)
    wrong = f'kind = "spark"\napi_secret = ["{literal.text}"]\napi_key = "{literal.text}"'
    site.models_file.write_text(f"{site.models_file.read_text()}\n[backends.more]\n{wrong}\n")
    assert site.run("check").returncode


def test_commands_print_nothing_secret(tmp_path: Path) -> None:
    with watched(tmp_path, "json") as site:
        _, key = keys(site)
        site.canaries += [key, STRANGER]
        look(site)
        ask(site, key.text)
        start_wrongly(site)
    hits = found(site.canaries, site.everything())
    assert not hits, f"{len(hits)} hits\n" + "\n".join(hits[:60])
