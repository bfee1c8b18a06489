"""The controllable skip: nothing at w = 0, the whole of it at w = 1, learned with the tokens frozen."""

from dataclasses import asdict, replace

import pytest
import torch

from vartutor.cli import main
from vartutor.data.crops import eval_crops
from vartutor.data.pairs import make_pairs, pyramid, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity, decode_faithfully
from vartutor.train import jobs
from vartutor.train.jobs import KEEP_WRITTEN, fidelity_job
from vartutor.train.kinds import train
from vartutor.train.loop import Moment
from vartutor.train.pairs import FidelityObjective
from vartutor.train.processes import Process
from vartutor.train.settings import FidelitySettings
from vartutor.train.sizes import make_config
from vartutor.train.source import Feed, make_source
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import load_restorer
from vartutor.weights.files import STATE, load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)


@pytest.fixture(scope="module")
def transformer(tokenizer):
    torch.manual_seed(1)
    model = PhotoTransformer(make_config(SMOKE, tokenizer), tokenizer.quantizer.codes)
    return model.eval().requires_grad_(False)


@pytest.fixture
def trained(tokenizer):
    """As after training: no layer is zero."""
    torch.manual_seed(2)
    fidelity = Fidelity.of(tokenizer, hidden=24)
    for layer in (*fidelity.heads, *(mix[-1] for mix in fidelity.mix), fidelity.pixels):
        torch.nn.init.normal_(layer.weight, std=0.05)
    return fidelity.eval().requires_grad_(False)


def test_at_zero_it_is_the_tokenizers_own_decode(tokenizer, trained):
    f_hat, photo = torch.randn(2, 16, 5, 7), torch.rand(2, 3, 20, 28) * 2 - 1
    assert torch.equal(decode_faithfully(tokenizer, trained, f_hat, photo, 2, 0.0), tokenizer.decode(f_hat))
    assert torch.equal(decode_faithfully(tokenizer, None, f_hat, photo, 2, 0.0), tokenizer.decode(f_hat))
    assert not torch.equal(decode_faithfully(tokenizer, trained, f_hat, photo, 2, 0.1), tokenizer.decode(f_hat))


def test_untrained_it_changes_nothing(tokenizer):
    f_hat, photo = torch.randn(1, 16, 4, 4), torch.zeros(1, 3, 16, 16)
    image = decode_faithfully(tokenizer, Fidelity.of(tokenizer), f_hat, photo, 4, 1.0)
    assert torch.allclose(image, tokenizer.decode(f_hat), atol=1e-6)


def test_more_w_means_farther_from_the_plain_decode_and_scales_differ(tokenizer, trained):
    f_hat, photo = torch.randn(1, 16, 6, 6), torch.rand(1, 3, 24, 24) * 2 - 1
    plain = tokenizer.decode(f_hat)
    moves = [
        (decode_faithfully(tokenizer, trained, f_hat, photo, 1, w) - plain).abs().mean() for w in (0.1, 0.3, 0.6, 1.0)
    ]
    assert torch.allclose(torch.stack(moves) / moves[-1], torch.tensor([0.1, 0.3, 0.6, 1.0]), rtol=1e-4)
    one, two = (decode_faithfully(tokenizer, trained, f_hat, photo, s, 1.0) for s in (1, 2))
    assert not torch.equal(one, two)


def test_it_is_small_and_only_for_the_small_decoder(raises_user_error):
    course = build_tokenizer(TokenizerConfig.of(get_profile("cpu")))
    assert sum(p.numel() for p in Fidelity.of(course).parameters()) < 1_000_000
    with torch.device("meta"):
        large = build_tokenizer(TokenizerConfig.of(get_profile("gpu")))
    with raises_user_error("small autoencoder"):
        Fidelity.of(large)


def test_settings_build_the_same_shape(tokenizer, trained):
    again = Fidelity(**trained.settings)
    again.load_state_dict(trained.state_dict())
    assert again.settings == trained.settings
    assert Fidelity.of(tokenizer).settings == {
        "width": 32,
        "blocks": 2,
        "hidden": 64,
        "depth": 6,
        "factor": 4,
        "base": "decoder",
        "blind": False,
        "draws": False,
        "scales": [1, 2, 4],
    }


@pytest.mark.parametrize("s", [1, 2, 4])
def test_it_looks_at_every_pixel_of_the_degraded_photo(tokenizer, trained, s):
    photo = torch.rand(1, 3, 32, 32) * 2 - 1
    fine, seen = trained.look(photo, s)
    assert fine.shape == (1, 24, 32 // s, 32 // s)
    assert seen.shape == (1, 24, 8, 8)
    photo[:, :, :s, :s] += 0.5  # one degraded pixel
    moved = (trained.look(photo, s)[0] - fine).abs().sum(1)[0]
    assert moved[0, 0] > 0
    reach = 1 + 2 * len(trained.block)  # of the stem's convolution and the blocks', two each
    assert moved[reach + 1 :].sum() == moved[:, reach + 1 :].sum() == 0


def test_the_photos_own_pixels_can_pass(tokenizer):
    """Whatever the tokens say, the pixels can be put right: on fixed noise, fitting them is easy."""
    torch.manual_seed(0)
    fidelity = Fidelity.of(tokenizer, hidden=16)
    photo, f_hat = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 16, 4, 4)
    z = tokenizer.post_quant_conv(f_hat)
    optimizer = torch.optim.Adam(fidelity.parameters(), lr=1e-2)
    errors = []
    for _ in range(100):
        loss = torch.nn.functional.mse_loss(fidelity(tokenizer.decoder, z, photo, 1), photo)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.02 * errors[0]


# --- training ----------------------------------------------------------------------------------------------


@pytest.fixture
def job(transformer, tokenizer):
    run = FidelitySettings.of(SMOKE, seed=1, objective=FidelityObjective(hidden=24))
    torch.manual_seed(0)
    return fidelity_job(run, Process(), over=(transformer, tokenizer))


def make_feed(job, keep, prepare=None):
    run = FidelitySettings.of(SMOKE, seed=1)
    return Feed(make_source(run, Process()), run, Process(), prepare or job.prepare, keep)


def test_a_batch_is_written_once_and_used_again(job):
    written = []
    feed = make_feed(job, (2, 2), lambda batch: written.append(job.prepare(batch)) or written[-1])
    seen = [feed(step) for step in range(5)]
    assert len(written) == 3
    assert seen[0] is seen[2]
    assert seen[1] is seen[3]
    assert not torch.equal(seen[0].first[1], seen[1].first[1])
    assert not torch.equal(seen[0].first[1], seen[4].first[1])
    assert {s: tuple(x.shape) for s, x in seen[4].first.items()} == {s: (2, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
    assert {s: tuple(f.shape) for s, f in seen[4].f_hats.items()} == {s: (2, 16, 4 * s, 4 * s) for s in (1, 2, 4)}
    assert {s: tuple(x.shape) for s, x in seen[4].hr.items()} == {s: (2, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
    assert job.keep == KEEP_WRITTEN


def test_what_is_kept_can_be_entered_anywhere(job):
    feed = make_feed(job, (2, 2))
    seen = [feed(step) for step in range(9)]
    for start in (3, 5, 6):
        other = make_feed(job, (2, 2))
        for step in range(start, 9):
            again = other(step)
            assert torch.equal(again.first[4], seen[step].first[4])
            assert all(torch.equal(again.f_hats[s], f_hat) for s, f_hat in seen[step].f_hats.items())
        assert len(other.kept) <= 2  # no more is held than comes again


def test_tokens_are_drawn_from_the_photos_own_seeds(transformer, tokenizer, job):
    batch = make_source(FidelitySettings.of(SMOKE, seed=1), Process()).batch(range(2))
    whole = job.prepare(batch).f_hats
    alone = job.prepare(make_source(FidelitySettings.of(SMOKE, seed=1), Process()).batch(range(1, 2))).f_hats
    assert all(torch.allclose(alone[s][0], whole[s][1], atol=1e-4) for s in whole)
    sure = FidelitySettings.of(SMOKE, seed=1, objective=FidelityObjective(expected=True))
    expected = fidelity_job(sure, Process(), over=(transformer, tokenizer)).prepare(batch).f_hats
    assert not torch.allclose(expected[4], whole[4], atol=1e-2)


def test_training_brings_the_decode_nearer_to_the_clean_photo(job, tokenizer):
    fidelity, feed = job.model, make_feed(job, (2, 99))
    optimizer = torch.optim.AdamW(fidelity.parameters(), lr=3e-3)
    for step in range(60):
        value, _ = job.loss(feed(step), Moment())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    clean, _ = eval_crops("val", 64, 1)
    pairs = make_pairs(clean[:4], COURSE, torch.Generator().manual_seed(0))
    seen, target = upscale_bicubic(pairs.lr), pyramid(clean[:4])
    for s, p in ((1, 4), (2, 8), (4, 16)):
        f_hat = torch.zeros(4, 16, p, p)
        plain, near = (decode_faithfully(tokenizer, fidelity, f_hat, seen[s], s, w) for w in (0.0, 1.0))
        assert (near - target[s]).abs().mean() < 0.7 * (plain - target[s]).abs().mean()


def test_a_resumed_run_is_bit_for_bit_the_same_and_whole(transformer, tokenizer, tmp_path, monkeypatch, resumed):
    monkeypatch.setattr(jobs, "KEEP_WRITTEN", (2, 2))

    def fit(out, resume=False):
        run = FidelitySettings.of(SMOKE, steps=6, log_every=1, validate_every=0)
        return train("fidelity", run, out, device="cpu", resume=resume, over=(transformer, tokenizer))

    again = resumed(fit)
    model, own, fidelity = load_restorer(str(tmp_path / "part"))  # nothing but the folder is needed
    assert torch.allclose(own.quantizer.codes, tokenizer.quantizer.codes, atol=1e-2)
    assert torch.allclose(model.body.head.weight, transformer.body.head.weight, atol=1e-3)
    with again.averages.in_use() as averaged:
        assert torch.allclose(fidelity.pixels.weight, averaged.pixels.weight, atol=1e-3)


def test_the_command_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    call = ["train", "fidelity", "--profile", "smoke", "--device", "cpu", "--out", str(tmp_path)]
    told = {"model": tiny_runs / "transformer", "objective.expected": "true", "objective.perceptual": 0}
    told |= {"loop.steps": 3, "augment": "true", "objective.hidden": 8, "objective.depth": 1}
    new = [word for key, value in told.items() for word in ("--set", f"{key}={value}")]
    with interrupted(1):
        assert main([*call, *new]) == 130
    assert main([*call, *new]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    device, report, where = capsys.readouterr().out.splitlines()
    assert device.startswith("trains on cpu (")
    assert report.startswith("validation photos: ×1 ")
    assert report.count(" dB (perceptual ") == 3
    assert str(tmp_path) in where
    state = load_state(tmp_path / STATE)
    assert state["step"] == 3
    objective = FidelityObjective(perceptual=0.0, expected=True, hidden=8, depth=1)
    assert state["info"]["objective"] == asdict(objective)
    assert state["info"]["settings"]["augment"]
    assert state["info"]["config"]["hidden"] == 8
    assert load_restorer(tmp_path).fidelity.settings == state["info"]["config"]
    assert main(["train", "fidelity", "--out", str(tiny_runs / "transformer"), "--resume"]) == 2
    assert "holds a transformer; go on with vartutor train transformer" in capsys.readouterr().err


def test_wrong_settings_are_one_line(raises_user_error):
    with raises_user_error("temperature 0"):
        FidelityObjective(temperature=0.0)
    with raises_user_error("perceptual -1"):
        FidelityObjective(perceptual=-1.0)
    with raises_user_error("hidden 0"):
        FidelityObjective(hidden=0)
