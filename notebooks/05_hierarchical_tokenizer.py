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
# # 05 · The hierarchical tokenizer
#
# **One sequence of tokens, three photos: stop after the first group and decode ×1, after the second ×2, after the third ×4.**
# This is the idea that the paper, and this course, are about. The chapter builds it, tests what the paper claims for it, and says what it costs.
#
# ![Hierarchical tokens: the photo at a quarter, a half and full size is encoded three times; the sum of the first group's tokens is enlarged and opens the second group, whose sum opens the third; after each group the decoder makes a photo.](../assets/diagrams/hierarchical.svg)
#
# After this chapter you will be able to
#
# - **build** tokens whose first part is a complete small photo;
# - **decode** one sequence into photos at ×1, ×2 and ×4;
# - **compare** tokenizers honestly: same tokens, same budget, seeds, intervals;
# - **choose** a ladder by what each token buys;
# - **swap** a coarse token and follow the change through all sizes.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about two minutes and 0.7 GB to run, an hour to read | chapter 04 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → **05 three sizes** → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): bridge, bypass, codebook, degradation, HIT, ladder.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show, smooth

session = setup(PROFILE, SEED, DEVICE)
profile = session.profile
print(session)

# %% [markdown]
# ## What did the plain tokenizer lack?
#
# Chapter 04 ended with a blur. Decoded after 53 of 437 tokens, the plain tokenizer does not give a small photo, because nobody ever asked it to.
#
# So ask. The first tokens shall be a complete photo of 16 × 16, the next ones shall complete it to 32 × 32, and all of them to 64 × 64. Before you read on: how would *you* change the tokenizer?
#
# You could train three tokenizers. But then a model that predicts tokens would say the same thing three times, in three languages.
# The paper's answer is *hierarchical image tokenization*: keep one ladder of maps, but let each part of it look at a photo of its own size.
#
# Shrink the photo to a quarter and a half, antialiased, and clamp the result to $[-1, 1]$, since bicubic shrinking overshoots at edges. Encode all three, with the *same* encoder:

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import pyramid
from vartutor.open_code import contribution, conv, decode, encode, nearest  # of chapters 02 and 04
from vartutor.weights import load_tokenizer

hit, plain = load_tokenizer("hit"), load_tokenizer("var")
quantizer = hit.quantizer
x, files = eval_crops("test", 64, 3)  # (60, 3, 64, 64): three crops of every test photo
true = pyramid(x)  # {1: (60, 3, 16, 16), 2: (60, 3, 32, 32), 4: x}
with torch.no_grad():
    features = hit.encode(x)
for s, f in zip(hit.scales, features, strict=True):
    print(f"×{s}: photo {tuple(true[s].shape[1:])} -> features {tuple(f.shape[1:])}")
print("groups of the ladder:", *quantizer.groups)

# %% [markdown]
# ## How do the groups hang together?
#
# The first group is chapter 04 in small: it quantizes the features of the ×1 photo. Its maps end at 4 × 4, since those features have 4 × 4 positions. Decode, and you have the small photo.
#
# The second group must quantize the features of the ×2 photo. It could start from nothing. But much is known already: the large photo shows the same thing as the small one.
# So it starts from the first group's sum, enlarged. This is the **overlap**: the tokens of the small photo are the first tokens of the larger.
#
# Enlarged how? The features of a large photo are not the enlarged features of the small one: a patch of 4 × 4 pixels shows less of the scene there. But they can be *guessed* from them.
# So we add to bicubic what two small convolutions learn to add, and call it the bridge. (Our choice; we do not know the paper's.)
#
# $$ \hat f \leftarrow \mathrm{bicubic}(\hat f) + \mathrm{conv}\big(\mathrm{silu}(\mathrm{conv}(\mathrm{bicubic}(\hat f)))\big), \qquad r = z_{\frac12} - \hat f, \qquad \text{then as before.} $$
#
# "As before" includes φ, the shared convolutions of chapter 04. Each map takes the φ that its place in the *whole* ladder of eight gives it; a group does not start again with the first.
#
# How much does the enlarged sum already explain, without the bridge and with it?


# %%
def share_left(f, guess):  # of the variation from place to place
    return ((f - guess).square().sum() / (f - f.mean((2, 3), keepdim=True)).square().sum()).item()


# %%
with torch.no_grad():
    indices = hit.tokenize(x)
    latents = hit.latents(indices)
ends = [latents[end - 1] for end in quantizer.ends]  # f_hat after each group
for s, f_hat, f in zip((2, 4), ends, features[1:], strict=False):
    wide = F.interpolate(f_hat, size=f.shape[-2:], mode="bicubic")
    with torch.no_grad():
        crossed = wide + quantizer.bridge.conv2(F.silu(quantizer.bridge.conv1(wide)))
        assert torch.allclose(crossed, quantizer.bridge(f_hat, f.shape[-2:]), atol=1e-5)
    plain_share, share = (1 - share_left(f, guess) for guess in (wide, crossed))
    print(f"×{s}: explained before a single token of its own: bicubic {plain_share:.0%}, with the bridge {share:.0%}")
    assert plain_share < share < 0.95
print("which φ, map by map:", *quantizer.phi.choice)

# %% [markdown]
# That is what a larger photo owes to a smaller one. (Bicubic alone looks bad here because this tokenizer was trained with the bridge and relies on it. What it costs to train without one comes below.) The rest is detail, and detail is what the group's own tokens are for.
#
# Now the whole thing.
#
# **★★ Hierarchical tokens · 20 min.** `features` is a list, one (B, C, h, h) per group, `codes` is (V, C). Return all token maps, (B, p · p) each, and a list of $\hat f$ after every group.
# `phi(h, k)` takes the enlarged codes and the number of the map in the whole ladder, from 0. `bridge(f_hat, size)` takes the sum of the group before to the next size.

# %% tags=["exercise"]
from vartutor.exercises import ch05


def my_hierarchical(features, codes, groups, phi, bridge):
    return ...


hierarchical = ch05.use("hierarchical", my_hierarchical)

# %%
ch05.hint("hierarchical")
ch05.solution("hierarchical")

# %% [markdown]
# And ours. Compared with the loop of chapter 04, only the marked lines are new.


# %%
def quantize(features, groups):
    maps, ends, f_hat = [], [], torch.zeros_like(features[0])
    for f, sides in zip(features, groups, strict=True):  # ◂ new: one photo size after the other
        if ends:
            f_hat = quantizer.bridge(f_hat, f.shape[-2:])  # ◂ new: what is known already
        for p in sides:
            z = F.interpolate(f - f_hat, size=(p, p), mode="area")
            idx = (z.movedim(1, -1)[..., None, :] - quantizer.codes).square().sum(-1).argmin(-1)
            wide = F.interpolate(quantizer.codes[idx].movedim(-1, 1), size=f.shape[-2:], mode="bicubic")
            f_hat = f_hat + quantizer.phi(wide, len(maps))
            maps.append(idx.flatten(1))
        ends.append(f_hat)  # ◂ new: here a photo is complete
    return maps, ends


# %%
def tokens_of(features):  # in parts, since distances to all codes need memory
    parts = zip(*(f.split(15) for f in features), strict=True)
    shipped = quantizer.codes, quantizer.groups, quantizer.phi, quantizer.bridge
    return [torch.cat(idx) for idx in zip(*(hierarchical(part, *shipped)[0] for part in parts), strict=True)]


with torch.no_grad():
    ours, _ = quantize([f[:8] for f in features], quantizer.groups)
    theirs, indices = indices, tokens_of(features)  # from here on, the tokens are those of hierarchical
for other, few in ((ours, 8), (theirs, len(x))):
    equal = torch.cat([(a[:few] == b).flatten() for a, b in zip(indices, other, strict=True)]).float().mean()
    assert equal > 0.999  # rounding may flip a tie
print(quantizer.tokens, "tokens; those of hierarchical, of the loop above and of the package agree")

# %% [markdown]
# ### The same in steps
#
# A transformer will write the maps one at a time. So cut the loop into three questions. Where is the sum so far to be continued (`canvas`)? What is still missing there, at the size of map $k$ (`rest_of`)? What is the sum after map $k$ (`add_map`)?
#
# **★ The canvas · 10 min.** The first of the three. Every map is enlarged to the features of its group. Which side has that canvas for map `k`, counted from 0 through all groups?


# %% tags=["exercise"]
def my_canvas(k, groups):
    return ...


canvas_side = ch05.use("canvas", my_canvas)

# %%
ch05.hint("canvas")
ch05.solution("canvas")

# %% [markdown]
# For the ladder of the course the answers stand in the two lists at the top of the next cell.


# %% tags=["model"]
SIDES = (1, 2, 4, 4, 4, 8, 8, 16)  # the model: the ladder
GROUP = (0, 0, 0, 0, 0, 1, 1, 2)  # of every map: ×1, ×2, ×4
CANVAS = (4, 8, 16)  # the side of every group's features


def shrunk(x, side):  # (B, 3, H, W) -> (B, 3, side, side)
    return F.interpolate(x, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def hit_features(w, x):  # (B, 3, 64, 64) -> features of the photo at ×1, ×2 and ×4
    return [encode(w, shrunk(x, 16)), encode(w, shrunk(x, 32)), encode(w, x)]


def canvas(w, f_hat, k):  # f_hat where map k is added: enlarged by the bridge if a group begins
    if k == 0 or GROUP[k] == GROUP[k - 1]:
        return f_hat
    wide = F.interpolate(f_hat, size=(CANVAS[GROUP[k]],) * 2, mode="bicubic")
    h = F.silu(conv(w, "quantizer.bridge.conv1", wide))
    return wide + conv(w, "quantizer.bridge.conv2", h)


def at_size(x, k):  # at the size of map k: (B, C, H, W) -> (B, C, p, p)
    return F.interpolate(x, size=(SIDES[k],) * 2, mode="area")


# %% tags=["model"]
def rest_of(w, features, f_hat, k):  # the model: what map k has to explain, (B, C, p, p)
    return at_size(features[GROUP[k]] - canvas(w, f_hat, k), k)


def add_map(w, f_hat, said, k):  # said (B, p², C): codes, or a mean of codes
    return canvas(w, f_hat, k) + contribution(w, said, k, SIDES[k], CANVAS[GROUP[k]])


def hit_tokens(w, x):  # (B, 3, 64, 64) -> eight maps (B, p²)
    codes, features, maps = w["quantizer.codes"], hit_features(w, x), []
    f_hat = torch.zeros_like(features[0])
    for k in range(8):
        maps.append(nearest(codes, rest_of(w, features, f_hat, k)))
        f_hat = add_map(w, f_hat, codes[maps[k]], k)
    return maps


def hit_photos(w, maps):  # eight maps -> {s: (B, 3, 16 s, 16 s)}
    f_hat, photos = w["quantizer.codes"].new_zeros(len(maps[0]), 16, 4, 4), {}
    for k, idx in enumerate(maps):
        f_hat = add_map(w, f_hat, w["quantizer.codes"][idx], k)
        photos[f_hat.shape[-1] // 4] = decode(w, f_hat)  # the last map of a group has the final word
    return photos


# %%
w = hit.state_dict()
with torch.no_grad():
    ours = hit_tokens(w, x)
    equal = torch.cat([(a == b).flatten() for a, b in zip(ours, indices, strict=True)]).float().mean()
    assert equal > 0.999
    for s, image in hit_photos(w, indices).items():
        assert torch.allclose(image, hit.decode_scales(indices)[s], atol=1e-4)
assert all(canvas_side(k, quantizer.groups) == CANVAS[GROUP[k]] for k in range(8))
print(f"our tokens are the package's in {equal:.1%} of the places")

# %% [markdown]
# **★★★ Across the border · 30 min.** Chapter 06 needs inputs for maps 2 … K: what is said so far, at the size of the map to come. Return them as (B, L − p_1², C). What is the input of the first map of a new group?


# %% tags=["exercise"]
def my_next_inputs(maps, codes, groups, phi, bridge):
    return ...


next_inputs = ch05.use("next_inputs", my_next_inputs)

# %%
ch05.hint("next_inputs")
ch05.solution("next_inputs")

# %%
with torch.no_grad():
    inputs = next_inputs(indices, quantizer.codes, quantizer.groups, quantizer.phi, quantizer.bridge)
    assert torch.allclose(inputs, hit.next_inputs(indices), atol=1e-4)
print("tokens:", quantizer.tokens, " inputs:", tuple(inputs.shape))

# %% [markdown]
# Mind the clamp in `shrunk`: it is easily forgotten. What if it is left out?

# %%
raw = [F.interpolate(x, (16 * s, 16 * s), mode="bicubic", antialias=True) for s in (1, 2)]  # may leave [-1, 1]
with torch.no_grad():
    unclamped = quantizer.tokenize([*(encode(w, small) for small in raw), features[2]])
differ = [(a != b).float().mean() for a, b in zip(unclamped, indices, strict=True)]
print("tokens that differ without the clamp, map by map:", *(f"{share:.0%}" for share in differ))

# %% [markdown]
# One encoder, one codebook, one decoder, eight maps. Decode after each group. Which crops do we show? Rank the sixty by detail, the mean step from pixel to pixel, and take one from the upper quarter and the one in the middle.

# %%
detail = x.diff(dim=-1).abs().mean((1, 2, 3)) + x.diff(dim=-2).abs().mean((1, 2, 3))
order = detail.argsort(descending=True).tolist()
chosen = [order[len(order) // 8], order[len(order) // 2]]
print("shown:", ", ".join(files[i] for i in chosen))

# %%
with torch.no_grad():
    images = hit.decode_scales(indices)
for s, image in images.items():
    print(f"×{s}: {tuple(image.shape[1:])}")

# %% tags=["hide-input"]
words = [["photo at ×1", "photo at ×2", "photo at ×4"], ["53 tokens", "181 tokens", "437 tokens"]]
figure = image_grid([[part[s][i] for s in (1, 2, 4)] for i in chosen for part in (true, images)], words * 2)
show(
    figure,
    "Two crops: the true photo at each size, and below it what the tokens so far say.",
    "Four rows of three pictures: a photo at 16, 32 and 64 pixels, below it the decodes of 53, 181 and 437 tokens; then "
    "the same for a second photo. The decodes show the same things as the photos; the smallest are soft and mottled, and "
    "the largest lack the finest texture.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Pairs. After 53 tokens there *is* a photo, not a blurred large one. It is soft and mottled, for 53 tokens are few.
#
# Is the prefix really independent of the rest? Replace the larger photos' features by noise: the first five maps must not notice.

# %%
noise = [features[0], *(torch.randn_like(f) for f in features[1:])]
with torch.no_grad():
    same = [torch.equal(a, b) for a, b in zip(tokens_of(noise), indices, strict=True)]
print("maps that stay the same:", same)
assert same == [True] * 5 + [False] * 3

# %% [markdown]
# ## Can two cores train it?
#
# The loss is that of chapter 04, once for every size. (The bypass of chapter 04, one image in ten that is not quantized, belongs to the long training, here too. The short one below does without.)
# Nothing forces the three encodings to agree; the bridge learns to translate. You saw it: without the bridge, the small photo's sum says next to nothing of the features at ×2.
#
# Two habits before a training. First: what should the loss be at step 0? An untrained decoder paints some picture $y$ that has nothing to do with the photo $x$. Then the squares add up: expect a squared error of $\mathrm{mean}\, x^2 + \mathrm{mean}\, y^2$, summed over the sizes, and look. Second: overfit one batch. A model that cannot learn sixteen photos by heart is broken.

# %%
from vartutor.data.photos import load_pixels
from vartutor.metrics import bootstrap, psnr
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer


def fresh():
    model = build_tokenizer(TokenizerConfig.of(profile, "hit")).to(session.device)
    model.quantizer.use_moving_averages()
    return model


def pixel_loss(outputs, target):
    return sum(F.l1_loss(image, target[s]) + F.mse_loss(image, target[s]) for s, image in outputs.items())


# %%
def train(model, draw, steps):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    decibels = {s: [] for s in model.scales}
    for step in range(steps):
        target = pyramid(draw().to(session.device))
        outputs, _, vq_loss = model(target[4])
        loss = 0.25 * vq_loss + pixel_loss(outputs, target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            model.quantizer.revive()
        for s, image in outputs.items():
            decibels[s].append(psnr(image.detach(), target[s], color="rgb").mean().item())
    return decibels


# %%
torch.manual_seed(SEED)
crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
one = crops.batch()
target = pyramid(one.to(session.device))
with torch.no_grad():
    first = fresh()(target[4])[0]
expected = sum(target[s].square().mean() + y.square().mean() for s, y in first.items())
seen = sum(F.mse_loss(y, target[s]) for s, y in first.items())
print(f"squared error at step 0, all sizes: expected {expected:.2f}, seen {seen:.2f}")
assert abs(seen / expected - 1) < 0.2

# %%
heart = train(fresh(), lambda: one, min(60, profile.lesson_steps))
print("one batch by heart:", *(f"×{s} {v[0]:.1f} -> {v[-1]:.1f} dB" for s, v in heart.items()))

# %%
model = fresh()
decibels = train(model, crops.batch, profile.lesson_steps)

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.3))
for (s, values), color in zip(decibels.items(), (COLORS["rest"], COLORS["token"], COLORS["model"]), strict=True):
    ax.plot(smooth(values, 20), color=color, label=f"×{s}")
ax.set(xlabel="step", ylabel="PSNR of the batch (RGB, dB)")
ax.legend()
show(
    figure,
    "A hierarchical tokenizer learns three sizes at once.",
    "Three lines of PSNR against training steps, for the photo at one, two and four times the small size; all three "
    "rise together, steeply at first.",
)

# %%
if PROFILE == "cpu":
    assert all(np.mean(values[-30:]) > np.mean(values[:30]) + 4 for values in decibels.values())
for s, image in images.items():
    print(
        f"shipped tokenizer at ×{s}: {bootstrap(psnr(image, true[s], color='rgb'), files)} dB (RGB) on the test photos"
    )
used = len(torch.cat([idx.flatten() for idx in indices]).unique()) / len(quantizer.codes)
print(f"codes in use: {used:.0%}")

# %% [markdown]
# The shipped one is the same after 20,000 steps: `vartutor train tokenizer --set bf16=true`.
#
# ## Claim A: only hierarchical tokens give the smaller photos
#
# The plain tokenizer of chapter 04 has the same maps, the same autoencoder, the same number of steps. Take its tokens up to the same map, and get a small picture out of them in the better of the two ways. Per photo, how many decibels is HIT ahead?
#
# Be fair to the rival: nobody ever asked it for small pictures. Its loss looks at the whole sum only, HIT's also at the sums after each group. So this compares two *trainings* as well as two ladders. A plain tokenizer whose partial sums were decoded in training would be a stronger rival; we have not trained one.

# %%
from vartutor.tokenizer.tokenizer import decode_small

with torch.no_grad():
    plain_latents = plain.latents(plain.tokenize(x))
    rivals = {
        s: decode_small(plain, plain_latents[end - 1], 16 * s, 64)
        for s, end in zip((1, 2), quantizer.ends, strict=False)
    }
# %%
for s, ways in rivals.items():
    best = torch.stack([psnr(image, true[s], color="rgb") for image in ways.values()]).amax(0)
    ahead = bootstrap(psnr(images[s], true[s], color="rgb") - best, files)
    print(f"×{s}: HIT is {ahead} dB (RGB) ahead of the plain tokenizer")
    assert ahead.low > 1

# %% tags=["hide-input"]
figure = image_grid(
    [[true[1][i], images[1][i], rivals[1]["decoded first"][i], rivals[1]["shrunk first"][i]] for i in chosen],
    ["photo at ×1", "HIT", "plain (decode)", "plain (shrink)"],
    colors=[COLORS["hr"], COLORS["model"], COLORS["bicubic"], COLORS["bicubic"]],
)
show(
    figure,
    "Fifty-three tokens each: hierarchical, and plain.",
    "Two crops at 16 by 16 pixels: the photo, HIT's decode, which resembles it, and two attempts to get a small picture "
    "out of the plain tokenizer's first tokens, one blurred, one with wrong colours.",
    photo=True,
)

# %% [markdown]
# ## Claim B: what does it cost at full size?
#
# Nothing is free. The plain tokenizer's coarse maps serve the large photo alone; HIT's serve three. Notes on the paper say that HIT is slightly worse at full size, and that one scale more makes up for it †. († marks what we know of the paper at second hand. It may be wrong.)
#
# A single pair of runs proves little, so here are three seeds of short runs, 600 steps each: `vartutor study hit var "no bridge" "one more scale" --seeds 0 1 2`. For every photo we average the seeds, take the difference, and resample photos.

# %%
from vartutor.tables import load_study

study = load_study()


def by_photo(run, measure):  # mean over seeds, photos in a fixed order
    seeds = study[run, measure].values()
    return torch.tensor([[seed[file] for file in sorted(seed)] for seed in seeds]).mean(0)


reference = by_photo("var", "psnr 4")
names = sorted(study["var", "psnr 4"][0])
for run in ("hit", "no bridge", "one more scale"):
    gap = bootstrap(by_photo(run, "psnr 4") - reference, names)
    tokens = int(study[run, "tokens"][0]["all"])
    print(f"{run:<15}{tokens} tokens: {gap} dB (RGB) at ×4 against the plain tokenizer's 437")

# %% tags=["nbval-ignore-output"]
long_run = psnr(images[4], x, color="rgb") - psnr(plain.decode(plain_latents[-1]), x, color="rgb")
print(f"shipped tokenizers, 20,000 steps, one seed: {bootstrap(long_run, files)} dB")

# %% [markdown]
# **What you should see.** With the same tokens, HIT pays at full size: about half a decibel, in the short runs and in the long ones. Seven of its eight maps serve two smaller photos as well. Without the bridge it would pay far more.
# One more map of 16 × 16 more than makes up for it, as is said of the paper's one scale more †. But it is the most expensive map there is: over half as many tokens again. "Slightly worse" † at 512 pixels fits what we see at 64.
#
# ## What does a token buy?
#
# The ladder is ours to choose; we do not know the paper's. Every token costs the transformer time, so what does each buy?
# Six ladders, 600 steps each, on the *validation* photos, since we are choosing: `vartutor study` runs them all, and `vartutor/workshop/tokenizer_study.py` has their names.

# %%
ladders = {}
for (run, measure), seeds in study.items():
    if run.startswith("ladder ") and measure.startswith("psnr "):
        row = ladders.setdefault(run.removeprefix("ladder "), {"tokens": int(study[run, "tokens"][0]["all"])})
        row[measure] = np.mean(list(seeds[0].values()))
ladders = dict(sorted(ladders.items(), key=lambda item: item[1]["tokens"]))
for letter, (name, row) in zip("ABCDEF", ladders.items(), strict=True):
    print(f"{letter} {row['tokens']:>4}  {name:<28}" + "".join(f"  ×{s} {row[f'psnr {s}']:.1f} dB" for s in (1, 2, 4)))

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharex=True)
for ax, s in zip(axes, (1, 2, 4), strict=True):
    for letter, (name, row) in zip("ABCDEF", ladders.items(), strict=True):
        ours_now = name.replace(" ", "") == "1,2,4,4,4|8,8|16"
        ax.plot(row["tokens"], row[f"psnr {s}"], "o", color=COLORS["model" if ours_now else "bicubic"])
        lower = 6 if letter == "C" else -13  # B, C and D stand close together
        ax.annotate(letter, (row["tokens"], row[f"psnr {s}"]), (0, lower), textcoords="offset points", ha="center")
    ax.set(title=f"×{s}", xlabel="tokens", xlim=(300, 820))
    ax.margins(y=0.2)
axes[0].set_ylabel("PSNR, validation (RGB, dB)")
show(
    figure,
    "Quality at each size against the tokens of the ladder, A to F as printed above; blue is the ladder of the course.",
    "Three scatter plots of PSNR against the number of tokens for six ladders, A to F. At one and two times, A and E lie "
    "lowest, though E has many tokens; at four times A lies lowest, B, C and D about level, and E and F, which have more "
    "tokens in large maps, stand out.",
)

# %% [markdown]
# **What you should see.** Maps of a group help the sizes from this group on. From A to B come two more maps of 4 × 4 and one of 8 × 8, and all sizes gain, ×4 by a decibel. From B to D come maps of 4 × 4 alone: sixteen tokens each lift ×1 a little, and ×4 hardly at all. Then ×4 gains from large maps only (E and F).
# VAR's style of ladder (E), sides growing step by step, spends many tokens between the sizes, and gets less for them at ×1 and ×2.
#
# We took the blue one: good at ×1, where a degraded photo is already close to the truth, and cheap for the transformer, whose work grows with every token.
# These are short runs with one seed each: good enough to see which way to go, not to tell neighbours apart.
#
# ## What if there were no overlap?
#
# Switch it off: every group quantizes its photo alone, from zero. To get back what the earlier groups would have told it, a group needs the coarse maps again.
# So the ladder grows: the second group repeats the first one's maps, the third repeats both.

# %%
alone = int(study["alone", "tokens"][0]["all"])
print(f"tokens: {alone} without overlap, {quantizer.tokens} with")
for s in (1, 2, 4):
    gap = bootstrap(by_photo("alone", f"psnr {s}") - by_photo("hit", f"psnr {s}"), names)
    print(f"×{s}: without overlap {gap} dB (RGB) against HIT")
# %%
for item in study["alone", "agreement"][0]:
    shares = [seed[item] for seed in study["alone", "agreement"].values()]
    k, side = int(item.split(":")[0]), item.split()[-1]
    chance = (indices[k] == indices[k].roll(3, 0)).float().mean()
    print(f"map {k + 1}, {side} × {side}: small and large photo agree on {np.mean(shares):.0%} of the tokens", end="; ")
    print(f"two different photos, in HIT, on {chance:.1%}")

# %% [markdown]
# Half as many tokens again, and what for? At ×4, where a photo now has a whole ladder to itself, a few tenths of a decibel. At the smaller sizes it is even a little worse, though the first group does the same work in both: one codebook must serve twice as many kinds of map.
# And is anything said twice? The very first token, little more than a mean colour, is often the same for the small photo and the large one. From 4 × 4 on practically none is, no more than two different photos share by chance.
# Careful: unequal tokens are not yet another language. Codes lie close together, and mild damage alone changes most tokens of these maps (see below). But it does mean that no token of the small photo can be reused for the large one as it is. With overlap there is only one such token, and it serves all.
#
# ## Do tokens mean the same at every size?
#
# If the small photo's tokens really begin the large one's, then to change one of them must change all three photos *in the same way*, and at the same place.
# Take map 3, the first of 4 × 4, and replace one of its sixteen tokens by the one that another photo has there. Nothing else changes. Then compare: shrink the change at ×4 to 16 × 16, and correlate it with the change at ×1.


# %%
def swapped(maps, k=2, places=16):
    place = torch.arange(len(x)) % places  # another place in every crop
    other = [m.clone() for m in maps]
    other[k][torch.arange(len(x)), place] = maps[k].roll(3, 0)[torch.arange(len(x)), place]
    return other


def correlation(a, b):
    a, b = a.flatten(1), b.flatten(1)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-6)


with torch.no_grad():
    other = swapped(indices)
    change = {s: image - images[s] for s, image in hit.decode_scales(other).items()}
    for s in (2, 4):
        agreement = correlation(F.interpolate(change[s], size=(16, 16), mode="area"), change[1])
        print(f"HIT: the change at ×{s} correlates with the change at ×1 by {agreement.mean():.2f}")
    assert agreement.mean() > 0.4

# %%
with torch.no_grad():
    plain_maps = plain.tokenize(x)
    before, after = (plain.latents(m) for m in (plain_maps, swapped(plain_maps)))
    small = [decode_small(plain, f_hats[4], 16, 64)["shrunk first"] for f_hats in (before, after)]
    large = [F.interpolate(plain.decode(f_hats[-1]), size=(16, 16), mode="area") for f_hats in (before, after)]
plain_agreement = correlation(large[1] - large[0], small[1] - small[0])
print(f"plain: {plain_agreement.mean():.2f}, with its small picture decoded from the shrunk sum")
assert abs(plain_agreement.mean() - agreement.mean()) < 0.3

# %% tags=["hide-input"]
case = 51
rows = [[images[s][case] for s in (1, 2, 4)]]
with torch.no_grad():
    rows.append([image[case] for image in hit.decode_scales(other).values()])
rows.append([(2 * change[s][case]).clamp(-1, 1) for s in (1, 2, 4)])
figure = image_grid(rows, ["×1", "×2", "×4"], labels=["before", "after", "change, doubled"])
show(
    figure,
    "One coarse token swapped: all three photos change at the same place.",
    "A grid of three rows and three columns. Above, a crop at three sizes; in the middle the same with one token "
    "swapped, a patch of another colour at the same place in all three; below, twice the difference, gray except around "
    "that patch.",
    photo=True,
)

# %% [markdown]
# **What you should see.** One patch, at one place, in all three. The finer tokens add their detail on top of the wrong patch, undisturbed.
# So whatever a model decides early, it decides for all three sizes: that is why it can restore a photo at ×1, ×2 and ×4 in one pass.
#
# But look at the last number, too. We expected the plain tokenizer to do worse here, and it hardly does: a coarse token is a patch of colour in both, and pushes every size the same way.
# Consistency in this sense is not what hierarchical tokens buy. They buy that the small picture is a *photo*; that was claim A.
#
# In JupyterLab: choose the crop, the map and the place, and swap.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


@torch.no_grad()
def draw(crop, scale, place, donor):
    mine = [m[crop : crop + 1].clone() for m in indices]
    at = place % mine[scale - 1].shape[1]
    mine[scale - 1][0, at] = indices[scale - 1][donor, at]
    now = hit.decode_scales(mine)
    return image_grid([[images[s][crop] for s in (1, 2, 4)], [now[s][0] for s in (1, 2, 4)]], ["×1", "×2", "×4"])


explorer(
    draw,
    crop=slider("crop", 22, 0, 59, 1),
    scale=slider("map", 3, 1, 8, 1),
    place=slider("place", 5, 0, 255, 1),
    donor=slider("token of crop", 25, 0, 59, 1),
)

# %% [markdown]
# ## Where does it stop, and why?
#
# Two things lose quality: the autoencoder, which squeezes 48 numbers into 16, and the tokens, which replace 16 numbers by a choice among 1024. Which is to blame? Decode the features themselves, without quantizing them, and see how far that is from the tokens.

# %%
with torch.no_grad():
    ceiling = {s: hit.decode(f) for s, f in zip(hit.scales, features, strict=True)}
for s in hit.scales:
    free, coded = (psnr(z[s], true[s], color="rgb").mean().item() for z in (ceiling, images))
    maps = quantizer.ends[hit.scales.index(s)]
    tokens = sum(p * p for p in quantizer.patch_nums[:maps])
    bits = 10 * tokens / (16 * s) ** 2
    print(f"×{s}: {coded:.1f} dB (RGB) with tokens ({bits:.2f} bits per pixel), {free:.1f} dB without")
    assert free > coded

# %% [markdown]
# **What you should see.** The autoencoder alone would allow several decibels more at every size. So it is the *tokens* that limit the quality, most of all at ×4, where a pixel gets the fewest bits. More maps would help, and cost the transformer more.
# More training would help as well, but ever less. In the log of the run, every size still gains in the last third of the steps, while the learning rate falls.
#
# ## What breaks if the photo is damaged?
#
# So far all photos were clean. A super-resolver gets a degraded one. Enlarge it to 64 × 64, tokenize it, and compare with the tokens of the clean photo. How many are equal?

# %%
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE

lr = eval_pairs(COURSE, size=64, per_photo=3).lr  # (60, 3, 16, 16), degraded mildly
with torch.no_grad():
    damaged = hit.tokenize(upscale_bicubic(lr)[4])
    redrawn = hit.decode_scales(damaged)[1]
for k, p in enumerate(quantizer.patch_nums):
    print(f"map {k + 1}, {p} × {p}: {(damaged[k] == indices[k]).float().mean():.0%} of the tokens survive")
print(f"LR photo itself, ×1: {bootstrap(psnr(lr, true[1], color='rgb'), files)} dB (RGB)")
print(f"LR photo, tokenized: {bootstrap(psnr(redrawn, true[1], color='rgb'), files)} dB (RGB)")

# %%
survive = [(a == b).float().mean().item() for a, b in zip(damaged, indices, strict=True)]
assert survive[0] > survive[4]
assert survive[-1] < 0.2

# %% [markdown]
# ## Questions
#
# 1. HIT has one encoder for three sizes of photo. Why not three encoders?
#
# <details><summary>Answer</summary>
#
# One codebook and one decoder serve all groups, so features of all sizes must live in one space. One encoder makes that likely, and has a third of the weights.
#
# </details>
#
# 2. Replace the ×4 photo by noise. Which maps may change, and which may not?
#
# <details><summary>Answer</summary>
#
# Here ×1 and ×2 are shrunk from the ×4 photo, so all may change. If only the *features* at ×4 are replaced, the first seven maps cannot change: they never look at them.
#
# </details>
#
# 3. Why does a further map of 4 × 4 hardly help ×4?
#
# <details><summary>Answer</summary>
#
# What ×4 lacks is fine detail. A map of 4 × 4 can only say smooth things about a canvas of 16 × 16.
#
# </details>
#
# 4. Without overlap ×4 is a little better. Why use overlap at all?
#
# <details><summary>Answer</summary>
#
# It needs half as many tokens again, and every token costs the transformer. And without overlap the ×1 tokens do not begin the ×4 sequence, so one pass no longer gives three consistent sizes.
#
# </details>
#
# 5. Most tokens change under mild damage. Does that mean that the tokenizer is bad?
#
# <details><summary>Answer</summary>
#
# No. The decoded pictures stay close, since near codes look alike. It means that equality of tokens is a harsh measure.
#
# </details>
#
# ## An open experiment
#
# Give claim A a stronger rival: a plain tokenizer whose partial sums are decoded in training, at ×1 and ×2, as HIT's are. Train it with the loop of this chapter beside HIT, with the same crops and steps. How much of HIT's lead remains?
#
# A good answer
#
# - changes one thing: the loss; ladder, steps, crops and seeds are the same;
# - says how the partial sum becomes a small picture, and trains what it measures;
# - has at least three seeds, and intervals over test photos, paired;
# - reports what the rival pays at ×4 for it;
# - says what the short budget leaves open.
#
# ## In five lines
#
# 1. HIT encodes the photo at three sizes with one encoder, and gives each size a group of the ladder.
# 2. A group starts from the enlarged sum of the groups before: the tokens of the small photo begin the large one's.
# 3. Decoding after each group gives real photos at ×1, ×2 and ×4; the prefix of a plain tokenizer that was never asked for them does not.
# 4. The price is paid at full size: about half a decibel for the same tokens; one more map buys it back, and more.
# 5. A mild degradation changes most tokens, though the photo hardly changes: the next chapters must live with that.
#
# ## The course and the paper
#
# | | this course | H-VAR (the paper) |
# |---|---|---|
# | sizes | 16, 32, 64 pixels | 128, 256, 512 pixels † |
# | between the groups | bicubic and a bridge of two convolutions; φ belongs to a map, not to a group. Our choice | not known |
# | small photos | shrunk with antialiased bicubic. Our choice | not known |
# | ladder | 1, 2, 4, 4, 4 · 8, 8 · 16, found by search | not known; 10 or 11 scales are quoted † |
# | overlap | on; off as an ablation | on † |
# | cost at full size | measured above | "slightly worse", made up for by one more scale † |
#
# † at second hand; the page *Paper versus course* of the book says from where.
#
# ## References
#
# - A. Sánchez et al., [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025: hierarchical image tokenization; its second version is [H-VAR](https://arxiv.org/abs/2605.14891).
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: the plain tokenizer.
# - H. Tang et al., [HART](https://arxiv.org/abs/2410.10812), 2024: letting some images bypass the quantizer in training.
#
# **Next:** chapter 06 predicts these maps, one scale at a time.
