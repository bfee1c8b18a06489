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
# # 00 · Start here
#
# **One small, noisy photo goes in; three clean ones come out, at ×1, ×2 and ×4.**
# This chapter shows what the course builds, checks that your machine is ready, and trains a first upscaler in seconds.
#
# ![The course in one diagram: a transformer reads the degraded photo and predicts token maps from coarse to fine, in three groups; a decoder turns the maps so far into a photo after each group, at times one, two and four.](../assets/diagrams/pipeline.svg)
#
# After this chapter you will be able to
#
# - **say** what goes into the model, and what comes out;
# - **split** a photo into coarse-to-fine maps, and put it together again;
# - **train** two layers that beat bicubic interpolation, and **measure** by how much;
# - **run, change and check** every chapter of the course.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | under a minute to run, 20 minutes to read | no earlier chapter; you should know some Python and what a convolution is | November 2026, torch 2.13 |

# %% [markdown]
# ## The first cell of every chapter
#
# Three parameters decide how a chapter runs.
# `PROFILE` sets all sizes and step counts: `cpu` is what you see here, `smoke` only proves that every cell runs, and `gpu` is for large machines.
# `SEED` fixes every random choice, and `DEVICE` is where the networks live.
# Change a value, then run the chapter again from the top.
# Instructors set the same three from outside, with papermill.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import torch
import torch.nn.functional as F
from torch import nn

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show

session = setup(PROFILE, SEED, DEVICE)
print(session)

# %% [markdown]
# ## What goes in, and what comes out?
#
# Somebody sends you a photo. It is small, a little blurred, noisy, and was squeezed through JPEG.
# You want three things from it: the same picture **without the damage** (×1), a version of **twice** the size (×2), and one of **four times** the size (×4).
# Most published models give one size per run.
# The paper behind this course gives all three in one pass, and so will the model that we build.
#
# To train and to judge such a model we need the answer too.
# So we go the other way round: we take a clean photo, damage it, and keep both.
# `make_pairs` does that, and chapter 01 takes it apart.

# %%
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import find_photo
from vartutor.data.presets import COURSE

photo = find_photo("red_panda").load()[None, :, 32:416, 280:664]  # a clean crop, (1, 3, 384, 384)
pair = make_pairs(photo, COURSE, session.generator)

print("in:       ", tuple(pair.lr.shape))
for scale, target in pair.hr.items():
    print(f"target ×{scale}:", tuple(target.shape))


# %%
def eye(image, scale):  # the same piece of the photo at every scale
    return image[:, 40 * scale : 72 * scale, 30 * scale : 62 * scale]


rows = [[pair.lr[0], *(pair.hr[s][0] for s in (1, 2, 4))]]
rows.append([eye(image, s) for image, s in zip(rows[0], (1, 1, 2, 4), strict=True)])
figure = image_grid(
    rows,
    ["in: degraded", "target ×1", "target ×2", "target ×4"],
    colors=[COLORS["lr"], *[COLORS["hr"]] * 3],
)
show(
    figure,
    "What the model gets, and what it must return; below, one eye of each.",
    "A red panda's face in four versions and one of its eyes magnified from each: degraded, with coarse speckled "
    "pixels; the target at the same size, coarse but free of speckles; and the targets at two and four times the size.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The photo on the left and the target at ×1 have the same number of pixels.
# The left one is speckled with noise.
# Drawn at one size, the three targets look alike; the eye tells them apart. At ×2 the fur gets a direction, and at ×4 it is made of single hairs.
# Nothing in the small photo says where those hairs are. Hold on to this thought; chapter 01 begins with it.
#
# ## What does the simplest method do?
#
# Bicubic interpolation fits a smooth surface through the pixels. It learns nothing and knows nothing about pandas.
# It is the line that a trained model has to beat.
#
# We measure in decibels. PSNR compares each pixel with the clean photo, and **higher is better**:
# 3 dB more means half the squared error.

# %%
from vartutor.data.pairs import upscale_bicubic
from vartutor.metrics import psnr

bicubic = upscale_bicubic(pair.lr)
for scale in (1, 2, 4):
    print(f"×{scale}: {psnr(bicubic[scale], pair.hr[scale]).item():.1f} dB")

# %% [markdown]
# ## And the model of this course?
#
# Chapter 07 trains it; its weights are in the repo, so it can answer now. One call, one pass, three photos:

# %%
from vartutor.superres import SuperResolver

model = SuperResolver.from_pretrained("course", device=session.device)
restored = model.upscale(pair.lr[0])
for scale, image in restored.items():
    print(f"×{scale}: {psnr(image[None], pair.hr[scale]).item():.1f} dB")
if PROFILE == "cpu":
    assert all(psnr(restored[s][None], pair.hr[s]) > psnr(bicubic[s], pair.hr[s]) for s in (1, 2, 4))

# %%
window = (slice(None), slice(160, 288), slice(120, 248))  # one eye, at full size
trio = [bicubic[4][0], restored[4], pair.hr[4][0]]
figure = image_grid(
    [trio, [image[window] for image in trio]],
    ["bicubic ×4", "the model ×4", "clean"],
    colors=[COLORS["bicubic"], COLORS["model"], COLORS["hr"]],
    height=2.3,
)
show(
    figure,
    "Bicubic, the course's model and the clean photo at ×4; below, one eye of each.",
    "A red panda's face enlarged four times by bicubic interpolation, by the model, and the clean photo; below, one eye "
    "of each magnified: blurred with soft blobs of noise, clean but soft, and with single hairs.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The noise is gone, the edges are firmer, and the fur is still missing: nothing in the small photo says where the hairs are. A small model, trained for an hour on one core, mostly dares to say what is sure.
#
# Can a model be bolder? A second one, `detail`, lets a plain convolutional net restore the photo first, and then *draws* what the photo does not say: one guess among many. Here are pieces of four test photos, each from 36 × 36 pixels.

# %% tags=["hide-input", "poster"]
from vartutor.weights import load_cnn

writer, plain = SuperResolver.from_pretrained("detail", device=session.device), load_cnn().to(session.device)
pieces = {
    "raccoon": (160, 245),
    "pontduGard": (160, 289),
    "neuschwanstein": (160, 288),
    "crab": (160, 359),
}  # top, left
rows = []
for name, (top, left) in pieces.items():
    clean = find_photo(name).load()[None, :, top : top + 192, left : left + 192]
    own = make_pairs(clean, COURSE, torch.Generator().manual_seed(SEED))
    certain = plain.restore(own.lr.to(session.device))[4][0].cpu()
    pictures = [upscale_bicubic(own.lr)[4][0], certain, writer.upscale(own.lr[0], (4,))[4], own.hr[4][0]]
    rows.append([picture[:, 24:168, 24:168] for picture in pictures])
titles = ["bicubic", "a plain CNN", "drawn by the model", "clean"]
figure = image_grid(rows, titles, colors=[COLORS[name] for name in ("bicubic", "other", "model", "hr")], height=1.8)
show(
    figure,
    "Four times enlarged: what is certain, and one guess at the rest.",
    "Four pieces of test photos, each as bicubic enlargement, as a convolutional net sees it, as the model of this "
    "course draws it, and clean.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The net is clean and smooth. The drawn pictures have more in them: harder edges, marks in the stone of the bridge, glints on the claws, dark lines in the fur. Some of that is right and some is not; no window of that castle has the shape it was given. A draw is a guess. Chapter 07 builds both models, and measures what boldness costs.

# %% [markdown]
# ## How can one model draw three sizes?
#
# Suppose you had to describe a photo to somebody on the telephone. Where would you begin?
# Hardly with the first pixel of the first row. You would say "mostly green, something red-brown in the middle", and add detail.
#
# We can make that exact. Shrink the photo to a single pixel: its mean colour. That is the first map, $m_1$.
# Enlarge it, subtract it from the photo, and ask for the next map to explain only **what is left**:
#
# $$ r_0 = x, \qquad m_k = \mathrm{down}_{p_k}(r_{k-1}), \qquad r_k = r_{k-1} - \mathrm{up}(m_k). $$
#
# Here $p_k$ is the side of map $k$, $\mathrm{down}$ averages areas and $\mathrm{up}$ is bicubic.
# The loop below is that equation, one line for each part.


# %%
def coarse_to_fine(x, sizes):
    maps, rest = [], x
    for p in sizes:
        m = F.interpolate(rest, size=(p, p), mode="area")  # m_k = down(r_{k-1})
        rest = rest - F.interpolate(m, size=x.shape[-2:], mode="bicubic")  # r_k = r_{k-1} - up(m_k)
        maps.append(m)
    return maps, rest


x = F.interpolate(photo, size=(64, 64), mode="area")
sizes = (1, 2, 4, 8, 16, 32, 64)
maps, rest = coarse_to_fine(x, sizes)
print("maps:", [tuple(m.shape[-2:]) for m in maps])

# %% [markdown]
# The last map is as large as the photo, so $\mathrm{down}$ and $\mathrm{up}$ change nothing there, and $r_K = r_{K-1} - r_{K-1} = 0$.
# Then the enlarged maps must add up to the photo. Do they? A claim like this gets a check, not a promise.

# %%
enlarged = [F.interpolate(m, size=(64, 64), mode="bicubic") for m in maps]
assert rest.abs().max() < 1e-5
assert torch.allclose(sum(enlarged), x, atol=1e-5)
print("the maps add up to the photo")

# %% tags=["hide-input"]
so_far = [sum(enlarged[: k + 1]) for k in range(len(maps))]
figure = image_grid(
    [[m[0] for m in enlarged], [s[0] for s in so_far]],
    [f"{p} × {p}" for p in sizes],
    colors=[COLORS["token"]] * len(sizes),
    labels=["map", "sum so far"],
)
show(
    figure,
    "Top: what each map adds. Bottom: the photo after that map.",
    "Two rows of seven pictures. The top row shows the residual maps from one flat colour to fine edges on gray. "
    "The bottom row shows their running sum turning from a flat colour into a sharp panda.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Gray in the top row means "nothing to add".
# Coarse maps carry colour and layout, fine maps carry edges.
# And every sum in the bottom row is a picture in its own right: stop early, and you have a small photo. That is how one model can give three sizes.
#
# Two steps lead from here to the model.
#
# 1. **Tokens.** A photo's maps hold real numbers. A *tokenizer* replaces each position of each map by one whole number: the nearest entry of a learned dictionary. Chapters 02 to 05 build it.
# 2. **Prediction.** A *transformer* reads the degraded photo, and predicts all tokens of one map at once, from the maps before it. Chapters 06 and 07 build it, and chapter 08 tunes it.
#
# One thing changes on the way. The maps are taken not of the photo but of its *features*, which an encoder computes at a quarter of its side: 64 pixels end in a map of side 16.
# There, a sum that stops early is not yet a good small photo; chapter 05 makes it one.
#
# How many tokens are that? The prototype of this course used ten maps. It read ×1 after side 4, ×2 after side 8, and ×4 after side 16:

# %%
ladder = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
tokens = sum(p * p for p in ladder)
print(f"{tokens} tokens in {len(ladder)} steps, instead of {x.numel()} numbers")

# %% [markdown]
# Ten steps instead of 680: that is why next-scale prediction is fast.
# A model that writes one token after the other would need a step for each.
#
# ## The way ahead
#
# | chapter | you build |
# |---|---|
# | 00 start here | a first upscaler |
# | 01 photos, degradations, metrics | the data, the yardsticks, the line to beat |
# | 02 vector quantization · 03 residual VQ · 04 multi-scale · 05 hierarchical | the tokenizer, step by step |
# | 06 the next-scale transformer · 07 super-resolution in one pass | the model |
# | 08 DPO · 09 evaluation and ablations | a preference for the clean photo, and an honest look at all of it |
# | 10 scaling up · 11 and 12 the GPU runs | the same code at the published size, 310 million parameters |
#
# Every chapter runs alone. It loads what earlier chapters trained, and trains something itself.
#
# ## Is this machine ready?
#
# One line for each question; a line that does not begin with `ok` says what to do.
# In a terminal, `vartutor doctor` prints the same.

# %% tags=["nbval-ignore-output"]
from vartutor.doctor import examine

for finding in examine():
    print(finding)

# %% [markdown]
# ## Can two layers beat bicubic?
#
# Enough watching. We train the smallest network that deserves the name, and it takes a few seconds.
#
# The data come first: random crops of the 50 training photos, flipped and scaled at random.
# One batch holds the clean crops; `make_pairs` will damage them, freshly at every step, so no two batches are alike.

# %%
from vartutor.data.crops import RandomCrops
from vartutor.data.photos import load_pixels

profile = session.profile
crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
print("one batch:", tuple(crops.batch().shape))

# %% [markdown]
# The network does not draw the large photo from nothing. It starts from bicubic, and adds a correction: $\hat x = \mathrm{bicubic}(x_\mathrm{LR}) + g(x_\mathrm{LR})$.
#
# Both layers work at the *small* size, where they are cheap.
# The second gives 48 numbers at each position: 3 colours for each of the 4 × 4 pixels that the position becomes.
# `PixelShuffle` lays them out.


# %%
def two_layers():
    return nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=5, padding=2, padding_mode="replicate"),
        nn.ReLU(),
        nn.Conv2d(32, 3 * 4 * 4, kernel_size=3, padding=1, padding_mode="replicate"),
        nn.PixelShuffle(4),
    )


net = two_layers().to(session.device)


def upscale(lr):
    return upscale_bicubic(lr)[4] + net(lr)  # x̂ = bicubic(x_LR) + g(x_LR)


print(f"{sum(p.numel() for p in net.parameters())} parameters")
print("out:", tuple(upscale(pair.lr.to(session.device)).shape))

# %% [markdown]
# The training loop does five things, and all loops of the course look like it:
# get a batch, compute the loss, go backward, step, note the loss.
# `OneCycleLR` raises the learning rate at first, and lowers it to almost nothing at the end.
# The loss is the mean squared error, $\frac{1}{N}\sum (\hat x - x)^2$.

# %%
optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=profile.first_steps)
losses = []
for _ in range(profile.first_steps):
    batch = make_pairs(crops.batch(), COURSE, session.generator)
    error = upscale(batch.lr.to(session.device)) - batch.hr[4].to(session.device)
    loss = error.square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

from vartutor.show.figures import smooth

figure, ax = plt.subplots(figsize=(5.4, 2.5))
ax.plot(losses, color=COLORS["model"], alpha=0.25, linewidth=0.8)
ax.plot(smooth(losses, 40), color=COLORS["model"])
ax.set(xlabel="step", ylabel="mean squared error", ylim=(0, None))
show(
    figure,
    "Training loss: every batch (pale) and its running mean.",
    "A line chart of the training loss against the step. Single batches scatter widely; their running mean falls "
    "quickly for about a hundred steps and is then almost level.",
)

# %% [markdown]
# The pale line jumps because batches differ: sky is easy, grass is hard. Trust the running mean, or better, photos that the network has never seen.
#
# ## By how much, and are we sure?
#
# The course always reports on the same crops of the same 20 test photos.
# Two numbers are not enough, though: a gain may be luck. So we look at the **gain on each crop** and ask how much its mean would move if we had drawn other photos.
# `bootstrap` answers with a 95 % interval; chapter 01 explains how.

# %% tags=["nbval-ignore-output"]
from vartutor.data.pairs import eval_pairs
from vartutor.metrics import bootstrap

test = eval_pairs(COURSE, size=profile.image_size, per_photo=profile.eval_crops)
with torch.no_grad():
    ours = upscale(test.lr.to(session.device)).cpu().clamp(-1, 1)
plain = upscale_bicubic(test.lr)[4]
gain = psnr(ours, test.hr[4], border=4) - psnr(plain, test.hr[4], border=4)
interval = bootstrap(gain, test.files)
print(f"gain over bicubic at ×4: {interval} dB, over {len(set(test.files))} photos")

# %%
if PROFILE == "cpu":
    assert 0 < interval.low < interval.mean < 1, interval  # two layers help, a little, and surely

# %%
with torch.no_grad():
    panda = upscale(pair.lr.to(session.device)).cpu()[0]
figure = image_grid(
    [[bicubic[4][0][window], panda[window], pair.hr[4][0][window]]],
    ["bicubic", "two layers", "clean"],
    colors=[COLORS["bicubic"], COLORS["model"], COLORS["hr"]],
    height=2.5,
)
show(
    figure,
    "Two layers remove some noise and sharpen edges; no fur appears.",
    "One eye of the red panda three times: bicubic with blotches of noise, the two-layer network with less noise "
    "and firmer edges, and the clean photo with single hairs.",
    photo=True,
)

# %% [markdown]
# **What you should see.** A gain of a few tenths of a decibel, whose interval stays above zero.
# The picture is a little cleaner, yet still soft.
# More layers help. Chapter 01 trains some, and shows why no amount of training with this loss brings back the fur.
#
# ## What breaks if the values have the wrong range?
#
# Every image in this course lies in $[-1, 1]$. Image files hold $0 \dots 255$.
# Mixing the two is an easy mistake, and users of published models do ask about it.
# Let us make it on purpose: the same two layers, fresh, for 100 steps on the panda alone (a test photo, but this network is thrown away). Once the small photo arrives as it should, and once as $0 \dots 255$.


# %%
def losses_with(convert, steps=100):
    torch.manual_seed(SEED)
    fresh = two_layers()
    optimizer = torch.optim.Adam(fresh.parameters(), lr=4e-3)
    history = []
    for _ in range(steps):
        loss = (bicubic[4] + fresh(convert(pair.lr)) - pair.hr[4]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


right = losses_with(lambda z: z)
wrong = losses_with(lambda z: (z + 1) * 127.5)  # the mistake
alone = (bicubic[4] - pair.hr[4]).square().mean().item()
assert wrong[0] > 1000 * right[0] and wrong[-1] > 1.1 * right[-1]

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.5))
ax.semilogy(right, color=COLORS["model"], label="range [-1, 1]")
ax.semilogy(wrong, color=COLORS["rest"], label="range 0 to 255")
ax.axhline(alone, color=COLORS["bicubic"], linestyle="--", label="bicubic alone")
ax.set(xlabel="step", ylabel="mean squared error")
ax.legend()
show(
    figure,
    "The wrong range seems to recover, then learns nothing more.",
    "Loss against step on a logarithmic axis. The right range starts low and sinks below bicubic's own loss. The "
    "wrong range starts about ten thousand times higher, falls fast, and stays level with bicubic.",
)

# %% [markdown]
# No error message, no warning, and a curve that falls.
# It even looks like convergence; but the network has only learned to keep quiet, and stays at the level of bicubic.
# So this course asserts ranges where data enter, and its functions state them in their first lines.
#
# ## Your turn
#
# Exercises have one to three stars. Each begins with a stub that returns `...` and never fails, so a notebook with open exercises still runs.
# Replace the stub, run the cell, and read the verdict: *not attempted yet*, *ok*, or what was seen and what it probably is. Your function must leave its inputs as they are: clone what you want to change.
# Below each one lie a hint and a solution, folded.
#
# **★ Count the tokens.** Return how many tokens a ladder of map sides has.

# %% tags=["exercise"]
from vartutor.exercises import ch00


def count_tokens(patch_nums):
    return ...


ch00.check("count_tokens", count_tokens)

# %%
ch00.hint("count_tokens")
ch00.solution("count_tokens")

# %% [markdown]
# **★★ Back to pixels.** A model's output is a float tensor that should lie in $[-1, 1]$, but may leave it a little.
# Return the `uint8` tensor that an image file needs: −1 becomes 0, 1 becomes 255, values between go to the *nearest* level, and values outside to the nearer end.


# %% tags=["exercise"]
def to_pixels(x):
    return ...


ch00.check("to_pixels", to_pixels)

# %%
ch00.hint("to_pixels")
ch00.solution("to_pixels")

# %% [markdown]
# **★★★ Coarse to fine, from memory.** Scroll away from the loop above.
# Return the list of small maps of `x` (B, 3, H, H): one of shape (B, 3, p, p) for each side p in `sizes`, the last of which is H.
# Each map is what is left so far, shrunk with `mode="area"`; what is left then loses the map, enlarged with `mode="bicubic"`.


# %% tags=["exercise"]
def maps_of(x, sizes):
    return ...


ch00.check("coarse_to_fine", maps_of)

# %%
ch00.hint("coarse_to_fine")
ch00.solution("coarse_to_fine")

# %% [markdown]
# ## In five lines
#
# 1. One degraded photo goes in; the same picture comes out at ×1, ×2 and ×4.
# 2. A photo is a sum of maps from coarse to fine, and every partial sum is a picture.
# 3. The tokenizer turns maps into whole numbers, and the transformer predicts them map by map: ten steps, not 680.
# 4. Bicubic interpolation is the line to beat, and two layers beat it by a few tenths of a decibel.
# 5. A gain is reported on fixed test photos, with its interval.
#
# ## The course and the paper
#
# | | this course | the paper |
# |---|---|---|
# | photo in → out | 16 → 16, 32 and 64 pixels, in tiles | 128 → 128, 256 and 512 pixels |
# | parameters of the transformer | 5 to 10 million | 310 million |
# | training photos | 50, shipped with the course | DIV2K, DIV8K, Flickr2K, OST and 10,000 faces of FFHQ |
# | where it trains | two CPU cores, minutes to hours | 24 GPUs, about a day for the tokenizer and half a day for the transformer |
#
# The code is the same for both. The page *Paper versus course* of the book lists every difference, and what the paper leaves open.
#
# ## References
#
# - [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990): the paper of this course.
# - K. Tian et al., [Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction](https://arxiv.org/abs/2404.02905), 2024: where next-scale prediction comes from.
# - W. Shi et al., [Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network](https://arxiv.org/abs/1609.05158), 2016: the pixel shuffle.
#
# **Next:** chapter 01 asks why nobody can recover the hairs, and what "better" means for a picture.
