"""Publish a figure with its caption and its alternative text; grids of photos."""

import io
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vartutor.data.images import to_uint8
from vartutor.errors import UserError

TEXT_WIDTH = 7.2  # inches: the text column of the book at 100 dots per inch
PHOTO_DPI = 80  # photographic figures make up most of a notebook's size


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
    if len(alt) < 30:
        raise UserError(f"alt text {alt!r}: say in 30 characters or more what the figure shows")
    kind = "image/jpeg" if photo else "image/png"
    display(
        {kind: render(figure, photo), "text/plain": caption},
        raw=True,
        metadata={kind: {"alt": alt}, "vartutor": {"caption": caption}},
    )
    display({"text/markdown": f"*{caption}*", "text/plain": ""}, raw=True, metadata={"vartutor": {"role": "caption"}})


def render(figure: Figure, photo: bool = False) -> bytes:
    """A figure as JPEG bytes, or as a PNG of at most 64 colours, a third of the size; closes it."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PHOTO_DPI if photo else "figure")
    plt.close(figure)
    image = Image.open(buffer).convert("RGB")
    if photo:
        image.save(small, "JPEG", quality=65, optimize=True, progressive=True)
    else:
        image.quantize(64, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def draw_image(ax: Axes, image: Tensor, title: str = "", color: str = "black") -> None:
    """One photo, (3, H, W) in [-1, 1] or (H, W) gray, pixels kept square and sharp; title in the concept's colour."""
    if image.ndim == 3:
        ax.imshow(to_uint8(image).permute(1, 2, 0).cpu().numpy())
    else:
        ax.imshow(image.cpu().numpy(), cmap="gray")
    ax.set_title(title, color=color)
    ax.set_axis_off()


def image_grid(
    rows: Sequence[Sequence[Tensor]],
    titles: Sequence[str] | Sequence[Sequence[str]] = (),
    *,
    colors: Sequence[str] = (),
    labels: Sequence[str] = (),
    height: float | None = None,
) -> Figure:
    """A grid of photos.

    Args:
        rows: per row its photos, (3, H, W) in [-1, 1].
        titles: one per column, or one list per row.
        colors: title colour per column.
        labels: words to the left of each row.
        height: of a row in inches.
    """
    columns = max(len(row) for row in rows)
    per_row = bool(titles) and not isinstance(titles[0], str)
    title = 0.22 * (len(rows) if per_row else bool(titles)) / len(rows)  # inches, shared among the rows
    aspect = rows[0][0].shape[-1] / rows[0][0].shape[-2]
    height = height or TEXT_WIDTH / columns / aspect + title
    width = min(TEXT_WIDTH, columns * (height - title) * aspect + 0.2 * bool(labels))
    figure, axes = plt.subplots(len(rows), columns, figsize=(width, height * len(rows)), squeeze=False)
    for r, row in enumerate(rows):
        words = titles[r] if per_row else (titles if r == 0 else ())
        for c, ax in enumerate(axes[r]):
            if c < len(row):
                draw_image(ax, row[c], words[c] if c < len(words) else "", colors[c] if c < len(colors) else "black")
            else:
                ax.set_axis_off()
        if r < len(labels):
            axes[r][0].text(
                -0.06, 0.5, labels[r], rotation=90, va="center", ha="center", transform=axes[r][0].transAxes
            )
    return figure


def contact_sheet(images: Sequence[Tensor], columns: int, size: int = 56) -> np.ndarray:
    """Square thumbnails side by side: (3, H, W) in [-1, 1] each -> (rows * size, columns * size, 3) uint8."""
    sheet = Image.new("RGB", (columns * size, -(-len(images) // columns) * size), "white")
    for i, image in enumerate(images):
        side = min(image.shape[-2:])
        top, left = (image.shape[-2] - side) // 2, (image.shape[-1] - side) // 2
        square = to_uint8(image[:, top : top + side, left : left + side]).permute(1, 2, 0).numpy()
        thumbnail = Image.fromarray(square).resize((size - 2, size - 2), Image.Resampling.LANCZOS)
        sheet.paste(thumbnail, (i % columns * size, i // columns * size))
    return np.asarray(sheet)


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """Running mean over up to ``window`` values before each point; as long as ``values``."""
    total = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(0, end - window)
    return (total[end] - total[start]) / (end - start)
