"""What a run looks at while it trains: validation photos, damaged as the run's own are, on the run's device."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vartutor.data.images import write_image
from vartutor.data.photos import load_pixels
from vartutor.metrics import psnr
from vartutor.paths import make_folder
from vartutor.perceptual import PerceptualDistance
from vartutor.train.job import InForward, Job
from vartutor.train.loop import Moment
from vartutor.train.processes import Process
from vartutor.train.settings import Settings
from vartutor.train.source import Batch, StoreSource

HELD_OUT, SHOWN = 32, 4  # photos of a validation, and of a sample image


class Look:
    """Measures and shows a model as it is, always on the same photos.

    Args:
        outer: the model, as the trainer calls it.
    """

    def __init__(self, job: Job, outer: InForward, run: Settings, process: Process):
        self.job, self.outer, self.process = job, outer, process
        plain = replace(run, augment=False)  # photos as they are
        self.source = StoreSource(load_pixels("val"), plain, process.device, seed=2**20)
        self.ruler = PerceptualDistance().to(process.device)

    def _batch(self, each: int) -> Batch:
        """The first photos, ``each`` of them per process."""
        return self.source.batch(range(self.process.rank * each, (self.process.rank + 1) * each))

    @torch.no_grad()
    def measure(self, step: int) -> dict[str, float]:
        """Held-out loss, and PSNR in dB and perceptual distance at every scale, by names that begin with held-out."""
        batch = self._batch(max(1, HELD_OUT // self.process.size))
        loss, numbers = self.outer(self.job.loss, self.job.prepare(batch), Moment(step, 1.0))
        found = {"loss": loss, **numbers}
        if self.job.restore is not None:
            for s, image in self.outer(self.job.restore, batch).items():
                found[f"psnr{s}"] = psnr(image.float(), batch.hr[s], color="rgb").mean()
                found[f"perceptual{s}"] = self.ruler(image.float(), batch.hr[s]).mean()
        values = torch.stack([torch.as_tensor(v, device=self.process.device).float() for v in found.values()])
        names = (f"held-out/{name}" for name in found)
        return dict(zip(names, self.process.mean(values).tolist(), strict=True))

    @torch.no_grad()
    def show(self, folder: Path, step: int) -> Tensor | None:
        """Write a picture, (3, 2 H, n W): clean photos above, what the model makes of them below."""
        if self.job.restore is None:
            return None
        batch = self._batch(SHOWN)
        images = self.outer(self.job.restore, batch)
        if self.process.rank:
            return None
        largest = max(images)
        rows = [torch.cat(list(row.cpu()), dim=2) for row in (batch.hr[largest], images[largest].float())]
        make_folder(folder)
        write_image(folder / f"step-{step:08d}.png", picture := torch.cat(rows, dim=1))
        return picture
