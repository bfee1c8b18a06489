"""Crops and damage in batches: the numbers, and that they are those of one photo at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from vartutor.data.crops import eval_crops, random_crop
from vartutor.data.damage import blur_each, damage, draw_kernels, draw_sizes, noise_each, poisson
from vartutor.data.degradation import Blur, Degradation, Dice, Noise, Resize, Stage, blur, degrade, draw_kernel, jpeg
from vartutor.data.draws import BatchDice, constant, mix, normal, photo_seeds, uniform
from vartutor.data.images import from_uint8, resize, to_uint8
from vartutor.data.jpeg import jpeg_each
from vartutor.data.kernels import gaussian_kernel, motion_kernel, plateau_kernel, sinc_kernel
from vartutor.data.photos import load_pixels
from vartutor.data.presets import BICUBIC, COURSE, PRESETS, UNSEEN, VARSR
from vartutor.data.resample import MODES, resize_each, resize_weights
from vartutor.data.store import COLOR_ORDERS, PhotoStore
from vartutor.metrics import psnr, ssim


@pytest.fixture(scope="module")
def pixels():
    return load_pixels("val")


@pytest.fixture(scope="module")
def store(pixels):
    return PhotoStore(pixels)


@pytest.fixture(scope="module")
def clean():
    return eval_crops("val", per_photo=1)[0]


def seeds_of(count, seed=0):
    return photo_seeds(seed, torch.arange(count))


def whole(x):
    """The size of images that fill their canvas."""
    return tuple(torch.full((len(x),), side) for side in x.shape[-2:])


# --- numbers ---------------------------------------------------------------------------------------


def test_seeds_are_those_of_the_orders():
    numbers = torch.tensor([0, 1, 7, 2**40])
    for seed in (0, 3, 2**62 + 12345):
        assert photo_seeds(seed, numbers).tolist() == [mix(seed, n, 2**21) for n in numbers.tolist()]


def test_uniform_numbers_are_those_of_splitmix():
    seeds = seeds_of(5)
    u = uniform(seeds, 6, stream=3)
    assert u.dtype == torch.float32
    expected = [[(mix(seed, place, 3) >> 39) / 2**24 for place in range(6)] for seed in seeds.tolist()]
    assert u.tolist() == expected
    assert torch.equal(uniform(seeds[2:4], 3, stream=3), u[2:4, :3])


@pytest.mark.parametrize(("draw", "law"), [(uniform, "uniform"), (normal, "norm")])
def test_numbers_follow_their_law(draw, law):
    numbers = draw(seeds_of(300), 300, 1)
    assert numbers.isfinite().all()
    assert stats.kstest(numbers.flatten().numpy(), law).pvalue > 1e-3
    # No photo, place, stream or kind of number tells of another.
    others = [
        numbers[1:].flatten(),
        numbers[:, 1:].flatten(),
        draw(seeds_of(300), 300, 2).flatten(),
        draw(seeds_of(300, 1), 300, 1).flatten(),
        (uniform if draw is normal else normal)(seeds_of(300), 300, 1).flatten(),
    ]
    for other in others:
        pair = torch.stack([numbers.flatten()[: len(other)], other])
        assert torch.corrcoef(pair)[0, 1].abs() < 4.5 / len(other) ** 0.5


def test_dice():
    dice = BatchDice(seeds_of(4000), 5)
    u, chance, choice, plain = (
        dice.uniform((2, 5)),
        dice.chance(0.3),
        dice.choice((7, 9, 11), (1, 0, 3)),
        dice.choice((1.5, 2.5)),
    )
    assert u.shape == chance.shape == choice.shape == (4000, 1, 1, 1)
    assert stats.kstest(u.flatten().numpy(), "uniform", (2, 3)).pvalue > 1e-3
    assert chance.float().mean() == pytest.approx(0.3, abs=0.03)
    assert [(choice == size).float().mean().item() for size in (7, 9, 11)] == pytest.approx([0.25, 0, 0.75], abs=0.03)
    assert [(plain == value).float().mean().item() for value in (1.5, 2.5)] == pytest.approx([0.5, 0.5], abs=0.03)
    assert dice.choice((4,)).eq(4).all()


def test_constants_keep_their_types():
    device = torch.device("cpu")
    tables = [constant(values, device) for values in ((1, 0), (1.0, 0.0), (True, False))]
    assert [table.dtype for table in tables] == [torch.int64, torch.float32, torch.bool]
    assert constant((1, 0), device) is tables[0]


# --- sizes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_resize_weights_are_torchs(mode):
    source, target = torch.tensor([64, 64, 64, 19, 97, 5, 96, 40]), torch.tensor([64, 16, 37, 64, 31, 11, 19, 1])
    i = torch.minimum(torch.arange(70), target[:, None] - 1)
    weights = resize_weights(source, target, 100, i, torch.full((8,), MODES.index(mode)))
    for matrix, n, m in zip(weights, source.tolist(), target.tolist(), strict=True):
        expected = resize(torch.eye(n)[None, None], (n, m), mode)[0, 0].T  # lines that are one pixel each
        assert torch.allclose(matrix[:m, :n], expected, atol=1e-5)
        assert matrix[:, n:].eq(0).all()
        assert torch.equal(matrix[m:], matrix[m - 1 : m].expand(70 - m, -1))


def test_images_of_several_sizes_are_resized_on_one_canvas():
    torch.manual_seed(0)
    x = torch.rand(3, 3, 40, 50) * 3 - 1.5
    size = torch.tensor([40, 30, 20]), torch.tensor([50, 41, 20])
    new = torch.tensor([20, 30, 33]), torch.tensor([25, 41, 35])
    y = resize_each(x, size, new, (36, 36 + 9), torch.tensor([MODES.index(m) for m in ("area", "bicubic", "bilinear")]))
    for k, mode in enumerate(("area", None, "bilinear")):
        h, w, m, n = (int(t[k]) for t in (*size, *new))
        image = x[k : k + 1, :, :h, :w]
        expected = resize(image, (m, n), mode).clamp(-1, 1) if mode else image  # the second keeps its size, unclamped
        assert torch.allclose(y[k : k + 1, :, :m, :n], expected, atol=1e-5)
        assert torch.equal(y[k, :, m:, :n], y[k, :, m - 1 : m, :n].expand(-1, 36 - m, -1))  # the border goes on


def test_sizes_follow_the_weights():
    spec = Resize(0.2, 0.7, 0.1, (0.3, 1.5))
    (rows, columns), canvas = draw_sizes(spec, (64, 128), BatchDice(seeds_of(4000), 1))
    assert canvas == (96, 192)
    assert ((rows * 2 - columns).abs() <= 1).all()
    counts = [(columns > 128).sum(), (columns < 128).sum(), (columns == 128).sum()]
    assert np.array(counts) / 4000 == pytest.approx([0.2, 0.7, 0.1], abs=0.03)
    assert columns.min() >= round(0.3 * 128)
    assert columns.max() <= 192
    assert columns[columns < 128].float().mean() / 128 == pytest.approx(0.65, rel=0.03)
    kept, canvas = draw_sizes(Resize(), (16, 8), BatchDice(seeds_of(3), 1))
    assert canvas == (16, 8)
    assert [side.tolist() for side in kept] == [[16] * 3, [8] * 3]


# --- crops -----------------------------------------------------------------------------------------


def vary(crop, draws):
    """Upside down, mirrored at the diagonal, with the colours in another order: each half the time."""
    upside_down, diagonal, color = draws
    crop = crop.flip(-2) if upside_down < 0.5 else crop
    crop = crop.mT if diagonal < 0.5 else crop
    return crop[:, COLOR_ORDERS[int(2 * color * len(COLOR_ORDERS))]] if color < 0.5 else crop


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("size", "jitter"), [(64, 2.0), (48, 1.0), (33, 3.3), (500, 2.0)])
def test_crops_are_those_of_single_photos(pixels, store, augment, size, jitter):
    seeds = seeds_of(12, size)
    x = store.crops(seeds, size, jitter=jitter, augment=augment)
    assert x.shape == (12, 3, size, size)
    for crop, (photo, *draws) in zip(x, uniform(seeds, 8).double().tolist(), strict=True):
        expected = random_crop(pixels[int(photo * len(pixels))], size, jitter, draws[:4])
        expected = vary(expected, draws[4:]) if augment else expected
        assert torch.allclose(crop, expected[0], atol=1e-4 if size == 500 else 1e-5)
        if jitter == 1:
            assert torch.equal(crop, expected[0])


def test_augmented_crops_are_all_symmetries_and_color_orders_alike():
    levels = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)  # of four flat quarters
    image = levels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    x = to_uint8(PhotoStore([image]).crops(seeds_of(4000), 32, augment=True))
    quarters = x[:, :, ::16, ::16]
    seen, counts = quarters.flatten(1).unique(dim=0, return_counts=True)
    assert len(seen) == 8 * 6
    assert counts.min() > 4000 / 96 / 2  # of those with another order of colours: half the time one of six
    assert torch.equal(quarters.flatten(2).sort(2).values // 4 * 4, quarters.flatten(2).amin(2, True).expand(-1, -1, 4))
    kept = (quarters[:, :, 0, 0] // 4 == torch.arange(3)).all(1)  # the other half, and one in six of the first
    assert 0.54 < kept.float().mean() < 0.63


def test_crops_do_not_depend_on_their_batch(store):
    seeds = seeds_of(9)
    state = torch.get_rng_state()
    x = store.crops(seeds, 64, augment=True)
    assert torch.equal(store.crops(seeds[4:5], 64, augment=True), x[4:5])
    assert torch.equal(store.crops(seeds.flip(0), 64, augment=True), x.flip(0))
    assert len({crop.numpy().tobytes() for crop in x}) == 9
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [64, 500])
def test_photos_that_stay_in_their_file_give_the_same_crops(pixels, store, size, monkeypatch):
    monkeypatch.setattr("vartutor.data.store.ROOM", sum(map(torch.numel, pixels)) - 1)
    beside = PhotoStore(pixels)
    assert (beside.laid is None, store.laid is None) == (True, False)
    for augment in (False, True):
        expected = store.crops(seeds_of(9, size), size, augment=augment)
        assert torch.equal(beside.crops(seeds_of(9, size), size, augment=augment), expected)
    with monkeypatch.context() as patch:
        patch.setattr(beside, "images", {k: image for k, image in enumerate(pixels) if k in (0, 3)})
        beside.large_enough[size] = torch.tensor([3, 0])  # nothing else is looked at
        assert beside.crops(seeds_of(9), size).shape == (9, 3, size, size)


def test_all_photos_are_cropped_that_are_large_enough(raises_user_error):
    images = [
        torch.full((3, *size), level, dtype=torch.uint8) for level, size in enumerate([(32, 32), (30, 99), (70, 40)])
    ]
    store = PhotoStore(images)
    x = to_uint8(store.crops(seeds_of(100), 32))
    assert x.flatten(1).unique().tolist() == [0, 2]
    assert all(len(crop.unique()) == 1 for crop in x)
    with raises_user_error("41 x 41", "3 given"):
        store.crops(seeds_of(1), 41)
    with raises_user_error("0 given"):
        PhotoStore([]).crops(seeds_of(1), 8)


# --- blur ------------------------------------------------------------------------------------------


def padded(kernel, k):
    return torch.nn.functional.pad(kernel, ((k - kernel.shape[-1]) // 2,) * 4)


def test_every_image_gets_its_kernel():
    torch.manual_seed(0)
    x = torch.rand(3, 3, 30, 26)
    kernels = [gaussian_kernel(7, 1.5), sinc_kernel(21, 1.2), gaussian_kernel(15, 3.0, 1.0, 0.4)]
    size = torch.tensor([30, 9, 16]), torch.tensor([26, 20, 16])  # the second is too small to be mirrored
    lengths = torch.tensor([kernel.shape[-1] for kernel in kernels]).view(3, 1, 1, 1)
    y = blur_each(x, size, torch.stack([padded(kernel, 21) for kernel in kernels])[:, None], lengths)
    for k, kernel in enumerate(kernels):
        h, w = (int(side[k]) for side in size)
        assert torch.allclose(y[k, :, :h, :w], blur(x[k : k + 1, :, :h, :w], kernel)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Blur(sizes=(9,), sigma=(1.2, 1.2)), gaussian_kernel(9, 1.2)),
        (Blur(sizes=(7,), kinds=(("plateau", True, 1.0),), sigma=(2, 2), beta_plateau=(1, 1)), plateau_kernel(7, 2.0)),
        (Blur(probability=0.0), torch.ones(1, 1)),
    ],
)
def test_kernels_without_choice(spec, expected):
    kernels, sizes = draw_kernels(spec, BatchDice(seeds_of(3), 1))
    assert sizes.flatten().tolist() == [len(expected)] * 3
    assert torch.allclose(kernels, padded(expected, max(spec.sizes)).expand(3, 1, -1, -1), atol=1e-6)


def test_kernels_of_a_batch_are_made_by_the_formulas_for_one():
    sizes, theta, other = torch.tensor([1.0, 2.5]), torch.tensor([0.3, -2.0]), torch.tensor([0.7, 3.0])
    a, b, t = (v.view(2, 1, 1) for v in (sizes, other, theta))
    batches = (
        gaussian_kernel(13, a, b, t, b),
        plateau_kernel(13, a, b, t, a),
        sinc_kernel(13, a),
        motion_kernel(13, b, t),
    )
    for k in range(2):
        p, q, r = sizes[k].item(), other[k].item(), theta[k].item()
        singles = (
            gaussian_kernel(13, p, q, r, q),
            plateau_kernel(13, p, q, r, p),
            sinc_kernel(13, p),
            motion_kernel(13, q, r),
        )
        for batch, single in zip(batches, singles, strict=True):
            assert torch.allclose(batch[k], single, atol=1e-6)


@pytest.mark.parametrize("spec", [VARSR.stages[1].blur, COURSE.stages[0].blur, UNSEEN["motion"].stages[0].blur])
def test_kernels_are_distributed_like_single_ones(spec):
    count, k = 800, max(spec.sizes)
    batch = draw_kernels(spec, BatchDice(seeds_of(count), 1))[0][:, 0]
    single = [
        draw_kernel(spec, dice) if dice.chance(spec.probability) else torch.ones(1, 1)
        for dice in map(Dice, range(count))
    ]
    single = torch.stack([padded(kernel, k) for kernel in single])
    assert torch.allclose(batch.sum((1, 2)), torch.ones(count), atol=1e-5)
    axis = torch.arange(k) - k // 2.0
    for measure in (
        lambda x: x[:, k // 2, k // 2],
        lambda x: x.square().sum((1, 2)),
        lambda x: (x * axis**2).sum((1, 2)),
        lambda x: (x * axis * axis[:, None]).sum((1, 2)),
        lambda x: (x == 0).float().mean((1, 2)),
    ):
        assert stats.ks_2samp(measure(batch).numpy(), measure(single).numpy()).pvalue > 1e-3


# --- noise -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 0.2, 0.499, 0.5, 1.0, 2.7, 8.0, 30.0, 200.0])
def test_poisson(mean):
    z = torch.tensor(stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000), dtype=torch.float32)
    counts = poisson(torch.full_like(z, mean), z)
    exact = stats.poisson.ppf((np.arange(100_000) + 0.5) / 100_000, mean) if mean else np.zeros(100_000)
    off = np.abs(counts.numpy() - exact)
    assert (off > 0).mean() < 0.025
    assert (off > 1).mean() < 0.002
    assert counts.mean().item() == pytest.approx(mean, rel=0.04)
    assert counts.var().item() == pytest.approx(mean, rel=0.06)


def test_poisson_without_light_is_none():
    assert poisson(torch.zeros(2), torch.tensor([-6.0, 6.0])).eq(0).all()


@pytest.fixture
def flat():
    """Four images of three gray levels and all other levels in a corner, so that 256 photons are white."""
    x = torch.tensor([32, 128, 224], dtype=torch.uint8).view(3, 1, 1).repeat(4, 1, 160, 160)
    x[:, :, :16, :16] = torch.arange(256).view(16, 16)
    return from_uint8(x)


def noise_of(x, seed=0, size=None, **settings):
    seeds = seeds_of(len(x), seed)
    noisy = noise_each(x, size or whole(x), Noise(**settings), BatchDice(seeds, 1), seeds, 2)
    return (noisy - x)[:, :, 16:, 16:] * 127.5


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_gaussian_noise(flat, gray):
    noise = noise_of(flat, sigma=(5, 5), gray=gray)
    assert noise.std((2, 3)).flatten().tolist() == pytest.approx([5.0] * 12, rel=0.05)
    assert noise.mean((2, 3)).abs().max() < 0.15
    correlation = torch.corrcoef(noise.transpose(0, 1).flatten(1))
    assert (correlation - (1 if gray else torch.eye(3))).abs().max() < 0.03
    assert not torch.allclose(noise[0], noise[1], atol=1)


@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_shot_noise(flat, gray):
    noise = noise_of(flat, gaussian=0.0, poisson=(0.5, 0.5), gray=gray)
    levels = [0.299 * 32 + 0.587 * 128 + 0.114 * 224] * 3 if gray else [32, 128, 224]
    expected = [0.5 * 255 * (level / 255 / 256) ** 0.5 for level in levels]
    assert noise.std((0, 2, 3)).tolist() == pytest.approx(expected, rel=0.03)
    assert noise.mean((0, 2, 3)).abs().max() < 0.1
    # Whole photons: as with one image at a time, the light takes a few values only.
    few = noise_of(flat[:, :, 20:, 20:] * 0, gaussian=0.0, poisson=(0.5, 0.5), gray=0.0)  # two photons are white
    assert len(few.round(decimals=2).unique()) <= 10


def test_other_noise(flat):
    impulse = noise_of(flat, kind="impulse", amount=(0.1, 0.1)) + flat[:, :, 16:, 16:] * 127.5
    for end in (-127.5, 127.5):
        hit = (impulse - end).abs() < 1e-3
        assert hit.float().mean() == pytest.approx(0.05, abs=0.005)
        assert torch.equal(hit.all(1), hit.any(1))
    speckle = noise_of(flat, kind="speckle", amount=(0.05, 0.05))
    assert speckle.std((0, 2, 3)).tolist() == pytest.approx([0.05 * level for level in (32, 128, 224)], rel=0.03)


def test_noise_happens_as_often_as_it_should():
    x = torch.zeros(2000, 3, 2, 2)
    noise = noise_of(torch.nn.functional.pad(x, (16, 0, 16, 0)), probability=0.7, gaussian=1.0, gray=0.4)
    hit = noise.flatten(1).any(1)
    gray = (noise[:, 0] == noise[:, 1]).flatten(1).all(1)
    assert hit.float().mean() == pytest.approx(0.7, abs=0.04)
    assert gray[hit].float().mean() == pytest.approx(0.4, abs=0.05)


def test_noise_goes_on_beyond_an_image():
    x = torch.zeros(1, 3, 40, 40)
    size = torch.tensor([30]), torch.tensor([25])
    noise = noise_of(x, size=size, sigma=(5, 5))
    assert torch.equal(noise[..., 14:, :], noise[..., 13:14, :].expand(-1, -1, 10, -1))
    assert torch.equal(noise[..., 9:], noise[..., 8:9].expand(-1, -1, -1, 15))


# --- JPEG ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [30, 60, 80, 95])
def test_jpeg_is_nearly_pillows(pixels, quality):
    for image in pixels[:3]:
        x = from_uint8(image[None, :, :250, :301])
        ours, pillow = jpeg_each(x, torch.tensor([quality])), jpeg(x, quality)
        assert ours.shape == x.shape
        assert torch.equal(from_uint8(to_uint8(ours)), ours)
        assert psnr(ours, pillow, color="rgb") > 45
        assert (ours - pillow).abs().mean() * 127.5 < 0.6
        assert psnr(ours, x, color="rgb").item() == pytest.approx(psnr(pillow, x, color="rgb").item(), abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (3, 17)])
def test_jpeg_of_any_size(size):
    x = torch.full((2, 3, *size), 0.2)
    assert (jpeg_each(x, torch.tensor([50, 90])) - x).abs().max() < 0.02


def test_every_image_gets_its_quality(clean):
    qualities = torch.linspace(5, 100, len(clean)).round()
    y = jpeg_each(clean, qualities)
    for k in (0, 6, 11):
        assert torch.equal(jpeg_each(clean[k : k + 1], qualities[k : k + 1]), y[k : k + 1])


# --- the whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [*PRESETS.values(), *UNSEEN.values()], ids=[*PRESETS, *UNSEEN])
def test_damage(clean, preset):
    seeds, x, state = seeds_of(len(clean)), clean.clone(), torch.get_rng_state()
    y = damage(x, preset, seeds)
    assert torch.equal(x, clean)
    assert torch.equal(torch.get_rng_state(), state)
    assert y.shape == (12, 3, 16, 16)
    assert torch.equal(from_uint8(to_uint8(y)), y)
    # Alone, in a smaller batch or in another order, every photo comes out the same.
    assert torch.equal(damage(clean[5:6], preset, seeds[5:6]), y[5:6])
    assert torch.equal(damage(clean[:7], preset, seeds[:7]), y[:7])
    assert torch.equal(damage(clean.flip(0), preset, seeds.flip(0)), y.flip(0))
    others = damage(clean[:1].expand(12, -1, -1, -1), preset, seeds)
    assert len({image.numpy().tobytes() for image in others}) == (12 if preset.stages else 1)


def test_plain_bicubic_is_that_of_single_photos(clean):
    difference = damage(clean, BICUBIC, seeds_of(12)) - degrade(clean, BICUBIC)
    assert difference.abs().max() < 1.01 / 127.5  # where a sum falls on the edge between two levels
    assert (difference != 0).float().mean() < 1e-3


# All that is drawn has one possible value.
CALM = Stage(blur=Blur(probability=0), resize=Resize(modes=("bicubic",)), noise=Noise(probability=0), jpeg=(100, 100))
SOFT = replace(CALM, blur=Blur(sizes=(11,), sigma=(1.5, 1.5)))
SMALL = replace(CALM, resize=Resize(modes=("area",)), jpeg=(60, 60))


@pytest.mark.parametrize("stages", [(CALM,), (SMALL,), (SOFT,), (SOFT, SMALL)], ids=["calm", "small", "soft", "both"])
def test_settings_without_choice_give_the_damage_of_single_photos(clean, stages):
    preset = Degradation("forced", stages)
    ours, single = damage(clean, preset, seeds_of(12)), degrade(clean, preset)
    assert (ours - single).square().mean() < 4 * 10**-4.3  # 43 dB: on so few blocks JPEG comes no nearer to Pillow's
    assert (ours - single).abs().mean() * 127.5 < 0.8


@pytest.mark.parametrize("preset", [COURSE, VARSR], ids=["course", "varsr"])
def test_damage_is_distributed_like_that_of_single_photos(store, preset):
    x = store.crops(seeds_of(500), 64)
    small = resize(x, (16, 16)).clamp(-1, 1)
    batches = torch.cat(
        [damage(part, preset, seeds) for part, seeds in zip(x.split(50), seeds_of(500, 1).split(50), strict=True)]
    )
    single = degrade(x, preset, torch.Generator().manual_seed(0))
    for measure in (psnr, ssim):
        a, b = (measure(y, small, color="rgb") for y in (batches, single))
        difference = a - b
        assert difference.mean().abs() < 3 * difference.std() / 500**0.5
        assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3
        assert a.std().item() == pytest.approx(b.std().item(), rel=0.12)


@pytest.mark.parametrize("size", [(4, 4), (16, 48)])
def test_small_and_oblong_images(size):
    torch.manual_seed(0)
    x = torch.rand(20, 3, *size) * 2 - 1
    for preset in (COURSE, VARSR):
        y = damage(x, preset, seeds_of(20))
        assert y.shape == (20, 3, size[0] // 4, size[1] // 4)
        assert y.isfinite().all()


def test_sizes_that_are_no_multiple(raises_user_error):
    with raises_user_error("65 x 64", "multiples of 4"):
        damage(torch.zeros(1, 3, 64, 65), COURSE, seeds_of(1))


# --- devices ---------------------------------------------------------------------------------------


def test_nothing_leaves_the_device(pixels):
    """On `meta` no number can be looked at, so nothing waits for the device, and no operation mixes two devices."""
    store = PhotoStore(pixels, "meta")
    seeds = photo_seeds(0, torch.arange(4, device="meta"))
    for augment in (False, True):
        x = store.crops(seeds, 64, augment=augment)
        assert x.device.type == "meta"
        assert store.crops(seeds_of(4), 64).shape == x.shape  # seeds made on the host will do
    for preset in (VARSR, UNSEEN["impulse"], UNSEEN["speckle"], UNSEEN["motion"]):
        y = damage(x, preset, seeds if preset is VARSR else seeds_of(4))
        assert y.device.type == "meta"
        assert y.shape == (4, 3, 16, 16)
