"""What a command line names, and what a terminal gets to see."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.commands.ask_gateway import GatewayAddress
from app.commands.ask_pictures import Picture, named_pictures
from app.commands.ask_question import AskFailed, Question, Told
from app.commands.ask_results import ResultsFile, answer_record, json_line
from app.commands.ask_show import write
from app.commands.errors import CommandFailed
from app.config.settings import Settings
from app.core.events import UsageReport
from tests.commands.ask.lab import Lab

QUESTION = Question("what?", "some-vision")
TOLD = Told("一只猫\n\u2028", "stop", UsageReport(), None, 1.0)


def test_folder_holds_what_is_called_or_begins_like_a_picture(lab: Lab) -> None:
    lab.picture("album/b.PNG")
    lab.picture("album/a.jpeg")
    (lab.folder / "album/unnamed").write_bytes(lab.picture("a.png"))
    for name in ("film.mp4", "notes", ".DS_Store"):
        (lab.folder / "album" / name).write_bytes(b"\0\0\0\x18ftyp" if name == "film.mp4" else b"text")
    (lab.folder / "album/deeper").mkdir()
    named = named_pictures(["album"])
    assert [picture.name for picture in named.pictures] == ["album/a.jpeg", "album/b.PNG", "album/unnamed"]
    assert named.many


def test_picture_named_twice_is_one(lab: Lab) -> None:
    lab.picture("album/a.png")
    named = named_pictures(["album/a.png", "album", "./album/a.png"])
    assert [picture.name for picture in named.pictures] == ["album/a.png"]


def test_folder_of_one_picture_is_a_batch_and_a_single_file_is_none(lab: Lab) -> None:
    lab.picture("album/a.png")
    assert named_pictures(["album"]).many
    assert not named_pictures(["album/a.png"]).many


def test_name_that_is_no_text_is_made_one(lab: Lab) -> None:
    odd = os.fsencode(lab.folder) + b"/\xff.png"
    with open(odd, "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(lab.picture("a.png"))
    (picture,) = named_pictures([os.fsdecode(odd)]).pictures
    picture.name.encode()
    assert picture.load().sha256 is not None


def test_picture_travels_as_a_data_url_of_its_kind(lab: Lab) -> None:
    data = lab.picture("a.png")
    loaded = Picture("a.png", Path("a.png")).load()
    assert loaded.url.startswith("data:image/png;base64,")
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    for name in ("unnamed", "bill.pdf"):  # the gateway says what it thinks of the bytes, not of the name
        assert Picture(name, Path("a.png")).load().url.startswith("data:application/octet-stream;base64,")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_that_may_not_be_read_is_told(lab: Lab) -> None:  # pragma: no cover - skipped for root
    (lab.folder / "closed").mkdir(mode=0)
    with pytest.raises(CommandFailed, match="closed"):
        named_pictures(["closed"])


def test_file_beyond_all_bounds_is_not_read_to_its_end(lab: Lab) -> None:
    with Path("film.png").open("wb") as file:
        file.truncate(200_000_000)
    with pytest.raises(AskFailed, match="100 MB"):
        Picture("film.png", Path("film.png")).load()


def test_file_that_went_away_is_told(lab: Lab) -> None:
    with pytest.raises(AskFailed, match="it cannot be read: no such file"):
        Picture("a.png", Path("a.png")).load()


def test_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    write("a\x1b[2Jb\x9bc\r\n\t一")
    assert sys.stdout.getvalue() == "a[2Jbc\n\t一"


def test_half_characters_do_not_break_a_line() -> None:
    assert json_line({"picture": "\ud83d"}) == '{"picture": "?"}'


@given(cut=st.integers(min_value=0), tail=st.binary(max_size=40).filter(lambda tail: b"\n" not in tail))
def test_results_survive_a_crash_at_any_byte(tmp_path_factory: pytest.TempPathFactory, cut: int, tail: bytes) -> None:
    out = tmp_path_factory.mktemp("results") / "out.jsonl"
    pictures = [Picture(f"http://pictures.example/{number}.png") for number in range(3)]
    with ResultsFile(out) as results:
        for picture in pictures:
            results.add(answer_record(picture, picture.load(), QUESTION, TOLD))
    whole = out.read_bytes()
    kept = whole[: cut % (len(whole) + 1)]
    complete = kept.count(b"\n")
    out.write_bytes(kept + (tail if complete else b""))
    with ResultsFile(out) as results:
        known = [results.answer_to(QUESTION, picture, picture.load()) is not None for picture in pictures]
        assert known == [number < complete for number in range(3)]
        for picture in pictures[complete:]:
            results.add(answer_record(picture, picture.load(), QUESTION, TOLD))
    assert out.read_bytes() == whole


def test_own_gateway_is_looked_for_where_serve_would_listen() -> None:
    assert GatewayAddress.of(None, Settings(host="0.0.0.0", port=9)).base_url == "http://127.0.0.1:9/v1"  # noqa: S104 - a setting
    assert GatewayAddress.of("", Settings(host="::", port=9)).base_url == "http://[::1]:9/v1"
    assert GatewayAddress.of(None, Settings(host="10.0.0.5", port=9)).here


@pytest.mark.parametrize(
    ("typed", "base_url", "here"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1", True),
        ("https://gateway.example/tuwen/v1?x=1", "https://gateway.example/tuwen/v1", False),
        (" http://10.0.0.5 ", "http://10.0.0.5/v1", False),
    ],
)
def test_base_url_is_taken_with_or_without_its_version(typed: str, base_url: str, here: bool) -> None:
    assert GatewayAddress.of(typed, Settings()) == GatewayAddress(base_url, here)


def test_nothing_listens_at_port_0() -> None:
    assert not asyncio.run(GatewayAddress.of(None, Settings(port=0)).listens())
