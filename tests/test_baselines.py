"""What a restorer has to beat: classical denoisers, and a convolutional super-resolver."""

from dataclasses import replace

import pytest
import torch

from vartutor.baselines.classical import METHODS, Denoiser, noise_level
from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver, separate
from vartutor.cli import main
from vartutor.data.crops import RandomCrops
from vartutor.data.degradation import gaussian_noise
from vartutor.data.pairs import eval_pairs, make_pairs, upscale_bicubic
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.metrics import psnr
from vartutor.perceptual import perceptual_distance
from vartutor.profiles import get_profile
from vartutor.train.baseline import BaselineLoss, train_baseline, trained_cnn
from vartutor.weights import load_cnn
from vartutor.weights.files import load_state

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
    with raises_user_error("no CNN 'huge'"):
        load_cnn("huge")


# --- its training ----------------------------------------------------------------------------------


def test_a_resumed_run_is_bit_for_bit_the_same(resumed):
    def train(out, resume=False):
        return train_baseline(SMOKE, out, config=TINY, steps=None if resume else 6, resume=resume)

    assert resumed(train).step == 6  # kept with the state


def test_training_beats_bicubic_on_other_photos(tmp_path, pairs):
    net = trained_cnn(train_state(tmp_path, steps=80))
    images, plain = net.restore(pairs.lr), upscale_bicubic(pairs.lr)
    for s in (1, 2, 4):
        assert psnr(images[s], pairs.hr[s]).mean() > psnr(plain[s], pairs.hr[s]).mean()


def train_state(folder, **options):
    profile = replace(SMOKE, batch_size=8)
    train_baseline(profile, folder, config=CnnConfig(16, 2), lr=3e-3, **options)
    return load_state(folder / "state.pt")


def test_the_perceptual_distance_joins_the_loss(tmp_path, monkeypatch, raises_user_error):
    net = random_net()
    losses = [
        BaselineLoss(net, RandomCrops(load_pixels("val"), batch_size=2), COURSE, perceptual=weight)(0)[0]
        for weight in (0.0, 1.0, 2.0)
    ]
    pairs = make_pairs(RandomCrops(load_pixels("val"), batch_size=2).batch(), COURSE, torch.Generator().manual_seed(0))
    distances = [perceptual_distance(image, pairs.hr[s]).mean() for s, image in net(pairs.lr).items()]
    assert losses[1] - losses[0] == pytest.approx(sum(distances).item() / 3, rel=1e-4)
    assert losses[2] - losses[0] == pytest.approx(2 * sum(distances).item() / 3, rel=1e-4)
    with raises_user_error("perceptual -1"):
        train_baseline(SMOKE, tmp_path, config=TINY, steps=1, perceptual=-1.0)


def test_a_budget_of_seconds_becomes_a_number_of_steps(tmp_path, monkeypatch, raises_user_error):
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr("vartutor.train.baseline.time.perf_counter", lambda: next(ticks))
    trainer = train_baseline(SMOKE, tmp_path, config=TINY, seconds=13.0)
    assert trainer.step == 4
    assert load_state(tmp_path / "state.pt")["info"]["steps"] == 4
    by_steps = train_baseline(SMOKE, tmp_path / "again", config=TINY, steps=4)
    theirs = by_steps.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in trainer.model.state_dict().items())
    with raises_user_error("1.0 seconds", "a single step takes"):
        train_baseline(SMOKE, tmp_path, config=TINY, seconds=1.0)
    with raises_user_error("0 seconds"):
        train_baseline(SMOKE, tmp_path, config=TINY, seconds=0)
    with raises_user_error("--steps and --seconds"):
        train_baseline(SMOKE, tmp_path, config=TINY, seconds=1.0, steps=3)


def test_another_state_is_one_line(tmp_path, raises_user_error):
    train_baseline(SMOKE, tmp_path, config=TINY, steps=1)
    with raises_user_error("of another model"):
        train_baseline(SMOKE, tmp_path, config=CnnConfig(8, 3), resume=True)
    with raises_user_error("no convolutional super-resolver"):
        trained_cnn({"info": {"config": {}}})


def test_the_command_trains_and_reports(tmp_path, capsys):
    call = ["train", "baseline", "--profile", "smoke", "--heads", "4", "--bf16", "--seed", "3", "--out", str(tmp_path)]
    assert main(call) == 0
    assert "3 steps in" in capsys.readouterr().out
    info = load_state(tmp_path / "state.pt")["info"]
    assert info["config"] == {"width": 8, "blocks": 2, "heads": [4], "residual_scale": 1.0}
    assert (info["kind"], info["preset"], info["seed"]) == ("cnn", "course", 3)
    assert info["command"].startswith("vartutor train baseline --profile smoke")
    assert info["perceptual"] == 0
    assert main(["train", "baseline", "--steps", "0"]) == 2
    assert main(["train", "baseline", "--heads", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_run_goes_on_with_nothing_but_its_folder(tmp_path, interrupted):
    call = ["train", "baseline", "--profile", "smoke"]
    settings = ["--heads", "2", "--width", "4", "--blocks", "1", "--lr", "0.002", "--perceptual", "0.1", "--seed", "3"]
    settings.append("--augment")
    whole, part = ([*call, "--out", str(tmp_path / name)] for name in ("whole", "part"))
    assert main([*whole, *settings]) == 0
    with interrupted(1):
        assert main([*part, *settings]) == 130
    assert main([*part, "--resume"]) == 0
    a, b = (load_state(tmp_path / name / "state.pt") for name in ("whole", "part"))
    assert all(torch.equal(value, b["averaged"][name]) for name, value in a["averaged"].items())
    assert b["info"] == a["info"] | {"command": b["info"]["command"]}
    assert (b["info"]["perceptual"], b["info"]["lr"], b["info"]["augment"]) == (0.1, 0.002, True)
    assert "--heads 2" in b["info"]["command"]
