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
# | under a minute and 0.8 GB to run, 25 minutes to read | no earlier chapter; you should know some Python and what a convolution is | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): bridge, degradation, ladder, next-scale prediction, PSNR.

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
# `make_pairs` does that: it damages and shrinks the photo for the input, and shrinks it gently for the targets. Chapter 01 builds it step by step.

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
def piece(image, scale, top, left, side):  # the same piece of the photo at every scale
    return image[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]


versions = [(pair.lr[0], 1), *((pair.hr[s][0], s) for s in (1, 2, 4))]
rows = [[piece(image, s, *where) for image, s in versions] for where in ((34, 26, 44), (42, 32, 22))]
figure = image_grid(
    rows,
    ["in: degraded", "target ×1", "target ×2", "target ×4"],
    colors=[COLORS["lr"], *[COLORS["hr"]] * 3],
)
show(
    figure,
    "What the model gets, and what it must return, drawn at one size; below, one eye of each.",
    "Half of a red panda's face in four versions, and one of its eyes from each: degraded, with coarse speckled "
    "pixels; the target at the same size, coarse but free of speckles; and the targets at two and four times the "
    "size.",
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
# Two conventions are common. One compares all three colours (RGB), the other only the brightness (*luma*, Y), and some leave out a border.
# The numbers differ by decibels, so every PSNR of this course says how it was taken.

# %%
from vartutor.data.pairs import upscale_bicubic
from vartutor.metrics import psnr

bicubic = upscale_bicubic(pair.lr)
for scale in (1, 2, 4):
    print(f"×{scale}: {psnr(bicubic[scale], pair.hr[scale]).item():.1f} dB (luma, no border)")

# %% [markdown]
# ## And the model of this course?
#
# Chapter 07 trains it; its weights are in the repo, so it can answer now. One call gives three photos in one pass:

# %%
from vartutor.superres import SuperResolver

model = SuperResolver.from_pretrained("course", device=session.device)
restored = model.upscale(pair.lr[0])
for scale, image in restored.items():
    print(f"×{scale}: {psnr(image[None], pair.hr[scale]).item():.1f} dB (luma, no border)")
if PROFILE == "cpu":
    assert all(psnr(restored[s][None], pair.hr[s]) > psnr(bicubic[s], pair.hr[s]) for s in (1, 2, 4))

# %%
window = (168, 128, 118)  # one eye: top, left and side in pixels of the large photo
trio = [bicubic[4][0], restored[4], pair.hr[4][0]]
figure = image_grid(
    [[piece(image, 1, *where) for image in trio] for where in ((120, 100, 236), window)],
    ["bicubic ×4", "the model ×4", "clean"],
    colors=[COLORS["bicubic"], COLORS["model"], COLORS["hr"]],
)
show(
    figure,
    "Bicubic, the course's model and the clean photo at ×4, pixel by pixel; below, one eye of each.",
    "A part of a red panda's face enlarged four times by bicubic interpolation, by the model, and the clean photo; "
    "below, one eye of each magnified: blurred with soft blobs of noise, clean but soft, and with single hairs.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The noise is gone, the edges are firmer, and the fur is still missing: nothing in the small photo says where the hairs are.
# Move the slider, with the mouse or the arrow keys: left of it you see bicubic, right of it the model.

# %% tags=["nbval-ignore-output"]
from vartutor.show.before_after import before_after

left, right = (piece(image, 1, 120, 100, 236) for image in trio[:2])
words = "A red panda's face: blurred with soft blobs of noise on the left, clean and soft on the right."
before_after(left, right, ("bicubic ×4", "the model ×4"), words)

# %% [markdown]
# How large is a model that does this, and how long did it train? It has three parts, and the manifest of the weights knows the seconds of each:

# %%
from vartutor.weights.files import manifest

parts = {"tokenizer_hit": model.tokenizer, "transformer_course": model.model, "fidelity_course": model.fidelity}
for name, part in parts.items():
    millions = sum(p.numel() for p in part.parameters()) / 1e6
    hours = manifest()[f"{name}.safetensors"]["seconds"] / 3600
    print(f"{name:<19} {millions:.1f} million parameters, {hours:.1f} hours of training")

# %% [markdown]
# That is small, and the training took an afternoon on one core. Such a model mostly says what is sure.
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
figure = image_grid(rows, titles, colors=[COLORS[name] for name in ("bicubic", "other", "model", "hr")])
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
# You would hardly begin with the first pixel of the first row. You would say "mostly green, something red-brown in the middle", and add detail.
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
drawn = [0, 2, 3, 4, 6]  # five of the seven, so that they can be large
figure = image_grid(
    [[enlarged[k][0] for k in drawn], [so_far[k][0] for k in drawn]],
    [f"{sizes[k]} × {sizes[k]}" for k in drawn],
    colors=[COLORS["token"]] * len(drawn),
    labels=["map", "sum so far"],
)
show(
    figure,
    "Top: what five of the seven maps add. Bottom: the sum of all maps up to there.",
    "Two rows of five pictures. The top row shows the residual maps from one flat colour to fine edges on gray. "
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
# How many tokens is that? Our model uses eight maps, and a side may stand in the list more than once. ×1 is read after the last map of side 4, ×2 after the last of side 8, and ×4 after side 16:

# %%
ladder = model.tokenizer.quantizer.patch_nums
tokens = sum(p * p for p in ladder)
print("sides:", *ladder)
print(f"{tokens} tokens in {len(ladder)} steps, instead of {x.numel()} numbers")
assert (tokens, len(ladder)) == (437, 8)

# %% [markdown]
# Eight steps instead of 437: that is why next-scale prediction is fast.
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
# You have watched enough. We train the smallest network that deserves the name, and it takes a few seconds.
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
# ### Three looks before you train
#
# People who train networks for a living look three times before they start the long run.
# The first look: which loss do you *expect* at step 0? An untrained $g$ knows nothing of the photo, so its output has nothing to do with bicubic's error. Then the squares add up: bicubic's loss, plus the mean square of $g$.

# %% tags=["nbval-ignore-output"]
batch = make_pairs(crops.batch(), COURSE, session.generator)
lr, hr = batch.lr.to(session.device), batch.hr[4].to(session.device)
start = upscale_bicubic(lr)[4]
own = (start - hr).square().mean().item()  # bicubic's loss
with torch.no_grad():
    expected = own + net(lr).square().mean().item()
    seen = (upscale(lr) - hr).square().mean().item()
print(f"bicubic {own:.4f}; at step 0 expected {expected:.4f}, seen {seen:.4f}")
assert abs(seen / expected - 1) < 0.1

# %% [markdown]
# The second look: can a network learn *one batch* much better than all photos? If not, something is broken: the gradient, the targets or the learning rate.
# The third look goes inside. A ReLU whose input is negative at every pixel gives zero everywhere, and passes no gradient back. It is *dead*. We count them.


# %%
def dead_relus(net, lr):  # of 32: those that give zero at every pixel of every photo
    with torch.no_grad():
        return int((net[:2](lr).amax((0, 2, 3)) == 0).sum())


# %% tags=["nbval-ignore-output"]
probe = two_layers().to(session.device)
optimizer = torch.optim.Adam(probe.parameters(), lr=4e-3)
for _ in range(200 if PROFILE != "smoke" else 3):
    loss = (start + probe(lr) - hr).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"one batch, 200 times: {loss / own:.0%} of bicubic's loss; {dead_relus(probe, lr)} of 32 ReLUs dead")
if PROFILE == "cpu":
    assert loss < 0.8 * own and dead_relus(probe, lr) < 4

# %% [markdown]
# The batch is learned far better than photos will be, so the parts work. On photos that it has not seen, such a network would do worse than here: it has learned this batch, not photos.
#
# ### The training loop
#
# The training loop does five things, and all loops of the course look like it:
# get a batch, compute the loss, go backward, step, note the loss.
# `OneCycleLR` raises the learning rate at first, and lowers it to almost nothing at the end.
# The loss is the mean squared error, $\frac{1}{N}\sum (\hat x - x)^2$.

# %%
optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=profile.first_steps)
losses, floor = [], []
for _ in range(profile.first_steps):
    batch = make_pairs(crops.batch(), COURSE, session.generator)
    lr, hr = batch.lr.to(session.device), batch.hr[4].to(session.device)
    loss = (upscale(lr) - hr).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
    floor.append((upscale_bicubic(lr)[4] - hr).square().mean().item())  # bicubic's loss on the same batch

# %% tags=["hide-input"]
import matplotlib.pyplot as plt

from vartutor.show.figures import smooth

figure, ax = plt.subplots(figsize=(5.4, 2.5))
ax.plot(losses, color=COLORS["model"], alpha=0.25, linewidth=0.8)
ax.plot(smooth(losses, 40), color=COLORS["model"], label="two layers")
ax.plot(smooth(floor, 40), color=COLORS["bicubic"], linestyle="--", label="bicubic")
ax.set(xlabel="step", ylabel="mean squared error", ylim=(0.01, 0.04))
ax.legend()
show(
    figure,
    "Training loss: every batch (pale), its running mean, and bicubic's on the same batches.",
    "A line chart of the training loss against the step. Single batches scatter widely. Their running mean starts "
    "above bicubic's dashed line, drops below it within the first hundred steps, and then runs a little below it to "
    "the end.",
)

# %% [markdown]
# The pale line jumps because batches differ: sky is easy, grass is hard. Both running means rise and fall with the batches; what counts is the distance between them.
# It is small, so look at photos that the network has never seen.
#
# ## By how much, and are we sure?
#
# The course always reports on the same crops of the same 20 test photos.
# Two mean PSNRs, ours and bicubic's, are not enough: the difference may be luck. So we look at the **gain on each crop** and ask how much its mean would move if we had drawn other photos.
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
print(f"gain over bicubic at ×4: {interval} dB (luma, border 4), over {len(set(test.files))} photos")

# %%
if PROFILE == "cpu":
    assert 0 < interval.low < interval.mean < 1, interval  # two layers help, a little, and surely

# %%
with torch.no_grad():
    panda = upscale(pair.lr.to(session.device)).cpu()[0]
figure = image_grid(
    [[piece(image, 1, *window) for image in (bicubic[4][0], panda, pair.hr[4][0])]],
    ["bicubic", "two layers", "clean"],
    colors=[COLORS["bicubic"], COLORS["model"], COLORS["hr"]],
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
# Mixing the two is an easy mistake.
# Let us make it on purpose. We train the same two layers afresh, for 100 steps on the panda alone. (It is a test photo, but this network is thrown away.) Once the small photo arrives as it should, and once as $0 \dots 255$.


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
    return history, dead_relus(fresh, convert(pair.lr))


right, few = losses_with(lambda z: z)
wrong, many = losses_with(lambda z: (z + 1) * 127.5)  # the mistake
alone = (bicubic[4] - pair.hr[4]).square().mean().item()
assert wrong[0] > 1000 * right[0] and wrong[-1] > alone > 1.05 * right[-1] and many > 16 > few

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6))
for ax in axes:
    ax.plot(right, color=COLORS["model"], label="range [-1, 1]")
    ax.plot(wrong, color=COLORS["lr"], label="range 0 to 255")
    ax.axhline(alone, color=COLORS["bicubic"], linestyle="--", label="bicubic alone")
    ax.set(xlabel="step", ylabel="mean squared error")
axes[0].set(yscale="log", title="all of it, logarithmic")
axes[1].set(ylim=(0.022, 0.032), title="the end of it, linear")
axes[0].legend()
show(
    figure,
    "From afar the wrong range recovers. From near, it stops above bicubic.",
    "Two charts of loss against step. On the left, logarithmic, the wrong range starts about ten thousand times "
    "higher, falls fast and joins the other curve. On the right, magnified, it stays just above the dashed line of "
    "bicubic, while the right range sinks well below it.",
)

# %%
print(f"right range: {right[-1] / alone:.0%} of bicubic's loss, {few} of 32 ReLUs dead")
print(f"wrong range: {wrong[-1] / alone:.0%} of bicubic's loss, {many} of 32 ReLUs dead")

# %% [markdown]
# **What you should see.** There is no error message, no warning, and the left curve falls by four powers of ten. It looks like convergence.
# The right panel shows that the network has learned nothing of use: adding nothing at all would give a lower loss.
#
# The count says why. Adam moves every weight by about 0.004 in a step, however large the gradient is. A filter here has 75 weights, and its inputs lie around 128, so one step moves its sum by up to 40.
# After a few dozen such steps nearly all sums are negative at every pixel, and the ReLUs behind them are dead for good. The few that live cannot restore a photo.
#
# So look at activations, not only at the loss. And this course asserts ranges where data enter, and its functions state them in their first lines.
#
# ## Your turn
#
# In this chapter they come last, since it shows the whole way once before it asks. In later chapters each stands where its idea stands.
# Exercises have one to three stars. Each begins with a stub that returns `...` and never fails, so a notebook with open exercises still runs.
# Replace the stub, run the cell, and read the verdict: *not attempted yet*, *ok*, or what was seen and what it probably is. Your function must leave its inputs as they are: clone what you want to change.
# Below each one lie two hints and a solution, folded.
#
# **★ Count the tokens · 5 min.** Return how many tokens a ladder of map sides has.

# %% tags=["exercise"]
from vartutor.exercises import ch00


def my_count_tokens(patch_nums):
    return ...


ch00.check("count_tokens", my_count_tokens)

# %%
ch00.hint("count_tokens")
ch00.solution("count_tokens")

# %% [markdown]
# **★★ Back to pixels · 15 min.** A model's output is a float tensor that should lie in $[-1, 1]$, but may leave it a little.
# Return the `uint8` tensor that an image file needs: −1 becomes 0, 1 becomes 255, values between go to the *nearest* level, and values outside to the nearer end.


# %% tags=["exercise"]
def my_to_pixels(x):
    return ...


ch00.check("to_pixels", my_to_pixels)

# %%
ch00.hint("to_pixels")
ch00.solution("to_pixels")

# %% [markdown]
# **★★★ Coarse to fine, from memory · 20 min.** Scroll away from the loop above.
# Return the list of small maps of `x` (B, 3, H, H): one of shape (B, 3, p, p) for each side p in `sizes`, the last of which is H.
# Each map is what is left so far, shrunk with `mode="area"`; what is left then loses the map, enlarged with `mode="bicubic"`.


# %% tags=["exercise"]
def my_coarse_to_fine(x, sizes):
    return ...


ch00.check("coarse_to_fine", my_coarse_to_fine)

# %%
ch00.hint("coarse_to_fine")
ch00.solution("coarse_to_fine")

# %% [markdown]
# ## Questions
#
# Answer each in a sentence or two before you unfold it. No code is needed.
#
# <details><summary>1. At ×1 the model returns as many pixels as it gets. Why is that not trivial?</summary>
# The input is blurred, noisy and compressed. The target at ×1 is the clean photo at that size, so the model must remove damage without inventing pixels.
# </details>
#
# <details><summary>2. In <code>coarse_to_fine</code>, leave out the last map. What is in the rest then?</summary>
# All the detail that maps of side 32 and less cannot hold: the finest edges. The sum of the maps is then a slightly blurred photo, and the rest is exactly its error.
# </details>
#
# <details><summary>3. A paper gives bicubic two decibels more than you measure, on the same photos at ×4. Name three causes that have nothing to do with bicubic.</summary>
# Luma instead of RGB; a border left out; another degradation, such as shrinking without blur or noise. Other crops, or rounding to 8 bits, also change the number a little.
# </details>
#
# <details><summary>4. A model predicts all tokens of one map at once. What does it give up?</summary>
# The tokens of one map cannot look at each other while they are chosen. They share only the maps before them and the degraded photo, so two neighbours may make choices that do not fit.
# </details>
#
# <details><summary>5. A training loss falls by a factor of ten thousand. Which two numbers do you ask for before you believe that something was learned?</summary>
# The loss of the simplest method on the same data, here bicubic's; and a count from inside the network, such as the dead ReLUs. Better still, a gain with its interval on photos that were not used.
# </details>
#
# ## An open experiment
#
# Does depth beat width? Spend about the same number of parameters on three layers instead of two, and train for as many steps. Write down what you expect first.
#
# A good answer
#
# - prints both parameter counts, and they differ by less than a tenth;
# - makes the three looks for both networks;
# - compares the two on the *same* crops, as a gain of one over the other with its interval over photos;
# - repeats both with at least two more seeds, and says whether the gain is larger than what the seeds change;
# - names what was not tested, such as longer training or another learning rate.
#
# ## In five lines
#
# 1. One degraded photo goes in; the same picture comes out at ×1, ×2 and ×4.
# 2. A photo is a sum of maps from coarse to fine, and every partial sum is a picture.
# 3. The tokenizer turns maps into whole numbers, and the transformer predicts them map by map: eight steps, not 437.
# 4. Bicubic interpolation is the line to beat, and two layers beat it by a few tenths of a decibel.
# 5. A gain is reported on fixed test photos, with its interval.
#
# ## The course and the paper
#
# | | this course | the paper |
# |---|---|---|
# | photo in → out | 16 → 16, 32 and 64 pixels, in tiles | 128 → 128, 256 and 512 pixels † |
# | parameters of the transformer | about four million | 310 million † |
# | training photos | 50, shipped with the course | DIV2K, DIV8K, Flickr2K, OST and 10,000 faces of FFHQ † |
# | where it trains | two CPU cores, minutes to hours | 24 GPUs, about a day for the tokenizer and half a day for the transformer † |
#
# † From third-party notes, not from the paper itself; it may be wrong.
# The code is the same for both. The page *Paper versus course* of the book lists every difference, and what the paper leaves open.
#
# ## References
#
# - [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990): the paper of this course.
# - K. Tian et al., [Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction](https://arxiv.org/abs/2404.02905), 2024: where next-scale prediction comes from.
# - W. Shi et al., [Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network](https://arxiv.org/abs/1609.05158), 2016: the pixel shuffle.
#
# **Next:** chapter 01 asks why nobody can recover the hairs, and what "better" means for a picture.
