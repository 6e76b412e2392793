"""RapidOCR on onnxruntime, row by row. Imported in the worker process only: it brings some 400 MiB with it.

Pictures are arrays of shape (height_px, width_px, 3), BGR, 8 bit. Whole pictures are searched for text at a bounded
size; the text itself is read at full size. A page on its side or upside down is turned first. A very long picture, as a
long screenshot, is searched band by band.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rapidocr
from rapidocr.main import RapidOCRError
from typing_extensions import override

from app.transports.ocr_wire import Piece
from app.transports.ocr_worker import Reader
from app.transports.page_geometry import bands, lies_on_its_side, search_scale, turned_back
from app.transports.reading_order import Polygon, reading_rows

Pixels = npt.NDArray[np.uint8]

_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
}
_MIN_SIDE_PX = 8
_VOTES = 7
_TRIALS = 3


class ModelsMissing(Exception):
    """The package is installed without its models; fetching them at run time is not done."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A picture to be read, and how it was turned: `quarter_turns` counter-clockwise from what was sent."""

    pixels: Pixels
    quarter_turns: int = 0

    @property
    def size_px(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def turned(self, quarter_turns: int) -> _Page:
        pixels = np.ascontiguousarray(np.rot90(self.pixels, quarter_turns))
        return _Page(pixels, (self.quarter_turns + quarter_turns) % 4)

    def as_sent(self, polygon: Polygon) -> Polygon:
        return turned_back(polygon, self.quarter_turns, self.size_px)


class Engine(Reader):
    """Loads the models; reads pictures, one at a time.

    Args:
        threads: how many cores it may use.

    Raises:
        ModelsMissing: a model file is not in the package.
    """

    def __init__(self, threads: int) -> None:
        folder = Path(rapidocr.__file__).parent / "models"
        params: dict[str, Any] = {
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": 1 << 20,  # the search size is chosen here, not there
            "Rec.rec_batch_num": 1,  # as fast as six on a CPU, and the first line comes at once
        }
        for task, file_name in _MODELS.items():
            path = folder / file_name
            if not path.is_file():
                raise ModelsMissing(f"rapidocr was installed without {file_name}")
            params[f"{task}.model_path"] = str(path)  # a path given is a path never downloaded
        cv2.setNumThreads(threads)
        self._ocr = rapidocr.RapidOCR(params=params)
        self._warm_up()

    def _warm_up(self) -> None:
        """Loads the three models, which the package does at first use."""
        blank = np.full((48, 320, 3), 255, np.uint8)
        self._search(blank)
        self._ocr.cls_and_rotate([blank])
        self._ocr.recognize_txt([blank])

    @override
    def read(self, picture: bytes, text_score: float) -> Iterator[list[Piece] | None]:
        pixels = _decode(picture)
        if pixels is None:
            yield None
            return
        page = _Page(pixels)
        if min(page.size_px) < _MIN_SIDE_PX:
            return
        row = 0
        for page_part, polygons in self._parts(page):
            for indices in reading_rows(polygons):
                pieces = self._read_row(page_part, [polygons[index] for index in indices], row, text_score)
                if pieces:
                    yield pieces
                    row += 1

    def _parts(self, page: _Page) -> Iterator[tuple[_Page, list[Polygon]]]:
        """Where text stands: once for a page, band by band for a long picture."""
        cuts = bands(*page.size_px)
        if len(cuts) == 1:
            yield self._upright(page, self._search(page.pixels))
            return
        above: list[Polygon] = []
        for band in cuts:
            found = self._search(page.pixels[band.top_px : band.bottom_px])
            above = [polygon for polygon in (band.on_page(polygon) for polygon in found) if band.keeps(polygon, above)]
            yield page, above

    def _search(self, pixels: Pixels) -> list[Polygon]:
        """Finds where text stands."""
        height_px, width_px = pixels.shape[:2]
        scale = search_scale(width_px, height_px)
        size_px = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = pixels if scale == 1 else cv2.resize(pixels, size_px, interpolation=method)
        record: dict[str, dict[str, float]] = {}
        try:
            _, found = self._ocr.detect_and_crop(small, record)
        except RapidOCRError:  # its way of saying that there is no text
            return []
        padding_px = record["padding_1"]["top"]
        corners = (np.asarray(found.boxes, dtype=float) - (0.0, padding_px)) / scale
        corners = np.clip(corners, 0.0, (width_px, height_px))
        return [_polygon(box) for box in corners.tolist()]

    def _upright(self, page: _Page, polygons: list[Polygon]) -> tuple[_Page, list[Polygon]]:
        """Turns the page where its lines stand on end or on their heads."""
        if lies_on_its_side(polygons):
            page = page.turned(1)
            polygons = self._search(page.pixels)
        if polygons and self._is_upside_down(page, polygons):
            page = page.turned(2)
            polygons = self._search(page.pixels)
        return page, polygons

    def _is_upside_down(self, page: _Page, polygons: Sequence[Polygon]) -> bool:
        """The classifier is asked about the longest lines; as it errs on short ones, reading both ways decides."""
        longest = sorted(polygons, key=lambda polygon: polygon[0][0] - polygon[1][0])[:_VOTES]
        crops = self._crops(page, longest)
        _, verdict = self._ocr.cls_and_rotate(crops)
        suspects = sum(label == "180" for label, _ in verdict.cls_res or ())
        if suspects * 2 <= len(crops):
            return False
        trials = crops[:_TRIALS]
        as_is = self._ocr.recognize_txt(trials).scores
        turned = self._ocr.recognize_txt([cv2.rotate(crop, cv2.ROTATE_180) for crop in trials]).scores
        return bool(sum(turned) > sum(as_is))

    def _crops(self, page: _Page, polygons: Sequence[Polygon]) -> list[Pixels]:
        crops: list[Pixels] = self._ocr.crop_text_regions(page.pixels, np.array(polygons, dtype=np.float32))
        return crops

    def _read_row(self, page: _Page, polygons: Sequence[Polygon], row: int, text_score: float) -> list[Piece]:
        read = self._ocr.recognize_txt(self._crops(page, polygons))
        return [
            Piece(row, text.strip(), page.as_sent(polygon), round(float(score), 4))
            for text, score, polygon in zip(read.txts or (), read.scores, polygons, strict=True)
            if text.strip() and score >= text_score
        ]


def _decode(picture: bytes) -> Pixels | None:
    if not picture:
        return None
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)


def _polygon(corners: list[list[float]]) -> Polygon:
    a, b, c, d = ((round(x, 1), round(y, 1)) for x, y in corners)
    return a, b, c, d
