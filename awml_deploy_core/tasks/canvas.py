"""Pictures for reports: an image in panels side by side, with boxes, tags and a legend on them.

Colours and sizes are chosen so that a picture of two panels can be read on half a screen, by readers who do not tell
red from green too: classes differ in lightness as well, and every tag has its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from attrs import define, field, frozen
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from awml_deploy_core.tasks.draw import fit

__all__ = [
    "GREY",
    "WHITE",
    "Colour",
    "Panel",
    "Tag",
    "colour",
    "encode",
    "font",
    "legend",
    "photograph",
    "stack",
    "tally",
]

Colour = tuple[int, int, int]
Place = tuple[float, float, float, float]

PAGE: Colour = (17, 20, 26)
STRIP: Colour = (33, 38, 48)
WHITE: Colour = (245, 247, 250)
GREY: Colour = (150, 158, 170)
WIDE = 640
"""Width of a panel in pixels."""

_HUES: tuple[Colour, ...] = (
    (86, 180, 233),
    (255, 176, 0),
    (60, 200, 120),
    (255, 94, 91),
    (204, 140, 255),
    (240, 228, 66),
    (255, 145, 200),
    (64, 224, 208),
    (190, 150, 110),
    (140, 165, 255),
    (170, 220, 90),
    (255, 130, 60),
)
_INK: Colour = (10, 12, 16)
_TITLE, _TAG, _GAP, _PAD, _DASH, _RIM = 17, 13, 8, 8, 5, 4


def colour(label: int) -> Colour:
    """The colour of a class; the same in every picture, and after a dozen they come again."""
    return _HUES[label % len(_HUES)]


@cache
def font(size: int) -> Any:
    """The font that comes with Pillow."""
    return ImageFont.load_default(size)


def photograph(image: np.ndarray[Any, Any], width: int = WIDE) -> tuple[Image.Image, float]:
    """An image of any element type at the size of a panel, a little darker so that lines stand out, and its scale.

    Small images are enlarged up to eight times; tall ones become no higher than a panel and a half is wide.
    """
    pixels = fit(np.asarray(image), max(image.shape[:2]))
    high, wide = pixels.shape[:2]
    scale = min(width / wide, width * 1.5 / high, 8.0)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    scaled = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX)
    return ImageEnhance.Brightness(scaled).enhance(0.82), scale


@frozen(kw_only=True)
class Tag:
    """Words on a field of colour that belong to a box."""

    text: str
    box: Place
    colour: Colour


@define(kw_only=True)
class Panel:
    """A picture that is being drawn on, and where its tags are already."""

    image: Image.Image
    taken: list[Place] = field(factory=list)

    @property
    def _pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def box(self, place: Place, hue: Colour, *, width: int = 2, dashed: bool = False) -> None:
        """Draw the outline of a box, with a dark rim or dark gaps, so that it can be seen on any ground."""
        clipped = self._clipped(place)
        if clipped is None:
            return
        x1, y1, x2, y2 = clipped
        if dashed:
            self._pen.rectangle(clipped, outline=_INK, width=width)
            self._dashes(clipped, hue, width)
        else:
            self._pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=_INK, width=width + 2)
            self._pen.rectangle(clipped, outline=hue, width=width)

    def tag(self, tag: Tag) -> bool:
        """Write words at a box, where they hide no other words; answers whether there was room."""
        if self._clipped(tag.box) is None:
            return False
        pen = self._pen
        left, _, right, _ = pen.textbbox((0, 0), tag.text, font=font(_TAG))
        wide, high = right - left + 8, _TAG + 6
        for x, y in self._spots(tag.box, wide, high):
            place = (x, y, x + wide, y + high)
            if self._inside(place) and not any(_meet(place, other) for other in self.taken):
                self.taken.append(place)
                pen.rounded_rectangle(place, radius=3, fill=tag.colour)
                pen.text((x + 4 - left, y + high / 2), tag.text, font=font(_TAG), fill=_ink(tag.colour), anchor="lm")
                return True
        return False

    def titled(self, title: str, note: str = "") -> Image.Image:
        """The panel below a strip with its title, and a note at the right."""
        strip = Image.new("RGB", (self.image.width, _TITLE + 2 * _PAD), STRIP)
        pen = ImageDraw.Draw(strip)
        middle, room = strip.height / 2, strip.width - 2 * _PAD
        shown = _cut(pen, title, _TITLE, room)
        pen.text((_PAD, middle), shown, font=font(_TITLE), fill=WHITE, anchor="lm")
        left = room - pen.textlength(shown, font=font(_TITLE)) - 2 * _PAD
        words = _cut(pen, note, _TAG, left)
        pen.text((strip.width - _PAD, middle), words, font=font(_TAG), fill=GREY, anchor="rm")
        return stack([strip, self.image], columns=1, gap=0)

    def _dashes(self, place: tuple[int, int, int, int], hue: Colour, width: int) -> None:
        """Bars along the four edges, inside the box as Pillow draws its outlines."""
        x1, y1, x2, y2 = place
        inner = width - 1
        for x in range(x1, x2 + 1, _DASH * 2):
            for y in (y1, y2 - inner):
                self._pen.rectangle((x, y, min(x + _DASH, x2), y + inner), fill=hue)
        for y in range(y1, y2 + 1, _DASH * 2):
            for x in (x1, x2 - inner):
                self._pen.rectangle((x, y, x + inner, min(y + _DASH, y2)), fill=hue)

    def _clipped(self, place: Place) -> tuple[int, int, int, int] | None:
        """Whole pixels, no farther outside than a line is wide, or None where nothing of the box can be seen."""
        wide, high = self.image.size
        x1, x2 = sorted((place[0], place[2]))
        y1, y2 = sorted((place[1], place[3]))
        if x2 < 0 or y2 < 0 or x1 > wide or y1 > high:
            return None
        edges = max(x1, -_RIM), max(y1, -_RIM), min(x2, wide + _RIM), min(y2, high + _RIM)
        left, top, right, bottom = (round(edge) for edge in edges)
        return left, top, max(right, left + _RIM), max(bottom, top + _RIM)

    def _spots(self, box: Place, wide: float, high: float) -> Iterable[tuple[float, float]]:
        """Where words may stand: above, below, inside above, inside below, each at the left and at the right."""
        x1, y1, x2, y2 = box
        for y in (y1 - high - 2, y2 + 2, y1 + 2, y2 - high - 2):
            for x in (x1 - 1, x2 - wide + 1):
                yield min(max(x, 1.0), self.image.width - wide - 1), min(max(y, 1.0), self.image.height - high - 1)

    def _inside(self, place: Place) -> bool:
        return place[0] >= 0 and place[1] >= 0 and place[2] <= self.image.width and place[3] <= self.image.height


def legend(entries: Sequence[tuple[str, Colour]], width: int) -> Image.Image:
    """Names beside their colours, in as many lines as they need."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    spots: list[tuple[float, int]] = []
    x, line = float(_PAD), 0
    for name, _ in entries:
        wide = pen.textlength(name, font=font(_TAG)) + 2 * _TAG + _PAD
        if spots and x + wide > width:
            x, line = float(_PAD), line + 1
        spots.append((x, line))
        x += wide
    high = _TAG + _PAD
    strip = Image.new("RGB", (width, (line + 1) * high + _PAD), PAGE)
    pen = ImageDraw.Draw(strip)
    for (name, hue), (left, row) in zip(entries, spots, strict=True):
        middle = _PAD / 2 + row * high + high / 2
        pen.rounded_rectangle((left, middle - 5, left + 10, middle + 5), radius=2, fill=hue)
        pen.text((left + _TAG + 3, middle), name, font=font(_TAG), fill=WHITE, anchor="lm")
    return strip


def tally(
    title: str, columns: Sequence[str], rows: Sequence[tuple[str, Colour, Sequence[int]]], size: tuple[int, int]
) -> Image.Image:
    """A panel of numbers: a line per name with its colour, a column per panel; what finds no room is counted.

    Args:
        title: Above it.
        columns: What the numbers are of.
        rows: Names, colours and a number per column, the most important first.
        size: Width and height of the whole, its title included.
    """
    panel = Panel(image=Image.new("RGB", (size[0], size[1] - _TITLE - 2 * _PAD), STRIP))
    pen = ImageDraw.Draw(panel.image)
    line = _TAG + _PAD
    room = max((panel.image.height - _PAD) // line - 1, 1)
    shown = rows if len(rows) <= room else rows[: room - 1]
    step = (size[0] - 2 * _PAD) * 0.6 / max(len(columns), 1)
    rights = [size[0] - _PAD - step * place for place in reversed(range(len(columns)))]
    for right, column in zip(rights, columns, strict=True):
        words = _cut(pen, column, _TAG, step - _PAD)
        pen.text((right, line / 2 + _PAD / 2), words, font=font(_TAG), fill=GREY, anchor="rm")
    for place, (name, hue, numbers) in enumerate(shown, start=1):
        middle = line * (place + 0.5) + _PAD / 2
        pen.rounded_rectangle((_PAD, middle - 5, _PAD + 10, middle + 5), radius=2, fill=hue)
        words = _cut(pen, name, _TAG, size[0] * 0.4 - _TAG - 3 * _PAD)
        pen.text((_PAD + _TAG + 3, middle), words, font=font(_TAG), fill=WHITE, anchor="lm")
        for right, number in zip(rights, numbers, strict=True):
            pen.text((right, middle), str(number), font=font(_TAG), fill=WHITE if number else GREY, anchor="rm")
    if len(shown) < len(rows):
        middle = line * (len(shown) + 1.5) + _PAD / 2
        words = f"and {len(rows) - len(shown)} classes more"
        pen.text((_PAD + _TAG + 3, middle), words, font=font(_TAG), fill=GREY, anchor="lm")
    return panel.titled(title)


def stack(pictures: Sequence[Image.Image], *, columns: int, gap: int = _GAP) -> Image.Image:
    """Pictures in rows of so many, all as far apart as `gap`."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    wide = max(sum(one.width for one in row) + gap * (len(row) - 1) for row in rows)
    high = sum(max(one.height for one in row) for row in rows) + gap * (len(rows) - 1)
    whole = Image.new("RGB", (wide, high), PAGE)
    y = 0
    for row in rows:
        x = 0
        for one in row:
            whole.paste(one, (x, y))
            x += one.width + gap
        y += max(one.height for one in row) + gap
    return whole


def encode(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _cut(pen: ImageDraw.ImageDraw, text: str, size: int, room: float) -> str:
    """As much of a text as there is room for."""
    if pen.textlength(text, font=font(size)) <= room:
        return text
    while text and pen.textlength(f"{text}…", font=font(size)) > room:
        text = text[:-1]
    return f"{text}…" if text else ""


def _ink(ground: Colour) -> Colour:
    red, green, blue = ground
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else WHITE


def _meet(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
