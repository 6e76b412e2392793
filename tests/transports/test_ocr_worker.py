"""The worker's loop, in this process: pipes as in life, a scripted reader in the models' place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

import pytest
from typing_extensions import override

from app.transports.ocr_wire import (
    HEADER_BYTES,
    Answer,
    Done,
    Drop,
    Order,
    Piece,
    Pieces,
    Read,
    Ready,
    Unreadable,
    Unusable,
    body_bytes,
    decode_answer,
    encode,
)
from app.transports.ocr_worker import EngineUnusable, Pipes, Reader, load_engine, serve


def row(number: int, text: str) -> list[Piece]:
    return [Piece(number, text, ((0, 0), (1, 0), (1, 1), (0, 1)), 0.9)]


class Lab:
    """Both pipes, with the gateway's ends in the test's hands."""

    def __init__(self, life: ExitStack) -> None:
        orders_out, orders_in = os.pipe()
        answers_out, answers_in = os.pipe()
        self.orders: BinaryIO = life.enter_context(os.fdopen(orders_in, "wb", buffering=0))
        self.answers: BinaryIO = life.enter_context(os.fdopen(answers_out, "rb"))
        self._ends = [life.enter_context(os.fdopen(fd)) for fd in (orders_out, answers_in)]
        self.pipes = Pipes(orders_out, answers_in)

    def tell(self, *orders: Order) -> None:
        for order in orders:
            self.orders.write(encode(order))

    def heard(self) -> list[Answer]:
        """All the worker said; it must have ended."""
        for end in self._ends:
            end.close()
        answers = []
        while header := self.answers.read(HEADER_BYTES):
            answers.append(decode_answer(self.answers.read(body_bytes(header))))
        return answers


@pytest.fixture
def lab() -> Iterator[Lab]:
    with ExitStack() as life:
        yield Lab(life)


class LinesOfTheBytes(Reader):
    """Reads each line of the 'picture' as a row; while it reads, the gateway may say something."""

    def __init__(self, lab: Lab, meanwhile: Order | None = None) -> None:
        self._lab = lab
        self._meanwhile = meanwhile

    @override
    def read(self, picture: bytes, text_score: float) -> Iterator[list[Piece] | None]:
        if not picture:
            yield None
            return
        for number, text in enumerate(picture.decode().split("\n")):
            yield row(number, text)
            if self._meanwhile is not None:
                self._lab.tell(self._meanwhile, Read(8, b"next", 0.5))
                self._meanwhile = None
                self._lab.orders.close()


def test_each_row_is_sent_alone_and_the_end_is_told(lab: Lab) -> None:
    lab.tell(Read(7, b"one\ntwo", 0.5))

    class ThenTheEnd(LinesOfTheBytes):
        @override
        def read(self, picture: bytes, text_score: float) -> Iterator[list[Piece] | None]:
            yield from super().read(picture, text_score)
            lab.orders.close()

    serve(lab.pipes, lambda: ThenTheEnd(lab))
    assert lab.heard() == [Ready(), Pieces(7, row(0, "one")), Pieces(7, row(1, "two")), Done(7)]


def test_a_dropped_job_is_left_after_the_row_at_hand_and_the_next_one_is_read(lab: Lab) -> None:
    lab.tell(Read(7, b"one\ntwo\nthree", 0.5))
    serve(lab.pipes, lambda: LinesOfTheBytes(lab, meanwhile=Drop(7)))
    said = lab.heard()
    assert said[:2] == [Ready(), Pieces(7, row(0, "one"))]
    assert Done(7) not in said
    assert {answer.job for answer in said[2:] if isinstance(answer, Pieces | Done)} <= {8}


def test_the_worker_ends_in_mid_picture_when_the_gateway_is_gone(lab: Lab) -> None:
    lab.tell(Read(7, b"one\ntwo", 0.5))
    lab.orders.close()
    serve(lab.pipes, lambda: LinesOfTheBytes(lab))
    assert lab.heard() == [Ready()]


def test_an_order_cut_short_counts_as_the_end(lab: Lab) -> None:
    lab.orders.write(encode(Read(7, b"one", 0.5))[:-1])
    lab.orders.close()
    serve(lab.pipes, lambda: LinesOfTheBytes(lab))
    assert lab.heard() == [Ready()]


def test_bytes_that_are_no_picture_are_said_to_be_none(lab: Lab) -> None:
    lab.tell(Read(7, b"", 0.5), Drop(7))
    lab.orders.close()
    serve(lab.pipes, lambda: LinesOfTheBytes(lab))
    assert lab.heard() == [Ready(), Unreadable(7)]


def test_an_engine_that_cannot_be_used_is_the_last_word(lab: Lab) -> None:
    def load() -> Reader:
        raise EngineUnusable("no models")

    serve(lab.pipes, load)
    assert lab.heard() == [Unusable("no models")]


def test_usage_reports_of_the_runtime_are_off_before_it_is_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "app.transports.ocr_engine", None)
    with pytest.raises(EngineUnusable):
        load_engine(1)
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
