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
# # 03 · Residual vector quantization
#
# **One codebook says roughly what a vector is; a second one says what the first left out; and so on, until the rest is too small to matter.**
# This chapter builds such a chain, measures how far it stays from what information theory allows, and lets it compress photos.
#
# ![Residual quantization: a vector passes through stages in a row; each gives one token, takes its code away, and hands on what is left; the sum of the codes comes closer to the vector with every stage.](../assets/diagrams/residual.svg)
#
# The diagram has the sizes of the course's tokenizers: 1,024 codes and ten bits a stage. This chapter takes books of 4 to 256 codes, so that everything runs in seconds.
#
# After this chapter you will be able to
#
# - **quantize** vectors in stages, by hand and in five lines;
# - **compare** a quantizer with the rate–distortion bound, and say where the decibels go;
# - **search** for better codes with a beam, and count what that costs;
# - **choose** between one codebook for all stages and one for each;
# - **train** codes so that the first stages alone are useful.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | under a minute and 0.6 GB to run, an hour to read | chapter 02 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → **03 residual codes** → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): distortion, PSNR, rate–distortion bound, tokenizer.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show

session = setup(PROFILE, SEED, DEVICE)
profile = session.profile
print(session)

# %% [markdown]
# (Everything here is small: whatever `DEVICE` says, this chapter runs on the CPU.)
#
# ## Why not one large codebook?
#
# Chapter 02 replaced a vector by the nearest of $V$ codes. Naming the code takes $\log_2 V$ bits.
# Suppose the picture is not good enough, and you may spend twice the bits. How many codes is that?
#
# It is not twice as many. Twice the bits **square** the codebook: $2^{2b} = (2^b)^2$.
# A patch of 4 × 4 pixels holds 48 numbers. Let us spend more and more bits on it, and count the codes, each of 48 numbers of four bytes.

# %%
units = {
    8: (1e3, "thousand bytes"),
    16: (1e6, "million bytes"),
    32: (1e9, "billion bytes"),
    64: (1e21, "billion terabytes"),
}
for bits, (unit, name) in units.items():
    size = 2**bits * 48 * 4 / unit
    print(f"{bits:>2} bits: {2**bits:>26,} codes, {size:>4.0f} {name}; in stages of 8 bits: {bits // 8 * 256:,} codes")

# %% [markdown]
# The book of 32 bits fits in no laptop, the book of 64 bits in no data centre. Nor could we train it: there are not that many patches.
#
# The last column is the way out. Spend eight bits on a coarse answer, subtract it, and spend eight bits on **what is left**, the *residual*.
# Two books of 256 codes make 65,536 different sums, but only 512 codes are stored and searched. The price: the sums are not free to lie where we like.
# How high is that price? Keep the question; we shall measure it.
#
# ### By hand
#
# Three vectors of two numbers, and two books of four codes. The codes of the second are a quarter as long as those of the first.
# For row a, do it on paper before you run the cell: which code is nearest, and what is left?

# %%
z = torch.tensor([[5.0, 3.0],    # a
                  [-3.0, 2.0],   # b
                  [2.0, -5.0]])  # c  # fmt: skip
first = torch.tensor([[4.0, 4.0], [-4.0, 4.0], [-4.0, -4.0], [4.0, -4.0]])
second = first / 4

# %%
d = ((z[:, None] - first) ** 2).sum(-1)  # (3, 4): one row of squared distances per vector
idx = d.argmin(1)
rest = z - first[idx]
print("nearest:", idx.tolist(), " left over:", rest.int().tolist())

# %% [markdown]
# Vector a is nearest to code 0, and $(1, -1)$ is left. Now the same again, with `rest` in the place of `z` and the second book.

# %%
again = ((rest[:, None] - second) ** 2).sum(-1).argmin(1)
last = rest - second[again]
print("nearest:", again.tolist(), " left over:", last.int().tolist())
assert torch.equal(first[idx] + second[again] + last, z)

# %% [markdown]
# Nothing is left of a, and one unit each of b and c. The pair of indices is all that we store: four bits for each vector.
#
# ## The algorithm
#
# Write $e^{(k)}_j$ for code $j$ of stage $k$, and start with $r_0 = z$. For $k = 1 \dots M$:
#
# $$ i_k = \arg\min_j \lVert r_{k-1} - e^{(k)}_j \rVert^2, \qquad r_k = r_{k-1} - e^{(k)}_{i_k}, \qquad \hat z_m = \sum_{k \le m} e^{(k)}_{i_k}. $$
#
# The equation is the loop. Note what falls out for free: $z - \hat z_m = r_m$. The rest *is* the error, so each stage sees exactly what is wrong so far.


# %%
def quantize(z, books):
    rest, indices = z, []
    for codes in books:
        idx = torch.cdist(rest, codes).argmin(1)  # i_k
        rest = rest - codes[idx]  # r_k: what stage k could not explain
        indices.append(idx)
    return torch.stack(indices, dim=1), z - rest  # (N, M) and ẑ_M


idx, z_hat = quantize(z, [first, second])
print(idx.tolist())

# %% [markdown]
# The package has the same as a module, `ResidualQuantizer`: the vector quantizer of chapter 02, $M$ times in a row, with gradients and losses.
# Is it the same? We put our two books into it, and ask.

# %%
from vartutor.tokenizer.residual import ResidualQuantizer

module = ResidualQuantizer(stages=2, size=4, dim=2)
for book, codes in zip(module.books, (first, second), strict=True):
    book.codes.data = codes
assert torch.equal(module.lookup(z), idx)
assert torch.equal(module.decode(idx), z_hat)
print(f"the loop and the module agree; {module.bits:g} bits per vector")

# %% [markdown]
# **★ The loop · 10 min.** `z` is (N, C) and `books` is a list of M codebooks, each (V, C). Return the indices as one tensor (N, M), greedily, stage by stage.

# %% tags=["exercise"]
from vartutor.exercises import ch03


def residual_quantize(z, books):
    return ...


ch03.check("residual_quantize", residual_quantize)

# %%
ch03.hint("residual_quantize")
ch03.solution("residual_quantize")

# %% [markdown]
# ### What do the stages do to the errors?
#
# Take many points in the plane, and three books of eight codes. `initialise` puts the first book at the k-means centres of the points, the second at those of the rests, and so on.
# Before you look: after stage 2 there are 64 possible sums. Do you expect them to be spread evenly?

# %%
points = torch.randn(4000, 2)
plane = ResidualQuantizer(3, 8, 2).eval()
plane.initialise(points)
few = points[:120]
partial = plane.latents(plane.lookup(few))  # ẑ_1, ẑ_2, ẑ_3
sums = [plane.books[0].codes.data]
for book in plane.books[1:]:
    sums.append((sums[-1][:, None] + book.codes.data).flatten(0, 1))
print("sums that can be reached:", [len(s) for s in sums])

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharex=True, sharey=True)
for k, ax in enumerate(axes):
    ax.plot(*sums[k].T, ".", color=COLORS["token"], markersize=(9, 5, 1.5)[k], zorder=3 - k)
    one = sums[k][: 8**k]  # the sums that begin with code 0 of stage 1
    ax.plot(*one.T, ".", color="black", markersize=(11, 7, 3)[k], zorder=4)
    for a, b in zip(partial[k].detach(), few, strict=True):
        ax.plot([a[0], b[0]], [a[1], b[1]], color=COLORS["rest"], linewidth=1.3)
    ax.set(title=f"after stage {k + 1}: {8 ** (k + 1)} sums", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
show(
    figure,
    "The error of each point (orange) shrinks from stage to stage; purple: all sums of codes; black: those that "
    "begin with one and the same code.",
    "Three panels of a plane with 120 points, each joined to its sum of codes by an orange line. With 8 sums the "
    "lines are long and meet in stars, with 64 they are short, and with 512 they are dots except at the rim. One sum "
    "in the first panel is black; in the second it has become a group of eight, in the third a patch of 64.",
)

# %% [markdown]
# **What you should see.** Each stage shortens the lines. The sums of stage 2 are eight copies of one pattern, laid around the eight codes of stage 1. One copy is black.
# That is the price in one picture: a cell in the crowded middle and one at the thin rim get the *same* pattern. Some sums lie where no point ever is.
# And at the rim some lines stay long. Keep an eye on those.
#
# ## How good could it be?
#
# Shannon answered it. No code whatever, however long its blocks, describes independent Gaussian numbers of variance one with $R$ bits each at a smaller mean squared error than
#
# $$ D(R) = 2^{-2R}, \qquad R = \frac{M \log_2 V}{C} \text{ bits per number.} $$
#
# Each bit quarters the error, which is six decibels. We take vectors of $C = 4$ numbers and books of $V = 16$ codes, so a stage is one bit per number.

# %%
C, V, M = 4, 16, 6
R = [m * math.log2(V) / C for m in range(1, M + 1)]
bound = [2 ** (-2 * r) for r in R]
print("bits per number:", *(f"{r:g}" for r in R))
print("bound:", *(f"{b:.5f}" for b in bound))

# %% [markdown]
# ### Training
#
# k-means places each book for its own stage. Can gradient descent do as well from random codes? The loss is the error after *every* stage, the mean over the partial sums:
#
# $$ \mathcal L = \frac1M \sum_{m=1}^{M} \lVert z - \hat z_m \rVert^2. $$
#
# The module returns it as well, with a commitment term for an encoder, which we do not have yet. Codes start at random; the learning rate falls to zero in a straight line.


# %%
def gaussian(n):
    return torch.randn(n, C)


def train(quantizer, loss_of, steps=profile.rvq_steps, watch=lambda quantizer: None, draw=gaussian):
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        watch(quantizer)
        loss = loss_of(quantizer.train(), draw(512))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return quantizer.eval()


def partial_sums(quantizer, z):  # ẑ_1 … ẑ_M, whose codes can learn
    return quantizer.latents(quantizer(z)[1])


def every_stage(quantizer, z):
    return sum(F.mse_loss(part, z) for part in partial_sums(quantizer, z)) / M  # mean over m of ‖z - ẑ_m‖²


# %% [markdown]
# What do we expect at step 0? Without any code the error is the variance of the numbers, which is one. The nearest of 16 random codes must leave less.
# But all books start equally long, so the late ones are too long for the small rests, and can help little.
#
# Then the second look of chapter 00: can six books learn *one batch* of 64 vectors by heart? And the third: is every code of every book in use?

# %%
test = torch.randn(8000, C)


@torch.no_grad()
def distortion(quantizer, beam=1, z=test):
    return [F.mse_loss(part, z).item() for part in quantizer.latents(quantizer.lookup(z, beam))]


# %% tags=["nbval-ignore-output"]
probe, batch = ResidualQuantizer(M, V, C).eval(), torch.randn(64, C)
print("at step 0:", *(f"{error:.3f}" for error in distortion(probe)))
train(probe, lambda quantizer, _: every_stage(quantizer, batch))
print(
    f"after learning one batch: {distortion(probe, z=batch)[-1]:.4f} on it, {distortion(probe)[-1]:.4f} on other "
    "vectors"
)
if PROFILE == "cpu":
    assert distortion(probe, z=batch)[-1] < distortion(probe)[-1] / 8

# %% [markdown]
# The machinery works: it learns its own batch more than ten decibels better than vectors that it has not seen. Now with fresh vectors at every step.

# %%
history = []
trained = train(ResidualQuantizer(M, V, C), every_stage, watch=lambda q: history.append(distortion(q, z=test[:1000])))
after = distortion(trained)
print("codes in use, stage by stage:", *(f"{share:.0%}" for share in trained.usage(trained.lookup(test))))
if PROFILE == "cpu":
    assert after == sorted(after, reverse=True)
    assert after[0] < 0.37 and after[-1] < 0.004 < 0.03 < history[0][-1]

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.8))
for m, column in enumerate(zip(*history, strict=True)):
    ax.semilogy(column, color=COLORS["model"], alpha=1 - 0.12 * m)
    ax.text(len(column) * 1.01, column[-1], f"stage {m + 1}", fontsize=8, va="center")
ax.set(xlabel="step", ylabel="mean squared error", xlim=(0, 1.12 * len(history)))
show(
    figure,
    "Training: the error after each stage falls, that of the last stages most.",
    "Six falling curves on a logarithmic axis, one per stage. The last three start close together; all drop within "
    "two hundred steps, and then lie apart almost evenly, each stage well below the stage before.",
)

# %% [markdown]
# **What you should see.** At the start all codes are equally long, so the late books are far too large for their rests, and add little or even harm.
# Within two hundred steps each book finds the size of its rests. In the end the curves lie almost evenly apart. Almost: is it six decibels from one to the next?
#
# ### How far from the bound?
#
# For comparison we also fit **one** codebook with as many codes as there are sums: 16 for one stage, 256 for two. (The third would need 4,096, the sixth 16 million.)

# %%
from vartutor.tokenizer.vq import kmeans, nearest_code

many = torch.randn(40000, C)
single = []
for m in (1, 2):
    codes = kmeans(many, V**m)
    single.append(F.mse_loss(codes[nearest_code(test, codes)], test).item())


# %% tags=["nbval-ignore-output"]
def decibels(ratio):
    return 10 * math.log10(ratio)


gaps = [decibels(d / b) for d, b in zip(after, bound, strict=True)]
gaps_single = [decibels(d / b) for d, b in zip(single, bound, strict=False)]
print("dB above the bound, residual:", *(f"{g:.1f}" for g in gaps))
print("dB above the bound, one book:", *(f"{g:.1f}" for g in gaps_single))
if PROFILE == "cpu":
    assert 1 < gaps[0] < 2 and gaps == sorted(gaps) and 0.4 < gaps[1] - gaps_single[1] < 1.2 and gaps[-1] > 9

# %% [markdown]
# **★★ Decibels above the bound · 15 min.** A quantizer has `stages` books of `size` codes for vectors of `dim` Gaussian numbers of variance one, and reaches the mean squared error `distortion`.
# Return how many decibels that lies above $D(R) = 2^{-2R}$. All four arguments are plain numbers.


# %% tags=["exercise"]
def gap_to_bound(distortion, stages, size, dim):
    return ...


ch03.check("gap_to_bound", gap_to_bound)

# %%
ch03.hint("gap_to_bound")
ch03.solution("gap_to_bound")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 3.0))
ax.semilogy(R, bound, color="black", linestyle="--", label="bound $2^{-2R}$")
ax.semilogy(R, after, "o-", color=COLORS["model"], label="residual, 16 codes per stage")
ax.semilogy(R[:2], single, "s", color=COLORS["token"], label="one book of 16 and of 256 codes")
ax.set(xlabel="R in bits per number", ylabel="mean squared error")
ax.legend(fontsize=8)
show(
    figure,
    "Rate and distortion on Gaussian vectors: the chain loses a little more at every stage.",
    "Mean squared error against bits per number, logarithmic. The dashed bound is a straight line. The residual "
    "quantizer starts just above it and moves away; two squares for single codebooks lie between the two lines.",
)

# %% [markdown]
# **What you should see.** Three losses, one after the other.
#
# 1. *Even one book is above the bound.* The bound needs blocks of endless length; we have four numbers. Cells in four dimensions are rounder than in one, but no spheres: this is the **space-filling loss**. And each index costs the same bits, however rare its cell.
# 2. *Two stages are worse than one book of 256 codes.* That is the price asked for above: each cell gets the same pattern. Here it is under a decibel, for an eighth of the search.
# 3. *The gap keeps growing.* This needs a reason.
#
# For the first loss theory has a number. It assumes one book with so many codes that the density of points hardly changes within a cell. Three thoughts lead to it.
#
# - The error inside a cell is the square of its size, times a number $G_C$ for its *shape*: one twelfth for a line, less for rounder cells.
# - Every code costs the same bits, whether its cell is crowded or empty (*fixed rate*). So it pays to spread codes more widely than points: their best density is the power $C / (C + 2)$ of the points' density.
# - With $V$ codes for a given volume, the size of a cell shrinks like $V^{-1/C}$, which is $2^{-R}$.
#
# Put together for a Gaussian, they give
#
# $$ D \approx G_C \cdot 2\pi \Big(\frac{C + 2}{C}\Big)^{(C+2)/2} \cdot 2^{-2R}, $$
#
# For four dimensions we take $G_C$ of the lattice $D_4$, the best known. (Gray and Neuhoff give the formula and its history.)

# %%
G4 = 0.0766  # of the lattice D4 (Conway and Sloane, 1982)
theory = G4 * 2 * math.pi * ((C + 2) / C) ** ((C + 2) / 2)
print(f"one book, many codes: {decibels(theory):.1f} dB above the bound")
assert abs(gaps_single[1] - decibels(theory)) < 0.4

# %% [markdown]
# The square at two bits is there already. So the limit for one book is known, and the chain should stay a fixed distance above it. It does not.
#
# ### Why does each stage gain less?
#
# We have assumed that stage 2 faces the same problem as stage 1, only smaller. Does it? A Gaussian has *kurtosis* three: $\mathbb E[r^4] / \mathbb E[r^2]^2 = 3$, whatever its size. Let us look at what the later stages are given.

# %% tags=["nbval-ignore-output"]
rests = [test, *(test - part.detach() for part in trained.latents(trained.lookup(test)))][:M]
kurtosis = [(r**4).mean().item() / r.square().mean().item() ** 2 for r in rests]
squares = [r.square().sum(1).sort().values for r in (rests[0], rests[-1])]
shares = [(q[-len(q) // 20 :].sum() / q.sum()).item() for q in squares]
print("kurtosis of what each stage is given:", *(f"{k:.1f}" for k in kurtosis))
print(f"the worst 5 % of the vectors hold {shares[0]:.0%} of the energy at stage 1, {shares[1]:.0%} at stage {M}")
if PROFILE == "cpu":
    assert 2.8 < kurtosis[0] < 3.2 and kurtosis[3] > 4.5 and kurtosis[5] > 7
    assert shares[0] < 0.18 < 0.28 < shares[1] < 0.6

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.6))
edges = torch.linspace(-9, 9, 91)
for k, color in ((0, COLORS["bicubic"]), (1, COLORS["other"]), (5, COLORS["rest"])):
    scaled = rests[k] / rests[k].square().mean().sqrt()
    density = torch.histogram(scaled.flatten(), edges, density=True).hist
    ax.stairs(density, edges, color=color, label=f"given to stage {k + 1}", linewidth=1.6)
ax.set(yscale="log", ylim=(1e-5, 3), xlabel="number / its standard deviation", ylabel="density")
ax.legend(fontsize=8)
show(
    figure,
    "What later stages are given has a narrow middle and long tails.",
    "Three histograms on a logarithmic axis. The first is a Gaussian parabola; the second is close to it; the one "
    "for stage 6 is a little higher in the middle and has tails that reach twice as far.",
)

# %% [markdown]
# **What you should see.** Residuals of a Gaussian are not Gaussian. The middle becomes narrow: most vectors lie in small cells, and are nearly done. The tails become long: these are the lines at the rim of the picture above.
# The worst twentieth of the vectors holds more than twice its Gaussian portion by then.
#
# Is that the *reason* for the growing gap? It is tempting: a vector far out is not reached by the first code, nor by the second. But a suspicion needs a test.
# A ball has no points far out. If they are the reason, a chain on points from a ball should gain the same at every stage.
#
# Here is a second test. A cube of four dimensions can be cut into 16 equal cubes of half its side. If their centres are the codes, then every rest lies in a cube again, only smaller. What will such a chain gain?


# %%
def ball(n):  # uniform
    return F.normalize(torch.randn(n, C), dim=1) * torch.rand(n, 1) ** (1 / C)


def gains(quantizer, z, beam=1):  # decibels that each stage takes off
    errors = [z.square().mean().item(), *distortion(quantizer, beam, z)]
    return [decibels(a / b) for a, b in pairwise(errors)]


round_one, cubes = ResidualQuantizer(M, V, C), ResidualQuantizer(M, V, C).eval()
round_one.initialise(ball(4000))
train(round_one, every_stage, draw=ball)
corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * C)  # (16, 4)
for k, book in enumerate(cubes.books):
    book.codes.data = corners / 2**k

# %% tags=["nbval-ignore-output"]
cases = {"Gaussian": (trained, test), "ball": (round_one, ball(8000)), "cube": (cubes, 2 * torch.rand(8000, C) - 1)}
print("decibels gained at each stage")
for name, (quantizer, z) in cases.items():
    print(f"{name:<9}", *(f"{gain:.1f}" for gain in gains(quantizer, z)))
if PROFILE == "cpu":
    assert gains(*cases["ball"])[-1] < gains(*cases["ball"])[0] - 0.5
    assert all(abs(gain - 6.02) < 0.2 for gain in gains(*cases["cube"]))

# %% [markdown]
# **What you should see.** The ball's gain falls as the Gaussian's does, without a single point far out. So the suspicion was wrong: long tails of the *source* are not the reason.
# The cube gains the full six decibels at every stage. There, all cells are alike, and one pattern suits them all.
# In the ball and in the Gaussian, the cells of stage 1 differ in size and shape, but share the book of stage 2. A rest from an odd cell fits that book badly, and it is handed on.
#
# Is the book to blame, or the way we choose from it?
#
# ## Must the nearest code be taken?
#
# Each stage takes the nearest code. Is the *sum* then the nearest sum? One number is enough to see:

# %%
x, book1, book2 = 5.9, [4, 8], [-2, 1]
greedy = min(book1, key=lambda e: abs(x - e))
greedy += min(book2, key=lambda e: abs(x - greedy - e))
best = min((a + b for a in book1 for b in book2), key=lambda s: abs(x - s))
print(f"stage by stage {greedy}, best of all sums {best}")
assert (greedy, best) == (5, 6)

# %% [markdown]
# The first stage preferred 4 to 8 by a hair, and shut the door on the better sum.
# To try all $V^M$ sums is out of the question. **Beam search** keeps the $b$ best partial sums after each stage instead of one, extends each by all codes, and keeps the best $b$ again. The number of distances per vector is
#
# $$ V + (M - 1)\, b\, V. $$
#
# With $b = 1$ it is the greedy search. Two questions: how many decibels does it bring, and what happens to the *first* partial sums?

# %% tags=["nbval-ignore-output"]
print("beam  distances  error after stage 1, 3, 6       gain at the end")
beams = {}
for b in (1, 2, 4, 8, 16):
    beams[b] = distortion(trained, beam=b)
    gain = decibels(beams[1][-1] / beams[b][-1])
    distances = V + (M - 1) * b * V
    print(f"{b:>4}{distances:>11}  {beams[b][0]:.4f}  {beams[b][2]:.4f}  {beams[b][5]:.5f}  {gain:>10.1f} dB")
ends = [errors[-1] for errors in beams.values()]
assert ends == sorted(ends, reverse=True)  # a wider beam ends better
if PROFILE == "cpu":
    assert 2 < decibels(ends[0] / ends[2]) < 3.5 < 4.5 > decibels(ends[0] / ends[4]) > 2.8
    assert beams[16][0] > 1.15 * beams[1][0]  # and begins worse

# %% [markdown]
# **★★★ Beam search · 40 min.** For *one* vector `z` of shape (C,) and books as above, return the M indices of the path that wins with a beam of `beam`.
# After each stage keep the `beam` paths with the smallest remaining error, among all codes of all kept paths. Plain Python lists are fine; speed does not count.


# %% tags=["exercise"]
def beam_search(z, books, beam):
    return ...


ch03.check("beam_search", beam_search)

# %%
ch03.hint("beam_search")
ch03.solution("beam_search")

# %% tags=["nbval-ignore-output"]
print("decibels gained at each stage")
for name in ("Gaussian", "ball"):
    for b in (1, 16):
        print(f"{name:<9} beam {b:>2}:", *(f"{gain:.1f}" for gain in gains(*cases[name], beam=b)))
tails = [test - trained.latents(trained.lookup(test, b))[-1].detach() for b in (1, 16)]
print("kurtosis of the Gaussian's last rest:", *(f"{(r**4).mean() / r.square().mean() ** 2:.0f}" for r in tails))
print(f"still above the bound with a beam of 16: {decibels(ends[4] / bound[-1]):.1f} dB of {gaps[-1]:.1f}")
if PROFILE == "cpu":
    assert all(gains(*cases[name], beam=16)[-1] > gains(*cases[name], beam=16)[0] for name in ("Gaussian", "ball"))

# %% [markdown]
# **What you should see.** With a wide beam the gain per stage no longer falls, for either source. So the *falling* was the greedy search: it takes the code that looks best now, and never revises it.
# Nor are long tails the harm itself, for the beam's last rest has longer ones.
# What remains adds up stage by stage. Each stage has only 16 cells, which are no spheres, and one pattern serves them all. So nearly every stage stays one to two decibels short of six, however well we search.
#
# A beam of four gains two to three decibels, nearly half a bit per number, with no bit more and with the same codes. Then each doubling brings less and costs twice as much.
# (On the photos below, with larger books, it gains a little over one decibel.)
#
# The first column is the warning. To end well, the beam *starts worse*: after stage 1 its error is above the greedy one, because it keeps paths whose first code is not the nearest.
# We use the partial sums: a model predicts stage by stage. A beam would make our first stages worse, so we stay greedy, as VAR's tokenizer does.
#
# ## What if only the first stages arrive?
#
# On a slow line, or at a low setting, a receiver gets $m < M$ indices. Are the partial sums good? That depends on the loss. Ours asked for it. Suppose we train for the full sum alone, which is what we want in the end:
#
# $$ \mathcal L_{\text{last}} = \lVert z - \hat z_M \rVert^2. $$
#
# **Quantizer dropout** (SoundStream) asks for all of them in turn: for every batch draw $m$ from $1 \dots M$ and drop the stages after it. On average that loss is $\frac1M \sum_m \lVert z - \hat z_m \rVert^2$. So dropout is the loss over partial sums, one term at a time. All three start from the same k-means books.


# %%
def last_only(quantizer, z):
    return F.mse_loss(partial_sums(quantizer, z)[-1], z)


def dropped(quantizer, z):
    m = torch.randint(1, M + 1, ()).item()  # this time, only m stages arrive
    return F.mse_loss(partial_sums(quantizer, z)[m - 1], z)


# %%
runs = {}
start = torch.randn(4000, C)
for name, loss_of in {"last sum only": last_only, "with dropout": dropped, "all partial sums": every_stage}.items():
    torch.manual_seed(SEED)
    quantizer = ResidualQuantizer(M, V, C)
    quantizer.initialise(start)
    runs[name] = distortion(train(quantizer, loss_of))

# %% tags=["nbval-ignore-output"]
for name, errors in runs.items():
    print(f"{name:<17}", *(f"{e:.4f}" for e in errors))
if PROFILE == "cpu":
    last, drop, every = runs.values()
    assert last[0] > 1.1 * drop[0] and last[1] > 1.15 * drop[1]  # partial sums: dropout is better
    assert last[-1] < 0.9 * drop[-1]  # the full sum: dropout is worse
    assert all(abs(decibels(a / b)) < 0.6 for a, b in zip(drop, every, strict=True))

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.6))
for (name, errors), color in zip(runs.items(), (COLORS["rest"], COLORS["model"], COLORS["other"]), strict=True):
    style = "s--" if name == "all partial sums" else "o-"
    ax.plot(
        range(1, M + 1), [decibels(e / b) for e, b in zip(errors, bound, strict=True)], style, color=color, label=name
    )
ax.set(xlabel="stages that arrive", ylabel="dB above the bound", xticks=range(1, M + 1))
ax.legend(fontsize=8)
show(
    figure,
    "Training for the last sum alone pays with the first; dropout goes the other way.",
    "Decibels above the bound against the stages received. The curve trained for the last sum alone starts highest "
    "and ends lowest; the ones with dropout and with the loss over all partial sums nearly coincide and cross it.",
)

# %% [markdown]
# **What you should see.** This is a trade, not a gift. Trained for the last sum alone, the codes cooperate: the first ones stand a little off, where the later ones can make more of it. That is better at the end, and clearly worse at the start.
# Dropout brings the partial sums back and gives up the gain at the end. And it lands where the loss over all partial sums was from the beginning.
# So with that loss, which the tokenizers of this course use, dropout adds nothing to the codes. SoundStream, an audio codec, uses it so that one network serves many bit rates: its decoder, too, then meets partial sums while it learns.
#
# ## One book or many?
#
# VAR, and RQ-VAE before it, use *one* book for all stages. Why would one? An index then means the same at every stage, the transformer needs one table, and there is nothing to decide about sizes.
# What does it cost? The same training, from k-means over what all stages see.

# %% tags=["nbval-ignore-output"]
shared = ResidualQuantizer(M, V, C, shared=True)
shared.initialise(start)
shared_errors = distortion(train(shared, every_stage))
print("own books:", *(f"{e:.4f}" for e in runs["all partial sums"]))
print("one book: ", *(f"{e:.4f}" for e in shared_errors))
if PROFILE == "cpu":
    assert 5 < decibels(shared_errors[-1] / runs["all partial sums"][-1]) < 14

# %% [markdown]
# Sixteen codes must serve vectors of length two and rests of a tenth of that. Each stage can use only those of its own size.
# In our toy the loss is large, and sixteen codes are few to share. VAR shares 4,096; chapter 04 looks at which of them each scale uses.
#
# ## What breaks if the later stages reuse the first book?
#
# The lazy way to share: train one stage as in chapter 02, and apply its book again and again. There is even an argument for it: some code lies near zero and changes nothing, so no stage can do harm. What do you expect of the curve?

# %%
lazy = ResidualQuantizer(M, V, C, shared=True).eval()
lazy.books[0].codes.data = trained.books[0].codes.data.clone()
lazy_errors = distortion(lazy)
smallest = trained.books[0].codes.norm(dim=1).min().item()
print(f"the shortest code is {smallest:.1f} long; the rest after stage 1 {rests[1].norm(dim=1).mean():.1f} on average")
if PROFILE == "cpu":
    assert lazy_errors[-1] > 0.4 * lazy_errors[0] > 0.1

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.8))
stages = range(1, M + 1)
ax.semilogy(stages, lazy_errors, "o-", color=COLORS["lr"], label="first book reused")
ax.semilogy(stages, shared_errors, "o-", color=COLORS["token"], label="one book, trained for all stages")
ax.semilogy(stages, after, "o-", color=COLORS["model"], label="own books")
ax.set(xlabel="stage", ylabel="mean squared error")
ax.legend(fontsize=8)
show(
    figure,
    "Reusing the first book stalls after the second stage.",
    "Mean squared error against the stage, logarithmic. Own books fall in a straight line, a shared trained book "
    "falls more and more slowly, and the reused first book stays flat after the second stage.",
)

# %% [markdown]
# It stalls at about the second stage. k-means put its centres where the *vectors* are. For a short rest, all but one or two of its codes are much too long. The nearest code is the best there is, not a good one.
# What about the argument? No law says that a book must hold a code near zero. Run the chapter with `SEED = 1`: the shortest code is then longer than the rests, and a further stage makes the error larger.
# The cure is the one above: let the book see the rests when it is trained. (The same happens when every stage is trained on $z$ itself: then all books look like the first.)
#
# ## What does it do to photos?
#
# Now take real data. A patch of 4 × 4 pixels is a vector of 48 numbers. Eight stages of 256 codes spend eight bits each per patch: half a bit per pixel and stage. We run k-means on patches of the training photos; there is no gradient at all.
# PSNR is taken over all three colours without a border, as in chapter 02.

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.photos import load_pixels


def to_patches(x):  # (B, 3, H, W) -> (B * H/4 * W/4, 48)
    return F.pixel_unshuffle(x, 4).permute(0, 2, 3, 1).flatten(0, 2)


def to_images(patches, like):  # and back
    b, _, h, w = like.shape
    return F.pixel_shuffle(patches.view(b, h // 4, w // 4, 48).permute(0, 3, 1, 2), 4).clamp(-1, 1)


crops = RandomCrops(load_pixels("train"), 64, 64, seed=SEED).batch()
codec = ResidualQuantizer(stages=8, size=256, dim=48).eval()
codec.initialise(to_patches(crops))  # 16,384 patches

# %% tags=["nbval-ignore-output"]
from vartutor.metrics import bootstrap, psnr


def quality(y, x):  # one PSNR for each photo
    return psnr(y, x, color="rgb")


@torch.no_grad()
def decode_stages(x, beam=1):
    parts = codec.latents(codec.lookup(to_patches(x), beam))
    return [to_images(part, x) for part in parts]


x, files = eval_crops("test", 64, profile.eval_crops)
each = {b: [quality(y, x) for y in decode_stages(x, b)] for b in (1, 4)}
curve = {b: [values.mean().item() for values in stages] for b, stages in each.items()}
for b, values in curve.items():
    print(f"beam {b}: ", *(f"{v:.1f}" for v in values), "dB (RGB), after all eight:", bootstrap(each[b][-1], files))
print(f"the beam's gain after all eight: {bootstrap(each[4][-1] - each[1][-1], files)} dB")
gain = [wide - greedy for greedy, wide in zip(curve[1], curve[4], strict=True)]
assert curve[1] == sorted(curve[1])
if PROFILE == "cpu":
    assert gain[0] < 0 < 0.5 < gain[-1] < 2 and 33 < curve[1][-1] < 43

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.6))
bpp = [(m + 1) * 8 / 16 for m in range(8)]
ax.plot(bpp, curve[1], "o-", color=COLORS["model"], label="greedy")
ax.plot(bpp, curve[4], "o--", color=COLORS["token"], label="beam of 4")
ax.set(xlabel="bits per pixel", ylabel="PSNR in dB (RGB)")
ax.legend(fontsize=8)
show(
    figure,
    "Every half bit per pixel helps, and the beam helps the late stages.",
    "PSNR against bits per pixel from one half to four. Both curves rise, steeply at first and then more evenly; the "
    "dashed one for the beam starts below the other and ends about a decibel above it.",
)

# %% [markdown]
# The first stage alone is a photo of 256 kinds of patches. How does it look, and what does each stage add? Below are the decoded photo, and four times the rest that remains.

# %%
from vartutor.data.photos import find_photo

photo = find_photo("parrot").load()[None, :, 82:218, 92:228]
decoded = decode_stages(photo)
kept = (1, 2, 4, 8)
titles = [f"{m} × 8 bits: {quality(decoded[m - 1], photo).item():.0f} dB" for m in kept]
rows = [
    [*(decoded[m - 1][0] for m in kept), photo[0]],
    [(4 * (photo - decoded[m - 1])).clamp(-1, 1)[0] for m in kept],
]

# %% tags=["hide-input"]
figure = image_grid(
    rows,
    [*titles, "original"],
    colors=[COLORS["token"]] * 4 + [COLORS["hr"]],
    labels=["decoded", "rest × 4"],
)
show(
    figure,
    "Top: decoded after one, two, four and eight stages (PSNR over RGB). Bottom: what is left, with four times the "
    "contrast.",
    "A photo of a parrot's head decoded after one, two, four and eight stages, and the original. The first is blocky "
    "with an orange beak; the last is sharp, and its beak is red with fine speckles. The rests below fade over the "
    "background first, and last over head and beak.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The first stage gets brightness and the large edges, in visible blocks. The later ones mend the blocks. In the bottom row the drawing fades from the rest, until most of it looks like noise.
# It fades last on the head, whose feathers have most detail. But the beak is smooth, and its error stays as well. Few training patches hold so strong a colour, so the beak lies far out, like the points at the rim in the plane.
# What is left in the end looks like noise, and still costs eight bits per stage. And noise is hard to predict: keep that in mind for the transformer, which has to guess these indices.
# In JupyterLab, move through all eight stages:

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def draw(stages):
    y = decoded[stages - 1]
    rest = (4 * (photo - y)).clamp(-1, 1)
    title = f"{stages / 2:g} bits per pixel, {quality(y, photo).item():.1f} dB"
    return image_grid([[y[0], rest[0], photo[0]]], [title, "rest × 4", "original"])


explorer(draw, stages=slider("stages", 3, 1, 8, 1))

# %% [markdown]
# ### What is still missing?
#
# Each patch is on its own: all eight indices sit at one place and one size. But the rest of *neighbouring* patches is alike, and a sky needs fewer indices than feathers.
# Chapter 04 keeps the residual and changes the sizes: its first stage is one code for the whole photo, the second 2 × 2 codes, and so on. That is VAR's tokenizer.

# %% [markdown]
# ## Questions
#
# <details><summary>1. Two books of 16 codes: how many sums are there, how many bits name one, and how many distances does the greedy search compute?</summary>
# 256 sums; four bits for each stage, so eight; 16 distances for each stage, so 32. One book for as many sums would compute 256.
# </details>
#
# <details><summary>2. Why is the rest of stage m exactly the error of the partial sum?</summary>
# Each stage subtracts its code from the rest and adds it to the sum. Rest and sum together are always z, so the rest is what the sum still lacks.
# </details>
#
# <details><summary>3. Books trained for the last sum alone end lowest. Why does this course not train them so?</summary>
# Their first sums are worse. The course decodes pictures from the first stages, and its transformer reads partial sums, so it needs them to be good.
# </details>
#
# <details><summary>4. The chain on a cube loses nothing at any stage. What is special about its cells?</summary>
# They are all equal, and each is the whole cube at half its side. One book, half as large, suits every cell perfectly. Cells of a Gaussian differ, and share a book that suits none exactly.
# </details>
#
# <details><summary>5. Does a decoder have to know whether the encoder used a beam?</summary>
# No. It adds the codes that the indices name. A beam changes only which indices are sent, so it can be added to a finished codec.
# </details>
#
# ## An open experiment
#
# You may spend 24 bits on a vector of four numbers. Is it better to have many small books or a few large ones: six of 16 codes, four of 64, three of 256?
#
# A good answer
#
# - trains all of them equally long, from k-means, with at least three seeds;
# - plots error against stored codes, and against distances per vector, with the bound as a line;
# - measures the first partial sums too, at equal bits;
# - repeats the comparison with a beam of 4, because few large books profit less from one;
# - recommends one choice for a slow machine and one for a small memory.
#
# ## In five lines
#
# 1. Twice the bits square a codebook; a chain of small books spends the same bits with a few hundred codes.
# 2. The rest after stage $m$ is the error of the partial sum: each stage quantizes exactly what is still wrong.
# 3. Against $D(R) = 2^{-2R}$ a chain loses because cells cannot be spheres, because all cells share one pattern, and because a greedy choice is never revised.
# 4. A beam finds better sums for more search, and makes the first partial sums worse.
# 5. A loss over all partial sums, or dropout of stages, keeps partial decodes good; a loss on the last sum alone does not.
#
# ## The course and the paper
#
# | | this course | VAR and H-VAR (the paper) † |
# |---|---|---|
# | stages | all at one size in this chapter; sizes grow from chapter 04 on | one stage per scale, from 1 × 1 up |
# | codebooks | own or shared, compared here; shared from chapter 04 on | one, shared by all scales |
# | search | greedy; a beam for comparison | greedy; beams are not mentioned |
# | loss of the codes | mean over the partial sums | mean over the partial sums of the scales |
# | quantizer dropout | shown here, not used later | not used, as far as we know |
#
# † For the paper from third-party notes; it may be wrong.
#
# ## References
#
# - B.-H. Juang and A. H. Gray, [Multiple Stage Vector Quantization for Speech Coding](https://doi.org/10.1109/ICASSP.1982.1171604), 1982: the chain.
# - C. F. Barnes, S. A. Rizvi and N. M. Nasrabadi, [Advances in Residual Vector Quantization: A Review](https://doi.org/10.1109/83.480761), 1996: joint training and better searches.
# - R. M. Gray and D. L. Neuhoff, [Quantization](https://doi.org/10.1109/18.720541), 1998: the bound, the space-filling loss, and the history of both.
# - J. H. Conway and N. J. A. Sloane, [Voronoi Regions of Lattices, Second Moments of Polytopes, and Quantization](https://doi.org/10.1109/TIT.1982.1056483), 1982: how well cells fill space.
# - N. Zeghidour et al., [SoundStream: An End-to-End Neural Audio Codec](https://arxiv.org/abs/2107.03312), 2021: quantizer dropout.
# - D. Lee et al., [Autoregressive Image Generation using Residual Quantization](https://arxiv.org/abs/2203.01941), 2022: RQ-VAE, one shared book and a loss on partial sums.
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: residual quantization over scales.
#
# **Next:** chapter 04 lets the stages grow in size: the multi-scale tokenizer.
