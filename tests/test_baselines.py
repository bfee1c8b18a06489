"""What a restorer has to beat: classical denoisers, and a convolutional super-resolver."""

from dataclasses import replace

import pytest
import torch

from vartutor.baselines.classical import METHODS, Denoiser, noise_level
from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver, separate
from vartutor.cli import main
from vartutor.data.degradation import gaussian_noise
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.metrics import psnr
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import get_profile
from vartutor.train.jobs import baseline_job
from vartutor.train.kinds import train
from vartutor.train.loop import Moment
from vartutor.train.pairs import PairLoss
from vartutor.train.processes import Process
from vartutor.train.settings import BaselineSettings
from vartutor.train.source import make_source
from vartutor.weights import load_cnn
from vartutor.weights.files import STATE, load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)
TINY = CnnConfig(8, 2)


@pytest.fixture(scope="module")
def pairs():
    return eval_pairs(COURSE, "val", per_photo=1)


def random_net(config=TINY, seed=0):
    """A net whose heads add something."""
    torch.manual_seed(seed)
    net = CnnSuperResolver(config).eval()
    for head in net.heads.values():
        torch.nn.init.normal_(head.weight, std=0.1)
    return net.requires_grad_(False)


# --- denoisers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [5.0, 20.0])
def test_the_noise_level_is_found(lemur, sigma):
    noisy = gaussian_noise(torch.nn.functional.avg_pool2d(lemur, 2), sigma, generator=torch.Generator().manual_seed(0))
    found = noise_level(torch.cat([noisy, torch.zeros_like(noisy)])) * 127.5
    assert found[0] == pytest.approx(sigma, abs=1.5)
    assert found[1] == 0


@pytest.mark.parametrize("method", METHODS)
def test_denoisers_remove_noise(lemur, method):
    clean = torch.nn.functional.avg_pool2d(lemur, 4)[:, :, :32, :32]
    noisy = gaussian_noise(clean, 15, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    factor = {"nlm": 0.8, "tv": 0.7, "bilateral": 1.0}[method]
    images = Denoiser(method, factor)(noisy)
    assert {s: tuple(x.shape[-2:]) for s, x in images.items()} == {1: (32, 32), 2: (64, 64), 4: (128, 128)}
    assert psnr(images[1], clean) > psnr(noisy, clean) + 0.5
    assert all(x.abs().max() <= 1 for x in images.values())


@pytest.mark.parametrize("method", ["tv", "bilateral"])
def test_a_weak_denoiser_changes_next_to_nothing(pairs, method):
    lr = pairs.lr[:3]
    weak = Denoiser(method, 1e-3)(lr)
    plain = upscale_bicubic(lr)
    assert all((weak[s] - plain[s]).abs().max() < 0.02 for s in plain)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_flat_stays(method):
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert torch.allclose(Denoiser(method, 1.0)(flat)[4], torch.full((1, 3, 64, 64), 0.5), atol=1e-5)


def test_wrong_denoisers_are_one_line(raises_user_error):
    with raises_user_error("unknown denoiser 'bm3d'", "nlm, tv, bilateral"):
        Denoiser("bm3d", 1.0)
    with raises_user_error("factor of 0"):
        Denoiser("tv", 0)


# --- the net ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [(1, 2, 4), (1,), (2,), (4,)])
def test_an_untrained_net_is_bicubic(pairs, heads):
    net = CnnSuperResolver(replace(TINY, heads=heads)).eval()
    images, plain = net.restore(pairs.lr[:2]), upscale_bicubic(pairs.lr[:2])
    assert tuple(images) == heads
    assert all(torch.equal(image, plain[s]) for s, image in images.items())


def test_every_weight_learns(pairs):
    net = random_net().requires_grad_(True)
    sum(image.square().mean() for image in net(pairs.lr[:2]).values()).backward()
    assert all(p.grad.abs().max() > 0 for p in net.parameters())


def test_one_scale_has_no_weights_for_others():
    sizes = {heads: sum(p.numel() for p in random_net(CnnConfig(8, 2, heads)).parameters()) for heads in ((1,), (2,))}
    up, head = 8 * 32 * 9 + 32, 3 * 8 * 9 + 3
    assert sizes[2,] - sizes[1,] == up
    assert sum(p.numel() for p in random_net().parameters()) == sizes[2,] + up + 2 * head


def test_blocks_make_no_difference():
    net = random_net()
    lr = torch.rand(1, 3, 40, 53, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole, parts = net.restore(lr), net.restore(lr, block=20)
    assert all(torch.allclose(whole[s], parts[s], atol=1e-5) for s in whole)


def test_the_default_has_five_million_parameters():
    with torch.device("meta"):
        net = CnnSuperResolver(CnnConfig())
    assert sum(p.numel() for p in net.parameters()) == 4_884_233


def test_three_nets_in_the_place_of_one(pairs, raises_user_error):
    nets = [random_net(CnnConfig(8, 1, (s,)), seed=s) for s in (1, 2, 4)]
    images = separate(nets)(pairs.lr[:2])
    assert list(images) == [1, 2, 4]
    assert torch.equal(images[2], nets[1].restore(pairs.lr[:2])[2])
    with raises_user_error("heads 1, 1", "one net"):
        separate([nets[0], nets[0]])


def test_settings_survive_json():
    config = CnnConfig(16, 3, (2, 4), 0.1)
    assert CnnConfig.from_json(config.to_json()) == config


def test_wrong_nets_are_one_line(raises_user_error):
    with raises_user_error("heads (3,)", "1, 2, 4"):
        CnnConfig(heads=(3,))
    with raises_user_error("0 blocks of 8 channels"):
        CnnConfig(8, 0)
    with raises_user_error("huge: neither a shipped cnn (course"):
        load_cnn("huge")


# --- its training ----------------------------------------------------------------------------------


def train_baseline(out, resume=False, profile=SMOKE, **changes):
    run = BaselineSettings.of(profile, **{"net": TINY, "validate_every": 0} | changes)
    return train("baseline", run, out, device="cpu", resume=resume)


def test_a_resumed_run_is_bit_for_bit_the_same(resumed):
    def fit(out, resume=False):
        return train_baseline(out, resume, steps=6, log_every=1, augment=True)

    assert resumed(fit).step == 6


def test_training_beats_bicubic_on_other_photos(tmp_path, pairs):
    train_baseline(tmp_path, profile=replace(SMOKE, batch_size=8), net=CnnConfig(16, 2), lr=3e-3, steps=80)
    images, plain = load_cnn(tmp_path).restore(pairs.lr), upscale_bicubic(pairs.lr)
    for s in (1, 2, 4):
        assert psnr(images[s], pairs.hr[s]).mean() > psnr(plain[s], pairs.hr[s]).mean()


@pytest.fixture(scope="module")
def batch():
    return make_source(BaselineSettings.of(SMOKE, seed=1), Process()).batch(range(2))


def test_the_perceptual_distance_joins_the_loss(batch, raises_user_error):
    net = random_net()
    losses = [PairLoss(lambda seen: net(seen.lr), net, weight)(batch, Moment())[0] for weight in (0.0, 1.0, 2.0)]
    images = net(batch.lr)
    errors = [(image - batch.hr[s]).abs().mean() for s, image in images.items()]
    distances = [perceptual_distance(image, batch.hr[s]).mean() for s, image in images.items()]
    assert losses[0].item() == pytest.approx(sum(errors).item() / 3, rel=1e-5)
    assert (losses[1] - losses[0]).item() == pytest.approx(sum(distances).item() / 3, rel=1e-4)
    assert (losses[2] - losses[0]).item() == pytest.approx(2 * sum(distances).item() / 3, rel=1e-4)
    with raises_user_error("perceptual -1"):
        baseline_job(BaselineSettings.of(SMOKE, perceptual=-1.0), Process())


def test_a_loss_says_the_psnr_of_every_scale_where_it_is_logged(batch):
    net = random_net()
    loss = PairLoss(lambda seen: net(seen.lr), net)
    numbers = loss(batch, Moment())[1]
    for s, image in net(batch.lr).items():
        expected = psnr(image.clamp(-1, 1), batch.hr[s], color="rgb").mean().item()
        assert numbers[f"psnr{s}"].item() == pytest.approx(expected)
    assert loss(batch, Moment(logged=False))[1] == {}


def test_a_run_may_be_given_a_time(tmp_path, interrupted):
    """As many steps as fit, and a learning rate that follows the time: the line to beat gets the seconds of others."""
    trainer = train_baseline(tmp_path / "whole", seconds=2.0, log_every=1)
    assert trainer.step > 3
    assert 2.0 <= trainer.seconds < 4.0
    assert [row["step"] for row in trainer.rows] == list(range(1, trainer.step + 1))
    assert trainer.optimizer.param_groups[0]["lr"] < 0.1 * trainer.run.loop.lr  # annealed
    assert load_state(tmp_path / "whole" / STATE)["step"] == trainer.step
    # What is over is over, whatever the number of steps.
    assert train_baseline(tmp_path / "whole", True, seconds=2.0).step == trainer.step
    with interrupted(2), pytest.raises(KeyboardInterrupt):
        train_baseline(tmp_path / "part", seconds=3.0)
    done = load_state(tmp_path / "part" / STATE)["seconds"]
    again = train_baseline(tmp_path / "part", True, seconds=3.0)
    assert 3.0 <= again.seconds < 5.0  # the seconds before count
    assert done < again.seconds
    assert again.step > 3


TIMED = """
import os, torch
from pathlib import Path
from vartutor.profiles import get_profile
from vartutor.train.settings import BaselineSettings
from vartutor.train.kinds import train
from vartutor.train.processes import this_process
with this_process("cpu") as process:
    run = BaselineSettings.of(get_profile("smoke"), seconds=3.0, save_every=3, validate_every=0)
    out = Path(os.environ["OUT"])
    part = train("baseline", run, out / "run", device="cpu", max_hours=1e-9)
    whole = train("baseline", run, out / "run", device="cpu", resume=True)
    torch.save((part.step, whole.step, whole.rows), out / f"{process.rank}.pt")
"""


def test_processes_agree_when_the_time_is_over(two_processes, tmp_path):
    (part, whole, rows), (theirs, same, _) = two_processes(TIMED)
    assert part == theirs == 3  # they ask one another every ten steps, and where a state is due
    assert whole == same
    assert whole % 10 == 0
    assert rows[-1]["step"] == whole
    assert load_state(tmp_path / "run" / STATE)["seconds"] > 3.0


def test_even_too_little_time_is_a_step(tmp_path, raises_user_error):
    trainer = train_baseline(tmp_path, seconds=1e-9)
    assert trainer.step == trainer.rows[-1]["step"] == 1
    assert load_cnn(tmp_path).config == TINY
    with raises_user_error("loop.seconds -1"):
        train_baseline(tmp_path / "none", seconds=-1.0)


def test_another_state_is_one_line(tmp_path, tiny_runs, raises_user_error):
    train_baseline(tmp_path, steps=1)
    with raises_user_error("of another model"):
        train_baseline(tmp_path, True, net=CnnConfig(8, 3))
    with raises_user_error("holds a tokenizer, not a cnn"):
        load_cnn(tiny_runs / "hit")
    with raises_user_error("holds a tokenizer", "vartutor train tokenizer"):
        train_baseline(tiny_runs / "hit", True)


def command(out, *words, **settings):
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return main(["train", "baseline", "--profile", "smoke", "--device", "cpu", "--out", str(out), *words, *sets])


def test_the_command_trains_and_reports(tmp_path, capsys):
    assert command(tmp_path, **{"net.heads": "[4]", "bf16": "true", "seed": 3}) == 0
    device, report, where = capsys.readouterr().out.splitlines()
    assert device.startswith("trains on cpu (")
    assert report.startswith("validation photos: ×4 ")  # the one head that there is
    assert "×1" not in report
    assert str(tmp_path) in where
    state = load_state(tmp_path / STATE)
    assert state["step"] == SMOKE.baseline_steps
    info = state["info"]
    assert info["config"] == {"width": 8, "blocks": 2, "heads": [4], "residual_scale": 1.0, "block": "edsr"}
    assert (info["kind"], info["run"]["degradation"], info["seed"]) == ("baseline", "course", 3)
    assert info["command"].startswith("vartutor train baseline --profile smoke")
    assert info["perceptual"] == 0
    for settings, line in (
        ({"loop.steps": 0}, "loop.steps 0"),
        ({"net.heads": "[3]"}, "heads (3,)"),
        ({"net.heads": "4"}, "heads is 4, not a list"),
        ({"perceptual": -1}, "perceptual -1"),
    ):
        assert command(tmp_path / "none", **settings) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert line in said


def test_a_run_goes_on_with_nothing_but_its_folder(tmp_path, interrupted):
    told = {"net.heads": "[2]", "net.width": 4, "net.blocks": 1, "loop.lr": 0.002, "perceptual": 0.1, "seed": 3}
    told["augment"] = "true"
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert command(whole, **told) == 0
    with interrupted(1):
        assert command(part, **told) == 130
    assert command(part, "--resume") == 0
    a, b = (load_state(folder / STATE) for folder in (whole, part))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    kept = b["info"]["settings"]
    assert (b["info"]["perceptual"], kept["loop"]["lr"], kept["augment"]) == (0.1, 0.002, True)
    assert "--set 'net.heads=[2]'" in b["info"]["command"]


def test_turned_and_recoloured_crops_are_other_crops():
    for augment, same in ((False, True), (True, False)):
        run = BaselineSettings.of(SMOKE, augment=augment)
        x = make_source(run, Process()).batch(range(16)).x
        plain = make_source(replace(run, augment=False), Process()).batch(range(16)).x
        assert torch.equal(x, plain) == same
        assert x.shape == (16, 3, 64, 64)
