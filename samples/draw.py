"""Draws the sample pictures: a receipt, a page and a screenshot, each straight and as if photographed.

    python samples/draw.py            writes samples/pictures/*.jpg, *.png and the text each shows, *.txt

Needs Pillow, numpy and the fonts of Debian's packages `fonts-noto-cjk` and `fonts-liberation`. The pictures are
committed, so only who changes them needs the fonts. The same run gives the same pictures.

A text file holds one line per visual row, its cells joined by one blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PICTURES = Path(__file__).parent / "pictures"
SANS = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
SANS_BOLD = "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc"
SERIF = "/usr/share/fonts/truetype/liberation/LiberationSerif-Regular.ttf"
SERIF_BOLD = "/usr/share/fonts/truetype/liberation/LiberationSerif-Bold.ttf"
SIMPLIFIED_CHINESE_FACE = 2
EXIF_ORIENTATION = 0x0112


def font(path: str, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size_px, index=SIMPLIFIED_CHINESE_FACE if path.endswith(".ttc") else 0)


@dataclass
class Sheet:
    """A picture being drawn, and the rows of text on it from the top down."""

    width_px: int
    height_px: int
    background: str = "white"
    rows: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new("RGB", (self.width_px, self.height_px), self.background)
        self.pen = ImageDraw.Draw(self.image)

    def row(self, y_px: int, cells: Sequence[tuple[int, str, str]], face: ImageFont.FreeTypeFont, fill: str) -> None:
        """Writes cells `(x_px, anchor, text)` on one visual row; `y_px` is its middle."""
        for x_px, anchor, text in cells:
            self.pen.text((x_px, y_px), text, font=face, fill=fill, anchor=anchor)
        self.rows.append(" ".join(text for _, _, text in cells))


RECEIPT_ITEMS = (
    ("鲜牛奶950ml", "2", "15.80", "31.60"),
    ("全麦吐司面包", "1", "12.90", "12.90"),
    ("红富士苹果", "1.36", "9.98", "13.57"),
    ("土鸡蛋15枚", "1", "23.80", "23.80"),
    ("东北大米5kg", "1", "42.00", "42.00"),
    ("老坛酸菜方便面", "3", "4.50", "13.50"),
    ("清风抽纸3层", "2", "18.90", "37.80"),
    ("海天生抽500ml", "1", "11.50", "11.50"),
)


def draw_receipt() -> Sheet:
    """A supermarket's till slip, 80 mm wide."""
    sheet = Sheet(640, 1130, "#fdfdfb")
    ink, middle, left, right = "#222222", 320, 40, 600
    text, bold, title = font(SANS, 25), font(SANS_BOLD, 29), font(SANS_BOLD, 40)
    sheet.row(62, [(middle, "mm", "惠民生活超市")], title, ink)
    sheet.row(110, [(middle, "mm", "中山路店 欢迎光临")], text, ink)
    details = (
        "地址：杭州市上城区中山中路218号",
        "电话：0571-8706 3321",
        "单号：20260318-0047",
        "收银员：陈丽华 03号机",
    )
    y_px = 158
    for line in details:
        sheet.row(y_px, [(left, "lm", line)], text, ink)
        y_px += 37
    sheet.row(y_px, [(left, "lm", "时间：2026-03-18 18:42:07")], text, ink)
    y_px += 30
    sheet.pen.line((left, y_px, right, y_px), fill=ink, width=2)
    y_px += 30
    columns = ((left, "lm"), (345, "rm"), (470, "rm"), (right, "rm"))
    for cells in (("品名", "数量", "单价", "金额"), *RECEIPT_ITEMS):
        sheet.row(y_px, [(x, a, t) for (x, a), t in zip(columns, cells, strict=True)], text, ink)
        y_px += 42
    sheet.pen.line((left, y_px - 8, right, y_px - 8), fill=ink, width=2)
    y_px += 24
    for label, amount, face in (
        ("商品件数", "12", text),
        ("会员优惠", "-6.67", text),
        ("应付合计", "180.00", bold),
        ("微信支付", "180.00", text),
        ("本次积分", "180", text),
    ):
        sheet.row(y_px, [(left, "lm", label), (right, "rm", amount)], face, ink)
        y_px += 42
    sheet.pen.line((left, y_px - 6, right, y_px - 6), fill=ink, width=2)
    for line in ("请保留小票，七日内凭票退换", "谢谢惠顾，欢迎再次光临！"):
        y_px += 34
        sheet.row(y_px, [(middle, "mm", line)], text, ink)
    return sheet


PAGE_TITLE = "The Lighthouse at Marrow Point"
PAGE_PARAGRAPHS = (
    (
        "When the keeper's daughter first climbed the stairs alone, she",
        "counted one hundred and forty-two of them, and every one rang",
        "under her boots like a small iron bell. Nobody had told her that",
        "the lamp would be warm, or that the glass around it would be",
        "taller than a man.",
    ),
    (
        "Her father kept three books on the shelf beside the stove. The",
        "first held the names of ships, the second the heights of tides,",
        "and the third was empty except for a date: 14 October 1887. He",
        "never said what had happened on that day, and she learned not",
        "to ask while the wind was from the north.",
    ),
    (
        "In the spring of her eleventh year a surveyor came with brass",
        "instruments and a dog called Admiral. He measured the rock, the",
        "tower and the shadow of the tower, wrote down 38.6 metres, and",
        'stayed for supper. "You could see sixteen miles from here," he',
        'said, "if there were anything out there to see."',
    ),
    (
        "She kept that sentence for a long time. Years later, when she",
        "had a lamp of her own to mind, she would still look up from the",
        "ledger at dusk, wipe the salt from the window with her sleeve,",
        "and search the grey line where the water ended, quite sure that",
        "the surveyor had simply not waited long enough.",
    ),
)


def draw_page() -> Sheet:
    """A page of English prose out of a book."""
    sheet = Sheet(1000, 1400, "#fffefa")
    ink, text = "#1a1a1a", font(SERIF, 29)
    sheet.row(120, [(500, "mm", PAGE_TITLE)], font(SERIF_BOLD, 42), ink)
    y_px = 220
    for paragraph in PAGE_PARAGRAPHS:
        for line in paragraph:
            sheet.row(y_px, [(110, "lm", line)], text, ink)
            y_px += 46
        y_px += 22
    sheet.row(1330, [(500, "mm", "- 27 -")], text, ink)
    return sheet


SETTINGS = (
    ("界面语言 Language", "简体中文"),
    ("主题 Theme", "跟随系统 (Auto)"),
    ("默认模型 Default model", "local-ocr-vision"),
    ("图片上限 Max image size", "20 MB"),
    ("请求超时 Timeout", "60 s"),
    ("流式输出 Streaming", "已开启 ON"),
)
LOG_LINES = (
    ("18:42:07", "INFO", "网关已启动 http://127.0.0.1:8000"),
    ("18:42:31", "WARN", "后端 spark 未配置，已跳过"),
    ("18:43:02", "INFO", "识别完成 receipt.jpg 27 行 1.2 s"),
)


def draw_screenshot() -> Sheet:
    """The settings window of an application, Chinese and English mixed."""
    sheet = Sheet(1200, 900, "#f3f4f6")
    ink, grey, blue = "#1f2937", "#6b7280", "#1d4ed8"
    text, small, bold = font(SANS, 24), font(SANS, 20), font(SANS_BOLD, 26)
    pen = sheet.pen
    pen.rectangle((0, 0, 1200, 56), fill="#1f2937")
    for x_px, colour in ((30, "#ef4444"), (58, "#f59e0b"), (86, "#22c55e")):
        pen.ellipse((x_px - 9, 19, x_px + 9, 37), fill=colour)
    sheet.row(28, [(600, "mm", "图问 Tuwen - 系统设置 Settings")], text, "#f9fafb")
    tabs = [
        (80, "lm", "常规 General"),
        (330, "lm", "模型 Models"),
        (570, "lm", "密钥 API Keys"),
        (830, "lm", "用量 Usage"),
    ]
    sheet.row(100, tabs, bold, ink)
    pen.line((80, 126, 245, 126), fill=blue, width=4)
    pen.rounded_rectangle((60, 150, 1140, 560), 14, fill="white", outline="#d1d5db", width=2)
    y_px = 186
    for label, value in SETTINGS:
        sheet.row(y_px, [(100, "lm", label), (1100, "rm", value)], text, ink)
        if y_px < 500:
            pen.line((100, y_px + 33, 1100, y_px + 33), fill="#e5e7eb", width=2)
        y_px += 67
    sheet.row(600, [(60, "lm", "最近日志 Recent logs")], bold, ink)
    pen.rectangle((60, 630, 1140, 780), fill="#111827")
    for index, (time, level, message) in enumerate(LOG_LINES):
        cells = [(84, "lm", time), (220, "lm", level), (320, "lm", message)]
        sheet.row(660 + 45 * index, cells, small, "#d1fae5")
    pen.rounded_rectangle((740, 808, 920, 862), 10, fill="white", outline="#9ca3af", width=2)
    pen.rounded_rectangle((950, 808, 1140, 862), 10, fill=blue)
    buttons = [(60, "lm", "版本 v0.1.0 (build 318)"), (830, "mm", "取消 Cancel"), (1045, "mm", "保存 Save")]
    for (x_px, anchor, label), colour in zip(buttons, (grey, ink, "white"), strict=True):
        pen.text((x_px, 835), label, font=text, fill=colour, anchor=anchor)
    sheet.rows.append(" ".join(label for _, _, label in buttons))
    return sheet


@dataclass(frozen=True)
class Shot:
    """How a sheet was photographed.

    Args:
        corners: where its corners come to lie, as parts of the photo's width and height, clockwise from top left.
        shadow: direction of the shadow's edge in degrees, and how dark it gets, 0..1.
        exif_orientation: how the camera was held: 6 and 8 are upright telephones, whose sensor lies on its side.
    """

    size_px: tuple[int, int]
    corners: tuple[tuple[float, float], ...]
    shadow: tuple[float, float]
    exif_orientation: int
    desk: tuple[int, int, int]
    seed: int


def perspective(corners: Sequence[tuple[float, float]], width_px: int, height_px: int) -> list[float]:
    """The eight coefficients that take a place in the photo to its place on the sheet."""
    sheet = ((0, 0), (width_px, 0), (width_px, height_px), (0, height_px))
    rows, places = [], []
    for (x, y), (u, v) in zip(corners, sheet, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
        places += [u, v]
    return np.linalg.solve(np.array(rows, dtype=float), np.array(places, dtype=float)).tolist()


def shade(pixels: np.ndarray, shot: Shot, random: np.random.Generator) -> np.ndarray:
    """Uneven light, the soft edge of a shadow, warm white balance, sensor noise."""
    height_px, width_px = pixels.shape[:2]
    y, x = np.mgrid[0:height_px, 0:width_px] / max(height_px, width_px)
    degrees, depth = shot.shadow
    along = x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees))
    edge = 1 / (1 + np.exp(-(along - along.mean()) * 9))
    light = (1.0 - depth * edge) * (1.0 - 0.25 * ((x - 0.35) ** 2 + (y - 0.3) ** 2))
    lit = pixels * light[..., None] * np.array([1.0, 0.975, 0.93])
    grain = random.normal(0.0, 4.0, (height_px, width_px, 1)) + random.normal(0.0, 1.5, pixels.shape)
    return np.clip(lit + grain, 0, 255).astype(np.uint8)


def photograph(sheet: Sheet, shot: Shot) -> Image.Image:
    """The sheet on a desk, as a hand-held camera sees it; upright."""
    random = np.random.default_rng(shot.seed)
    width_px, height_px = shot.size_px
    corners = [(x * width_px, y * height_px) for x, y in shot.corners]
    coefficients = perspective(corners, sheet.width_px, sheet.height_px)
    laid = sheet.image.transform(shot.size_px, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC)
    mask = Image.new("L", sheet.image.size, 255).transform(
        shot.size_px, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
    wood = random.normal(0.0, 9.0, (height_px, 1, 1)).cumsum(axis=0)
    wood = 10 * np.sin(wood / 12) + np.array(shot.desk, dtype=float)
    desk = Image.fromarray(np.broadcast_to(np.clip(wood, 0, 255), (height_px, width_px, 3)).astype(np.uint8))
    cast = mask.filter(ImageFilter.GaussianBlur(14)).point(lambda value: value // 2)
    desk.paste((25, 20, 15), (10, 14), cast)
    desk.paste(laid, (0, 0), mask)
    soft = desk.filter(ImageFilter.GaussianBlur(0.7))
    return Image.fromarray(shade(np.asarray(soft, dtype=float), shot, random))


def save_photo(photo: Image.Image, path: Path, orientation: int) -> None:
    """Writes the sensor's view and the EXIF note that turns it upright."""
    turn = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    photo.transpose(turn).save(path, quality=80, exif=exif, optimize=True)


SHOTS = {
    "receipt": Shot(
        size_px=(960, 1280),
        corners=((0.20, 0.05), (0.79, 0.075), (0.865, 0.95), (0.135, 0.925)),
        shadow=(35.0, 0.50),
        exif_orientation=6,
        desk=(122, 88, 60),
        seed=11,
    ),
    "page": Shot(
        size_px=(1080, 1440),
        corners=((0.06, 0.06), (0.93, 0.025), (0.97, 0.955), (0.025, 0.97)),
        shadow=(160.0, 0.45),
        exif_orientation=8,
        desk=(70, 74, 82),
        seed=12,
    ),
    "screenshot": Shot(
        size_px=(1400, 1080),
        corners=((0.055, 0.10), (0.955, 0.05), (0.93, 0.93), (0.085, 0.95)),
        shadow=(80.0, 0.35),
        exif_orientation=6,
        desk=(40, 42, 46),
        seed=13,
    ),
}


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    for name, draw, suffix in (
        ("receipt", draw_receipt, "jpg"),
        ("page", draw_page, "jpg"),
        ("screenshot", draw_screenshot, "png"),
    ):
        sheet, shot = draw(), SHOTS[name]
        straight, photo = PICTURES / f"{name}.{suffix}", PICTURES / f"{name}-photo.jpg"
        sheet.image.save(straight, quality=88, optimize=True)
        save_photo(photograph(sheet, shot), photo, shot.exif_orientation)
        for picture in (straight, photo):
            picture.with_suffix(".txt").write_text("\n".join(sheet.rows) + "\n", encoding="utf-8")
            print(f"{picture.name}: {picture.stat().st_size / 1024:.0f} KiB, {len(sheet.rows)} lines")


if __name__ == "__main__":
    main()
