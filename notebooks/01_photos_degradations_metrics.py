# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Photos, degradations, metrics
#
# **A clean photo becomes a bad one in four steps, and nobody can walk them back: many clean photos fit one bad one.**
# This chapter makes the damage, measures it, and trains a network that shows how far measuring alone can take you.
#
# ![The degradation pipeline: a clean photo of 64 by 64 pixels passes through blur, resize, noise and JPEG and ends as a degraded photo of 16 by 16 pixels; published models go round twice.](../assets/diagrams/degradation.svg)
#
# After this chapter you will be able to
#
# - **construct** different photos that shrink to the same small one;
# - **degrade** photos step by step, with seeds, as published models do;
# - **compute** PSNR as papers do, and say when it misleads;
# - **read** a power spectrum, and see in it what is lost;
# - **explain** why a network trained on squared error returns a blurred photo.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about a minute and 0.8 GB to run, an hour to read | chapter 00 helps, but is not required | November 2026, torch 2.13 |
#
# **You are here.** **01 damage** → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): LPIPS, PSNR, super-resolution, token.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from vartutor.chapter import setup
from vartutor.show import COLORS, ink
from vartutor.show.figures import contact_sheet, image_grid, show, smooth

session = setup(PROFILE, SEED, DEVICE)
print(session)

# %% [markdown]
# ## What do we learn from?
#
# We learn from 82 photographs that you may use for anything: all are CC0 or in the public domain, and `assets/photos/ATTRIBUTION.csv` names their authors.
# Fifty train the networks, twelve choose settings (*validation*), and twenty judge (*test*).
# The split is fixed, and no photo changes sides.
# A model that has seen a test photo can remember it, and its score then tells you nothing about your own pictures.

# %%
from vartutor.data.photos import photos

for split in ("train", "val", "test"):
    megapixels = sum(p.width * p.height for p in photos(split)) / 1e6
    print(f"{split:<6}{len(photos(split)):>3} photos, {megapixels:.0f} megapixels")


# %% tags=["hide-input"]
some = [photo.load() for split in ("train", "val", "test") for photo in photos(split)[:10]]
figure, ax = plt.subplots(figsize=(6.4, 1.95))
ax.imshow(contact_sheet(some, columns=10, size=58), interpolation="antialiased")
ax.set_yticks([29, 87, 145], ["train", "val", "test"])
ax.set_xticks([])
ax.grid(False)
show(
    figure,
    "Ten photos of each split.",
    "Three rows of ten thumbnails, one row each for the training, validation and test photos: mostly "
    "animals and buildings, and some landscapes.",
    photo=True,
)

# %% [markdown]
# ## Why can nobody undo the damage?
#
# Take the gentlest damage there is: shrink a photo by averaging blocks of 4 × 4 pixels. There is no blur and no noise.
# How many photos shrink to the same small one?
#
# Write $D$ for shrinking, and $U$ for enlarging by repeating each pixel. Shrinking undoes enlarging: $D U = I$.
# So take any pattern $n$ at all, and remove from it what shrinking would see:
#
# $$ x' = x + n - U D n \quad\Rightarrow\quad D x' = D x + D n - \underbrace{D U}_{I} D n = D x. $$


# %%
def down(x):
    return F.avg_pool2d(x, 4)


def up(x):
    return F.interpolate(x, scale_factor=4, mode="nearest")


def hidden(n):
    return n - up(down(n))  # the part of n that shrinking does not see


# %% [markdown]
# One more condition: a photo must stay in $[-1, 1]$. Where the detail of a block would leave the range, `fit` multiplies the whole block by one factor. A block whose mean is zero still has mean zero, so the small photo does not change.


# %%
def fit(detail, x):  # weaken the detail of each block until x + detail stays in [-1, 1]
    room = (1 - detail.sign() * x) / detail.abs().clamp(min=1e-6)  # how often it fits, at each pixel
    return detail * up(-F.max_pool2d(-room, 4)).clamp(max=1)  # the least of each 4 × 4 block


# %% [markdown]
# Three patterns, of very different kinds: random noise, stripes, and the fine detail of *another photo*.
# Each goes into the face of a lemur.

# %%
from vartutor.data.photos import find_photo

x = find_photo("lemur").load()[None, :, 120:280, 280:440]  # (1, 3, 160, 160)
fur = find_photo("hedgehog").load()[None, :, 200:360, 150:310]
column = torch.arange(160.0)
stripes = 0.5 * torch.sign(torch.sin(column * torch.pi / 2 + 0.1)).expand(1, 3, 160, 160)
noise = 0.4 * torch.randn(x.shape, generator=session.generator)

twins = [x, *(x + fit(hidden(n), x) for n in (noise, stripes, fur))]
small = [down(twin) for twin in twins]
for twin in small[1:]:
    assert torch.allclose(twin, small[0], atol=1e-5)
assert all(twin.abs().max() <= 1.0001 for twin in twins)
print("four photos, one small photo")

# %% tags=["hide-input"]
names = ["the photo", "with noise", "with stripes", "with hedgehog"]
figure = image_grid(
    [[t[0] for t in twins], [s[0] for s in small]],
    names,
    colors=[COLORS["hr"]] * 4,
    labels=["clean?", "shrunk"],
)
show(
    figure,
    "Four photos that shrink to the same small one.",
    "Top row: a lemur's face as it is, and with noise, fine stripes, and hedgehog spines laid over it. Bottom row: "
    "the four shrunk versions, which are identical.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The bottom row holds one picture four times, up to rounding.
# Whoever gets only that picture cannot know which of the top row it was.
# Nor is this a rare accident: shrinking keeps one number of every sixteen, so **fifteen of sixteen are free**, within the range.
#
# Super-resolution is therefore not a puzzle with one answer. It is a question about *likely* answers: among all photos that shrink to this one, which look like photos?
# Only experience can tell, and that is why we train.
#
# **★★ Make a twin · 20 min.** You get a photo `x` and a pattern, both (B, 3, H, W) with sides that are multiples of 4. Return another photo that shrinks to the same averages over blocks of 4 × 4 pixels.
# Add to `x` all of the pattern that this shrinking does not see, and nothing else. Ignore the range $[-1, 1]$ here: do not clamp.

# %% tags=["exercise"]
from vartutor.exercises import ch01


def same_lr(x, pattern):
    return ...


ch01.check("same_lr", same_lr)

# %%
ch01.hint("same_lr")
ch01.solution("same_lr")

# %% [markdown]
# ## What damages a photo?
#
# Real photos are not just shrunk. Light passes a lens that blurs it. A sensor counts too few photons. A phone squeezes the file.
# With $k$ a blur kernel, $\downarrow$ resampling and $n$ noise, the usual model of all this is
#
# $$ y = \mathrm{JPEG}\big( (x * k)\!\downarrow + \; n \big). $$
#
# Each piece is one function of `vartutor.data.degradation`, so the equation is one line of code.

# %%
from vartutor.data.degradation import blur, gaussian_noise, jpeg
from vartutor.data.images import resize
from vartutor.data.kernels import gaussian_kernel, plateau_kernel, sinc_kernel

k = gaussian_kernel(size=11, sigma_x=1.2)
g = session.generator
y = jpeg(gaussian_noise(resize(blur(x, k), (40, 40)), sigma=8, generator=g), quality=75)
print("clean:", tuple(x.shape), " degraded:", tuple(y.shape))

# %% [markdown]
# ### Which blurs are there?
#
# A lens in focus spreads a point like a Gaussian. A moving camera stretches it, one out of focus makes a disc.
# Real-ESRGAN, whose pipeline most later work uses, draws from five families.
# The last, the *sinc*, is the ideal low-pass filter, cut off at the kernel's border: its negative rings imitate the halos that sharpening and compression leave.

# %% tags=["hide-input"]
kernels = {
    "isotropic": gaussian_kernel(21, 2.5),
    "anisotropic": gaussian_kernel(21, 4.5, 1.5, theta=0.7),
    "generalized, β = 0.5": gaussian_kernel(21, 2.5, beta=0.5),
    "plateau, β = 2": plateau_kernel(21, 4, beta=2.0),
    "sinc, ω = π / 3": sinc_kernel(21, torch.pi / 3),
}
figure, axes = plt.subplots(1, 5, figsize=(7.2, 1.65))
for ax, (name, kernel) in zip(axes, kernels.items(), strict=True):
    peak = kernel.abs().max()
    ax.imshow(kernel, cmap="PuOr_r", vmin=-peak, vmax=peak)
    ax.set_title(name, fontsize=8)
    ax.set_axis_off()
show(
    figure,
    "One kernel of each family; orange is positive, purple negative.",
    "Five blur kernels as small heat maps: a round spot, an oblique ellipse, a sharp peak with wide tails, a flat "
    "disc, and a spot surrounded by alternating rings.",
)

# %% [markdown]
# ### What does each step do alone?
#
# Below, each row turns one knob and leaves the others alone. All of it happens at full size, so that you see the step and not the shrinking. What you see is the part around the eyes, with every pixel drawn as 2 × 2.
# Before you look: which of the three do you expect to survive the later shrinking by four?

# %%
strengths = {
    "blur σ": [(s, blur(x, gaussian_kernel(21, s))) for s in (0.8, 2.0, 4.0)],
    "noise σ": [(s, gaussian_noise(x, s, generator=session.generator)) for s in (8, 25, 60)],
    "JPEG q": [(q, jpeg(x, q)) for q in (60, 20, 5)],
}
figure = image_grid(
    [[image[0][:, 54:112, 8:124] for _, image in row] for row in strengths.values()],
    [[f"{name} {value}" for value, _ in row] for name, row in strengths.items()],
)
show(
    figure,
    "One knob per row, from mild to strong.",
    "Three rows of a lemur's eyes and cheeks: increasingly blurred, increasingly noisy, and increasingly blocky from JPEG "
    "compression.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Blur takes detail away and leaves nothing in its place. Noise adds what was never there.
# JPEG does both: it drops detail inside blocks of 8 × 8 pixels, and draws their edges.
# Which survives the shrinking? Mostly the strong blur does. Shrinking throws fine detail away anyway, so it hides a mild blur, and it averages noise and block edges down.
# But in the equation above, noise and JPEG come *after* the shrinking, and stay at full strength.
#
# In JupyterLab the next cell gives you sliders for all three at once.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def draw(sigma, noise, quality):
    y = jpeg(gaussian_noise(resize(blur(x, gaussian_kernel(21, sigma)), (40, 40)), noise), quality)
    return image_grid([[x[0], y[0]]], ["clean", "degraded, a quarter of the size"])


explorer(
    draw,
    sigma=slider("blur σ", 1.0, 0.2, 4.0, 0.2),
    noise=slider("noise σ", 8, 0, 60, 2),
    quality=slider("JPEG quality", 75, 5, 95, 5),
)

# %% [markdown]
# ### How strong should the damage be?
#
# A model restores the damage it was trained on. Train it on blur alone, and it will sharpen noise into worms.
# So the settings are drawn anew for every photo, from ranges; a set of ranges is a *preset*.
# `degrade` throws the dice for each photo: first a kernel, then a size, then how much noise and of which kind, then a JPEG quality. It applies them in that order.
#
# - `bicubic`: shrink, and nothing else. Most papers before 2020 used it. Real photos are never that clean.
# - `course`: one round of blur, shrinking, noise and JPEG, all mild. Our small networks train on it.
# - `varsr`: two rounds and a final sinc, with the ranges of VARSR's released configuration, which are milder than Real-ESRGAN's.

# %%
from vartutor.data.degradation import degrade
from vartutor.data.presets import BICUBIC, COURSE, VARSR

presets = (BICUBIC, COURSE, VARSR)
dice = COURSE.stages[0]
print("course: blur σ", dice.blur.sigma, " noise σ", dice.noise.sigma, " JPEG quality", dice.jpeg)
rows = [degrade(x.expand(3, -1, -1, -1), preset, seeds=[1, 2, 3]) for preset in presets]
eyes = [[image[:, 10:32] for image in row] for row in rows]  # 22 rows of 40, at 5 × 5
figure = image_grid(eyes, labels=[preset.name for preset in presets])
show(
    figure,
    "The same photo, degraded three times with each preset.",
    "Three rows of three pictures of a lemur's eyes. The bicubic row is clean and three times the same; in the course "
    "row one is plainly noisy and the others a little soft; all of the varsr row are strongly blurred, the first "
    "with bright halos along its edges.",
    photo=True,
)

# %% [markdown]
# The seed decides everything: the same seed gives the same damage, in any batch and on any day.
# A step-by-step record comes with `trace`, which is how you find out what a preset did to a photo.

# %%
steps = []
again = degrade(x, COURSE, seeds=[1], trace=steps)
assert torch.equal(again, rows[1][:1])
print(" → ".join(f"{name} {tuple(image.shape[-2:])}" for name, image in steps))

# %% [markdown]
# ### What is one training pair?
#
# The input is the degraded photo. A model that returns three sizes also needs three targets. ×4 is the clean photo itself.
# For ×1 and ×2 we shrink it with bicubic weights that are widened to cover all the pixels they replace (*antialiased*), and clamp the small overshoot. The targets see no blur, noise or JPEG.
# That is `make_pairs`, which chapter 00 used. Is it the same?

# %%
from vartutor.data.pairs import make_pairs

dice = torch.Generator().manual_seed(SEED)
seeds = torch.randint(2**31, (len(x),), generator=dice).tolist()  # one for each photo
lr = degrade(x, COURSE, seeds=seeds)
targets = {1: resize(x, (40, 40)).clamp(-1, 1), 2: resize(x, (80, 80)).clamp(-1, 1), 4: x}
pair = make_pairs(x, COURSE, torch.Generator().manual_seed(SEED))
assert torch.equal(lr, pair.lr) and all(torch.equal(targets[s], pair.hr[s]) for s in (1, 2, 4))
print("in:", tuple(lr.shape), " out:", *(tuple(t.shape) for t in targets.values()))

# %% [markdown]
# ## How good is a restored photo?
#
# The oldest answer still stands in most tables: compare pixel by pixel.
# Average the squared error over all pixels, and relate it to a peak value $L$ on a logarithmic scale. By convention $L$ is 255 for 8-bit images:
#
# $$ \mathrm{PSNR}(x, y) = 10 \log_{10} \frac{L^2}{\mathrm{MSE}(x, y)} \;\text{dB}. $$
#
# Most papers on super-resolution do not take the average over red, green and blue.
# They take it over *luma*, the brightness of the BT.601 standard, since eyes see brightness more finely than colour. (Luma spans only 16 to 235, and $L$ stays 255.)
# Many also cut off a border as wide as the scale factor, because methods treat edges differently.
# Say which you did: numbers of different conventions cannot be compared.


# %%
def luma_of(z):
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    return 16 + ((z + 1) / 2 * weights).sum(1)  # (B, H, W), from 16 to 235


def psnr_y(x, y, border=0):
    h, w = x.shape[-2:]
    error = (luma_of(x) - luma_of(y))[:, border : h - border, border : w - border]
    return 10 * torch.log10(255**2 / error.square().mean())  # 10 log10(L² / MSE)


# %% [markdown]
# Is that the same as what others compute? Here are the package's function and scikit-image's, on the same pair.

# %%
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio

from vartutor.data.pairs import upscale_bicubic
from vartutor.metrics import psnr

enlarged = upscale_bicubic(degrade(x, COURSE, seeds=[1]))[4]
pixels = [(z[0].permute(1, 2, 0).numpy() + 1) / 2 for z in (x, enlarged)]
luma_a, luma_b = (rgb2ycbcr(p)[4:-4, 4:-4, 0] for p in pixels)
theirs = peak_signal_noise_ratio(luma_a, luma_b, data_range=255)
assert abs(psnr_y(x, enlarged, border=4) - psnr(x, enlarged, border=4).item()) < 1e-4
assert abs(psnr_y(x, enlarged, border=4) - theirs) < 1e-4
print("ours, the package's and scikit-image's agree")

# %% [markdown]
# **★ PSNR · 10 min.** Both images lie in $[-1, 1]$. Return their PSNR over all pixels and colours, in dB: no luma, no border. What is the peak value here?


# %% tags=["exercise"]
def my_psnr(x, y):
    return ...


ch01.check("psnr", my_psnr)

# %%
ch01.hint("psnr")
ch01.solution("psnr")

# %% [markdown]
# ### What is the line to beat?
#
# It is bicubic interpolation, on the test photos. A mean alone says little, so we ask how far it can be trusted.
#
# The twenty photos are a sample of all photos somebody might have chosen. We cannot draw new ones; but we can draw **from the twenty, with replacement**, again and again, and watch the mean move.
# The middle 95 % of those means is the *bootstrap* interval.
# Crops of one photo are alike, so we draw whole photos: three crops of one hedgehog are not three independent facts.

# %%
import numpy as np

from vartutor.data.pairs import eval_pairs

profile = session.profile
test = eval_pairs(COURSE, size=profile.image_size, per_photo=profile.eval_crops)
scores = psnr(upscale_bicubic(test.lr)[4], test.hr[4], border=4).numpy()
by_photo = scores.reshape(-1, profile.eval_crops).mean(1)  # one mean per photo
rng = np.random.default_rng(0)
means = [rng.choice(by_photo, len(by_photo)).mean() for _ in range(2000)]
low, high = np.quantile(means, [0.025, 0.975])
assert low < scores.mean() < high

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.3))
ax.hist(means, bins=40, color=COLORS["bicubic"], alpha=0.6)
ax.plot(by_photo, np.full(len(by_photo), -9), "|", color=COLORS["hr"], markersize=9)
ax.axvspan(low, high, color=COLORS["model"], alpha=0.15)
ax.text(high + 0.3, 100, "shaded: the middle 95 %", fontsize=8.5)
ax.text(by_photo.max(), 8, "one tick for each photo", fontsize=8.5, ha="right", color=ink(COLORS["hr"]))
ax.set(xlabel="PSNR of bicubic at ×4 in dB (luma, border 4)", ylabel="resampled means", xlim=(16, 40))
show(
    figure,
    "Photos differ widely (green ticks); their resampled mean differs little.",
    "A histogram of two thousand resampled means, a few decibels wide, with its middle 95 percent shaded and named. "
    "Green ticks below mark the twenty photos, which spread far beyond it on both sides.",
)

# %% tags=["nbval-ignore-output"]
span = by_photo.max() - by_photo.min()
print(f"photos span {span:.0f} dB; the mean is {scores.mean():.1f} dB, its interval {low:.1f} to {high:.1f}")
if PROFILE == "cpu":
    assert 15 < span < 23 and 2 < high - low < 5

# %% [markdown]
# **What you should see.** From the hedgehog's spines to the dandelion's soft background the photos lie nearly twenty decibels apart, while the interval reaches about two to either side of the mean.
# Two methods can be told apart far better than that, because both face the *same* photos: the gain on each photo varies little. Chapter 00 used it, and chapter 09 makes it a rule.
#
# **★★★ An honest interval · 30 min.** `values` is a NumPy array with one score for each crop. `photos` is an array with the name of the photo that each crop is from, in any order, and not equally many of each.
# Return `(low, high)`: the 2.5 % and 97.5 % quantiles of the mean in about 2000 resamples. Do not let crops of one photo pass for independent.


# %% tags=["exercise"]
def photo_interval(values, photos):
    return ...


ch01.check("photo_interval", photo_interval)

# %%
ch01.hint("photo_interval")
ch01.solution("photo_interval")

# %% [markdown]
# `vartutor.metrics.bootstrap` does the resampling from now on. Here is the line to beat, for the three presets and the three scales.

# %% tags=["nbval-ignore-output"]
from vartutor.metrics import bootstrap

lines = {}
for preset in presets:
    pairs = eval_pairs(preset, size=profile.image_size, per_photo=profile.eval_crops)
    by_scale = {s: psnr(upscale_bicubic(pairs.lr)[s], pairs.hr[s], border=s) for s in (1, 2, 4)}
    lines[preset.name] = {s: bootstrap(v, pairs.files) for s, v in by_scale.items()}
    print(f"{preset.name:<8}", "  ".join(f"×{s}: {v}" for s, v in lines[preset.name].items()))
print("PSNR in dB, luma, border as wide as the scale")

# %%
course = [lines["course"][s].mean for s in (1, 2, 4)]
assert course[0] > course[1] > course[2]  # the larger, the harder
if PROFILE == "cpu":
    assert 28 < course[0] < 33 and 25 < course[2] < 28

# %% [markdown]
# The `bicubic` preset at ×1 compares a photo with itself, up to rounding; its huge value means nothing.
# All others are honest work: at ×1 there are noise, JPEG and blur to remove, and at ×4 fifteen of sixteen numbers to invent as well.
#
# ## Do more decibels mean a better picture?
#
# Damage one photo in four ways, each tuned until the PSNR is the same (over the whole photo: nothing was enlarged, so no border needs care).
# If PSNR measured what eyes see, the four would look equally bad.


# %%
def tune(damage, low, high, target=26.0):
    for _ in range(30):  # bisection: more strength, fewer decibels
        middle = (low + high) / 2
        low, high = (middle, high) if psnr(damage(middle), x).item() > target else (low, middle)
    return damage(low).clamp(-1, 1)


def shift(x, pixels):  # to the right: a phase in the Fourier domain
    phase = torch.exp(-2j * torch.pi * torch.fft.fftfreq(x.shape[-1]) * pixels)
    return torch.fft.ifft(torch.fft.fft(x) * phase).real


pattern = torch.randn(x.shape, generator=session.generator)
rivals = {
    "brighter": tune(lambda a: x + a, 0.0, 1.0),
    "shifted": tune(lambda a: shift(x, a), 0.0, 3.0),
    "noisy": tune(lambda a: x + a * pattern, 0.0, 1.0),
    "blurred": tune(lambda a: blur(x, gaussian_kernel(21, a)), 0.3, 6.0),
}

# %% tags=["hide-input"]
middle = (slice(None), slice(10, 150), slice(10, 150))  # so that five fit side by side, pixel by pixel
pieces = [image[0][middle] for image in (x, *rivals.values())]
figure = image_grid([pieces], ["clean", *rivals], colors=[COLORS["hr"]])
show(
    figure,
    "Four damaged photos with nearly the same PSNR.",
    "A lemur's face five times: clean, slightly brighter, shifted sideways by a fraction of its eye, covered in "
    "noise, and blurred. The first three are sharp; the blurred one has lost its fur.",
    photo=True,
)

# %% [markdown]
# Two of them you would hardly notice, and two you would throw away. PSNR calls them equal, for it asks each pixel alone, and never asks its neighbours.
#
# Three other measures look at more than a pixel.
# **SSIM** compares means, contrasts and correlation in small windows. With $\mu$, $\sigma^2$ and $\sigma_{xy}$ the mean, variance and covariance in a window,
#
# $$ \mathrm{SSIM} = \frac{(2 \mu_x \mu_y + c_1)(2 \sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}. $$
#
# The windows are 11 × 11 pixels, their middle weighs most, and the constants $c_1$, $c_2$ keep flat windows from dividing by zero.
# For a single window the formula is the last two lines of the function; the package slides it over the photo and takes the mean.

# %%
from vartutor.metrics import luma, ssim

w = gaussian_kernel(11, 1.5)
c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim_of_window(a, b):
    mean_a, mean_b = (w * a).sum(), (w * b).sum()
    var_a, var_b = (w * a * a).sum() - mean_a**2, (w * b * b).sum() - mean_b**2
    cov = (w * a * b).sum() - mean_a * mean_b
    above = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return above / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


eye = (..., slice(70, 81), slice(62, 73))
ours_here = ssim_of_window(luma(x)[eye], luma(rivals["blurred"])[eye])
assert torch.allclose(ours_here, ssim(x[eye], rivals["blurred"][eye]), atol=1e-4)
print(f"SSIM in a window at the lemur's eye, blurred: {ours_here:.1f}")

# %% [markdown]
# The second measure, **GMSD**, compares edges. It takes the length of the gradient at every pixel of both pictures, $g_x$ and $g_y$, and their similarity $(2 g_x g_y + c) / (g_x^2 + g_y^2 + c)$, which is one where they agree.
# The result is the *standard deviation* of that similarity over the picture: damage that is spread evenly disturbs less than damage in some places.
#
# The third, a **perceptual distance**, compares features instead of pixels. Both pictures pass through a network that was trained to recognise objects. At four depths and every position, the features are scaled to length one and subtracted; the squared differences are averaged.
# Two patches of fur with different hairs have similar features, so they count as close; sharp and blurred fur do not.
# The course ships a small one, made from EfficientNet-Lite0, that needs no download. It is not LPIPS, the published one, and its values compare only within the course.

# %% tags=["nbval-ignore-output"]
from vartutor.metrics import gmsd
from vartutor.perceptual import perceptual_distance

measures = (psnr, ssim, gmsd, perceptual_distance)
table = {name: [m(image, x).item() for m in measures] for name, image in rivals.items()}
print("PSNR, SSIM and GMSD on luma, no border")
print(f"{'':<10}{'PSNR ↑':>8}{'SSIM ↑':>8}{'GMSD ↓':>8}{'perceptual ↓':>14}")
for name, (p, s, g, d) in table.items():
    print(f"{name:<10}{p:>8.1f}{s:>8.2f}{g:>8.3f}{d:>14.2f}")

# %%
p, s, g, d = (dict(zip(table, column, strict=True)) for column in zip(*table.values(), strict=True))
assert max(p.values()) - min(p.values()) < 0.3  # equal for PSNR
assert d["brighter"] < d["shifted"] < d["blurred"]  # not for the features
assert s["brighter"] > s["shifted"]

# %% [markdown]
# **What you should see.** All four have the same PSNR, but very different rows.
# SSIM and GMSD forgive the brightness. Both punish the shift, which moves every edge; GMSD ranks it with the noise. The perceptual distance forgives both, and puts noise and blur far away.
# None of the four is "right". A doctor wants the pixels, a holiday album wants the look; the two pull apart, and chapter 09 draws the curve between them.
# So this course reports at least two numbers, one of each kind, and shows the pictures.
#
# ## What exactly is lost?
#
# Any picture is a sum of waves, from slow (colours and shapes) to fast (fur). The *power spectrum* says how much of each it holds.
# We take the Fourier transform, square it, and average over all directions: $P(f) = \langle |\hat x(\mathbf f)|^2 \rangle_{|\mathbf f| = f}$.


# %%
def spectrum(x, bins=32):
    x = x.mean(1) - x.mean(dim=(1, 2, 3), keepdim=True)[:, 0]  # gray, without its mean
    size = x.shape[-1]
    window = torch.hann_window(size, periodic=False)  # fades the borders out
    power = torch.fft.fft2(x * window * window[:, None]).abs().square().mean(0)  # |x̂|²
    f = torch.fft.fftfreq(size)
    radius = (f**2 + f[:, None] ** 2).sqrt()  # |f| in cycles per pixel
    ring = (radius * 2 * bins).long().clamp(max=bins)
    total = torch.zeros(bins + 1).index_add(0, ring.flatten(), power.flatten())
    return (total / torch.bincount(ring.flatten(), minlength=bins + 1))[:bins]  # mean over directions


# %%
frequency = (torch.arange(32) + 0.5) / 64
clean_lr = eval_pairs(BICUBIC, size=profile.image_size, per_photo=profile.eval_crops).lr
curves = {
    "clean": (test.hr[4], COLORS["hr"], "-"),
    "bicubic of the shrunk photo": (upscale_bicubic(clean_lr)[4], COLORS["rest"], ":"),
    "bicubic of the degraded photo": (upscale_bicubic(test.lr)[4], COLORS["bicubic"], "--"),
}


def draw_spectra(curves):
    figure, ax = plt.subplots(figsize=(5.8, 3.0))
    for name, (images, color, style) in curves.items():
        ax.semilogy(frequency, spectrum(images), style, color=color, label=name)
    ax.axvline(1 / 8, color="black", linewidth=0.8, linestyle=":")
    ax.text(0.13, 3000, "finest wave of\nthe small photo", fontsize=8)
    ax.set(xlabel="frequency in cycles per pixel", ylabel="power", ylim=(0.1, None))
    ax.legend(fontsize=8)
    return figure


show(
    draw_spectra(curves),
    "Beyond the dotted line, interpolation has almost nothing to show.",
    "Power against frequency on a logarithmic axis. The clean photos, solid green, fall off slowly. Both "
    "interpolated curves, dotted and dashed, follow them to about one sixteenth of a cycle per pixel, fall away, and "
    "drop out of the chart near one quarter.",
)

# %% [markdown]
# **What you should see.** A photo with a quarter of the pixels **along each side** can hold waves only up to 1/8 cycle per pixel of the large one, along each axis. That is the sampling theorem.
# Well below that, interpolation is right. Beyond, the clean curve goes on, and both others fall out of the picture.
# The gap between them *is* the task: to paint waves that nobody measured.
# Look at the dotted line, too: there the degraded photo has *more* power than the merely shrunk one. Blur alone would have lowered it. It is noise.
#
# ## Can training fill the gap?
#
# Let us try in earnest. We train a residual network of eight layers on the training photos, with the squared error as loss. It takes about half a minute.


# %%
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")
        self.second = nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate")

    def forward(self, h):
        return h + self.second(F.relu(self.first(h)))


net = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1, padding_mode="replicate"),
    *[Block(32) for _ in range(3)],
    nn.Conv2d(32, 48, 3, padding=1, padding_mode="replicate"),
    nn.PixelShuffle(4),
).to(session.device)
nn.init.zeros_(net[-2].weight)  # no correction yet: training starts at bicubic
nn.init.zeros_(net[-2].bias)
print(f"{sum(p.numel() for p in net.parameters()) / 1000:.0f} thousand parameters")

# %% [markdown]
# First come the three looks of chapter 00. The last layer starts at zero, so the network adds nothing yet. The loss at step 0 must therefore *equal* bicubic's, not just lie near it.
# Then we let a copy learn one batch, and count the ReLUs that are dead in its three blocks.

# %%
import copy

from vartutor.data.crops import RandomCrops
from vartutor.data.photos import load_pixels

crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
batch = make_pairs(crops.batch(), COURSE, session.generator)
lr, hr = batch.lr.to(session.device), batch.hr[4].to(session.device)
start = upscale_bicubic(lr)[4]
own = (start - hr).square().mean().item()  # bicubic's loss

# %%
assert abs((start + net(lr) - hr).square().mean().item() - own) < 1e-6
print("at step 0 the loss is bicubic's, as expected")


# %% tags=["nbval-ignore-output"]
def dead_relus(net, lr):  # per block, of 32: those that give zero at every pixel of every photo
    h, counts = net[0](lr), []
    for block in net[1:4]:
        counts.append(int((F.relu(block.first(h)).amax((0, 2, 3)) == 0).sum()))
        h = block(h)
    return counts


probe = copy.deepcopy(net)
optimizer = torch.optim.Adam(probe.parameters(), lr=2e-3)
for _ in range(150 if PROFILE != "smoke" else 2):
    loss = (start + probe(lr) - hr).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"one batch, 150 times: {loss / own:.0%} of bicubic's loss; dead ReLUs per block: {dead_relus(probe, lr)}")
if PROFILE == "cpu":
    assert loss < 0.7 * own and max(dead_relus(probe, lr)) < 8

# %% [markdown]
# The gradient arrives, and the blocks are alive. Now the long run, on fresh photos at every step:

# %%
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=profile.cnn_steps)
losses = []
for _ in range(profile.cnn_steps):
    batch = make_pairs(crops.batch(), COURSE, session.generator)
    lr, hr = batch.lr.to(session.device), batch.hr[4].to(session.device)
    start = upscale_bicubic(lr)[4]
    loss = (start + net(lr) - hr).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # against a rare bad batch
    optimizer.step()
    schedule.step()
    losses.append(loss.item() / (start - hr).square().mean().item())  # share of bicubic's

# %% [markdown]
# Some batches are all sky, others all grass, and their losses differ tenfold. So we plot each loss as a share of what bicubic gets on the *same* batch.
# The slow start is the schedule: `OneCycleLR` begins with a small learning rate, raises it, and lets it fall again.

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.3))
ax.plot(losses, color=COLORS["model"], alpha=0.25, linewidth=0.8)
ax.plot(smooth(losses, 40), color=COLORS["model"])
ax.axhline(1, color=COLORS["bicubic"], linestyle="--")
ax.set(xlabel="step", ylabel="loss / bicubic's loss", ylim=(0.6, 1.1))
show(
    figure,
    "Training loss as a share of bicubic's (dashed): every batch, and the running mean.",
    "A line chart of the training loss divided by bicubic's. It starts at one, hardly moves in the first hundred "
    "steps, falls fastest around step two hundred, and levels off at about nine tenths.",
)

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    ours = (upscale_bicubic(test.lr)[4] + net(test.lr.to(session.device)).cpu()).clamp(-1, 1)
plain = upscale_bicubic(test.lr)[4]
gain = bootstrap(psnr(ours, test.hr[4], border=4) - psnr(plain, test.hr[4], border=4), test.files)
before, after = (perceptual_distance(z, test.hr[4]) for z in (plain, ours))
features = bootstrap(after - before, test.files)
print(f"PSNR (luma, border 4): {gain} dB more than bicubic")
print(f"perceptual distance: changed by {features}")

# %%
if PROFILE == "cpu":
    assert 0.3 < gain.low < gain.mean < 2.0 and features.high < 0  # better by both

# %% [markdown]
# How does it look? We take each photo's crop with most fine detail, rank the photos by it, and show the first, the fifth and the ninth.

# %% tags=["hide-input"]
cases = eval_pairs(COURSE, per_photo=3)  # three crops of each photo, whatever the profile
texture = hidden(cases.hr[4]).square().mean((1, 2, 3))  # what shrinking does not see
crop_of = {}
for i in texture.argsort(descending=True).tolist():  # each photo's crop with most texture
    crop_of.setdefault(cases.files[i], i)
chosen = list(crop_of.values())[:9:4]  # of the photos ranked by it, the first, the fifth and the ninth
print("crops of", *list(crop_of)[:9:4])
lr, hr = cases.lr[chosen], cases.hr[4][chosen]
with torch.no_grad():
    restored = upscale_bicubic(lr)[4] + net(lr.to(session.device)).cpu()
figure = image_grid(
    [list(row) for row in zip(lr, upscale_bicubic(lr)[4], restored, hr, strict=True)],
    ["degraded", "bicubic", "network", "clean"],
    colors=[COLORS["lr"], COLORS["bicubic"], COLORS["model"], COLORS["hr"]],
)
show(
    figure,
    "The network removes noise and firms up edges, but grows no texture.",
    "Three test crops in rows, dry grass, the fur of a raccoon and a bright curved edge: degraded, bicubic, the trained "
    "network and clean. The network's column has less noise and firmer edges, yet is smoother than the clean one.",
    photo=True,
)

# %% tags=["hide-input"]
curves["network"] = (ours, COLORS["model"], "-")
show(
    draw_spectra(curves),
    "Training moves the curve a little; most of the gap stays.",
    "The power spectrum as before with a fourth curve, solid blue, for the trained network. It lies closer to the "
    "clean curve than bicubic just beyond the dotted line, but far below it at high frequencies.",
)

# %% [markdown]
# **What you should see.** About a decibel more, a better perceptual distance, less noise. And still no fur: right of the dotted line, the network's curve stays far below the clean one.
# More layers and more hours would move it up. Could they fill the gap?
#
# (Is a decibel at odds with a loss that fell by a tenth only, which is half a decibel? No: hard crops dominate a mean of squared errors, while every crop counts the same in a mean of decibels. And we measure luma, but train on colour.)
#
# ## What breaks if the loss is the squared error?
#
# Why does squared error blur? Many photos $X$ fit the small one, and one output $a$ is compared with all of them. The best it can do is
#
# $$ \arg\min_a \; \mathbb E\,\lVert a - X \rVert^2 = \mathbb E[X], $$
#
# the **mean of all answers**. For any $a$, $\mathbb E\lVert a - X \rVert^2 = \lVert a - \mathbb E[X] \rVert^2 + \mathbb E\lVert X - \mathbb E[X] \rVert^2$, and only the first term depends on $a$.
# Fur pointing left and fur pointing right average to no fur.
# We can watch it happen with our twins. Take forty photos that all shrink to the lemur, each with the hidden detail of a different crop.

# %%
details = RandomCrops(load_pixels("train"), size=160, batch_size=40, jitter=1.0, seed=SEED).batch()
answers = x + hidden(details) - hidden(x)  # the lemur's small photo, another photo's detail
assert torch.allclose(down(answers), down(x).expand(40, -1, -1, -1), atol=1e-5)
mean = answers.mean(0, keepdim=True)  # E[X]
error = torch.stack([(answers - guess).square().mean() for guess in answers])  # as guess a
best = (answers - mean).square().mean()  # the mean as the guess
assert best < error.min() and abs(best / error.mean() - 0.5) < 1e-3
print(f"the mean's squared error is {best / error.mean():.0%} of a single answer's, on average")

# %% tags=["hide-input"]
figure = image_grid(
    [[image[middle] for image in (*answers[:3], mean[0], x[0])]],
    ["answer 1", "answer 2", "answer 3", "mean of 40", "the photo"],
    colors=[COLORS["rest"]] * 3 + [COLORS["model"], COLORS["hr"]],
)
show(
    figure,
    "Three of forty answers, and the mean of all: smoother than any, and blocky.",
    "Three lemur faces with foreign fine detail laid over them, the average of forty such faces, which is smooth and "
    "shows the blocks of the small photo, and the original.",
    photo=True,
)

# %% [markdown]
# As a guess for all forty, the mean has a smaller squared error than any single one of them, and it looks like nothing a camera would take.
#
# That it has exactly half is no accident of these photos. For two independent answers $X$ and $X'$,
# $\mathbb E\lVert X - X' \rVert^2 = 2\, \mathbb E\lVert X - \mathbb E[X] \rVert^2$: both stray from the mean, and the squares add up.
# So a model that draws a perfectly likely answer has twice the squared error of one that returns the mean. **Being sharp costs three decibels**, even if everything is done right.
#
# A network that minimises squared error is pulled there. A larger one, trained for longer, gets *closer* to the mean, not away from it: it answers a question that we did not mean to ask.
#
# The way out is to **choose** one likely answer instead of averaging them all.
# That needs a model of the whole distribution of answers, from which one can draw: a generative model. This is why the course builds a transformer over tokens, and not a deeper version of the network above.

# %% [markdown]
# ## Questions
#
# <details><summary>1. The proof that twins exist used averaging over blocks. Does it still work if shrinking is bicubic?</summary>
# Yes. All it needs is some enlargement U with D U = I, and every linear shrinking that loses no small photo has one. Then n − U D n is again invisible to D. The patterns look different, but as many numbers are free.
# </details>
#
# <details><summary>2. One table gives 27 dB on luma with a border of 4, another 25 dB on RGB without one. Which method is better?</summary>
# Nobody can tell. The same picture often differs by as much between the two conventions. Measure both methods again, with one function, on the same crops.
# </details>
#
# <details><summary>3. You resample sixty crops instead of twenty photos. What happens to the interval?</summary>
# It becomes too narrow. Crops of one photo are alike, so sixty crops hold less than sixty independent facts, but the resampling treats them as if they did.
# </details>
#
# <details><summary>4. The last layer starts at zero. Which layers get a gradient at step 0?</summary>
# Only the last. The gradient of everything before it passes through the last layer's weights, which are zero. After one step they are not, and all layers learn.
# </details>
#
# <details><summary>5. A network draws one perfect sample from all photos that fit. Will it win a comparison by PSNR against the network of this chapter?</summary>
# No. Against a network that comes close to the mean, a perfect sample loses up to three decibels. That is why the course reports a perceptual distance as well.
# </details>
#
# ## An open experiment
#
# Is the squared error alone to blame? Train the same network with the absolute error, and write down first what you expect of PSNR, of the perceptual distance and of the spectrum.
#
# A good answer
#
# - says which single answer minimises the absolute error (the median of each number, not the mean), and what that means for fur;
# - keeps everything else equal: steps, crops, seed, network; and repeats both with two more seeds;
# - gives the *difference* of the two networks for PSNR and for the perceptual distance, each with an interval over photos;
# - draws both spectra and says how much of the gap beyond the dotted line is filled;
# - concludes no more than the numbers allow.
#
# ## In five lines
#
# 1. Shrinking by four leaves fifteen of sixteen numbers free: many photos fit one small photo.
# 2. Training data come from clean photos, damaged by blur, resizing, noise and JPEG with settings drawn from a preset.
# 3. PSNR counts squared pixel errors, on luma, without a border; report it with an interval over photos.
# 4. PSNR, SSIM and perceptual distance disagree, and each is right about something.
# 5. Squared error teaches the mean of all answers, which is blurred; to be sharp, a model must choose.
#
# ## The course and the papers
#
# | | this course | H-VAR (the paper) and VARSR |
# |---|---|---|
# | degradation | one round, mild (`course`); `varsr` for comparison | two rounds, the scheme of Real-ESRGAN † |
# | clean targets at ×1 and ×2 | antialiased bicubic; our choice | the filter is not known to us |
# | metrics | PSNR, SSIM, GMSD, a perceptual distance of our own; LPIPS and others through an extra | PSNR, SSIM, LPIPS, DISTS, FID and no-reference metrics † |
# | test photos | 20, shipped, fixed crops | DIV2K-Val, RealSR, DRealSR † |
# | uncertainty | bootstrap over photos | none that we know of |
#
# † From third-party notes, not from the papers themselves; it may be wrong.
#
# ## References
#
# - X. Wang et al., [Real-ESRGAN](https://arxiv.org/abs/2107.10833), 2021: the degradation pipeline.
# - Y. Qu et al., [Visual Autoregressive Modeling for Image Super-Resolution](https://arxiv.org/abs/2501.18993), 2025: VARSR, whose released settings are the preset `varsr`.
# - Z. Wang et al., [Image Quality Assessment: From Error Visibility to Structural Similarity](https://doi.org/10.1109/TIP.2003.819861), 2004: SSIM.
# - W. Xue et al., [Gradient Magnitude Similarity Deviation](https://arxiv.org/abs/1308.3052), 2014: GMSD.
# - R. Zhang et al., [The Unreasonable Effectiveness of Deep Features as a Perceptual Metric](https://arxiv.org/abs/1801.03924), 2018: perceptual distances, and LPIPS.
# - Y. Blau and T. Michaeli, [The Perception-Distortion Tradeoff](https://arxiv.org/abs/1711.06077), 2018: why the two pull apart.
#
# **Next:** chapter 02 replaces real numbers by entries of a dictionary: vector quantization.
