"""Train the convolutional super-resolver on the pairs that the transformer trains on."""

from dataclasses import dataclass

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.data.pairs import Pairs
from vartutor.profiles import Profile
from vartutor.train.job import Job
from vartutor.train.loop import LoopConfig
from vartutor.train.pairs import PairLoss
from vartutor.train.processes import Process
from vartutor.train.settings import Settings


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Settings):
    """Of a convolutional net's run."""

    net: CnnConfig
    perceptual: float = 0.0  # weight of the perceptual distance beside the mean absolute error

    @classmethod
    def _of(cls, profile: Profile) -> "BaselineSettings":
        loop = LoopConfig(profile.baseline_steps, lr=1e-3, weight_decay=0.0)
        net = CnnConfig(profile.cnn_width, profile.cnn_blocks)
        return cls(profile=profile, loop=loop, net=net, batch=profile.batch_size, degradation=profile.degradation)


def baseline_job(run: BaselineSettings, process: Process, new: bool = True) -> Job:
    """A net from nothing."""
    net = CnnSuperResolver(run.net).to(process.device)
    loss = PairLoss(lambda pairs: net(pairs.lr), run.perceptual, run.bf16, process.device)
    info = {"kind": "baseline", "config": run.net.to_json(), "perceptual": run.perceptual}
    prepare = lambda batch: Pairs(batch.lr, batch.hr)  # noqa: E731 (the loss would damage photos in bfloat16)
    restore = lambda batch: net.restore(batch.lr)  # noqa: E731
    return Job(net, loss, info, prepare, restore=restore, compiles={"net": [net.blocks]})
