"""Publish a figure with its caption and its alternative text; grids of photos."""

import io
import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vartutor.data.images import to_pil
from vartutor.errors import UserError
from vartutor.show import ink

TEXT_WIDTH = 7.2  # inches: the text column of the book at 100 dots per inch
TEXT_PIXELS = round(100 * TEXT_WIDTH)
LINE, GAP = 17, 4  # pixels: a line of a title, and what lies between photos


def show(figure: Figure, caption: str, alt: str, *, photo: bool = False) -> None:
    """Display a figure, its caption and its text for readers who do not see it; then close it.

    The book turns the output into a numbered figure. Photographic figures are stored as JPEG, which
    keeps notebooks small; plots as PNG without time stamps, so that equal figures are equal bytes.

    Args:
        caption: one sentence that says what to see.
        alt: at least 30 characters that say what is drawn.

    Raises:
        UserError: the alternative text is too short.
    """
    check_alt(alt)
    kind = "image/jpeg" if photo else "image/png"
    display(
        {kind: render(figure, photo), "text/plain": caption},
        raw=True,
        metadata={kind: {"alt": alt}, "vartutor": {"caption": caption}},
    )
    display({"text/markdown": f"*{caption}*", "text/plain": ""}, raw=True, metadata={"vartutor": {"role": "caption"}})


def check_alt(alt: str) -> None:
    """``UserError`` where an alternative text is too short to say anything."""
    if len(alt) < 30:
        raise UserError(f"alt text {alt!r}: say in 30 characters or more what the figure shows")


def render(figure: Figure, photo: bool = False) -> bytes:
    """A figure as JPEG bytes, or as a PNG of at most 64 colours, a third of the size; closes it."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi="figure")
    plt.close(figure)
    image = Image.open(buffer).convert("RGB")
    if photo:
        image.save(small, "JPEG", quality=90, subsampling=0)
    else:
        image.quantize(64, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def image_grid(
    rows: Sequence[Sequence[Tensor]],
    titles: Sequence[str] | Sequence[Sequence[str]] = (),
    *,
    colors: Sequence[str] = (),
    labels: Sequence[str] = (),
    width: int = TEXT_PIXELS,
) -> Figure:
    """A grid of photos, each enlarged by a whole number, so that every pixel is a square of equal size.

    The largest photo decides the width of all columns; smaller ones are enlarged further, to the same width. Photos
    that do not fit into ``width`` are shrunk.

    Args:
        rows: per row its photos, (3, H, W) in [-1, 1].
        titles: one per column, or one list per row; long ones are wrapped.
        colors: title colour per column.
        labels: words to the left of each row.
        width: of the whole figure at most, in pixels.
    """
    columns, left = max(len(row) for row in rows), (LINE + GAP) * bool(labels)
    room = (width - left - GAP * (columns - 1)) // columns
    side = max(image.shape[-1] for row in rows for image in row)
    cell = max(1, room // side) * side if side <= room else room
    pictures = [[_enlarged(image, cell) for image in row] for row in rows]
    per_row = bool(titles) and not isinstance(titles[0], str)
    letters = max(8, round(cell / 7.4))  # that fit into a line of a title
    words = [
        [textwrap.fill(w, letters) for w in (titles[r] if per_row else titles if r == 0 else ())]
        for r in range(len(rows))
    ]
    heads = [max((GAP + LINE * (1 + w.count("\n")) for w in line if w), default=0) for line in words]
    tall = [max(len(picture) for picture in row) for row in pictures]
    size = left + columns * (cell + GAP) - GAP, sum(heads) + sum(tall) + GAP * (len(rows) - 1)
    figure, top = plt.figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="none"), size[1]
    for r, row in enumerate(pictures):
        top -= heads[r] + tall[r]
        if r < len(labels):
            figure.text(
                LINE / 2 / size[0], (top + tall[r] / 2) / size[1], labels[r], rotation=90, va="center", ha="center"
            )
        for c, picture in enumerate(row):
            x, (h, w) = left + c * (cell + GAP), picture.shape[:2]
            ax = figure.add_axes((x / size[0], (top + tall[r] - h) / size[1], w / size[0], h / size[1]))
            ax.imshow(picture)
            ax.set_axis_off()
            if c < len(words[r]):
                ax.set_title(words[r][c], color=ink(colors[c]) if c < len(colors) else "black", pad=3)
        top -= GAP
    return figure


def _enlarged(image: Tensor, cell: int) -> np.ndarray:
    """(3, H, W) in [-1, 1] -> uint8 of up to ``cell`` pixels a row, by a whole number, or shrunk to ``cell``."""
    pixels = np.asarray(to_pil(image))
    height, width = pixels.shape[:2]
    if width > cell:
        small = (cell, max(1, round(height * cell / width)))
        return np.asarray(Image.fromarray(pixels).resize(small, Image.Resampling.LANCZOS))
    return pixels.repeat(cell // width, axis=0).repeat(cell // width, axis=1)


def contact_sheet(images: Sequence[Tensor], columns: int, size: int = 56) -> np.ndarray:
    """Square thumbnails side by side: (3, H, W) in [-1, 1] each -> (rows * size, columns * size, 3) uint8."""
    sheet = Image.new("RGB", (columns * size, -(-len(images) // columns) * size), "white")
    for i, image in enumerate(images):
        side = min(image.shape[-2:])
        top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
        square = to_pil(image[:, top : top + side, left : left + side])
        thumbnail = square.resize((size - 2, size - 2), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (i % columns * size, i // columns * size))
    return np.asarray(sheet)


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over up to ``window`` values before each point; as long as ``values``."""
    total = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)
