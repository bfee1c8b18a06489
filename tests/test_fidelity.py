"""The controllable skip: nothing at w = 0, the whole of it at w = 1, learned with the tokens frozen."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from vartutor.train.fidelity import FidelityLoss, LatentCache, train_fidelity

from vartutor.cli import main
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import make_pairs, pyramid, upscale_bicubic
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity, decode_faithfully
from vartutor.train.pairs import FidelityObjective
from vartutor.train.transformer import make_config
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights import load_restorer
from vartutor.weights.files import load_state

SMOKE = replace(get_profile("smoke"), batch_size=2)


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(SMOKE)).eval().requires_grad_(False)


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


def make_cache(transformer, tokenizer, **options):
    crops = RandomCrops(load_pixels("train"), 64, 2, seed=1)
    return LatentCache(transformer, tokenizer, crops, COURSE, FidelityObjective(), **options)


def test_a_batch_is_written_once_and_used_again(transformer, tokenizer, monkeypatch):
    cache = make_cache(transformer, tokenizer, batches=2, epochs=2)
    written = []
    monkeypatch.setattr(cache, "draw", lambda: written.append(cache._draw()) or written[-1])
    seen = [cache.batch() for _ in range(5)]
    assert len(written) == 3
    assert seen[0] is seen[2]
    assert seen[1] is seen[3]
    photo, f_hats, clean = seen[4]
    assert photo.shape == (2, 3, 16, 16)
    assert {s: tuple(f.shape) for s, f in f_hats.items()} == {s: (2, 16, 4 * s, 4 * s) for s in (1, 2, 4)}
    assert {s: tuple(x.shape) for s, x in clean.items()} == {s: (2, 3, 16 * s, 16 * s) for s in (1, 2, 4)}


def test_a_cache_goes_on_where_it_stood(transformer, tokenizer):
    cache, other = (make_cache(transformer, tokenizer, batches=2, epochs=2) for _ in range(2))
    for _ in range(5):
        cache.batch()
    other.load_state_dict(cache.state_dict())
    for _ in range(4):
        (photo, f_hats, _), (again, f_again, _) = cache.batch(), other.batch()
        assert torch.equal(photo, again)
        assert all(torch.equal(f_hats[s], f_again[s]) for s in f_hats)


def test_training_brings_the_decode_nearer_to_the_clean_photo(transformer, tokenizer):
    torch.manual_seed(0)
    fidelity = Fidelity.of(tokenizer, hidden=24)
    loss = FidelityLoss(fidelity, make_cache(transformer, tokenizer, batches=2, epochs=99), FidelityObjective())
    optimizer = torch.optim.AdamW(fidelity.parameters(), lr=3e-3)
    for step in range(60):
        value, _ = loss(step)
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
    monkeypatch.setitem(LatentCache.__init__.__kwdefaults__, "batches", 2)
    monkeypatch.setitem(LatentCache.__init__.__kwdefaults__, "epochs", 2)
    again = resumed(partial(train_fidelity, SMOKE, transformer, tokenizer, steps=6))
    model, own, fidelity, _ = load_restorer(str(tmp_path / "part"))  # nothing but the folder is needed
    assert torch.allclose(own.quantizer.codes, tokenizer.quantizer.codes, atol=1e-2)
    assert torch.allclose(model.body.head.weight, transformer.body.head.weight, atol=1e-3)
    assert torch.allclose(fidelity.pixels.weight, again.averaged.pixels.weight, atol=1e-3)


def test_the_command_goes_on_with_nothing_but_its_folder(tiny_runs, tmp_path, capsys, interrupted):
    call = ["train", "fidelity", "--profile", "smoke", "--out", str(tmp_path)]
    new = ["--model", str(tiny_runs / "transformer"), "--expected", "--perceptual", "0", "--steps", "3"]
    new += ["--augment", "--hidden", "8", "--depth", "1"]
    with interrupted(1):
        assert main([*call, *new]) == 130
    assert main([*call, *new]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    plain, balanced, faithful, where = capsys.readouterr().out.splitlines()
    assert plain.startswith("validation, fidelity 0: ×1 ")
    assert balanced.startswith("validation, fidelity 0.6: ×1 ")
    assert faithful.startswith("validation, fidelity 1: ×1 ")
    assert str(tmp_path) in where
    state = load_state(tmp_path / "state.pt")
    assert state["step"] == 3
    objective = FidelityObjective(perceptual=0.0, expected=True, augment=True, hidden=8, depth=1)
    assert state["info"]["objective"] == asdict(objective)
    assert main(["train", "fidelity", "--out", str(tiny_runs / "transformer"), "--resume"]) == 2
    assert "holds a transformer; needed: fidelity" in capsys.readouterr().err


def test_wrong_settings_are_one_line(raises_user_error):
    with raises_user_error("temperature 0"):
        FidelityObjective(temperature=0.0)
    with raises_user_error("perceptual -1"):
        FidelityObjective(perceptual=-1.0)
    with raises_user_error("hidden 0"):
        FidelityObjective(hidden=0)
