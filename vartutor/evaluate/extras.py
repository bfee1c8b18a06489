"""The metrics of published tables beside our own: values per photo, and FID of the whole set.

Those of published tables look at the largest scale, the second ruler ``vgg`` at every one.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from vartutor.data.images import from_uint8, to_uint8
from vartutor.errors import UserError
from vartutor.evaluate.benchmarks import Sample
from vartutor.evaluate.measures import Measure
from vartutor.evaluate.table import Row
from vartutor.metrics_extra import BUILDERS, Fid, extra_metric, make

EXTRA_MEASURES = {
    "vgg": Measure("VGG-16 distance", 3, "lower is better"),
    "lpips": Measure("LPIPS", 3, "lower is better"),
    "dists": Measure("DISTS", 3, "lower is better"),
    "fid": Measure("FID of the whole set", 2, "lower is better"),
    "niqe": Measure("NIQE", 2, "lower is better"),
    "musiq": Measure("MUSIQ", 2, "higher is better"),
    "maniqa": Measure("MANIQA", 3, "higher is better"),
    "clipiqa": Measure("CLIP-IQA", 3, "higher is better"),
}


class Extras:
    """Judges restored photos with metrics of :mod:`vartutor.metrics_extra`.

    Raises:
        UserError: an unknown metric, or one whose package or weights are missing.
    """

    def __init__(self, names: Sequence[str], device: str = "cpu"):
        if unknown := [name for name in names if name not in BUILDERS]:
            raise UserError(f"unknown metric {unknown[0]!r}: choose from {', '.join(BUILDERS)}")
        self.metrics = {name: extra_metric(name, device) for name in names if name != "fid"}
        self.fids: dict[tuple[str, int], Fid] = {}
        self.make_fid = (lambda: make("fid", Fid, device)) if "fid" in names else None
        self.scale = ""

    def __call__(self, photo: Sample, name: str, images: dict[int, Tensor], seed: int = 0) -> Iterator[Row]:
        """The values of what became of a photo, {s: (B, 3, s h, s w)}: means over its crops, of 8 bits as our own."""
        largest = max(photo.hr)
        for s, image in images.items():
            x, clean = (from_uint8(to_uint8(own)) for own in (image, photo.hr[s]))
            for title, metric in self.metrics.items():
                if s == largest or title == "vgg":
                    yield Row(name, seed, photo.name, str(s), title, metric(x, clean).mean().item())
            if self.make_fid and s == largest:
                if (name, seed) not in self.fids:
                    self.fids[name, seed] = self.make_fid()
                self.fids[name, seed].add(x, clean)
                self.scale = str(s)

    def of_the_set(self) -> Iterator[Row]:
        """FID of all photos so far, per restorer and seed.

        Raises:
            UserError: fewer than two images.
        """
        for (name, seed), fid in self.fids.items():
            yield Row(name, seed, "all photos", self.scale, "fid", fid.value().item())
