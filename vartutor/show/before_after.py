"""Two photos, one over the other, and a slider that says how much of each is seen: in JupyterLab and in the book."""

import base64
import io
from html import escape

from IPython.display import HTML
from torch import Tensor

from vartutor.data.images import to_pil
from vartutor.errors import UserError
from vartutor.show.figures import TEXT_PIXELS, check_alt

# JupyterLab would take the arrow keys for itself without the `data-lm-…`.
PAGE = """<div class="before-after" style="--seen: 50%; width: {width}px; max-width: 100%">
<div style="position: relative">
<img src="{before}" alt="{alt}" style="display: block; width: 100%; image-rendering: pixelated">
<img src="{after}" alt="{right}" style="position: absolute; top: 0; left: 0; width: 100%;
 image-rendering: pixelated; clip-path: inset(0 0 0 var(--seen))">
</div>
<input type="range" min="0" max="100" value="50" style="width: 100%; margin: 6px 0 0" aria-label="{label}"
 data-lm-suppress-shortcuts="true"
 oninput="this.closest('.before-after').style.setProperty('--seen', this.value + '%')">
<div style="display: flex; justify-content: space-between"><span>{left}</span><span>{right}</span></div>
</div>"""


def before_after(before: Tensor, after: Tensor, names: tuple[str, str], alt: str) -> HTML:
    """Left of the slider the one, right of it the other; arrow keys move it.

    Args:
        before, after: (3, H, W) in [-1, 1], of equal size; enlarged by a whole number, as far as the column allows.
        names: what they are, in that order.
        alt: what is to be seen, for readers who do not see it: at least 30 characters.

    Raises:
        UserError: different sizes, or a short text.
    """
    if before.shape != after.shape:
        raise UserError(f"photos of {tuple(before.shape)} and {tuple(after.shape)}: only equal sizes can be compared")
    check_alt(alt)
    times = max(TEXT_PIXELS // before.shape[-1], 1)
    words = {"alt": alt, "label": f"how much of {names[0]} is seen", "left": names[0], "right": names[1]}
    pictures = {"before": _address(before), "after": _address(after)}
    width = min(times * before.shape[-1], TEXT_PIXELS)
    return HTML(PAGE.format(width=width, **pictures, **{key: escape(w) for key, w in words.items()}))


def _address(image: Tensor) -> str:
    buffer = io.BytesIO()
    to_pil(image).save(buffer, "JPEG", quality=95, subsampling=0)  # the browser enlarges it
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
