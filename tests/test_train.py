"""Training: schedules, states that resume bit for bit, interruptions, and the tokenizers' losses."""

import csv
import errno
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from vartutor.cli import main
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train import checkpoint
from vartutor.train.loop import LoopConfig, Trainer, learning_rate
from vartutor.train.state import save_state
from vartutor.train.tokenizer import Losses, evaluate_tokenizer, train_tokenizer
from vartutor.weights.files import load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_learning_rate_rises_and_falls():
    config = LoopConfig(steps=100, lr=1.0, warmup=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.01 <= rates[-1] < 0.02


@pytest.mark.parametrize("ladder", ["hit", "var", "vq"])
def test_a_resumed_run_is_bit_for_bit_the_same(tmp_path, ladder):
    losses = Losses(revive_every=3, revive_until=1.0, perceptual=0.1, adversarial=0.5, bypass=0.5)
    whole = train_tokenizer(SMOKE, tmp_path / "whole", ladder=ladder, steps=8, losses=losses)
    for cut in (4, 5):  # step 5 begins with a revival
        part = Cut(tmp_path / str(cut), cut)
        with pytest.raises(KeyboardInterrupt):
            part.train(ladder, losses)
        torch.manual_seed(999)  # nothing of the first process is left
        again = train_tokenizer(SMOKE, part.out, ladder=ladder, steps=8, losses=losses, resume=True)
        assert same(again.model.state_dict(), whole.model.state_dict())
        assert same(again.averaged.state_dict(), whole.averaged.state_dict())
        assert again.rows[-1] == whole.rows[-1]


class Cut:
    """A run that gets Ctrl-C during step ``at``."""

    def __init__(self, out, at):
        self.out, self.at = out, at

    def train(self, ladder, losses):
        original = Trainer._step

        def step(trainer):
            if trainer.step == self.at - 1:
                os.kill(os.getpid(), signal.SIGINT)
            return original(trainer)

        Trainer._step = step
        try:
            train_tokenizer(SMOKE, self.out, ladder=ladder, steps=8, losses=losses)
        finally:
            Trainer._step = original


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, capsys):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Cut(tmp_path, 3).train("hit", Losses())
    assert load_state(tmp_path / "state.pt")["step"] == 3
    assert "stopped after step 3 and saved; --resume goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_the_log_has_psnr_and_usage_of_every_scale(tmp_path):
    train_tokenizer(SMOKE, tmp_path, steps=2)
    with open(tmp_path / "log.csv") as file:
        (row,) = csv.DictReader(file)
    maps = sum(map(len, SMOKE.groups))
    assert set(row) == {"step", "loss", "psnr1", "psnr2", "psnr4", *(f"used/{k}" for k in range(maps))}


def test_training_lowers_the_loss_and_the_average_follows(tmp_path):
    profile = replace(SMOKE, batch_size=4)
    trainer = train_tokenizer(profile, tmp_path, steps=40)
    scores = evaluate_tokenizer(trainer.averaged, profile, "val")
    start = evaluate_tokenizer(build_tokenizer(TokenizerConfig.of(profile)).eval(), profile, "val")
    assert all(scores[s].mean() > start[s].mean() + 2 for s in (1, 2, 4))


def test_the_bypass_hands_features_on(tmp_path):
    model = build_tokenizer(TokenizerConfig.of(SMOKE)).train()
    x = torch.rand(4, 3, 64, 64) * 2 - 1
    model.quantizer.bypass = 1.0
    images, *_ = model(x)
    expected = [model.decoder(model.post_quant_conv(f)) for f in model.encode(x)]
    assert all(torch.equal(image, own) for image, own in zip(images.values(), expected, strict=True))
    model.eval()  # never when it counts
    images, indices, _ = model(x)
    assert torch.allclose(images[4].clamp(-1, 1), model.decode_scales(indices)[4], atol=1e-5)


@pytest.mark.parametrize("codes", ["ema", "loss"])
def test_codes_learn_by_averages_or_by_the_loss(tmp_path, codes):
    trainer = train_tokenizer(SMOKE, tmp_path, steps=2, losses=Losses(codes=codes))
    start = train_tokenizer(SMOKE, tmp_path / "start", steps=1, losses=Losses(codes=codes))
    quantizer = trainer.model.quantizer
    assert quantizer.codes.requires_grad == (codes == "loss")
    assert not torch.equal(quantizer.codes, start.model.quantizer.codes)
    assert ("sums" in dict(quantizer.named_buffers())) == (codes == "ema")


def test_bf16_trains_and_leaves_the_quantizer_alone(tmp_path):
    trainer = train_tokenizer(SMOKE, tmp_path, steps=3, bf16=True)
    assert trainer.model.quantizer.codes.dtype == torch.float32
    assert all(vectors.dtype == torch.float32 for vectors in trainer.model.quantizer.seen.values())


def test_a_loss_that_is_no_number_stops_in_one_line(tmp_path, raises_user_error):
    model = nn.Linear(1, 1)

    def loss(step):
        return model.weight.sum() * (float("nan") if step == 2 else 1.0), {}

    trainer = Trainer(model, loss, LoopConfig(steps=5, save_every=1), tmp_path, [])
    with raises_user_error("step 2", "nan"):
        trainer.fit()
    assert load_state(tmp_path / "state.pt")["step"] == 2


def test_a_full_disk_keeps_the_old_state(tmp_path, monkeypatch, raises_user_error):
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})

    def full(state, file):
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with raises_user_error("state.pt", "No space left", "kept"):
        save_state(path, {"step": 2})
    monkeypatch.undo()
    assert load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_wrong_states_are_one_clear_line(tmp_path, raises_user_error):
    with raises_user_error("no saved state"):
        train_tokenizer(SMOKE, tmp_path, resume=True)
    (tmp_path / "state.pt").write_bytes(b"hello")
    with raises_user_error("not a readable training state"):
        train_tokenizer(SMOKE, tmp_path, resume=True)
    train_tokenizer(SMOKE, tmp_path, steps=1)
    with raises_user_error("of another model, profile or ladder"):
        train_tokenizer(replace(SMOKE, codes=32), tmp_path, steps=2, resume=True)
    with raises_user_error("unknown ladder 'hitt'"):
        train_tokenizer(SMOKE, tmp_path, ladder="hitt")


def test_the_command_trains_and_reports(tmp_path, capsys):
    assert main(["train", "tokenizer", "--profile", "smoke", "--out", str(tmp_path / "run")]) == 0
    assert "validation: ×1" in capsys.readouterr().out
    assert main(["train", "tokenizer", "--profile", "none"]) == 2
    assert main(["train", "tokenizer", "--steps", "0"]) == 2
    assert main(["train", "tokenizer", "--groups", "1,2|x"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_the_state_says_what_it_holds(tmp_path):
    call = ["train", "tokenizer", "--profile", "smoke", "--groups", "1,4|8|16", "--no-overlap", "--bypass", "0"]
    assert main([*call, "--steps", "1", "--seed", "4", "--out", str(tmp_path)]) == 0
    info = load_state(tmp_path / "state.pt")["info"]
    assert info["config"]["groups"] == [[1, 4], [8], [16]]
    assert not info["config"]["overlap"]
    assert info["losses"]["bypass"] == 0
    assert info["seed"] == 4
    assert info["command"].startswith("vartutor train tokenizer --profile smoke --groups '1,4|8|16' ")


def test_the_published_size_is_built_from_the_gpu_profile():
    with torch.device("meta"):
        model = build_tokenizer(TokenizerConfig.of(get_profile("gpu"), "var"))
    assert sum(p.numel() for p in model.parameters()) == 108_948_355
    assert model.quantizer.tokens == 2130
