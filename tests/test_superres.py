"""Photos of any size: tiles that cover, blends without seams, results that depend on nothing but the seed."""

import copy
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.addons.color import low_frequencies
from vartutor.data.images import from_uint8, to_pil
from vartutor.data.pairs import upscale_bicubic
from vartutor.profiles import get_profile
from vartutor.superres import SuperResolver
from vartutor.tiling import Canvas, Region, cut, padded, ramp, starts
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer, restore_latents


@pytest.fixture(scope="module")
def resolver():
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TokenizerConfig.of(get_profile("smoke"), "hit")).eval().requires_grad_(False)
    config = TransformerConfig(tokenizer.quantizer.patch_nums, 64, 16, 32, 1, 2, rope=True, classes=2)
    model = PhotoTransformer(config, tokenizer.quantizer.codes)
    fidelity = Fidelity.of(tokenizer, hidden=24)
    for layer in (*(mix[-1] for mix in fidelity.mix), fidelity.pixels):  # untrained, they are zero
        torch.nn.init.normal_(layer.weight, std=0.05)
    return SuperResolver(model.eval(), tokenizer, fidelity.eval().requires_grad_(False))


def photo(height, width, seed=0):
    noise = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(-1, 1)[0]


@pytest.mark.parametrize("length", [16, 17, 28, 29, 100])
def test_tiles_cover_and_end_with_the_photo(length):
    begins = starts(length, 16, 12)
    assert begins[0] == 0
    assert begins[-1] + 16 == length
    assert all(0 < b - a <= 12 for a, b in pairwise(begins))
    assert len(cut(length, 16, 16, 12)) == len(begins)


def test_blending_constant_parts_gives_the_constant():
    canvas = Canvas(2, 28, 16, ramp(16, 4, 4))
    for top in (0, 12):
        canvas.add(torch.full((2, 16, 16), 3.0), top, 0)
    assert torch.allclose(canvas.mean(), torch.full((2, 28, 16), 3.0))
    canvas.add(torch.ones(2, 16, 16), 40, 0)  # beside it
    canvas.add(torch.full((2, 16, 16), 3.0), -8, 8)  # hangs over two borders
    assert torch.allclose(canvas.mean(), torch.full((2, 28, 16), 3.0))


def test_drawn_tiles_pass_into_each_other_in_the_middle_of_their_overlap():
    line = ramp(32, 8, 2)[16]
    assert torch.allclose(line[:8], torch.tensor([1e-3, 1e-3, 1e-3, 0.25, 0.75, 1, 1, 1]))
    assert torch.equal(line, line.flip(0))
    assert torch.allclose((line + line.roll(24))[24:29], torch.ones(5), atol=2e-3)  # two neighbours share the weight


def test_a_part_is_read_from_floats_or_bytes_and_repeats_the_border():
    levels = torch.arange(3 * 5 * 6, dtype=torch.uint8).view(3, 5, 6)
    assert padded(levels.shape[1:], 4, 4) == (8, 8)
    assert padded((3, 17), 16, 4) == (16, 20)
    repeated = from_uint8(levels)[:, [2, 3, 4, 4]][:, :, [4, 5, 5, 5]]
    for x in (levels, from_uint8(levels)):
        assert torch.equal(Region(2, 6, 4, 8).of(x), repeated)
    assert torch.equal(levels[Region(1, 3, 2, 4).within(Region(1, 5, 0, 6), 1)], levels[:, 0:2, 2:4])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (16, 16), (17, 30)])
def test_any_size(resolver, size):
    images = resolver.upscale(photo(*size))
    assert {s: tuple(image.shape) for s, image in images.items()} == {
        s: (3, size[0] * s, size[1] * s) for s in (1, 2, 4)
    }


def test_kinds_of_images(resolver, tmp_path):
    x = photo(18, 20)
    pil = to_pil(x)
    pil.save(tmp_path / "photo.png")
    from_pil, from_path = resolver.upscale(pil)[2], resolver.upscale(tmp_path / "photo.png")[2]
    from_array = resolver.upscale(np.asarray(pil))[2]
    assert isinstance(from_pil, Image.Image)
    assert np.array_equal(np.asarray(from_pil), from_array)
    assert np.array_equal(np.asarray(from_path), from_array)


@pytest.mark.parametrize(
    ("fidelity", "color_fix"), [(0.0, "none"), (1.0, "none"), (0.5, "mean"), (0.0, "wavelet"), (1.0, "wavelet")]
)
def test_batch_and_block_change_nothing(resolver, fidelity, color_fix):
    x, options = photo(28, 100), {"seed": 3, "expected": False, "fidelity": fidelity, "color_fix": color_fix}
    whole = resolver.upscale(x, **options)
    small = SuperResolver(resolver.model, resolver.tokenizer, resolver.fidelity, batch=3, block=24)
    parts = small.upscale(x, **options)
    for s in (1, 2, 4):
        assert (whole[s] - parts[s]).abs().max() <= 2 / 255 + 1e-6  # one gray level of rounding


def test_a_block_needs_memory_for_itself_alone(resolver, monkeypatch):
    seen = []
    original = SuperResolver._canvas
    monkeypatch.setattr(SuperResolver, "_canvas", lambda *args: seen.append(original(*args)) or seen[-1])
    small = SuperResolver(resolver.model, resolver.tokenizer, resolver.fidelity, block=16)
    small.upscale(photo(16, 240), (1,), fidelity=1.0, color_fix="wavelet")
    assert len(seen) == 15
    assert max(canvas.sum.shape[-1] for canvas in seen) == 16 + 2 * (4 + 8)  # the block, and what the fix looks at


GROWTH = """
import resource, sys
from pathlib import Path
import torch
from PIL import Image
from vartutor.restore import restore
from vartutor.superres import SuperResolver

tile = {s: torch.zeros(1, 3, 16 * s, 16 * s) for s in (1, 2, 4)}
SuperResolver._restore = lambda self, photo, part, *_: {s: x.expand(len(part), -1, -1, -1) for s, x in tile.items()}
resolver, peaks = SuperResolver.from_pretrained(block=96), []
for side in map(int, sys.argv[1:]):
    Image.new("RGB", (side, side), "teal").save(f"{side}.png")
    (outcome,) = restore([Path(f"{side}.png")], Path("out"), resolver.upscale, (1, 2, 4))
    assert len(outcome.written) == 3
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) * (1 if sys.platform == "darwin" else 1024))
"""


def test_memory_grows_with_the_results_as_pillow_keeps_them_and_with_nothing_else(tmp_path):
    """From file to files, but for the model; the smaller photo fills a block already."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", GROWTH, "200", "1000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    results = 4 * (1 + 4 + 16) * (1000**2 - 200**2)  # 4 bytes for every pixel
    assert int(done.stdout) < 1.5 * results


def test_the_seed_decides(resolver):
    x = photo(20, 20)
    first, again, other = (resolver.upscale(x, (4,), expected=False, seed=seed)[4] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for way in ({"top_k": 1, "expected": False}, {"expected": True}):  # these draw nothing
        assert torch.equal(*(resolver.upscale(x, (4,), seed=seed, **way)[4] for seed in (1, 2)))


@pytest.mark.parametrize("expected", [False, True])
def test_at_temperature_0_and_near_it_the_likeliest_tokens_are_said(resolver, expected):
    greedy = resolver.upscale(photo(20, 20), (4,), top_k=1, expected=expected)[4]
    for t in (0, 1e-40):
        assert torch.equal(greedy, resolver.upscale(photo(20, 20), (4,), temperature=t, expected=expected)[4])


def test_broken_weights_make_no_picture(resolver, raises_user_error):
    broken = copy.deepcopy(resolver.model)
    broken.body.blocks[0].load_state_dict({k: v * torch.nan for k, v in broken.body.blocks[0].state_dict().items()})
    for expected in (False, True):
        with raises_user_error("logits hold NaN"):
            SuperResolver(broken, resolver.tokenizer).upscale(photo(20, 20), (4,), expected=expected)


def test_logits_that_nobody_looked_at_show_in_the_picture(resolver, monkeypatch, raises_user_error):
    """As on a GPU, which nobody waits for."""
    bare = lambda logits, *_: logits.softmax(-1)  # noqa: E731
    monkeypatch.setattr("vartutor.transformer.generate.chances", bare)
    broken = copy.deepcopy(resolver.model)
    broken.body.blocks[0].load_state_dict({k: v * torch.nan for k, v in broken.body.blocks[0].state_dict().items()})
    for way in ({"expected": False}, {"expected": True}, {"top_k": 1, "expected": False}):
        with raises_user_error("an image with NaN"):
            SuperResolver(broken, resolver.tokenizer).upscale(photo(20, 20), (4,), **way)


def test_progress_is_told(resolver):
    calls = []
    resolver.upscale(photo(16, 40), (1,), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (3, 3)


@pytest.mark.parametrize("fidelity", [0.0, 1.0])
def test_no_seams(resolver, fidelity):
    x = photo(16 + 12 * 5, 16 + 12 * 5)
    image = resolver.upscale(x, (4,), expected=True, fidelity=fidelity)[4]
    steps = (image[..., 1:] - image[..., :-1]).abs().mean((0, 1))
    borders = [4 * place - 1 for begin in starts(76, 16, 12) for place in (begin, begin + 16) if 0 < place < 76]
    elsewhere = torch.ones(len(steps), dtype=torch.bool)
    elsewhere[borders] = False
    lattice = torch.arange(3, len(steps), 4)  # where cells of latents meet, in any tile
    assert steps[borders].mean() < 1.5 * steps[lattice[elsewhere[lattice]]].mean()


def test_fidelity_looks_at_the_photo_and_zero_does_not_need_it(resolver):
    x = photo(20, 24)
    bare = SuperResolver(resolver.model, resolver.tokenizer)
    plain, faithful = (resolver.upscale(x, fidelity=w) for w in (0.0, 1.0))
    default = resolver.upscale(x)
    for s, image in bare.upscale(x).items():
        assert (default[s] - torch.lerp(plain[s], faithful[s], 0.6)).abs().max() <= 2.01 / 255  # all are rounded
        assert torch.equal(image, plain[s])
        assert not torch.equal(image, faithful[s])


def test_colour_fixes_give_the_photos_colours(resolver):
    x = photo(60, 84, seed=5)
    plain, mean, wavelet = (
        resolver.upscale(x, (1, 4), fidelity=0.0, color_fix=fix) for fix in ("none", "mean", "wavelet")
    )
    for s in (1, 4):
        goal = upscale_bicubic(x[None], (s,))[s][0]
        far, near = ((image[s] - goal).mean((1, 2)).abs().max() for image in (plain, mean))
        assert far > 0.05
        assert near < 0.6 / 127.5
        blur = [low_frequencies(image[s] - goal, 3).abs().mean() for image in (plain, wavelet)]
        assert blur[1] < 0.3 * blur[0]


def test_wrong_calls_are_one_clear_line(resolver, raises_user_error):
    with raises_user_error("scales (3,)", "1, 2, 4"):
        resolver.upscale(photo(8, 8), (3,))
    with raises_user_error("scales 4:", "as in (1, 4)"):
        resolver.upscale(photo(8, 8), 4)
    with raises_user_error("scales ():"):
        resolver.upscale(photo(8, 8), ())
    with raises_user_error("without pixels"):
        resolver.upscale(Image.new("RGB", (0, 3)))
    with raises_user_error("fidelity 1.5", "0 to 1"):
        resolver.upscale(photo(8, 8), fidelity=1.5)
    with raises_user_error("no fidelity module"):
        SuperResolver(resolver.model, resolver.tokenizer).upscale(photo(8, 8), fidelity=0.5)
    with raises_user_error("unknown colour fix 'all'"):
        resolver.upscale(photo(8, 8), color_fix="all")
    with raises_user_error("at most 4096"):
        resolver.upscale(torch.zeros(3, 1, 4097))
    with raises_user_error("give uint8"):
        resolver.upscale(np.zeros((4, 4, 3)))
    with raises_user_error("a list"):
        resolver.upscale([1])
    with raises_user_error("a tensor of shape (1, 3, 4, 4)"):
        resolver.upscale(torch.zeros(1, 3, 4, 4))
    for bad in (
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 200.0),
        torch.full((3, 4, 4), torch.nan),
    ):
        with raises_user_error("an image"):
            resolver.upscale(bad)
    for t in (-1.0, float("nan"), float("inf")):
        with raises_user_error(f"temperature {t:g}"):
            resolver.upscale(photo(8, 8), temperature=t)
    with raises_user_error("overlap 6"):
        SuperResolver(resolver.model, resolver.tokenizer, overlap=6)


def test_tiles_are_those_of_the_training_with_either_autoencoder(resolver):
    assert (resolver.tile, resolver.overlap) == (16, 4)
    groups = ((1, 2), (4,), (8,))
    torch.manual_seed(0)
    published = TokenizerConfig("hit", groups, codes=32, channels=8, width=32, autoencoder="var", bridge=8)
    tokenizer = build_tokenizer(published).eval().requires_grad_(False)
    config = TransformerConfig(tokenizer.quantizer.patch_nums, 32, 8, 32, 1, 2, rope=False)
    model = PhotoTransformer(config, tokenizer.quantizer.codes, prior=False, patch=4).eval()
    large = SuperResolver(model, tokenizer)
    assert (large.tile, large.overlap) == (32, 0)
    x = photo(32, 32)
    expected = tokenizer.decode(restore_latents(model, tokenizer, x[None], top_k=1)[4])[0]
    assert torch.allclose(large.upscale(x, top_k=1)[4], expected, atol=1 / 127)
    assert large.upscale(photo(20, 40))[2].shape == (3, 40, 80)
