"""A panel for a reader's own photo: choose a file, restore it at three sizes, compare by a slider."""

import io
import time
from html import escape

import ipywidgets
import torch

from vartutor.data.images import read_image
from vartutor.data.pairs import SCALES, upscale_bicubic
from vartutor.errors import UserError, first_line
from vartutor.show.before_after import before_after
from vartutor.show.widgets import slider
from vartutor.superres import SuperResolver

MODELS = {"detail: draws detail over a plain net's picture": "detail", "course: the model of chapter 07": "course"}
PIECES = {"a piece from the middle, 96 pixels a side": 96, "a larger piece, 256 pixels a side": 256, "all of it": 4096}
RATE = 6e-4  # seconds per pixel on two cores, until this machine has shown its own
AGAIN = "More boldness or another seed, and once more: what changes was drawn, what stays was seen."
ROOMY = {"style": {"description_width": "9em"}, "layout": ipywidgets.Layout(width="34em")}


class TryIt(ipywidgets.VBox):
    """Photo in, three photos out. A click on `Restore` blocks the kernel until it is done; interrupting stops it."""

    def __init__(self):
        self.file = ipywidgets.FileUpload(accept="image/*", multiple=False, description="your photo")
        self.piece = ipywidgets.Dropdown(options=PIECES, description="restore", **ROOMY)
        self.model = ipywidgets.Dropdown(options=MODELS, description="model", **ROOMY)
        self.fidelity = slider("true to the photo", 1.0, 0.0, 1.0, 0.1)
        self.boldness = slider("boldness", 0.5, 0.1, 1.5, 0.1)
        self.seed = slider("seed", 0, 0, 20, 1)
        self.button = ipywidgets.Button(description="Restore", button_style="primary", disabled=True)
        self.bar = ipywidgets.IntProgress(max=1, layout=ipywidgets.Layout(width="16em"))
        self.said = ipywidgets.HTML("Choose a photo. It stays on this machine.")
        self.results = ipywidgets.Tab()
        self.photo, self.rate = None, {}  # by model, once one has restored a photo here
        for control in (self.file, self.piece, self.model):
            control.observe(self._look, names="value")
        self.button.on_click(self._restore)
        knobs = [self.file, self.piece, self.model, self.fidelity, self.boldness, self.seed]
        super().__init__([*knobs, ipywidgets.HBox([self.button, self.bar]), self.said, self.results])

    def _look(self, _) -> None:
        """Read the chosen file, and say what is to come."""
        self.photo, self.bar.value = None, 0
        try:
            if self.file.value:
                self.photo = _middle(_read(self.file.value[0]), self.piece.value)
                self.said.value = escape(self._forecast())
        except UserError as error:
            self.said.value = f"<b>{escape(first_line(error))}</b>"
        self.button.disabled = self.photo is None

    def _forecast(self) -> str:
        height, width = self.photo.shape[-2:]
        seconds = self.rate.get(self.model.value, RATE) * height * width
        time_words = f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"
        return f"{width} × {height} pixels become up to {4 * width} × {4 * height}. Expected: about {time_words}."

    def _restore(self, _) -> None:
        self.button.disabled, began = True, time.perf_counter()
        try:
            self._show(self._run())
            seconds = time.perf_counter() - began
            self.rate[self.model.value] = seconds / self.photo[0].numel()
            self.said.value = f"Done in {seconds:.0f} seconds. {AGAIN}"
        except UserError as error:
            self.said.value = f"<b>{escape(first_line(error))}</b>"
        finally:
            self.button.disabled = False

    def _run(self) -> dict[int, torch.Tensor]:
        resolver = SuperResolver.from_pretrained(self.model.value, batch=8)  # the bar moves often

        def progress(done: int, total: int) -> None:
            self.bar.max, self.bar.value = total, done

        options = {"fidelity": self.fidelity.value, "temperature": self.boldness.value, "seed": self.seed.value}
        return resolver.upscale(self.photo, progress=progress, **options)

    def _show(self, images: dict[int, torch.Tensor]) -> None:
        enlarged = upscale_bicubic(self.photo[None], SCALES)
        pages = []
        for s, image in images.items():
            names = "as it was, enlarged", f"restored, ×{s}"
            alt = f"Your photo at ×{s}: left of the slider as it was, enlarged; right of it restored."
            pages.append(ipywidgets.HTML(before_after(enlarged[s][0], image, names, alt).data))
        self.results.children = pages
        for i, s in enumerate(images):
            self.results.set_title(i, f"×{s}")
        self.results.selected_index = len(pages) - 1


def _read(upload: dict) -> torch.Tensor:
    """(3, H, W) in [-1, 1] of an uploaded file; ``UserError`` if it is no photo."""
    file = io.BytesIO(upload["content"])
    file.name = upload["name"]  # for the line that says what is wrong
    return read_image(file)


def _middle(photo: torch.Tensor, side: int) -> torch.Tensor:
    """(3, H, W) -> (3, h, w), its middle, at most ``side`` pixels a side."""
    height, width = photo.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return photo[:, top : top + side, left : left + side]
