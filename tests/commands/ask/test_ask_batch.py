"""`tuwen ask` about many pictures: what is answered is kept, and a second run goes on from it."""

from __future__ import annotations

import signal

import pytest

from tests.commands.ask.lab import Lab, ScriptedGateway, answer_about
from tests.fakes import openai
from tests.fakes.http import Gate, Reply

REFUSED = openai.error(503, code="backend_unavailable", message="It is asleep.")


def stalled() -> Reply:
    """An answer that never comes."""
    return Reply(200, {}, [Gate()])


@pytest.fixture
def album(lab: Lab) -> dict[str, bytes]:
    """Three pictures in a folder, beside what is none."""
    (lab.folder / "album").mkdir()
    for name in ("notes.txt", ".hidden.png", "readme"):
        (lab.folder / "album" / name).write_text("no picture")
    return {name: lab.picture(name) for name in ("album/a.png", "album/b.png", "album/c.png")}


def test_each_picture_of_a_folder_is_asked_by_itself(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    ended = lab.ask("album", "--jobs", "1")
    assert ended.code == 0
    assert [question.pictures for question in gateway.questions] == [[picture] for picture in album.values()]
    assert {line["picture"]: line["answer"] for line in lab.lines()} == {
        name: answer_about(picture) for name, picture in album.items()
    }
    assert f"==> album/a.png <==\n{answer_about(album['album/a.png'])}\n" in ended.out
    assert "3/3" in ended.err
    assert "3 answered; the answers are in tuwen-answers.jsonl." in ended.err


def test_second_run_asks_nothing_again_and_shows_the_same(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    first = lab.ask("album", "--json")
    second = lab.ask("album", "--json")
    assert len(gateway.questions) == len(album)
    assert sorted(first.out.splitlines()) == sorted(second.out.splitlines())
    assert "0 answered, 3 answered before" in second.err


def test_run_killed_in_the_middle_is_gone_on_with(lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]) -> None:
    _, *others = album.values()
    gateway.answer(openai.answer("the first"), stalled())
    with lab.start("ask", "album", "--jobs", "1") as process:
        gateway.wait_for_questions(2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [line["answer"] for line in lab.lines()] == ["the first"]
    assert lab.ask("album", "--jobs", "1").code == 0
    assert [question.pictures for question in gateway.questions[2:]] == [[picture] for picture in others]
    assert [line["picture"] for line in lab.lines()] == list(album)


def test_ctrl_c_ends_in_order_and_keeps_what_is_done(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    gateway.answer(openai.answer("the first"), stalled())
    with lab.start("ask", *album, "--jobs", "1") as process:
        gateway.wait_for_questions(2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.decode() == "==> album/a.png <==\nthe first\n\n"
    assert "1 answered, 2 not asked; the answers are in tuwen-answers.jsonl.\nStopped.\n" in err.decode()
    assert "Traceback" not in err.decode()
    assert [line["answer"] for line in lab.lines()] == ["the first"]


@pytest.mark.parametrize("lost_bytes", [1, 20, 10_000])
def test_line_torn_by_a_crash_is_cut_off_and_asked_again(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes], lost_bytes: int
) -> None:
    lab.ask("album", "--jobs", "1")
    out = lab.folder / "tuwen-answers.jsonl"
    *whole, last = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(whole) + last[: max(len(last) - lost_bytes, 5)])
    assert lab.ask("album", "--jobs", "1").code == 0
    assert [question.pictures for question in gateway.questions[3:]] == [[album["album/c.png"]]]
    assert [line["picture"] for line in lab.lines()] == list(album)


def test_line_broken_in_the_middle_of_the_file_is_asked_again(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    lab.ask("album", "--jobs", "1")
    out = lab.folder / "tuwen-answers.jsonl"
    first, second, third = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(first + second[:30] + b"\n[]\n" + third)
    assert lab.ask("album", "--jobs", "1").code == 0
    assert [question.pictures for question in gateway.questions[3:]] == [[album["album/b.png"]]]


def test_picture_that_fails_stops_no_other_and_is_asked_by_the_next_run(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    gateway.answer(REFUSED)
    first = lab.ask("album", "--jobs", "1", "--json")
    assert first.code == 1
    assert [("error" in record, "answer" in record) for record in first.records] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert "album/a.png: It is asleep.\n" in first.err
    assert "2 answered, 1 failed" in first.err
    second = lab.ask("album", "--jobs", "1")
    assert second.code == 0
    assert "1 answered, 2 answered before;" in second.err
    assert [question.pictures for question in gateway.questions[3:]] == [[album["album/a.png"]]]


def test_fault_that_every_picture_would_meet_stops_the_batch(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    gateway.answer(openai.error(404, code="model_not_found", message="There is no such model."))
    ended = lab.ask("album", "--jobs", "1")
    assert ended.code == 2
    assert "There is no such model." in ended.err
    assert len(gateway.questions) == 1
    assert (lab.folder / "tuwen-answers.jsonl").read_bytes() == b""


def test_picture_that_moved_is_known_by_what_it_shows(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]
) -> None:
    lab.ask("album")
    (lab.folder / "album").rename(lab.folder / "moved")
    ended = lab.ask("moved", "--json", "--jobs", "1")
    assert len(gateway.questions) == len(album)
    assert [record["picture"] for record in ended.records] == ["moved/a.png", "moved/b.png", "moved/c.png"]


@pytest.mark.parametrize("other", [("-q", "And now?"), ("-m", "other-vision"), ("-t", "1"), ("--max-tokens", "9")])
def test_other_question_is_asked_of_the_same_pictures(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes], other: tuple[str, str]
) -> None:
    lab.ask("album")
    lab.ask("album", *other)
    assert len(gateway.questions) == 2 * len(album)
    lab.ask("album", *other)
    assert len(gateway.questions) == 2 * len(album)


def test_picture_that_changed_is_asked_again(lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]) -> None:
    lab.ask("album")
    (lab.folder / "album/a.png").write_bytes(lab.picture("other.png"))
    lab.ask("album")
    assert len(gateway.questions) == len(album) + 1


def test_url_is_known_by_itself(lab: Lab, gateway: ScriptedGateway) -> None:
    gateway.answer(openai.answer("far away"))
    for _ in range(2):
        assert lab.ask("http://pictures.example/cat.png", "--out", "far.jsonl").code == 0
    assert len(gateway.questions) == 1


def test_jobs_are_asked_at_the_same_time(lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]) -> None:
    gates = [Gate(), Gate()]
    gateway.answer(*(Reply(200, {}, [gate, openai.answer("slow").wire]) for gate in gates))
    with lab.start("ask", "album", "--jobs", "2") as process:
        for gate in gates:
            gate.wait_reached(20)  # both before either has an answer
        assert len(gateway.questions) == 2
        for gate in gates:
            gate.open()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(lab.lines()) == len(album)


def test_broken_picture_is_told_by_its_name(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("album/good.png")
    (lab.folder / "album/bad.jpg").write_bytes(b"")
    ended = lab.ask("album")
    assert ended.code == 1
    assert "album/bad.jpg: it is empty.\n" in ended.err
    assert [line["error"] for line in lab.lines() if "error" in line] == ["album/bad.jpg: it is empty."]
    assert "1 answered, 1 failed" in ended.err


def test_picture_that_is_refused_is_told_by_its_name(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("album/bad.png")
    place = "messages[0].content[0].image_url.url"
    gateway.answer(openai.error(400, message=f"The picture in {place} is in a format that is not taken."))
    ended = lab.ask("album")
    assert "\nalbum/bad.png is in a format that is not taken.\n" in ended.err
    assert lab.lines()[0]["error"] == "album/bad.png is in a format that is not taken."


def test_answers_of_something_else_are_not_added_to(lab: Lab, gateway: ScriptedGateway) -> None:
    lab.picture("cat.png")
    for content in ("my notes", "my notes\n", '{"a": 1}\n{"pict'):
        (lab.folder / "notes.txt").write_text(content)
        ended = lab.ask("cat.png", "--out", "notes.txt")
        assert ended.code == 2
        assert ended.err == (
            "notes.txt cannot take the answers: it holds something else than answers of `tuwen ask`. "
            "Name another file with --out.\n"
        )
        assert (lab.folder / "notes.txt").read_text() == content
    assert gateway.questions == []


@pytest.mark.parametrize("out", ["no/such/folder.jsonl", "album", "/dev/full"])
def test_results_that_cannot_be_opened_are_told_before_anything_is_asked(
    lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes], out: str
) -> None:
    ended = lab.ask("album", "--out", out)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"{out} cannot take the answers: " in ended.err
    assert gateway.questions == []


def test_full_disk_stops_the_batch(lab: Lab, gateway: ScriptedGateway, album: dict[str, bytes]) -> None:
    lab.prefix = ("sh", "-c", 'ulimit -f 0; exec "$@"', "sh")  # no file may grow
    ended = lab.run("ask", "album", "--jobs", "1")
    assert ended.code == 2
    assert "tuwen-answers.jsonl cannot take the answers: file too large." in ended.err
    assert len(gateway.questions) == 1
