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
# # 02 · Vector quantization
#
# **A photo of 64 × 64 pixels becomes 256 whole numbers, each the name of an entry in a list of 1024, and comes back.**
# This chapter builds that list, shows how it goes wrong, and measures what helps: first on points in the plane, then on photos.
#
# ![Vector quantization: an encoder turns a photo into a grid of features, each is replaced by the nearest of 1024 codes, the numbers of the codes are the tokens, and a decoder paints the photo from them.](../assets/diagrams/vq.svg)
#
# After this chapter you will be able to
#
# - **find** the nearest code of a million vectors without filling the memory;
# - **send** a gradient through a choice that has none, in two ways;
# - **recognise** a collapsed codebook by its usage and its perplexity, and choose a cure;
# - **train** a small VQ-VAE on photos while you wait;
# - **compare** continuous and discrete bottlenecks fairly: by bits.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about two minutes and 0.8 GB to run, an hour to read | chapter 01 helps, but is not required | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → **02 codes** → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): codebook, commitment loss, dead code, perplexity, PSNR, revival, tokenizer, usage.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from vartutor.chapter import setup
from vartutor.show import COLORS, ink
from vartutor.show.figures import image_grid, show, smooth

session = setup(PROFILE, SEED, DEVICE)
profile = session.profile
print(session)

# %% [markdown]
# ## Why must a photo become whole numbers?
#
# Chapter 01 ended with a network that returns the mean of all answers, which is no photo. It should *choose* one.
# How does a network choose?
#
# It gives every option a score, turns the scores into probabilities, and draws.
# Suppose there are four options: fur to the left, none, some, fur to the right. The first and the last are equally likely, and the middle ones are not likely at all.

# %%
scores = torch.tensor([4.0, 0.0, 0.0, 4.0])  # left, none, some, right
p = scores.softmax(0)
drawn = torch.multinomial(p, 1000, replacement=True, generator=session.generator)
print("mean option:", drawn.float().mean().round().long().item())
print("drawn:", torch.bincount(drawn, minlength=4).tolist())

# %% [markdown]
# The mean lies in the middle, among the options that hardly ever occur. The draws keep to the two sides. Nothing was averaged away.
#
# This is what language models do with words, and it needs a **list of options to choose from**: a vocabulary of $V$ entries.
# A pixel has such a list, 256 levels for each colour. But 64 × 64 pixels in three colours make over twelve thousand choices for one small picture, and the cost of a transformer grows with their square.
# We want fewer choices that say more each. One *token* for a patch of 4 × 4 pixels would make 256.
#
# ## What can be squeezed out of a patch?
#
# A patch has 48 numbers. Its pixels resemble each other, so fewer should do. How many?
#
# The oldest answer is linear. Find the directions in which patches vary most (*principal components*), and keep the first $k$ coordinates. With the $k$ directions as rows of $W$ and the mean patch $m$,
#
# $$ c = W (x - m), \qquad \hat x = W^\top c + m. $$

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.photos import load_pixels
from vartutor.metrics import psnr

SIZE = 64
train_crops = RandomCrops(load_pixels("train"), SIZE, 128, seed=SEED).batch()
test, files = eval_crops("test", SIZE, profile.eval_crops)


def patches(x):  # (B, 3, H, W) -> (B · H/4 · W/4, 48)
    return F.pixel_unshuffle(x, 4).permute(0, 2, 3, 1).reshape(-1, 48)


def assemble(p, x):  # patches back to photos of the shape of x
    b, _, h, w = x.shape
    return F.pixel_shuffle(p.view(b, h // 4, w // 4, 48).permute(0, 3, 1, 2), 4)


assert torch.equal(assemble(patches(test), test), test)

# %% tags=["nbval-ignore-output"]
m = patches(train_crops).mean(0)
W = torch.linalg.svd(patches(train_crops) - m, full_matrices=False)[2]  # most variance first


def quality(y):  # mean PSNR on the test crops, over all three colours
    return psnr(y.clamp(-1, 1), test, color="rgb").mean().item()


linear = {}
for k in (3, 8, 16):
    c = (patches(test) - m) @ W[:k].T  # c = W (x - m)
    linear[k] = quality(assemble(c @ W[:k] + m, test))  # Wᵀ c + m
    print(f"{k:>2} of 48 numbers: {linear[k]:.1f} dB (RGB)")
assert linear[3] < linear[8] < linear[16]
if PROFILE == "cpu":
    assert 38 < linear[16] < 41

# %% [markdown]
# Sixteen numbers of 48 give nearly forty decibels, which is hard to tell from the original, without a network and without training.
# (In this chapter every PSNR is taken over all three colours, RGB, without a border.)
# So a bottleneck of continuous numbers is **cheap**, and its PSNR proves little. A single float has room for millions of different values; sixteen of them hold far more than a transformer could ever choose from.
#
# The honest question is: how many *bits*? A choice among $V$ options costs $\log_2 V$ bits. If some options are more frequent than others, with shares $p_j$, the best code needs only the *entropy*
#
# $$ H = -\sum_j p_j \log_2 p_j \quad \text{bits}. $$
#
# So round the sixteen coordinates to multiples of a step, coarse or fine, and count.


# %%
def entropy(values):
    counts = values.unique(return_counts=True)[1]
    p = counts / counts.sum()
    return -(p * p.log2()).sum().item()  # H


c = (patches(test) - m) @ W[:16].T
rounded = []
for step in (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.4, 2.0):
    near = (c / step).round()
    bits = sum(entropy(column) for column in near.T) / 16  # 16 coordinates for 16 pixels
    rounded.append((bits, quality(assemble(near * step @ W[:16] + m, test))))


# %% tags=["hide-input"]
def rate_chart(points=()):
    figure, ax = plt.subplots(figsize=(5.6, 2.9))
    ax.axhline(linear[16], color=COLORS["bicubic"], linestyle="--")
    ax.text(0.75, linear[16] + 0.3, "16 numbers, not rounded", fontsize=8)
    ax.plot(*zip(*rounded, strict=True), "o-", color=COLORS["bicubic"], markersize=4, label="16 numbers, rounded")
    ax.axvline(math.log2(profile.codes) / 16, color="black", linewidth=0.8, linestyle=":")
    ax.text(math.log2(profile.codes) / 16 + 0.06, 36, "our budget:\none choice per patch", fontsize=8)
    for (name, bits, y), marker, color in zip(points, "s^*", ("other", "model", "token"), strict=False):
        ax.plot(bits, y, marker, label=name, markersize=8, color=COLORS[color])
    ax.set(xlabel="bits per pixel", ylabel="PSNR in dB (RGB)", xlim=(0, 5.4), ylim=(None, linear[16] + 2.5))
    ax.legend(fontsize=8, loc="lower right")
    return figure


show(
    rate_chart(),
    "Bits are the price: the same sixteen numbers, rounded more and more coarsely.",
    "PSNR against bits per pixel. A curve rises steeply from about 22 decibels at less than half a bit, and bends "
    "towards a dashed horizontal line just below 40 decibels. A dotted vertical line, our budget, stands between "
    "half a bit and one.",
)

# %% [markdown]
# **What you should see.** The dotted line marks our budget: one choice among 1024 for 16 pixels, ten bits, less than two thirds of a bit per pixel.
# There the curve has lost about fifteen of its decibels. Whatever we build must beat it *on that line*.
#
# (The curve flatters itself: its entropies are measured on the test crops themselves, and a real file would need tables as well.)
#
# ## How do you name a vector by a number?
#
# Rounding treats each coordinate alone. It has names for combinations that never occur, and pays for them.
# Instead, make a list of whole vectors that do occur, the **codebook**, with codes $e_1, \dots, e_V$. A vector's token is the number of its nearest code:
#
# $$ q(z) = \arg\min_j \; \lVert z - e_j \rVert^2. $$
#
# Take six points and three codes. Which belongs to which? Work out one row on paper first.

# %%
z = torch.tensor([[0.9, 0.2],    # a
                  [1.3, 0.7],    # b
                  [0.3, 1.2],    # c
                  [-0.3, 0.9],   # d
                  [-0.8, -0.9],  # e
                  [0.4, 0.5]])  # f, between two codes  # fmt: skip

# %%
codes = torch.tensor([[1.0, 0.5],     # code 0
                      [0.0, 1.0],     # code 1
                      [-1.0, -0.5]])  # code 2  # fmt: skip
for name, point in zip("abcdef", z, strict=True):
    d = [((point - e) ** 2).sum().item() for e in codes]  # |z - e|² for every code
    print(name, " ".join(f"{value:5.2f}" for value in d), "→ code", d.index(min(d)))

# %% [markdown]
# All rows at once are one line. A dimension of size one is stretched to match, so (6, 1, 2) minus (3, 2) gives (6, 3, 2): every point minus every code.

# %%
d = ((z[:, None] - codes) ** 2).sum(-1)  # (6, 3), one row of distances per point
idx = d.argmin(1)
print(idx.tolist())


# %% tags=["hide-input"]
from vartutor.tokenizer.vq import nearest_code


def draw_cells(ax, codes, metric="euclidean", limit=2.4):
    side = torch.linspace(-limit, limit, 200)
    grid = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).view(-1, 2)
    cell = nearest_code(grid, codes, metric=metric).view(200, 200)
    edge = torch.zeros(200, 200)
    edge[1:, 1:] = ((cell[1:, 1:] != cell[:-1, 1:]) | (cell[1:, 1:] != cell[1:, :-1])).float()
    extent = (-limit, limit, -limit, limit)
    ax.imshow(edge, origin="lower", extent=extent, cmap="Greys", vmax=2.5)
    ax.set(xticks=[], yticks=[], xlim=(-limit, limit), ylim=(-limit, limit))
    ax.grid(False)
    ax.spines[:].set_visible(False)


figure, ax = plt.subplots(figsize=(3.2, 3.2))
draw_cells(ax, codes, limit=1.6)
for name, point, e in zip("abcdef", z, codes[idx], strict=True):
    ax.plot(*zip(point, e, strict=True), color="#999999", linewidth=0.9)
    ax.annotate(name, point, xytext=(4, 3), textcoords="offset points", fontsize=9)
ax.plot(*z.T, "o", color=COLORS["model"], markersize=5)
ax.plot(*codes.T, "X", color=COLORS["token"], markersize=9)
for j, e in enumerate(codes):
    ax.annotate(j, e, xytext=(-4, 7), textcoords="offset points", color=ink(COLORS["token"]), fontsize=11)
show(
    figure,
    "Each point belongs to the code of its cell.",
    "Six blue points, labelled a to f, and three purple crosses, numbered 0 to 2, in the plane. Straight grey lines "
    "divide the plane into three cells, one around each cross. A thin line joins every point to the cross of its "
    "cell.",
)

# %% [markdown]
# The regions are called *Voronoi cells*. Inside one, all points get the same token, and the decoder will see the same code for them.
#
# ### Where should the codes be?
#
# The price of a point is its squared distance to its code, and the mean of them all is the **distortion**. Keep the cells, and ask which place for code $j$ is cheapest. Chapter 01 had the answer: the mean, here of the points $S_j$ in the cell,
#
# $$ e_j = \frac{1}{|S_j|} \sum_{i \in S_j} z_i. $$
#
# Then the cells change, so repeat. Neither step can raise the distortion. This is Lloyd's algorithm, better known as *k-means*.

# %%
means = codes
for _ in range(10):
    cell = ((z[:, None] - means) ** 2).sum(-1).argmin(1)  # the nearest code of each point
    means = torch.stack([z[cell == j].mean(0) for j in range(3)])  # e_j
before, after = (((z[:, None] - e) ** 2).sum(-1).min(1).values.mean() for e in (codes, means))
assert after < before
print(f"distortion {before:.2f} → {after:.2f}")

# %% [markdown]
# ### What does it cost at full size?
#
# A batch of 16 small photos has 4096 features of 16 numbers, and the list has 1024 codes. The line above would hold every difference in memory at once.
# Multiply out the square, and leave away what is the same for all codes:
#
# $$ \lVert z - e \rVert^2 = \lVert z \rVert^2 + \lVert e \rVert^2 - 2\, z^\top e. $$
#
# Now the work is one matrix product. And rows do not depend on each other, so they can go in slices: the (N, V) matrix never exists as a whole.


# %%
def lookup(z, codes, rows=1000):
    norms = codes.square().sum(1)  # |e|²; |z|² does not change the winner
    return torch.cat([(norms - 2 * part @ codes.T).argmin(1) for part in z.split(rows)])


many, book = torch.randn(4096, 16), torch.randn(1024, 16)
assert torch.equal(lookup(many, book), nearest_code(many, book))
assert torch.equal(nearest_code(many, book, max_elements=50_000), nearest_code(many, book))
for name, numbers in {"differences": 4096 * 1024 * 16, "distances": 4096 * 1024, "one slice": 1000 * 1024}.items():
    print(f"{name:<12}{4 * numbers / 1e6:>4.0f} MB")

# %% [markdown]
# From here on we use `vartutor.tokenizer.vq.nearest_code`, which does the same.
#
# ### Is that enough for photos?
#
# People compressed pictures this way long before neural networks: take many patches, run k-means on them, and store numbers. Let us try it, with no network at all, on the budget of the dotted line.
# Two things are new against the loop above: it starts at random vectors, and a code whose cell is empty starts again at another vector.


# %%
from vartutor.tokenizer.vq import kmeans


def kmeans_by_hand(z, V):  # (N, C) -> (V, C)
    e = z[torch.randperm(len(z))[:V]]  # ◂ new: V different vectors
    for _ in range(10):
        cell = nearest_code(z, e)  # (N,)
        counts = torch.bincount(cell, minlength=V)[:, None]  # (V, 1)
        means = torch.zeros_like(e).index_add(0, cell, z) / counts.clamp(min=1)  # (V, C)
        fresh = z[torch.randint(len(z), (V,))]
        e = torch.where(counts > 0, means, fresh)  # ◂ new: nobody stays without vectors
    return e


with torch.random.fork_rng():  # the same random numbers for both, and none lost
    found = [torch.manual_seed(SEED) and way(patches(train_crops[:16]), 32) for way in (kmeans_by_hand, kmeans)]
assert torch.allclose(*found, atol=1e-4)

# %% tags=["nbval-ignore-output"]
V = profile.codes
lists = {size: kmeans(patches(train_crops), size) for size in (V // 4, V // 2, V)}
listed = {size: quality(assemble(e[nearest_code(patches(test), e)], test)) for size, e in lists.items()}
for size, value in listed.items():
    print(f"{size:>5} codes, {math.log2(size):.0f} bits per patch: {value:.1f} dB (RGB)")
steps = [listed[V // 2] - listed[V // 4], listed[V] - listed[V // 2]]  # decibels for one bit more
print("as in", " to ".join(f"{6.02 / max(step, 0.01):.0f}" for step in steps), "dimensions")
if PROFILE == "cpu":
    assert 24 < listed[V] < 26 and 0.3 < (listed[V] - listed[V // 4]) / 2 < 1.0

# %% [markdown]
# It lands about on the curve of rounding. The list pays all ten bits for every patch, while the curve was charged only its entropy; still they meet. But look at the steps: a *doubled* list buys little more than half a decibel.
# Theory says why. Codes share out a space of $d$ dimensions, so the distance between neighbours shrinks like $V^{-1/d}$, and the distortion, its square, like $V^{-2/d}$. One bit more per vector brings $6.02 / d$ dB.
#
# A patch has 48 numbers, which would mean an eighth of a decibel. We measure more, because pixels of a patch resemble each other. The patches lie near a surface of fewer dimensions, and only those count: the last line turns our decibels into this *effective dimension*.
# At a dozen dimensions one bit is worth half a decibel. To win six, you would need four thousand times as many codes.
#
# There are two ways out. This chapter takes the first: let a network choose *what* is quantized, so that neighbours help each other. Chapter 03 takes the second: quantize again what is left.
#
# ## How does a gradient get through a choice?
#
# The plan: an encoder makes features $f$ from the photo, each is replaced by its nearest code $e$, and a decoder paints from the codes. Train all three on the error of the picture. What does the encoder get?

# %%
f = z[5:].clone()  # point f
nudged = f + torch.tensor([[0.01, 0.0]])
slope = (codes[nearest_code(nudged, codes)] - codes[nearest_code(f, codes)]) / 0.01
print("slope by nudging:", slope.abs().max().item())
print("in autograd's graph:", codes[nearest_code(f.requires_grad_(), codes)].requires_grad)

# %% [markdown]
# It gets nothing. Move a feature a little, and its code stays the same: the function is a staircase, flat almost everywhere. The slope is zero, and autograd does not even see a connection.
#
# The trick of van den Oord and colleagues is a white lie: forwards, use the code; backwards, pretend that the step was the identity. With $\mathrm{sg}[\cdot]$ for "stop the gradient here", which is `.detach()`,
#
# $$ \tilde q = f + \mathrm{sg}[\, e - f \,]. $$
#
# Its value is $e$, and its derivative by $f$ is one. This is the **straight-through** gradient.

# %%
from vartutor.tokenizer.vq import rotate_through, straight_through


def straight(f, e):
    return f + (e - f).detach()  # f + sg[e - f]


f = z.clone().requires_grad_()
e = codes[nearest_code(f, codes)]
assert torch.allclose(straight(f, e), e) and torch.equal(straight(f, e), straight_through(f, e))

# %%
target = torch.tensor([0.2, 0.2])  # what the decoder would like to see
(straight(f, e) - target).square().sum().backward()
assert torch.allclose(f.grad, 2 * (e - target))  # the gradient at the code, copied to the feature
print("gradient of point a:", f.grad[0].numpy().round(2))

# %% [markdown]
# **★★ Quantize a map · 20 min.** Lookup and gradient together. `f` is (B, C, H, W) and `codes` is (V, C). Return a map of the shape of `f` with every feature vector replaced by its nearest code, and with the straight-through gradient: `f` gets the gradient unchanged, `codes` gets none.
# Use torch alone. Mind which dimension holds the channels.
#
# `use` checks your function. If it is right, the chapter goes on with it; if not, with the package's.

# %% tags=["exercise"]
from vartutor.exercises import ch02


def my_quantize(f, codes):
    return ...


quantize = ch02.use("quantize", my_quantize)

# %%
ch02.hint("quantize")
ch02.solution("quantize")

# %% [markdown]
# Every feature of a cell gets the *same* gradient: that of its code, wherever in the cell the feature lies. Is there anything better?
#
# Fifty and colleagues pretend something else: that $e$ came from $f$ by a **rotation and a scaling**, which are held constant,
#
# $$ \tilde q = \lambda R\, f, \qquad \lambda = \lVert e \rVert / \lVert f \rVert, \quad R \text{ turns } f \text{ onto } e. $$
#
# Backwards, the gradient is turned back by the same angle and multiplied by $\lambda$: features shorter than their code get a longer one. In the plane, turning and scaling is multiplying by a complex number, here $e / f$, so the *rotation trick* is one line. In more dimensions the package builds $R$ from two reflections.


# %%
def rotated(f, e):  # (N, 2), read as complex numbers
    f, e = torch.view_as_complex(f), torch.view_as_complex(e)
    return torch.view_as_real((e / f).detach() * f)  # λ R f


g = torch.randn(6, 2, generator=session.generator)
theirs = torch.autograd.grad((rotate_through(f, e) * g).sum(), f)[0]
ours = torch.autograd.grad((rotated(f, e) * g).sum(), f)[0]
assert torch.allclose(ours, theirs, atol=1e-5) and torch.allclose(rotated(f, e), e, atol=1e-6)
print("the complex line and the package's reflections agree")

# %% tags=["hide-input"]
angle = torch.linspace(0, 2 * torch.pi, 9)[:-1]
around = torch.tensor([1.0, 0.5]) + 0.45 * torch.stack([angle.cos(), angle.sin()], 1)
push = torch.tensor([0.0, 0.32])  # the direction in which the picture would improve, at the code
figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.1), sharey=True)
for ax, way, name in zip(axes, (straight_through, rotate_through), ("straight-through", "rotation trick"), strict=True):
    at = around.clone().requires_grad_()
    code = torch.tensor([1.0, 0.5]).expand(8, 2)
    arrow = torch.autograd.grad((way(at, code) * push).sum(), at)[0]
    ax.plot(*around.T, "o", color=COLORS["model"], markersize=4)
    ax.quiver(*around.T, *arrow.T, color=COLORS["model"], angles="xy", scale_units="xy", scale=1, width=0.008)
    ax.plot(1.0, 0.5, "X", color=COLORS["token"], markersize=9)
    ax.quiver(1.0, 0.5, *push, color=COLORS["token"], angles="xy", scale_units="xy", scale=1, width=0.012)
    ax.plot(0, 0, "k+", markersize=8)
    ax.set(title=name, xlim=(-0.15, 1.75), ylim=(-0.2, 1.45), aspect="equal")
show(
    figure,
    "What eight features get when their code (purple) is pushed upwards; the cross at the lower left is the origin.",
    "Two panels with eight blue points in a ring around a purple cross whose arrow points up. With straight-through "
    "all eight arrows are the same. With the rotation trick they fan out, each turned by the angle between its point "
    "and the cross as seen from the origin, and are longer near the origin.",
)

# %% [markdown]
# **What you should see.** On the left are eight copies. On the right, if the feature lies counter-clockwise of its code, seen from the origin, its gradient is turned counter-clockwise by the same angle. And it is longer where the feature is shorter than the code.
# Two features of one cell can now be told apart and moved apart. Whether it pays is a matter for measurement, below.
#
# ## Who moves the codes?
#
# With either gradient the codes get nothing from the picture: they are inside $\mathrm{sg}[\cdot]$. They need a loss of their own, which pulls each code towards its features. That is k-means again, by gradient.
# A second term pulls the features towards their codes, or else an encoder could run away from them for ever. It is called the **commitment** loss:
#
# $$ \mathcal L_{\mathrm{VQ}} = \underbrace{\lVert \mathrm{sg}[f] - e \rVert^2}_{\text{moves the codes}} + \beta\, \underbrace{\lVert f - \mathrm{sg}[e] \rVert^2}_{\text{moves the features}}, \qquad \beta = \tfrac14. $$

# %%
from vartutor.tokenizer.vq import VectorQuantizer

quantizer = VectorQuantizer(3, 2, beta=0.25)
with torch.no_grad():
    quantizer.codes.copy_(codes)
f = z.clone().requires_grad_()
e = quantizer.codes[nearest_code(f, quantizer.codes)]
loss = F.mse_loss(e, f.detach()) + 0.25 * F.mse_loss(f, e.detach())  # the equation, as a mean
assert torch.allclose(loss, quantizer(f[:, :, None, None])[2])
to_codes, to_f = torch.autograd.grad(loss, (quantizer.codes, f))
for name, gradient in {"codes": to_codes, "points": to_f}.items():
    print(f"sum of gradients of the {name}:", gradient.sum(0).numpy().round(3))

# %% [markdown]
# Equal values, and the two gradients point in opposite directions, four to one: codes come to features more than features to codes.
#
# Everything is in place, and this is where many first attempts fail.
#
# ## What is a collapsed codebook?
#
# A code without features gets no gradient. So it does not move. So it gets no features. It is **dead**, and it stays dead.
# Before photos, see it happen in the plane. Two thousand points lie along three arms, and 32 codes start in one corner, as happens when features drift away from where the codes were put.
#
# Two numbers tell how bad it is. *Usage* is the share of codes that occur at all. *Perplexity* weighs them: with $p_j$ the share of code $j$,
#
# $$ \mathrm{perplexity} = \exp\Big( -\sum_j p_j \ln p_j \Big), $$
#
# which is $V$ if all are used evenly, and 1 if a single code does everything.
#
# **★ Perplexity · 10 min.** `idx` is a tensor of token numbers of any shape, `V` the length of the list. Return the perplexity. Some codes may never occur, and $0 \ln 0$ counts as 0.


# %% tags=["exercise"]
def my_perplexity(idx, V):
    return ...


perplexity = ch02.use("perplexity", my_perplexity)

# %%
ch02.hint("perplexity")
ch02.solution("perplexity")

# %%
few = torch.tensor([0] * 97 + [1, 2, 3])  # all four codes occur, one does nearly everything
p = torch.bincount(few) / len(few)
ours = torch.exp(-(p * p.log()).sum())  # the equation
assert abs(ours - perplexity(few, 4)) < 1e-5
print(f"usage {len(few.unique())} of 4, perplexity {ours:.1f}")

# %% [markdown]
# ### Four cures
#
# What would you do about dead codes? Here are four answers from the literature:
#
# 1. **Start well.** Run k-means on the features of some batches, and put the codes at its centres instead of at random places. Then every code has features, at least at first.
# 2. **Move faster.** Give up the gradient. A code is a running mean of its features (an *exponential moving average*), $e_j = s_j / n_j$, where $s_j \leftarrow \gamma s_j + (1 - \gamma) \sum_{i \in S_j} z_i$ and likewise for the counts $n_j$. With $\gamma = 0.9$ it remembers about ten batches, and follows wherever its features go.
# 3. **Revive.** Count how often each code is chosen. Every 20 steps, move each code that gets less than a twentieth of an even share to a random feature of the batch. There it is near features, so it will be chosen.
# 4. **Compare angles** (*cosine codes*). Scale features and codes to length one before comparing them, so only the direction decides. Then no code is too far out to be chosen.
#
# **★★★ Moving averages · 30 min.** One step of cure 2. Given `codes` (V, C), the averaged `sums` (V, C) and counts `weights` (V,), the vectors `z` (N, C) of a batch, their tokens `idx` (N,) and `decay` ($\gamma$), return the new `(codes, sums, weights)`.
# A code whose new weight is below 0.001 stays where it is. Do not change the tensors you are given.


# %% tags=["exercise"]
def my_ema_step(codes, sums, weights, z, idx, decay):
    return ...


ema_step = ch02.use("ema_step", my_ema_step)

# %%
ch02.hint("ema_step")
ch02.solution("ema_step")

# %% [markdown]
# Ours, to compare, and the revival. Both are what the package does.


# %%
def follow_by_hand(codes, sums, weights, z, idx, decay):
    chosen = F.one_hot(idx, len(codes)).float()  # (N, V)
    sums = decay * sums + (1 - decay) * chosen.T @ z  # (V, C): s_j
    weights = decay * weights + (1 - decay) * chosen.sum(0)  # (V,): n_j
    alive = weights[:, None] > 1e-3
    return torch.where(alive, sums / weights[:, None].clamp(min=1e-3), codes), sums, weights  # e_j = s_j / n_j


def revive_by_hand(codes, sums, weights, hits, z):  # hits (V,): averaged counts; all but z change in place
    dead = (hits < 0.05 * hits.mean()).nonzero()[:, 0]  # less than a twentieth of an even share
    codes[dead] = z[torch.randint(len(z), (len(dead),))]
    sums[dead], weights[dead], hits[dead] = codes[dead], 1.0, hits.mean()


# %%
from vartutor.tokenizer.vq import follow

idx = nearest_code(z, codes)
state = codes, 0.7 * codes, torch.tensor([0.7, 0.9, 0.0])
theirs = [x.clone() for x in state]
follow(*theirs, z, idx, 0.9)  # in place
for step in (follow_by_hand, ema_step):
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(step(*state, z, idx, 0.9), theirs, strict=True))

# %% [markdown]
# In the package each cure is an option of the quantizer, or a call. One training function serves them all.

# %%
t = torch.rand(2000, generator=session.generator)
turn = 2 * torch.pi * torch.randint(3, (2000,), generator=session.generator) / 3 + 2.2 * t
arms = (0.4 + 1.6 * t)[:, None] * torch.stack([turn.cos(), turn.sin()], 1)
arms = arms + 0.08 * torch.randn(2000, 2, generator=session.generator)


def learn(V=32, steps=300, seed=SEED, start=False, revive=False, **options):
    torch.manual_seed(seed)
    quantizer = VectorQuantizer(V, 2, **options)
    corner = torch.tensor([1.5, -1.5]) + 0.1 * torch.randn(V, 2)
    quantizer.initialise(arms if start else corner)  # cure 1, or a bad start
    parameters = [p for p in quantizer.parameters() if p.requires_grad]  # none for cure 2
    optimizer = torch.optim.Adam(parameters, lr=0.02) if parameters else None
    for step in range(steps):
        batch = arms[torch.randint(len(arms), (256,))]
        loss = quantizer(batch[:, :, None, None])[2]  # with cure 2, the codes move in here
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if revive and step % 20 == 19 and step < 0.7 * steps:  # cure 3; then let them settle
            quantizer.revive(batch)
    return quantizer


# %% tags=["nbval-ignore-output"]
ema = {"learn": "ema", "decay": 0.9}
CURES = {
    "no cure": {},
    "1 k-means start": {"start": True},
    "2 moving averages": ema,
    "3 revival": {"revive": True},
    "4 cosine": {"metric": "cosine"},
    "2 + 3": {"revive": True, **ema},
}
plane = {}
for name, options in CURES.items():
    quantizer = learn(**options)
    idx = quantizer.lookup(arms)
    distortion = (arms - quantizer.codes[idx]).square().sum(1).mean().item()
    used, varied = len(idx.unique()), perplexity(idx, 32)
    plane[name] = (quantizer, used, distortion)
    print(f"{name:<18} {used:>2} codes used, perplexity {varied:>2.0f}, distortion {distortion:.3f}")


# %% tags=["hide-input"]
def draw_book(ax, quantizer, title=""):
    e, used = quantizer.codes.detach(), quantizer.lookup(arms).unique()
    dead = torch.ones(len(e), dtype=torch.bool)
    dead[used] = False
    draw_cells(ax, e, quantizer.metric)
    ax.plot(*arms[:400].T, ".", color=COLORS["other"], markersize=2)
    ax.plot(*e[dead].T, "x", color="black", markersize=4, markeredgewidth=0.8)
    ax.plot(*e[used].T, "o", color=COLORS["token"], markersize=4)
    ax.set_title(f"{title}: {len(used)} of {len(e)} used" if title else f"{len(used)} of {len(e)} used", fontsize=8.5)


figure, axes = plt.subplots(2, 3, figsize=(6.3, 4.4))
for ax, (name, row) in zip(axes.flat, plane.items(), strict=True):
    draw_book(ax, row[0], name)
show(
    figure,
    "The same bad start, six times; used codes are purple dots, dead ones black crosses.",
    "Six panels of a cloud of points along three curved arms, divided into cells. Without a cure, and with moving "
    "averages alone, a few large cells cover the arms and most codes sit dead in the lower right corner. With a "
    "k-means start, with revival, and with both averages and revival, 32 small cells follow the arms. Cosine cells "
    "are wedges from the centre.",
)

# %% [markdown]
# And with nothing but the functions above? Here is the last run once more, from the same start and with the same random numbers.


# %%
def learn_by_hand(steps=300):
    start = learn(steps=0, **ema)
    codes, sums, weights, hits = (x.detach().clone() for x in (start.codes, start.sums, start.weights, start.hits))
    for step in range(steps):
        batch = arms[torch.randint(len(arms), (256,))]
        idx = nearest_code(batch, codes)  # (256,)
        hits = 0.9 * hits + 0.1 * torch.bincount(idx, minlength=len(codes))
        codes, sums, weights = ema_step(codes, sums, weights, batch, idx, 0.9)  # cure 2
        if step % 20 == 19 and step < 0.7 * steps:
            revive_by_hand(codes, sums, weights, hits, batch)  # cure 3
    return codes


with torch.random.fork_rng():
    assert (learn_by_hand() - plane["2 + 3"][0].codes).abs().max() < 0.01

# %%
used, distortion = ({name: row[i] for name, row in plane.items()} for i in (1, 2))
assert max(used["no cure"], used["2 moving averages"]) < 14
for name in ("1 k-means start", "3 revival", "2 + 3"):
    assert used[name] >= 31 and distortion[name] < distortion["no cure"] / 6
assert distortion["4 cosine"] > 4 * distortion["3 revival"]

# %% [markdown]
# **What you should see.** The cures are not equal.
#
# - A k-means start cures everything *here*, since these points never move.
# - Moving averages alone help **nobody who is dead**: a code without points has no mean to move to. They make the living codes faster, no more.
# - Revival wakes all, and ends nearly as low as k-means.
# - Cosine codes come into use, but the distortion stays high: cells are wedges, and the length of a point is lost. In the plane that is half of what there is to know; among sixteen numbers it is one part of sixteen.
#
# So each cure has a disease that it treats. Which disease do photos have? First turn the knobs yourself: in JupyterLab, the next cell is a playground.

# %% tags=["widget", "nbval-ignore-output"]
import ipywidgets

from vartutor.show.widgets import explorer, slider


def playground(V, cure, steps, seed):
    figure, ax = plt.subplots(figsize=(3.6, 3.7))
    draw_book(ax, learn(V, steps, seed, **CURES[cure]))
    return figure


explorer(
    playground,
    V=slider("codes", 32, 2, 128, 1),
    cure=ipywidgets.Dropdown(options=list(CURES), description="cure", style={"description_width": "9em"}),
    steps=slider("steps", 300, 1, 600, 1),
    seed=slider("seed", 0, 0, 20, 1),
)

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.1))
books = {V2: learn(V2, start=True) for V2 in (4, 8, 16, 32, 64, 128)}
for ax, V2 in zip(axes, (4, 16, 64), strict=False):
    draw_book(ax, books[V2])
error = [(arms - b.codes[b.lookup(arms)]).square().sum(1).mean().item() for b in books.values()]
axes[3].loglog(list(books), error, "o-", color=COLORS["token"], markersize=4)
for first, power in ((0, 2), (3, 1)):  # guides from 4 and from 32 codes on
    ends = torch.tensor([4.0, 16.0]) if first == 0 else torch.tensor([32.0, 128.0])
    axes[3].loglog(ends, 0.6 * error[first] * (ends[0] / ends) ** power, "k:", linewidth=1)
    axes[3].text(ends[0], (0.15, 0.05)[power - 1] * error[first], f"$V^{{-{power}}}$", fontsize=9)
axes[3].set_title("distortion", fontsize=8.5)
axes[3].set(xlabel="codes", xticks=[4, 16, 64], xticklabels=[4, 16, 64])
axes[3].minorticks_off()
show(
    figure,
    "More codes, smaller cells; the distortion falls steeply at first, and then more slowly.",
    "Three panels with 4, 16 and 64 codes on the three arms, whose cells get smaller, and a chart of distortion "
    "against the number of codes on logarithmic axes, which falls steeply up to 16 codes and less steeply after; two "
    "dotted guides have the slopes minus two and minus one.",
)

# %% [markdown]
# **What you should see.** With few codes each arm is a *line* for them, and doubling their number divides the distortion by up to four. With many, codes lie side by side across an arm, which has become a *plane*, and a doubling divides it by two.
# That is $V^{-2/d}$ again, with $d = 1$ and then $d = 2$: codes need not fill the space, only the part of it where points are.

# %% [markdown]
# ## And on photos?
#
# Now we build the real thing, in small. The encoder turns patches of 4 × 4 pixels into positions on a grid of 16 × 16, mixes neighbours by convolutions, and gives 16 numbers at each position. The decoder is its mirror.
# Between them stands the quantizer.


# %%
from vartutor.tokenizer.autoencoder import SmallDecoder, SmallEncoder

C, width = 16, min(64, profile.width)


class VQVAE(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.encoder = SmallEncoder(width, C, blocks=1)
        self.quantizer = VectorQuantizer(V, C, **options)
        self.decoder = SmallDecoder(width, C, blocks=1)

    def forward(self, x):
        f = self.encoder(x)  # (B, 3, 64, 64) -> (B, 16, 16, 16)
        f_hat, idx, loss = self.quantizer(f)  # same shape; (B, 16, 16) tokens; the two losses
        return self.decoder(f_hat), f, idx, loss


y, f, idx, _ = VQVAE()(test[:2])
print("features", tuple(f.shape), " tokens", tuple(idx.shape), " photo", tuple(y.shape))

# %% [markdown]
# The loss of the picture is the squared error plus the absolute error, which keeps edges firmer. We add the quantizer's two terms.
#
# Before any long run come the three looks of chapter 00. At step 0 the output has nothing to do with the photo, so we expect the mean square of the photo plus that of the output.
# Then the network must learn one batch far better than one flat colour for each crop. And instead of dead ReLUs we count the codes that this batch uses.

# %% tags=["nbval-ignore-output"]
probe, batch = VQVAE().to(session.device), train_crops[:16].to(session.device)
with torch.no_grad():
    y = probe(batch)[0]
expected, seen = (batch.square().mean() + y.square().mean()).item(), F.mse_loss(y, batch).item()
print(f"squared error at step 0: expected {expected:.3f}, seen {seen:.3f}")
assert abs(seen / expected - 1) < 0.2

# %% tags=["nbval-ignore-output"]
optimizer = torch.optim.Adam(probe.parameters(), lr=4e-3, betas=(0.9, 0.95))
for _ in range(150 if PROFILE != "smoke" else 2):
    y, _, idx, loss = probe(batch)
    optimizer.zero_grad()
    (F.mse_loss(y, batch) + F.l1_loss(y, batch) + loss).backward()
    optimizer.step()
flat = batch.mean((2, 3), keepdim=True).expand_as(batch)
learned, constant = (psnr(image.detach(), batch, color="rgb").mean().item() for image in (y, flat))
print(f"one batch, 150 times: {learned:.1f} dB (RGB); one colour for each crop: {constant:.1f} dB")
print(f"it uses {len(idx.unique())} of {V} codes for {idx.numel()} features, perplexity {perplexity(idx, V):.0f}")
if PROFILE == "cpu":
    assert learned > constant + 1 and len(idx.unique()) < V / 2

# %% [markdown]
# It learns, so the gradient arrives. But look at the last line: most codes are not in use, with four features for every code. The third look has found the illness before the long run has started.
#
# The training function has one line for each cure. Everything else is as in any other loop.


# %%
def vectors(f):  # (B, C, h, w) -> (B h w, C)
    return f.detach().permute(0, 2, 3, 1).reshape(-1, C)


def train(start=False, revive=False, steps=profile.vq_steps, model=VQVAE, **options):
    torch.manual_seed(SEED)
    net = model(**options).to(session.device)
    crops = RandomCrops(load_pixels("train"), SIZE, profile.batch_size, seed=SEED)
    if start:  # cure 1
        first = torch.cat([crops.batch() for _ in range(4)]).to(session.device)
        net.quantizer.initialise(vectors(net.encoder(first)))
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=4e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    log = []
    for step in range(steps):
        x = crops.batch().to(session.device)
        y, f, idx, loss = net(x)
        error = F.mse_loss(y, x)
        optimizer.zero_grad()
        (error + F.l1_loss(y, x) + loss).backward()
        optimizer.step()
        schedule.step()
        if revive and step % 20 == 19 and step < 0.7 * steps:  # cure 3
            net.quantizer.revive(vectors(f))
        log.append((10 * math.log10(4 / error.item()), float(perplexity(idx, V))))
    return net.eval(), log


@torch.no_grad()
def judge(net):
    y, _, idx, _ = net(test.to(session.device))
    return quality(y.cpu()), len(idx.unique()), float(perplexity(idx, V))


# %% [markdown]
# Seven runs of the same length follow: the six from the plane, and the rotation trick, which needs an encoder to act on. All have the same seed, the same crops and the same start of the networks.
#
# Before you run it: in the plane, moving averages alone were useless. Do you expect the same here?


# %% tags=["nbval-ignore-output"]
runs, scores = {}, {}
for name, options in (CURES | {"rotation trick": {"gradient": "rotation"}}).items():
    runs[name] = train(**options)
    scores[name] = judge(runs[name][0])
    print("{:<18} {:.1f} dB (RGB), {:>4} codes used, perplexity {:>3.0f}".format(name, *scores[name]))

# %% tags=["hide-input"]
shades = dict(zip(runs, ("bicubic", "other", "model", "rest", "lr", "token", "hr"), strict=True))
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9))
for ax, column, title in zip(axes, (0, 1), ("PSNR of the batch in dB (RGB)", "perplexity of the batch"), strict=True):
    for name, (_, log) in runs.items():
        ax.plot(smooth([row[column] for row in log], 20), color=COLORS[shades[name]], label=name, linewidth=1.5)
    ax.set(xlabel="step", title=title)
axes[0].set_ylim(bottom=12)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
show(
    figure,
    "The runs with moving averages lead in both; further down, perplexity and PSNR rank differently.",
    "Two line charts over the training steps, seven smoothed lines each. Left, PSNR rises in all runs and ends "
    "several decibels apart, highest with moving averages. Right, perplexity: the k-means start begins near 500 and "
    "drops below 50; the two runs with moving averages climb far above the others, revival follows, and no cure "
    "stays at the bottom.",
)

# %%
if PROFILE == "cpu":
    decibels = {name: row[0] for name, row in scores.items()}
    varied = {name: row[2] for name, row in scores.items()}
    assert decibels["2 moving averages"] > decibels["3 revival"] > decibels["no cure"] + 1
    assert decibels["2 + 3"] > decibels["no cure"] + 3 and varied["2 + 3"] > 4 * varied["no cure"]
    assert decibels["2 moving averages"] - decibels["1 k-means start"] > 2  # the other way round in the plane

# %% [markdown]
# **What you should see.** The ranking is turned upside down.
#
# - The k-means start was best in the plane, and does little here. Look at the first steps of its line on the right: it begins with hundreds of codes in use, and loses nearly all of them at once. The features *move*; the encoder walks away from where the codes were put.
# - Moving averages were useless in the plane, and are the best single cure here. Codes that follow at once keep up with moving features; codes that follow by gradient come too late.
# - Revival helps in both. Together with moving averages it brings nearly the whole list into use, which a longer training can turn into decibels.
# - Cosine codes make it worse here, at least in so short a run, and in the way we use them. The rotation trick, which was not made for this, brings one or two.
#
# Does perplexity decide, then? No. Cosine codes have a higher one than no cure, and worse pictures. Codes in even use are needed, but they must also lie near the features.
#
# Each line is one run with one seed. We repeated all seven with `SEED = 1` and `SEED = 2`, and the order stayed. The two runs with moving averages lead by one and a half decibels or more. Then come revival and the rotation trick. The k-means start stays within a third of a decibel of no cure, and cosine codes come last. The gaps between neighbours change by a decibel or more, so do not read much into them.
#
# Note the run without a cure. On the test crops it names hundreds of different codes, so its *usage* does not look so bad. Its *perplexity* does: a few dozen codes do nearly all the work. Always look at both.
#
# All this holds for a small network, 1024 codes and a short run. In a long one the gradient may catch up; we do not show that here. The package's larger trainings use the winners, moving averages and revival.

# %% [markdown]
# How do the pictures look? A tokenizer has most to do where there is texture. So we take each photo's crop with most contrast within patches, rank the photos by it, and show the first, the third, and so on to the ninth.

# %% tags=["hide-input"]
crop_of = {}
for i in patches(test).view(len(test), -1, 3, 16).std(3).mean((1, 2)).argsort(descending=True).tolist():
    crop_of.setdefault(files[i], i)
pick = list(crop_of.values())[:9:2]
print("crops of", *list(crop_of)[:9:2])
with torch.no_grad():
    some = test[pick]
    good, bad = (runs[name][0](some.to(session.device))[0].cpu() for name in ("2 + 3", "no cure"))
figure = image_grid(
    [list(some), list(good), list(bad)],
    labels=["photo", "2 + 3", "no cure"],
)
show(
    figure,
    "Test crops after some seconds of training: with both cures, and with none.",
    "Three rows of five crops: originals; reconstructions with moving averages and revival, soft but right in colour "
    "and shape; and reconstructions without a cure, which are softer, with blotches of wrong colours.",
    photo=True,
)

# %% [markdown]
# ## What can a longer training do?
#
# The course ships a tokenizer of this kind, twice as wide and trained for longer. The command that trained it is in the manifest, with the commit at which it was run; today's is `vartutor train tokenizer --set ladder=vq --set loop.steps=6000 --set bf16=true`.
# It has the methods that all tokenizers of this course share: `encode`, `tokenize`, `latents`, `decode`, and `reconstruct`, which does all four.

# %%
from vartutor.weights import load_tokenizer
from vartutor.weights.files import manifest

tokenizer = load_tokenizer("vq")
print(manifest()["tokenizer_vq.safetensors"]["command"])
tokens = tokenizer.tokenize(test)[0]  # (B, 256) int64
f_hat = torch.cat([quantize(f, tokenizer.quantizer.codes) for f in tokenizer.encode(test).split(8)])  # (B, 16, 16, 16)
shipped = tokenizer.decode(f_hat)
theirs = tokenizer.latents([tokens])[-1]  # the codes of the tokens, put in place
assert torch.equal(theirs, tokenizer.quantizer.codes[tokens].transpose(1, 2).view(f_hat.shape))
assert torch.isclose(f_hat, theirs, atol=1e-4).float().mean() > 0.999  # rounding may flip a tie

# %% [markdown]
# ### What are the encoder and the decoder?
#
# A tokenizer's file is a list of tensors with names. The functions below take such a list, `w`, and are all that is between pixels and features.
#
# `pixel_unshuffle` stacks the 4 × 4 pixels of a patch as 48 channels. So every convolution works on the small grid, where two cores can afford it.
# A *residual block* adds what two convolutions find to what was there. Before each, the *channel norm* gives the numbers of one position mean 0 and variance 1. It looks at no other position, so a photo may be cut into tiles.
#
# Cells like this one, marked `the model`, are the whole model: chapters 04 to 07 add to them, and take over what stands here. Change a line and save the notebook, and they run with your version.


# %% tags=["model"]
def conv(w, name, x):  # the model: 3 × 3, zeros around the border
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)


def channel_norm(w, name, x):  # (B, C, H, W), over the C numbers of each position; then a factor and a shift
    x = F.layer_norm(x.movedim(1, -1), x.shape[1:2], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)
    return x.movedim(-1, 1)


def res_block(w, name, x):  # (B, 128, h, w) -> the same
    h = conv(w, f"{name}.conv1", F.silu(channel_norm(w, f"{name}.norm1", x)))
    return x + conv(w, f"{name}.conv2", F.silu(channel_norm(w, f"{name}.norm2", h)))


# %% tags=["model"]
def encode(w, x):  # the model: (B, 3, H, W) in [-1, 1] -> f (B, 16, H/4, W/4)
    h = conv(w, "encoder.conv_in", F.pixel_unshuffle(x, 4))  # (B, 48, H/4, W/4) -> (B, 128, H/4, W/4)
    h = res_block(w, "encoder.block.1", res_block(w, "encoder.block.0", h))
    return conv(w, "quant_conv", conv(w, "encoder.conv_out", h))


def paint(w, f):  # (B, 16, h, w) -> (B, 3, 4 h, 4 w), not yet clamped
    h = conv(w, "decoder.conv_in", conv(w, "post_quant_conv", f))  # (B, 128, h, w)
    h = res_block(w, "decoder.block.1", res_block(w, "decoder.block.0", h))
    return F.pixel_shuffle(conv(w, "decoder.conv_out", h), 4)


def decode(w, f):  # the same in [-1, 1]; training uses paint, for a clamp has no gradient outside
    return paint(w, f).clamp(-1, 1)


# %%
w = tokenizer.state_dict()
with torch.no_grad():
    features = encode(w, test[:8])
    assert torch.allclose(features, tokenizer.encode(test[:8]), atol=1e-4)
    assert torch.allclose(decode(w, f_hat[:8]), shipped[:8], atol=1e-4)
print(f"{len(w)} tensors; a photo", tuple(test[0].shape), "becomes features", tuple(features[0].shape))

# %% tags=["nbval-ignore-output"]
from vartutor.metrics import bootstrap

score = bootstrap(psnr(shipped, test, color="rgb"), files)
used, varied = len(tokens.unique()), perplexity(tokens, 1024)
print(f"{score} dB (RGB) on the test crops; {used} of 1024 codes, perplexity {varied:.0f}")
print(f"{10 / 16:.3f} bits per pixel as they are, {math.log2(varied) / 16:.3f} with the best code for their shares")
if PROFILE == "cpu":
    assert 26.5 < score.mean < 30 and used > 950 and varied > 500

# %% tags=["hide-input"]
palette = torch.rand(1024, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1  # any colour per number
names = palette[tokens].transpose(1, 2).view(-1, 3, 16, 16)
figure = image_grid(
    [[test[i] for i in pick], [names[i] for i in pick], [shipped[i] for i in pick]],
    labels=["photo", "tokens", "decoded"],
)
show(
    figure,
    "A photo, its 256 tokens (each number has a colour of its own), and what they decode to.",
    "Three rows of five crops: originals; maps of 16 by 16 coloured squares, calm where the photo is smooth and "
    "chequered where it has texture; and the decoded pictures, which look like the originals but lack the finest "
    "detail.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The middle row is all that is kept: 256 numbers. Where the photo is smooth, one number repeats. In texture, hardly any two neighbours agree.
# The decoder sees the codes of neighbouring positions too, so a code is not a stamp that is pressed on its patch: it looks a little different in every neighbourhood.
#
# ### What does a code stand for?
#
# Ask the other way round. Take a code, and collect the places in the test crops that chose it.

# %% tags=["hide-input"]
counts = torch.bincount(tokens.flatten(), minlength=1024)
contrast = patches(test).view(-1, 3, 16).std(2).mean(1)  # within a patch
contrast = torch.zeros(1024).index_add(0, tokens.flatten(), contrast) / counts.clamp(min=1)
common = (counts >= 6).nonzero()[:, 0]
ranked = common[contrast[common].argsort()]
framed = F.pad(test, (2, 2, 2, 2), mode="replicate")
columns = []
for j in ranked[torch.linspace(0, len(ranked) - 1, 10).long()]:
    places = (tokens == j).nonzero()
    places = places[torch.linspace(0, len(places) - 1, 5).long()].tolist()
    columns.append([framed[b, :, t // 16 * 4 :, t % 16 * 4 :][:, :8, :8] for b, t in places])
figure = image_grid([list(row) for row in zip(*columns, strict=True)])
for ax in figure.axes:  # 8 × 8 pixels drawn as 64 × 64: the patch is the middle half
    ax.add_patch(plt.Rectangle((15.5, 15.5), 32, 32, fill=False, edgecolor="white", linewidth=1))
show(
    figure,
    "Ten codes, one per column, from smooth to rough: five places each that chose it; the frame is the patch itself.",
    "Ten columns of five tiny crops, each with a white frame around its middle. Within a column the middles of the "
    "crops are alike: flat ones at the left, rough ones at the right, and in the last a bright side and a dark side. "
    "The colours within a column often differ.",
    photo=True,
)

# %% [markdown]
# **What you should see.** A column agrees in how rough it is, and often in brightness or in the direction of an edge. Its colours may differ: what a code looks like depends on the codes around it, as the meaning of a word depends on its sentence.
#
# ### Is it good compression?
#
# A fair question, with an easy test. JPEG is older than most readers. Take whole photos, since a file's header would eat a small crop's budget, and give JPEG the very same number of bits.

# %%
import io

from PIL import Image

from vartutor.data.images import from_pil, to_pil


def jpeg_within(x, bits):  # the best quality that fits
    for level in range(90, 0, -1):
        to_pil(x).save(file := io.BytesIO(), "JPEG", quality=level)
        if 8 * file.tell() <= bits:
            return from_pil(Image.open(file))[None]


# %% tags=["nbval-ignore-output"]
from vartutor.data.photos import photos

versus = []
for photo in photos("test")[:: 2 if PROFILE != "smoke" else 20]:
    x = photo.load()
    h, w = x.shape[1] // 4, x.shape[2] // 4
    x = x[:, : 4 * h, : 4 * w]
    decoded = tokenizer.reconstruct(x[None], [(h, w)])  # h · w tokens
    packed = jpeg_within(x, 10 * h * w)  # ten bits for each
    versus.append([psnr(y, x[None], color="rgb").item() for y in (decoded, packed)])
    print(f"{photo.title:<22} tokens {versus[-1][0]:.1f} dB, JPEG {versus[-1][1]:.1f} dB (RGB)")
gap = torch.tensor(versus).diff(dim=1)[:, 0]  # JPEG minus tokens
ahead = bootstrap(gap)
print(f"JPEG ahead on {(gap > 0).sum()} of {len(gap)} photos; by {ahead} dB on average")
if PROFILE == "cpu":
    assert ahead.low < 0 < ahead.high  # ten photos cannot tell

# %% [markdown]
# Nobody wins: each is ahead on half of the photos, and the interval of the mean contains zero. What differs is *where*.
# JPEG is far ahead where much of a photo is smooth. It spends few bits there and saves them for the rest, and it gives frequent patterns short names. Our tokens cost ten bits each, everywhere.
# Where there is texture all over, the tokens are a little ahead.
#
# So a tokenizer is not a better JPEG. It does something that JPEG cannot: it turns a photo into a **fixed number of choices from one list**, and a transformer can predict those.
#
# Here is the chart from the beginning again, with what we have built since, on the test crops.

# %% tags=["hide-input"]
points = [
    ("list of patches, no network", math.log2(V) / 16, listed[V]),
    ("small VQ-VAE, 2 + 3", math.log2(V) / 16, scores["2 + 3"][0]),
    ("shipped VQ-VAE", 10 / 16, score.mean),
]
show(
    rate_chart(points),
    "Same bits, better pictures: from a list of patches to the shipped tokenizer.",
    "The chart of PSNR against bits per pixel again. On the dotted line of the budget stand three marks one above "
    "the other: the list of patches on the rounding curve, the small VQ-VAE a little higher, and the shipped "
    "tokenizer some decibels above the curve.",
)

# %% [markdown]
# ## What breaks if the gradient stops at the codebook?
#
# Leave the white lie out. The decoder still learns, and so do the codes. The encoder still gets *one* gradient: that of the commitment loss.
# What will it do with that? Think first. What is the easiest way for an encoder to bring its features close to codes, if nobody asks about the picture?


# %%
class Honest(VQVAE):
    def forward(self, x):
        f = self.encoder(x)
        f_hat, idx, loss = self.quantizer(f)
        return self.decoder(f_hat.detach()), f, idx, loss  # the picture's gradient ends here


blocked, log = train(model=Honest)
with torch.no_grad():
    spread = [net.encoder(test.to(session.device)).std(0).mean().item() for net in (runs["no cure"][0], blocked)]

# %% tags=["nbval-ignore-output"]
decibels, _, varied = judge(blocked)
mean_colour = quality(test.mean((0, 2, 3), keepdim=True).expand_as(test))
print(f"{decibels:.1f} dB (RGB), perplexity {varied:.1f}; one gray for every photo gets {mean_colour:.1f} dB")
print(f"features differ from photo to photo by {spread[0]:.2f} before, {spread[1]:.3f} without the gradient")
if PROFILE == "cpu":
    assert varied < 3 and decibels < mean_colour + 1 and spread[1] < spread[0] / 10

# %% [markdown]
# It says nearly the same about every photo. If all features are equal, one code can sit exactly on them, and the commitment loss is zero: a perfect score for an encoder that has stopped looking.
# The decoder gets the same input every time, and returns the mean of all photos, which is a gray.
#
# Keep the lesson for later chapters: a loss that a model can satisfy by **knowing less** will be satisfied that way, unless another one needs the knowledge.

# %% [markdown]
# ## Questions
#
# <details><summary>1. Sixteen floats for a patch give 40 dB, one token of ten bits gives 25 dB. Is the token worse?</summary>
# The comparison is unfair. Sixteen floats hold hundreds of bits. Round them until they cost ten bits in all, and they land at about the same quality as a list of patches.
# </details>
#
# <details><summary>2. With straight-through, what gradient does a feature at the edge of its cell get?</summary>
# The same as every other feature of the cell: the picture's gradient at the code. It does not depend on where in the cell the feature lies.
# </details>
#
# <details><summary>3. Why do moving averages alone not wake a dead code?</summary>
# A code moves to the mean of the features that chose it. A dead code was chosen by none, so it has no mean to move to.
# </details>
#
# <details><summary>4. Usage is 40 % and perplexity is 40, of 1024 codes. What is going on?</summary>
# Some four hundred codes occur, but a few dozen do nearly all the work. The others occur so rarely that they say little.
# </details>
#
# <details><summary>5. You drop the commitment loss. What may the encoder do?</summary>
# Its features may grow without bound, since nothing ties them to the codes. The codes run after them, and are late. With the squared error through straight-through alone, nothing tells the encoder to stay near a code.
# </details>
#
# ## An open experiment
#
# Which matters more: the number of codes $V$ or the number $C$ of numbers in a code? Choose a few values of each, keep one of them fixed in turn, and use cures 2 and 3.
#
# A good answer
#
# - predicts first, from the slope of distortion, what doubling $V$ should bring;
# - compares at equal *bits* as well as at equal $V$;
# - gives PSNR (RGB) as a difference to one reference run, with an interval over photos, for at least two seeds;
# - reports usage and perplexity with every PSNR;
# - says which differences are smaller than what a new seed changes.
#
# ## In five lines
#
# 1. A transformer chooses from a list, so photos become whole numbers: each feature is named by its nearest code.
# 2. Compare bottlenecks by bits, not by the count of numbers: continuous numbers are cheap, and prove little.
# 3. The choice has no gradient; straight-through copies it from the code to the feature, the rotation trick turns it.
# 4. Codes without features die; watch perplexity as well as usage, and move codes fast or revive them.
# 5. Doubling the list buys a fraction of a decibel, so for more detail quantize again what is left.
#
# ## The course and the papers
#
# | | this course | VQGAN and VAR, on which the papers on super-resolution build |
# |---|---|---|
# | autoencoder | 4 pixels a side become one position | 16 pixels |
# | codes | 1024 of 16 numbers | 4096 of 32 numbers (VAR) |
# | loss of the picture | squared and absolute error | adds a perceptual and an adversarial loss, which paint texture |
# | care of the codebook | moving averages and revival; k-means, cosine and rotation are options | the gradient; VAR's training code was not published |
# | cosine codes | angles choose, and the code keeps its length | Yu et al. normalise features and codes, in fewer dimensions |
#
# ## References
#
# - A. van den Oord et al., [Neural Discrete Representation Learning](https://arxiv.org/abs/1711.00937), 2017: VQ-VAE, straight-through, both losses, and moving averages in its appendix.
# - A. Razavi et al., [Generating Diverse High-Fidelity Images with VQ-VAE-2](https://arxiv.org/abs/1906.00446), 2019: moving averages at scale.
# - P. Esser et al., [Taming Transformers for High-Resolution Image Synthesis](https://arxiv.org/abs/2012.09841), 2021: VQGAN.
# - P. Dhariwal et al., [Jukebox](https://arxiv.org/abs/2005.00341), 2020: dead codes restart at random features of the batch.
# - J. Yu et al., [Vector-quantized Image Modeling with Improved VQGAN](https://arxiv.org/abs/2110.04627), 2021: cosine codes.
# - C. Fifty et al., [Restructuring Vector Quantization with the Rotation Trick](https://arxiv.org/abs/2410.06424), 2024.
# - R. M. Gray and D. L. Neuhoff, [Quantization](https://doi.org/10.1109/18.720541), 1998: the history and the theory, with the slope of distortion.
#
# **Next:** chapter 03 quantizes what is left, again and again: residual vector quantization.
