"""No trainer mixes devices, and none waits for the device inside a step: shown without a GPU.

The *meta* device stands for a GPU: tensors without numbers. torch lets some operations take a tensor of another device
beside them, so a watch looks at every operation. And what has no numbers cannot be read: ``.item()`` fails.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.kinds import KINDS
from vartutor.train.loop import Moment
from vartutor.train.processes import Process
from vartutor.train.sizes import make_transformer
from vartutor.train.source import Feed, make_source
from vartutor.train.tokenizer import Losses
from vartutor.train.transformer import Objective

META = torch.device("meta")
SMOKE = replace(get_profile("smoke"), image_size=32, groups=((1, 2), (4,), (8,)), codes=16)
COPIES = ("_to_copy", "copy_", "set_")  # what may see two devices: it carries from one to the other


class OneDevice(TorchDispatchMode):
    """Every operation stays on one device; scalars of the CPU may go anywhere."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, torch.Tensor) and x.ndim]
        if len({x.device for x in tensors}) > 1 and not any(name in str(func) for name in COPIES):
            raise AssertionError(f"{func} mixes {sorted({str(x.device) for x in tensors})}")
        return func(*args, **(kwargs or {}))


def test_the_watch_sees_what_torch_lets_pass():
    gpu, cpu = torch.ones(2, 2, device="meta"), torch.ones(2, 2)
    gpu @ cpu  # torch does not mind
    with OneDevice():
        with pytest.raises(AssertionError, match="mixes"):
            gpu @ cpu
        with pytest.raises(AssertionError, match="mixes"):
            gpu + cpu
        assert (gpu @ cpu.to("meta") * 2).device == META
        with pytest.raises((NotImplementedError, RuntimeError)):
            gpu.sum().item()


def given(kind):
    tokenizer = build_tokenizer(TokenizerConfig.of(SMOKE)).eval().requires_grad_(False)
    model = make_transformer(SMOKE, tokenizer, drop=0.1).eval().requires_grad_(False)
    over = {"over": (model, tokenizer)}
    start = {"start": (model, tokenizer, vars(replace(Objective.of(SMOKE.transformer), drop=0.1)))}
    return {"transformer": {"tokenizer": tokenizer}, "preference": start, "fidelity": over, "refiner": over}.get(
        kind, {}
    )


@pytest.mark.parametrize("degradation", ["course", "varsr"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_trainer_keeps_to_its_device(kind, degradation, monkeypatch):
    """Crops, damage, what frozen models make of them, loss, backward pass, codes and critic, and the validation."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
    changes = {"augment": True, "batch": 4, "degradation": degradation}
    if kind == "tokenizer":
        changes["losses"] = Losses(perceptual=0.1, adversarial=0.5, adversarial_start=0.0)
    if kind == "transformer":
        changes["objective"] = Objective(hard=0.5, soft=0.5, expected=0.1, balance=0.5, slip=0.5, drop=0.1)
    if kind == "fidelity":
        changes["objective"] = replace(KINDS[kind].settings.of(SMOKE).objective, perceptual=0.5)
    run, process = KINDS[kind].settings.of(SMOKE, **changes), Process(device=META)
    job = KINDS[kind].job(run, process, False, **given(kind))  # what is calibrated once, may be read
    feed = Feed(make_source(run, process), run, process, job.prepare, job.keep)
    with OneDevice():
        seen = feed(0)
        loss, numbers = job.loss(seen, Moment(0, 0.5))
        loss.backward()
        job.finish(Moment(0, 0.5))
        assert {value.device for value in (loss, *numbers.values())} == {META}
        job.model.eval()
        job.loss(seen, Moment())
        if job.restore is not None:
            images = job.restore(feed.source.batch(range(4)))
            assert {image.device for image in images.values()} == {META}
    assert all(p.grad is not None for p in job.model.parameters() if p.requires_grad)
