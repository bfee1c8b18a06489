import re
from collections import Counter
from math import pi

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from vartutor.data import degradation
from vartutor.data.crops import eval_crops
from vartutor.data.degradation import (
    Blur,
    Degradation,
    Dice,
    Noise,
    Resize,
    Stage,
    blur,
    degrade,
    draw_kernel,
    draw_noise,
    gaussian_noise,
    impulse_noise,
    jpeg,
    poisson_noise,
    speckle_noise,
)
from vartutor.data.images import from_uint8, resize, to_pil, to_uint8
from vartutor.data.kernels import gaussian_kernel, sinc_kernel
from vartutor.data.presets import BICUBIC, COURSE, PRESETS, UNSEEN, VARSR, get_preset
from vartutor.metrics import psnr


@pytest.fixture(scope="module")
def clean():
    return eval_crops("val", per_photo=1)[0]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- blur ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [gaussian_kernel(21, 3.0, 1.0, 0.3), sinc_kernel(21, 1.2)], ids=["gaussian", "sinc"])
@pytest.mark.parametrize("size", [(40, 50), (11, 64), (8, 5), (1, 1)])
def test_blur_of_a_constant(kernel, size):
    x = torch.full((2, 3, *size), 0.3)
    assert torch.allclose(blur(x, kernel), x, atol=1e-5)


def test_blur_keeps_the_mean(clean):
    x = torch.nn.functional.pad(clean, (16,) * 4, value=0.0)
    y = blur(x, gaussian_kernel(15, 2.0, 1.0, 1.0))
    assert y.shape == x.shape
    assert torch.allclose(y.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    assert (y.var((2, 3)) < x.var((2, 3))).all()


def test_blur_of_an_impulse_is_the_kernel():
    kernel = gaussian_kernel(9, 2.0, 1.0, 0.5)
    x = torch.zeros(1, 3, 21, 21)
    x[..., 10, 10] = 1
    for channel in blur(x, kernel)[0]:
        assert torch.allclose(channel[6:15, 6:15], kernel, atol=1e-7)


def test_blur_mirrors_the_border():
    x = torch.rand(1, 3, 20, 30, generator=seeded())
    mirrored = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    kernel = gaussian_kernel(9, 2.0)
    assert torch.allclose(blur(x, kernel), blur(mirrored, kernel)[..., 4:-4, 4:-4], atol=1e-6)


# --- noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [1.0, 12.0])
def test_gaussian_noise(sigma):
    x = torch.zeros(2, 3, 256, 256)
    noise = gaussian_noise(x, sigma, generator=seeded()) * 127.5
    assert noise.std().item() == pytest.approx(sigma, rel=0.03)
    assert abs(noise.mean()) < 0.03 * sigma
    correlation = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert (correlation - torch.eye(3)).abs().max() < 0.03
    assert not torch.equal(noise[0], noise[1])


def test_gray_noise_is_equal_over_channels():
    x = torch.zeros(2, 3, 256, 256)
    noise = gaussian_noise(x, 8.0, gray=True, generator=seeded())
    assert torch.equal(noise[:, 0], noise[:, 1])
    assert torch.equal(noise[:, 0], noise[:, 2])
    assert (noise * 127.5).std().item() == pytest.approx(8, rel=0.03)
    photo = torch.rand(1, 3, 64, 64, generator=seeded()) * 2 - 1
    noise = poisson_noise(photo, 1.0, gray=True, generator=seeded()) - photo
    assert torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6)
    noise = poisson_noise(photo, 1.0, generator=seeded()) - photo
    assert not torch.allclose(noise[:, 0], noise[:, 2], atol=0.01)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_poisson_noise_grows_as_the_root_of_brightness(gray, scale):
    patches = {0: 0, 32: 32, 128: 128, 242: 242}
    image = torch.arange(256, dtype=torch.uint8).repeat(256, 1)  # all levels: 256 photons are white
    rows = []
    for level in patches:
        image[40 * len(rows) : 40 * len(rows) + 40] = level
        rows.append(slice(40 * len(rows), 40 * len(rows) + 40))
    x = from_uint8(image).expand(1, 3, -1, -1)
    noise = (poisson_noise(x, scale, gray=gray, generator=seeded()) - x) * 127.5
    for level, row in zip(patches, rows, strict=True):
        expected = scale * 255 * (level / 255 / 256) ** 0.5
        assert noise[:, :, row].std().item() == pytest.approx(expected, rel=0.04, abs=1e-3)
        assert abs(noise[:, :, row].mean()) < 0.3


def test_noise_is_seeded(clean):
    for noise in (gaussian_noise, poisson_noise):
        assert torch.equal(noise(clean, 1.0, generator=seeded(5)), noise(clean, 1.0, generator=seeded(5)))
        assert not torch.equal(noise(clean, 1.0, generator=seeded(5)), noise(clean, 1.0, generator=seeded(6)))


def test_no_noise_at_zero(clean):
    assert torch.equal(gaussian_noise(clean, 0.0), clean)
    assert torch.equal(poisson_noise(clean, 0.0), clean)
    assert torch.equal(draw_noise(clean, Noise(probability=0.0), Dice(0)), clean)


# --- JPEG ------------------------------------------------------------------------------------------


def test_impulse_noise_blackens_and_whitens_whole_pixels():
    x = torch.full((2, 3, 200, 200), 0.25)
    y = impulse_noise(x, 0.1, generator=seeded())
    assert y.unique().tolist() == [-1, 0.25, 1]
    assert torch.equal(y[:, 0], y[:, 1])
    for end in (-1, 1):
        assert (y == end).float().mean() == pytest.approx(0.05, abs=0.005)
    assert torch.equal(impulse_noise(x, 0.0), x)


def test_speckle_noise_grows_with_brightness():
    for value, light in ((-1.0, 0), (-0.5, 0.5), (0.0, 1.0)):
        noise = speckle_noise(torch.full((1, 3, 100, 100), value), 0.1, generator=seeded()) - value
        assert noise.std() == pytest.approx(0.1 * light, rel=0.03)


def test_a_noise_of_another_kind_takes_the_place_of_the_usual(clean):
    for kind, function in (("impulse", impulse_noise), ("speckle", speckle_noise)):
        dice, again = Dice(3), Dice(3)
        y = draw_noise(clean, Noise(kind=kind, amount=(0.1, 0.2)), dice)
        again.chance(1.0)
        expected = function(clean, again.uniform((0.1, 0.2)), generator=again.generator).clamp(-1, 1)
        assert torch.equal(y, expected)


def test_jpeg_quality_is_monotone(clean):
    values = [psnr(jpeg(clean, quality), clean, color="rgb").mean() for quality in (5, 20, 40, 60, 80, 95, 100)]
    assert values == sorted(values)
    assert values[0] < 28
    assert values[-1] > 35


def test_jpeg_is_pillows(clean, tmp_path):
    y = jpeg(clean, 70)
    assert y.shape == clean.shape
    to_pil(clean[2]).save(tmp_path / "x.jpg", quality=70)
    with Image.open(tmp_path / "x.jpg") as image:
        assert np.array_equal(to_uint8(y[2]).permute(1, 2, 0), np.asarray(image))
    assert torch.equal(y[:1], jpeg(clean[:1], 70))


@pytest.mark.parametrize("size", [(1, 1), (3, 17)])
def test_jpeg_of_any_size(size):
    x = torch.zeros(2, 3, *size)
    assert (jpeg(x, 50) - x).abs().max() < 0.02


# --- what is drawn ---------------------------------------------------------------------------------


@pytest.fixture
def record(monkeypatch):
    """Calls of the kernel functions while kernels are drawn."""
    calls = []
    for name in ("gaussian_kernel", "plateau_kernel", "sinc_kernel"):
        monkeypatch.setattr(degradation, name, lambda *args, name=name: calls.append((name, *args)))
    return calls


def kind(call):
    name, _, sigma_x, *rest = call
    if name == "sinc_kernel":
        return "sinc"
    family = "plateau" if name == "plateau_kernel" else "generalized" if len(rest) == 3 else "gaussian"
    return family, rest[0] == sigma_x and rest[1] == 0


@pytest.mark.parametrize("stage", [*VARSR.stages, *COURSE.stages], ids=["varsr 1", "varsr 2", "course"])
def test_kernels_follow_the_weights(record, stage):
    spec, dice = stage.blur, Dice(1)
    for _ in range(2000):
        draw_kernel(spec, dice)
    counts = Counter(map(kind, record))
    weights = {(family, isotropic): weight * (1 - spec.sinc) for family, isotropic, weight in spec.kinds}
    if spec.sinc:
        weights["sinc"] = spec.sinc
    assert set(counts) <= set(weights)
    assert chisquare([counts[key] for key in weights], [2000 * weight for weight in weights.values()]).pvalue > 1e-3

    sizes = Counter(size for _, size, *_ in record)
    assert set(sizes) == set(spec.sizes)
    assert chisquare([sizes[size] for size in spec.sizes]).pvalue > 1e-3
    for name, size, *settings in record:
        if name == "sinc_kernel":
            assert pi / (3 if size < 13 else 5) <= settings[0] <= pi
            continue
        assert all(spec.sigma[0] <= sigma <= spec.sigma[1] for sigma in settings[:2])
        assert -pi <= settings[2] <= pi
        low, high = spec.beta_plateau if name == "plateau_kernel" else spec.beta_gaussian
        assert all(low <= beta <= high for beta in settings[3:])
    betas = [call[5] for call in record if kind(call)[0] == "generalized"]
    assert not betas or sum(beta < 1 for beta in betas) / len(betas) == pytest.approx(0.5, abs=0.1)


def test_noise_follows_the_weights(monkeypatch):
    calls = []
    for name in ("gaussian_noise", "poisson_noise"):
        monkeypatch.setattr(
            degradation, name, lambda x, amount, *, gray, generator, name=name: calls.append((name, gray, amount)) or x
        )
    x, dice, spec = torch.zeros(1, 3, 2, 2), Dice(2), Noise(0.9, 0.6, (2, 12), (0.05, 1.5), gray=0.4)
    for _ in range(2000):
        draw_noise(x, spec, dice)
    counts = Counter(call[:2] for call in calls)
    observed = [2000 - len(calls)] + [
        counts[name, gray] for name in ("gaussian_noise", "poisson_noise") for gray in (0, 1)
    ]
    expected = [200] + [1800 * name * gray for name in (0.6, 0.4) for gray in (0.6, 0.4)]
    assert chisquare(observed, expected).pvalue > 1e-3
    for name, (low, high) in (("gaussian_noise", spec.sigma), ("poisson_noise", spec.poisson)):
        amounts = np.array([amount for call, _, amount in calls if call == name])
        assert amounts.min() >= low
        assert amounts.max() <= high
        assert amounts.mean() == pytest.approx((low + high) / 2, rel=0.05)


def test_resize_follows_the_weights():
    dice, spec = Dice(3), Resize(0.2, 0.7, 0.1, (0.3, 1.5))
    factors = np.array([degradation._draw_factor(spec, dice) for _ in range(2000)])
    observed = [(factors > 1).sum(), (factors < 1).sum(), (factors == 1).sum()]
    assert chisquare(observed, [400, 1400, 200]).pvalue > 1e-3
    assert factors.min() >= 0.3
    assert factors.max() <= 1.5
    assert factors[factors < 1].mean() == pytest.approx(0.65, rel=0.03)


def test_final_order_and_sinc(clean):
    orders = Counter()
    for seed in range(400):
        trace = []
        degrade(clean[:1, :, :16, :16], VARSR, seeds=[seed], trace=trace)
        steps = [step for step, _ in trace]
        tail = steps[len(steps) - steps[::-1].index("noise") :]
        orders["no sinc" if "sinc" not in tail else "JPEG first" if tail[0] == "JPEG" else "JPEG last"] += 1
    observed = [orders[order] for order in ("JPEG first", "JPEG last", "no sinc")]
    assert chisquare(observed, [160, 160, 80]).pvalue > 1e-3


# --- the pipeline ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [*PRESETS.values(), *UNSEEN.values()], ids=[*PRESETS, *UNSEEN])
def test_degrade(clean, preset):
    seeds = list(range(len(clean)))
    x = clean.clone()
    y = degrade(x, preset, seeds=seeds)
    assert torch.equal(x, clean)
    assert y.shape == (12, 3, 16, 16)
    assert y.dtype == torch.float32
    assert y.min() >= -1
    assert y.max() <= 1
    assert torch.equal(from_uint8(to_uint8(y)), y)
    assert torch.equal(degrade(clean, preset, seeds=seeds), y)
    assert torch.equal(degrade(clean, preset, seeded(4)), degrade(clean, preset, seeded(4)))
    # Alone or in another order, every image comes out the same.
    assert torch.equal(degrade(clean[5:6], preset, seeds=[5]), y[5:6])
    assert torch.equal(degrade(clean.flip(0), preset, seeds=seeds[::-1]), y.flip(0))


@pytest.mark.parametrize("preset", [COURSE, VARSR], ids=["course", "varsr"])
def test_other_seeds_differ(clean, preset):
    same = clean[:1].expand(20, -1, -1, -1)
    y = degrade(same, preset, seeds=list(range(20)))
    assert len({image.numpy().tobytes() for image in y}) == 20
    assert not torch.equal(degrade(clean, preset, seeded(1)), degrade(clean, preset, seeded(2)))


def test_the_global_generator_is_the_default(clean):
    torch.manual_seed(8)
    y = degrade(clean, COURSE)
    torch.manual_seed(8)
    assert torch.equal(degrade(clean, COURSE), y)


def test_seeds_must_match_the_batch(clean):
    with pytest.raises(ValueError, match="zip"):
        degrade(clean, COURSE, seeds=[1, 2])


def test_bicubic_is_pillows(clean):
    y = degrade(clean, BICUBIC)
    assert torch.equal(y, from_uint8(to_uint8(resize(clean, (16, 16)))))
    for image, small in zip(clean, y, strict=True):
        expected = np.asarray(to_pil(image).resize((16, 16), Image.Resampling.BICUBIC)).astype(float)
        difference = np.abs(to_uint8(small).permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 2  # Pillow rounds twice
        assert difference.mean() < 0.25


@pytest.mark.parametrize("size", [(62, 64), (64, 65), (2, 4)])
def test_sizes_that_are_no_multiple(size, raises_user_error):
    for preset in PRESETS.values():
        with raises_user_error(f"{size[1]} x {size[0]}", "multiples of 4"):
            degrade(torch.zeros(1, 3, *size), preset)


@pytest.mark.parametrize("size", [(4, 4), (16, 16), (16, 48)])
def test_tiny_images(size):
    x = torch.rand(20, 3, *size, generator=seeded()) * 2 - 1
    for preset in (COURSE, VARSR):
        y = degrade(x, preset, seeds=list(range(20)))
        assert y.shape == (20, 3, size[0] // 4, size[1] // 4)
        assert y.isfinite().all()


TRACES = {
    "bicubic": r"clean bicubic",
    "course": r"clean blur resize noise JPEG",
    "varsr": r"clean blur( resize)? noise JPEG( blur)?( resize)? noise"
    r"( JPEG( resize)?( sinc)?|( resize)?( sinc)? JPEG)",
    "wide": r"clean( blur)?( resize)?( noise)? JPEG( blur)?( resize)?( noise)?"
    r"( JPEG( resize)?( sinc)?|( resize)?( sinc)? JPEG)",
}


@pytest.mark.parametrize("name", PRESETS)
def test_trace(clean, name):
    for seed in range(30):
        trace = []
        y = degrade(clean[:1], PRESETS[name], seeds=[seed], trace=trace)
        assert re.fullmatch(TRACES[name], " ".join(step for step, _ in trace))
        assert torch.equal(trace[0][1], clean[:1])
        assert torch.equal(from_uint8(to_uint8(trace[-1][1])), y)
        assert torch.equal(degrade(clean[:1], PRESETS[name], seeds=[seed]), y)  # looking changes nothing


def test_scale_is_free(clean):
    one = Degradation("denoise", (Stage(),), scale=1)
    assert degrade(clean, one).shape == clean.shape
    assert degrade(clean, Degradation("half", scale=2)).shape[-1] == 32


# --- presets ---------------------------------------------------------------------------------------


def test_varsr_is_as_published():
    """The numbers of VARSR's released configuration, typed in from there."""
    kinds = {
        ("gaussian", True): 0.45,
        ("gaussian", False): 0.25,
        ("generalized", True): 0.12,
        ("generalized", False): 0.03,
        ("plateau", True): 0.12,
        ("plateau", False): 0.03,
    }
    first, second = VARSR.stages
    for stage in (first, second):
        assert stage.blur.sizes == (7, 9, 11, 13, 15, 17, 19, 21)
        assert {(family, isotropic): weight for family, isotropic, weight in stage.blur.kinds} == kinds
        assert stage.blur.sinc == 0.1
        assert stage.blur.beta_gaussian == (0.5, 4)
        assert stage.blur.beta_plateau == (1, 2)
        assert stage.resize.modes == ("area", "bilinear", "bicubic")
        assert stage.noise.probability == 1
        assert stage.noise.gaussian == 0.5
        assert stage.noise.gray == 0.4
    assert (first.blur.probability, second.blur.probability) == (1, 0.5)
    assert (first.blur.sigma, second.blur.sigma) == ((0.2, 3), (0.2, 1.5))
    assert first.resize == Resize(0.2, 0.7, 0.1, (0.3, 1.5))
    assert second.resize == Resize(0.3, 0.4, 0.3, (0.6, 1.2))
    assert (first.noise.sigma, second.noise.sigma) == ((1, 15), (1, 12))
    assert (first.noise.poisson, second.noise.poisson) == ((0.05, 2), (0.05, 1))
    assert (first.jpeg, second.jpeg) == ((60, 95), (60, 100))
    assert VARSR.final_sinc == 0.8
    assert VARSR.scale == 4


@pytest.mark.parametrize("preset", [*PRESETS.values(), *UNSEEN.values()], ids=[*PRESETS, *UNSEEN])
def test_presets_make_sense(preset):
    assert get_preset(preset.name) is preset
    for stage in preset.stages:
        assert sum(weight for *_, weight in stage.blur.kinds) == pytest.approx(1)
        assert all(size % 2 for size in stage.blur.sizes)
        assert stage.resize.up + stage.resize.down + stage.resize.keep == pytest.approx(1)
        assert stage.resize.range[0] <= 1 <= stage.resize.range[1]
        assert 1 <= stage.jpeg[0] <= stage.jpeg[1] <= 100


def test_unseen_damage_is_the_courses_but_for_one_part():
    (course,) = COURSE.stages
    for preset in UNSEEN.values():
        (stage,) = preset.stages
        differ = [name for name in ("blur", "resize", "noise", "jpeg") if getattr(stage, name) != getattr(course, name)]
        assert len(differ) == 1
        assert (preset.scale, preset.final_sinc) == (COURSE.scale, COURSE.final_sinc)
    assert UNSEEN["jpeg"].stages[0].jpeg[1] < course.jpeg[0]
    assert max(UNSEEN["motion"].stages[0].blur.length) <= min(UNSEEN["motion"].stages[0].blur.sizes)


def test_default_blur_is_a_plain_gaussian(record):
    draw_kernel(Blur(), Dice(0))
    assert kind(record[0]) == ("gaussian", True)


def test_unknown_preset(raises_user_error):
    with raises_user_error("'realesrgan'", "bicubic, course, varsr"):
        get_preset("realesrgan")


def test_degrading_a_batch_is_a_small_part_of_a_training_step(clean, median_ms):
    x = torch.cat([clean, clean[:4]])
    assert median_ms(lambda: degrade(x, COURSE)) < 60
