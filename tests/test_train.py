"""The trainer on one process: schedules, states that resume bit for bit, interruptions, validation, what is logged."""

import csv
import errno
import os
import re
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from vartutor.cli import main
from vartutor.data.images import read_image
from vartutor.errors import UserError
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train import state
from vartutor.train.job import InForward, Job
from vartutor.train.kinds import KINDS, train
from vartutor.train.look import Look
from vartutor.train.loop import LoopConfig, learning_rate
from vartutor.train.processes import Process
from vartutor.train.settings import TokenizerSettings
from vartutor.train.state import BEST, save_state
from vartutor.train.tokenizer import Losses
from vartutor.train.trainer import Trainer
from vartutor.weights import load_tokenizer
from vartutor.weights.files import STATE, load_state
from vartutor.workshop.scores import score_tokenizer

SMOKE = replace(get_profile("smoke"), batch_size=2)


def train_tokenizer(out, resume=False, profile=SMOKE, **changes):
    return train("tokenizer", TokenizerSettings.of(profile, **changes), out, device="cpu", resume=resume)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_learning_rate_rises_and_falls():
    config = LoopConfig(steps=100, lr=1.0, warmup=0.1)
    rates = [learning_rate((step + 1) / 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("ladder", ["hit", "var", "vq"])
def test_a_resumed_run_is_bit_for_bit_the_same(tmp_path, ladder):
    losses = Losses(revive_every=3, revive_until=1.0, perceptual=0.1, adversarial=0.5, bypass=0.5)
    options = {"ladder": ladder, "steps": 8, "losses": losses, "log_every": 1, "validate_every": 4}
    whole = train_tokenizer(tmp_path / "whole", **options)
    for cut in (4, 5):  # step 5 comes before a revival
        part = Cut(tmp_path / str(cut), cut)
        with pytest.raises(KeyboardInterrupt):
            part.train(**options)
        torch.manual_seed(999)  # nothing of the first process is left
        again = train_tokenizer(part.out, resume=True, **options)
        assert same(again.model.state_dict(), whole.model.state_dict())
        assert same(again.averages.values, whole.averages.values)
        timeless = [{name: value for name, value in row.items() if name not in SPEED} for row in again.rows]
        assert timeless == [{name: value for name, value in row.items() if name not in SPEED} for row in whole.rows]


SPEED = ("photos/s", "mfu", "memory")


class Cut:
    """A run that gets Ctrl-C, or another signal, during step ``at``."""

    def __init__(self, out, at, number=signal.SIGINT):
        self.out, self.at, self.number = out, at, number

    def train(self, **options):
        original = Trainer._step

        def step(trainer, moment):
            if trainer.step == self.at - 1:
                os.kill(os.getpid(), self.number)
            return original(trainer, moment)

        Trainer._step = step
        try:
            train_tokenizer(self.out, **options)
        finally:
            Trainer._step = original


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, capsys, number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        Cut(tmp_path, 3, number).train()
    assert load_state(tmp_path / STATE)["step"] == 3
    assert "stopped after step 3 and saved" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_ctrl_c_prints_the_command_that_goes_on(tmp_path, capsys, interrupted):
    out = str(tmp_path / "a run")
    words = ["train", "tokenizer", "--profile", "smoke", "--device", "cpu", "--set", "bf16=true", "--out", out]
    with interrupted(2):
        assert main(words) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [
        "stopped after step 3 and saved",
        f"go on with: vartutor {' '.join(words[:-1])} '{out}' --resume",
    ]
    assert main([*words, "--resume"]) == 0
    assert load_state(tmp_path / "a run" / STATE)["step"] == SMOKE.tokenizer_steps
    again = capsys.readouterr().out
    assert main([*words, "--resume"]) == 0  # a finished run is not done again
    assert capsys.readouterr().out.splitlines()[1:] == again.splitlines()[1:]


def test_the_log_has_psnr_usage_and_rates(tmp_path):
    train_tokenizer(tmp_path, steps=2)
    with open(tmp_path / "log.csv") as file:
        (row,) = csv.DictReader(file)
    maps = sum(map(len, SMOKE.groups))
    own = {"step", "loss", "gradient", "psnr1", "psnr2", "psnr4", *(f"used/{k}" for k in range(maps))}
    assert set(row) == own | set(SPEED)
    assert float(row["photos/s"]) > 0
    assert 0 < float(row["mfu"]) < 1.5  # of what one product of matrices reached
    assert 0.05 < float(row["memory"]) < 20


def test_validation_while_it_trains(tmp_path):
    """Held-out loss, PSNR and perceptual distance at every scale; the best state stays beside the newest."""
    options = {"steps": 6, "validate_every": 2, "log_every": 3, "lr": 1e-3}
    trainer = train_tokenizer(tmp_path, **options)
    found = [row for row in trainer.rows if "held-out/loss" in row]
    assert [row["step"] for row in found] == [2, 4, 6]
    for s in (1, 2, 4):
        assert all(row[f"held-out/psnr{s}"] > 5 for row in found)
        assert all(row[f"held-out/perceptual{s}"] > 0 for row in found)
    best = min(found, key=lambda row: row["held-out/loss"])
    state_ = load_state(tmp_path / BEST)
    assert state_["step"] == best["step"]
    assert trainer.best == best["held-out/loss"]
    load_tokenizer(tmp_path / BEST)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "3", "4", "6"]
    assert rows[1]["held-out/loss"] == ""
    # Looking changes nothing.
    blind = train_tokenizer(tmp_path / "blind", **options | {"validate_every": 0})
    assert same(blind.model.state_dict(), trainer.model.state_dict())
    assert not (tmp_path / "blind" / BEST).exists()


def test_held_out_photos_stay_as_they_are_where_the_runs_own_are_turned_and_recoloured():
    found = {}
    for augment in (False, True):
        run = TokenizerSettings.of(SMOKE, augment=augment)
        job = KINDS["tokenizer"].job(run, Process(), False)
        found[augment] = Look(job, InForward(job.model), run, Process())._batch(4).x
    assert torch.equal(found[True], found[False])


def test_validation_photos_are_damaged_as_the_runs_own(tmp_path):
    seen = {}
    for name in ("course", "bicubic"):
        trainer = train("baseline", BASELINE(name), tmp_path / name, device="cpu")
        seen[name] = trainer.measure()["held-out/psnr1"]
    assert seen["bicubic"] > seen["course"] + 3  # without noise, ×1 is nearly the clean photo


def BASELINE(degradation):
    from vartutor.train.settings import BaselineSettings

    return BaselineSettings.of(SMOKE, steps=1, degradation=degradation)


def test_pictures_as_it_trains(tmp_path):
    train_tokenizer(tmp_path, steps=4, images_every=2)
    names = [path.name for path in sorted((tmp_path / "samples").iterdir())]
    assert names == ["step-00000002.png", "step-00000004.png"]
    assert read_image(tmp_path / "samples" / "step-00000004.png").shape == (3, 128, 256)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    train_tokenizer(tmp_path, steps=2, tensorboard=True, log_every=1, validate_every=2)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]
    assert [event.step for event in events.Scalars("held-out/psnr4")] == [2]


def test_training_lowers_the_loss_and_the_average_follows(tmp_path):
    profile = replace(SMOKE, batch_size=4)
    train_tokenizer(tmp_path, profile=profile, steps=40)
    scores = score_tokenizer(load_tokenizer(tmp_path), profile, "val")
    start = score_tokenizer(build_tokenizer(TokenizerConfig.of(profile)).eval(), profile, "val")
    assert all(scores[s].mean() > start[s].mean() + 2 for s in (1, 2, 4))


def test_the_bypass_hands_features_on():
    model = build_tokenizer(TokenizerConfig.of(SMOKE)).train()
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    images, *_ = model(x, skip=torch.tensor([True, True, False, False]))
    around = [model.decoder(model.post_quant_conv(f)) for f in model.encode(x)]
    for image, own in zip(images.values(), around, strict=True):
        assert torch.allclose(image[:2], own[:2], atol=1e-5)
        assert not torch.allclose(image[2:], own[2:], atol=1e-3)


@pytest.mark.parametrize("codes", ["ema", "loss"])
def test_codes_learn_by_averages_or_by_the_loss(tmp_path, codes):
    trainer = train_tokenizer(tmp_path, steps=2, losses=Losses(codes=codes))
    start = train_tokenizer(tmp_path / "start", steps=1, losses=Losses(codes=codes))
    quantizer = trainer.model.quantizer
    assert quantizer.codes.requires_grad == (codes == "loss")
    assert not torch.equal(quantizer.codes, start.model.quantizer.codes)
    assert ("sums" in dict(quantizer.named_buffers())) == (codes == "ema")


def test_codes_of_a_quantizer_alone_move_with_every_batch():
    torch.manual_seed(0)
    model = build_tokenizer(TokenizerConfig.of(SMOKE)).train()
    model.quantizer.use_moving_averages()
    before = model.quantizer.codes.clone()
    model(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert not torch.equal(model.quantizer.codes, before)
    model.quantizer.deferred, before = True, model.quantizer.codes.clone()
    model(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert torch.equal(model.quantizer.codes, before)
    model.quantizer.settle()
    assert not torch.equal(model.quantizer.codes, before)


def test_bf16_trains_and_leaves_the_quantizer_alone(tmp_path):
    trainer = train_tokenizer(tmp_path, steps=3, bf16=True)
    assert trainer.model.quantizer.codes.dtype == torch.float32
    assert all(vectors.dtype == torch.float32 for vectors in trainer.model.quantizer.seen.values())


class Nowhere:
    """A source of nothing."""

    def batch(self, numbers):
        return None


def fit(loss, out, model=None, **changes):
    model = model or nn.Linear(1, 1)
    run = TokenizerSettings.of(SMOKE, save_every=1, validate_every=0, **changes)
    trainer = Trainer(Job(model, lambda seen, moment: loss(model, moment), {}), run, out, Process(), Nowhere())
    trainer.fit()
    return trainer


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_no_number_stops_in_one_line(tmp_path, raises_user_error, what):
    def loss(model, moment):
        value = model.weight.sum()
        if moment.step == 2:  # √0 has a loss, but no gradient
            value = value * float("nan") if what == "loss" else (value - value.detach()).sqrt()
        return value, {}

    with raises_user_error("step 2", f"the {what} is", "the last saved state is kept: --resume", "loop.lr"):
        fit(loss, tmp_path, steps=5)
    kept = load_state(tmp_path / STATE)
    assert kept["step"] == 2
    assert all(value.isfinite().all() for value in kept["model"].values())


@pytest.mark.parametrize("lr", [1e6, 1e30])
def test_weights_that_no_file_can_hold_are_not_saved(tmp_path, raises_user_error, lr):
    """A loss and a gradient before the step say nothing of the weights after it."""

    def loss(model, moment):
        return model(torch.ones(1, 1)).square().sum(), {}

    with raises_user_error("step 1", "weights of weight", "nothing is saved yet: begin again", f"{lr / 10:g}"):
        fit(loss, tmp_path, steps=3, lr=lr, warmup=0.0)
    assert list(tmp_path.iterdir()) == []
    fit(loss, tmp_path, steps=1)
    poisoned = load_state(tmp_path / STATE)
    poisoned["model"]["weight"].fill_(torch.nan)
    torch.save(poisoned, tmp_path / STATE)
    run = TokenizerSettings.of(SMOKE)
    with raises_user_error(STATE, "weights of weight", "begin again in another --out"):
        Trainer(Job(nn.Linear(1, 1), loss, {}), run, tmp_path, Process(), Nowhere()).resume()


def test_a_run_that_bursts_in_its_only_step_is_one_line(tmp_path, capsys):
    call = ["train", "transformer", "--profile", "smoke", "--device", "cpu", "--out", str(tmp_path)]
    assert main([*call, "--set", "loop.lr=1e30", "--set", "loop.steps=1", "--set", "batch=2"]) == 2
    assert re.fullmatch(r"vartutor train: step 1: weights of .*begin again.*\n", capsys.readouterr().err)
    assert not (tmp_path / STATE).exists()
    assert main([*call, "--set", "loop.lr=nan"]) == 2
    assert "loop.lr is 'nan', not a number" in capsys.readouterr().err


def test_a_validation_that_is_no_number_stops_in_one_line(tmp_path, monkeypatch, raises_user_error):
    monkeypatch.setattr(Look, "measure", lambda self, step: {"held-out/loss": 1.0, "held-out/psnr4": float("nan")})
    with raises_user_error("step 1: held-out/psnr4 is nan"):
        train_tokenizer(tmp_path, steps=2, validate_every=1)


def test_a_run_may_be_given_a_time(tmp_path):
    """As many steps as fit; the learning rate follows the time, and ends where it should."""
    rates = []

    def loss(model, moment):
        rates.append((moment.progress, learning_rate(moment.progress, LoopConfig(1, lr=1.0, warmup=0.1))))
        return model(torch.ones(1, 1)).square().sum(), {}

    trainer = fit(loss, tmp_path, seconds=1.0, log_every=10**6)
    assert 0.9 < trainer.seconds < 2
    assert trainer.step > 5
    assert rates[0][0] == 0
    assert rates[-1][0] > 0.9
    assert max(rate for _, rate in rates) > 0.8
    assert rates[-1][1] < 0.1
    assert load_state(tmp_path / STATE)["step"] == trainer.step == trainer.rows[-1]["step"]


def test_a_full_disk_keeps_the_old_state(tmp_path, monkeypatch, raises_user_error):
    path = tmp_path / STATE
    save_state(path, {"step": 1})

    def full(_, file):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state.torch, "save", full)
    with pytest.raises(UserError, match=r"No space left on device\)$"):
        save_state(tmp_path / "first.pt", {"step": 2})
    with raises_user_error(STATE, "No space left", "kept"):
        save_state(path, {"step": 2})
    with raises_user_error(STATE, "No space left", "kept"):
        train_tokenizer(tmp_path, steps=1)
    monkeypatch.undo()
    assert load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == [STATE]


def test_wrong_states_are_one_clear_line(tmp_path, raises_user_error):
    with raises_user_error("no saved state"):
        train_tokenizer(tmp_path, resume=True)
    (tmp_path / STATE).write_bytes(b"hello")
    with raises_user_error("not a readable training state"):
        train_tokenizer(tmp_path, resume=True)
    train_tokenizer(tmp_path, steps=1)
    with raises_user_error("of another model, profile or ladder"):
        train_tokenizer(tmp_path, resume=True, profile=replace(SMOKE, codes=32), steps=2)
    with raises_user_error("of another model, profile or ladder"):
        train_tokenizer(tmp_path, resume=True, ladder="var", steps=2)


def test_the_state_says_what_it_holds(tmp_path):
    call = ["train", "tokenizer", "--profile", "smoke", "--device", "cpu", "--out", str(tmp_path)]
    words = ["profile.groups=[[1, 4], [8], [16]]", "overlap=false", "losses.bypass=0", "loop.steps=1", "seed=4"]
    assert main([*call, *(word for key in words for word in ("--set", key))]) == 0
    info = load_state(tmp_path / STATE)["info"]
    assert info["config"]["groups"] == [[1, 4], [8], [16]]
    assert not info["config"]["overlap"]
    assert info["losses"]["bypass"] == 0
    assert info["seed"] == 4
    assert info["run"]["device"].startswith("cpu (")
    assert info["command"].startswith("vartutor train tokenizer --profile smoke --device cpu --out ")


def test_the_published_size_is_built_from_the_gpu_profile():
    with torch.device("meta"):
        model = build_tokenizer(TokenizerConfig.of(get_profile("gpu"), "var"))
    assert sum(p.numel() for p in model.parameters()) == 108_948_355
    assert model.quantizer.tokens == 2130
