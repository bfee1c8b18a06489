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
# | about a minute to run, an hour to read | chapter 04 | November 2026, torch 2.13 |

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
# So ask. Before you read on: how would *you* change the tokenizer so that the first tokens are a complete photo of 16 × 16, the next ones complete it to 32 × 32, and all of them to 64 × 64?
#
# You could train three tokenizers. But then a model that predicts tokens would say the same thing three times, in three languages.
# The paper's answer is *hierarchical image tokenization*: keep one ladder of maps, but let each part of it look at a photo of its own size.
#
# Shrink the photo to a quarter and a half. Encode all three, with the *same* encoder:

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.data.pairs import pyramid
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
# So we add to bicubic what two small convolutions learn to add, and call it the bridge. (Our choice; the paper does not say.)
#
# $$ \hat f \leftarrow \mathrm{bicubic}(\hat f) + \mathrm{conv}\big(\mathrm{silu}(\mathrm{conv}(\mathrm{bicubic}(\hat f)))\big), \qquad r = z_{\frac12} - \hat f, \qquad \text{then as before.} $$
#
# How much does the enlarged sum already explain, without the bridge and with it?


# %%
def share_left(f, guess):  # of the variation from place to place
    return ((f - guess).square().sum() / (f - f.mean((2, 3), keepdim=True)).square().sum()).item()


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

# %% [markdown]
# That is what a larger photo owes to a smaller one. (Bicubic alone looks bad here because this tokenizer was trained with the bridge and relies on it; what it costs to train without one comes below.) The rest is detail, and detail is what the group's own tokens are for.
#
# Now the whole thing. Compared with the loop of chapter 04, only the marked lines are new.


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


with torch.no_grad():
    ours, _ = quantize([f[:8] for f in features], quantizer.groups)
equal = torch.cat([(a == b[:8]).flatten() for a, b in zip(ours, indices, strict=True)]).float().mean()
assert equal > 0.999  # rounding may flip a tie
print(quantizer.tokens, "tokens; ours and the package's agree")

# %% [markdown]
# One encoder, one codebook, one decoder, eight maps. Decode after each group:

# %% tags=["hide-input"]
with torch.no_grad():
    images = hit.decode_scales(indices)
chosen = [35, 22, 48]
figure = image_grid(
    [[part[s][i] for s in (1, 2, 4) for part in (true, images)] for i in chosen],
    ["photo at ×1", "53 tokens", "photo at ×2", "181 tokens", "photo at ×4", "437 tokens"],
    colors=[COLORS["hr"], COLORS["model"]] * 3,
)
show(
    figure,
    "Three crops: the true photo at each size, and what the tokens so far say.",
    "Three rows of six pictures in pairs: the photo at 16, 32 and 64 pixels, each beside the decode of the tokens of "
    "its group. The pairs look alike; the smallest decodes are a little noisy, and the largest lack the finest texture.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Pairs. After 53 tokens there *is* a photo, small and sharp, if a little noisy, and not a blurred large one.
#
# Is the prefix really independent of the rest? Replace the larger photos' features by noise: the first five maps must not notice.

# %%
noise = [features[0], *(torch.randn_like(f) for f in features[1:])]
same = [torch.equal(a, b) for a, b in zip(quantizer.tokenize(noise), indices, strict=True)]
print("maps that stay the same:", same)
assert same == [True] * 5 + [False] * 3

# %% [markdown]
# ## Can two cores train it?
#
# The loss is that of chapter 04, once for every size. Nothing else: that the groups fit together is left to the training.
# The three encodings must agree in places where the photos do, for the enlarged sum of the small one to be of use; and since that lowers the loss, they learn to.

# %%
from vartutor.data.photos import load_pixels
from vartutor.metrics import bootstrap, psnr
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer

model = build_tokenizer(TokenizerConfig.of(profile, "hit")).to(session.device)
model.quantizer.use_moving_averages()
crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.95))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=profile.lesson_steps)

# %%
decibels = {s: [] for s in model.scales}
for step in range(profile.lesson_steps):
    target = pyramid(crops.batch().to(session.device))
    outputs, _, vq_loss = model(target[4])
    loss = 0.25 * vq_loss
    for s, image in outputs.items():
        loss = loss + F.l1_loss(image, target[s]) + F.mse_loss(image, target[s])
        decibels[s].append(psnr(image.detach(), target[s], color="rgb").mean().item())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 20 == 19:
        model.quantizer.revive()

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.3))
for (s, values), color in zip(decibels.items(), (COLORS["rest"], COLORS["token"], COLORS["model"]), strict=True):
    ax.plot(smooth(values, 20), color=color, label=f"×{s}")
ax.set(xlabel="step", ylabel="PSNR of the batch (dB)")
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
    print(f"shipped tokenizer at ×{s}: {bootstrap(psnr(image, true[s], color='rgb'), files)} dB on the test photos")
used = len(torch.cat([idx.flatten() for idx in indices]).unique()) / len(quantizer.codes)
print(f"codes in use: {used:.0%}")

# %% [markdown]
# The shipped one is the same after 20,000 steps: `vartutor train tokenizer --set bf16=true`.
#
# ## Claim A: only hierarchical tokens give the smaller photos
#
# The plain tokenizer of chapter 04 has the same maps, the same autoencoder, the same number of steps. Take its tokens up to the same map, and get a small picture out of them in the better of the two ways. Per photo, how many decibels is HIT ahead?

# %%
from vartutor.tokenizer.tokenizer import decode_small

with torch.no_grad():
    plain_latents = plain.latents(plain.tokenize(x))
    rivals = {
        s: decode_small(plain, plain_latents[end - 1], 16 * s, 64)
        for s, end in zip((1, 2), quantizer.ends, strict=False)
    }
for s, ways in rivals.items():
    best = torch.stack([psnr(image, true[s], color="rgb") for image in ways.values()]).amax(0)
    ahead = bootstrap(psnr(images[s], true[s], color="rgb") - best, files)
    print(f"×{s}: HIT is {ahead} dB ahead of the plain tokenizer")
    assert ahead.low > 1

# %% tags=["hide-input"]
figure = image_grid(
    [[true[1][i], images[1][i], rivals[1]["decoded first"][i], rivals[1]["shrunk first"][i]] for i in chosen],
    ["photo at ×1", "HIT", "plain (decode)", "plain (shrink)"],
    colors=[COLORS["hr"], COLORS["model"], COLORS["bicubic"], COLORS["bicubic"]],
    height=1.3,
)
show(
    figure,
    "Fifty-three tokens each: hierarchical, and plain.",
    "Three crops at 16 by 16 pixels: the photo, HIT's decode, which resembles it closely, and two attempts to get a "
    "small picture out of the plain tokenizer's first tokens, one blurred, one with wrong colours.",
    photo=True,
)

# %% [markdown]
# ## Claim B: what does it cost at full size?
#
# Nothing is free. The plain tokenizer's coarse maps serve the large photo alone; HIT's serve three. The paper says that HIT is slightly worse at full size, and that one scale more makes up for it.
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
    print(f"{run:<15}{tokens} tokens: {gap} dB against the plain tokenizer's 437")

# %% tags=["nbval-ignore-output"]
long_run = psnr(images[4], x, color="rgb") - psnr(plain.decode(plain_latents[-1]), x, color="rgb")
print(f"shipped tokenizers, 20,000 steps, one seed: {bootstrap(long_run, files)} dB")

# %% [markdown]
# **What you should see.** With the same tokens, HIT pays at full size: about half a decibel, in the short runs and in the long ones, for the first half of its ladder is busy with two smaller photos. Without the bridge it would pay far more.
# One more map of 16 × 16 more than makes up for it, as the paper says of one scale more. But it is the most expensive map there is: over half as many tokens again.
#
# "Slightly worse" is the paper's word, at 512 pixels, and it fits here too.
#
# ## What does a token buy?
#
# The ladder is ours to choose; the paper does not print its own. Every token costs the transformer time, so what does each buy?
# Six ladders, 600 steps each, on the *validation* photos, since we are choosing: `vartutor study` runs them all, and `vartutor/workshop/tokenizer_study.py` has their names.

# %%
ladders = {}
for (run, measure), seeds in study.items():
    if run.startswith("ladder ") and measure.startswith("psnr "):
        row = ladders.setdefault(run.removeprefix("ladder "), {"tokens": int(study[run, "tokens"][0]["all"])})
        row[measure] = np.mean(list(seeds[0].values()))
ladders = dict(sorted(ladders.items(), key=lambda item: item[1]["tokens"]))
for name, row in ladders.items():
    print(f"{row['tokens']:>4}  {name:<28}" + "".join(f"  ×{s} {row[f'psnr {s}']:.1f}" for s in (1, 2, 4)))

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.5), sharex=True)
for ax, s in zip(axes, (1, 2, 4), strict=True):
    for name, row in ladders.items():
        ours_now = name.replace(" ", "") == "1,2,4,4,4|8,8|16"
        ax.plot(row["tokens"], row[f"psnr {s}"], "o", color=COLORS["model" if ours_now else "bicubic"])
    ax.set(title=f"×{s}", xlabel="tokens", xlim=(300, 820))
axes[0].set_ylabel("PSNR, validation (dB)")
show(
    figure,
    "Quality at each size against the tokens of the ladder; blue is the ladder of the course.",
    "Three scatter plots of PSNR against the number of tokens for six ladders. At one and two times, ladders with more "
    "small maps are better; at four times only those with more than one large map stand out.",
)

# %% [markdown]
# **What you should see.** Maps of a group help the sizes from this group on. A further map of 4 × 4 costs only sixteen tokens and lifts ×1; maps of 8 × 8 lift ×2; and at ×4 nothing helps but more large maps.
# VAR's style of ladder, sides growing step by step, spends many tokens between the sizes, and gets less for them at ×1 and ×2.
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
    print(f"×{s}: without overlap {gap} dB against HIT")
for item in study["alone", "agreement"][0]:
    shares = [seed[item] for seed in study["alone", "agreement"].values()]
    print(f"map {item} × {item.split()[-1]}: small and large photo agree on {np.mean(shares):.0%} of the tokens")

# %% [markdown]
# Half as many tokens again, and what for? At ×4, where a photo now has a whole ladder to itself, a few tenths of a decibel. At the smaller sizes it is even a little worse, though the first group does the same work in both: one codebook must serve twice as many kinds of map.
# And the languages differ. The very first token, little more than a mean colour, is often the same for the small photo and the large one; from 4 × 4 on, practically none is. What a model has learnt to say about the small photo is of no use for the large one. With overlap there is only one such token, and it serves all.
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
figure = image_grid(rows, ["×1", "×2", "×4"], labels=["before", "after", "change"], height=1.3)
show(
    figure,
    "One coarse token swapped: all three photos change at the same place.",
    "A grid of three rows and three columns. Above, a crop at three sizes; in the middle the same with one token "
    "swapped, a patch of another colour at the same place in all three; below, the difference, gray except for that patch.",
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
    return image_grid(
        [[images[s][crop] for s in (1, 2, 4)], [now[s][0] for s in (1, 2, 4)]], ["×1", "×2", "×4"], height=1.6
    )


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
    print(f"×{s}: {coded:.1f} dB with tokens ({10 * tokens / (16 * s) ** 2:.2f} bits per pixel), {free:.1f} dB without")
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
print(f"LR photo itself, ×1: {bootstrap(psnr(lr, true[1], color='rgb'), files)} dB")
print(f"LR photo, tokenized: {bootstrap(psnr(redrawn, true[1], color='rgb'), files)} dB")

# %%
survive = [(a == b).float().mean().item() for a, b in zip(damaged, indices, strict=True)]
assert survive[0] > survive[4]
assert survive[-1] < 0.2

# %% [markdown]
# **What you should see.** A mild degradation, which your eye forgives, changes nearly all tokens but the coarsest. The codes lie close together, and each map quantizes what the map before it left: one early change, and every later map has something else to describe.
#
# Two lessons for the chapters to come. To *predict the right token* is hard, and needlessly so: among a thousand codes, dozens are nearly as good. A model should be forgiven for the second best.
# And the ×1 line is a warning. Whatever the transformer does, it speaks through this tokenizer. A mildly degraded photo is close to the clean one; a tokenizer must be good at ×1, or "restoring" will make a photo worse.
#
# ## Your turn
#
# **★ The canvas.** Every map is enlarged to the features of its group. Which side has that canvas for map `k`, counted from 0 through all groups?

# %% tags=["exercise"]
from vartutor.exercises import ch05


def my_canvas(k, groups):
    return ...


ch05.check("canvas", my_canvas)

# %%
ch05.hint("canvas")
ch05.solution("canvas")

# %% [markdown]
# **★★ Hierarchical tokens.** `features` is a list, one (B, C, h, h) per group, `codes` is (V, C). Return all token maps, (B, p · p) each, and a list of $\hat f$ after every group. No φ: bicubic alone enlarges.


# %% tags=["exercise"]
def my_hierarchical(features, codes, groups):
    return ...


ch05.check("hierarchical", my_hierarchical)

# %%
ch05.hint("hierarchical")
ch05.solution("hierarchical")

# %% [markdown]
# **★★★ Across the border.** Return the transformer's inputs for maps 2 … K, (B, L − p_1², C), from the maps, the codes and the groups. No φ. What is the input of the first map of a new group?


# %% tags=["exercise"]
def my_next_inputs(maps, codes, groups):
    return ...


ch05.check("next_inputs", my_next_inputs)

# %%
ch05.hint("next_inputs")
ch05.solution("next_inputs")

# %% [markdown]
# ## In five lines
#
# 1. HIT encodes the photo at three sizes with one encoder, and gives each size a group of the ladder.
# 2. A group starts from the enlarged sum of the groups before: the tokens of the small photo begin the large one's.
# 3. Decoding after each group gives real photos at ×1, ×2 and ×4; the plain tokenizer's prefix does not.
# 4. The price is paid at full size: about half a decibel for the same tokens; one more map buys it back, and more.
# 5. A mild degradation changes most tokens, though the photo hardly changes: the next chapters must live with that.
#
# ## The course and the paper
#
# | | this course | H-VAR (the paper) |
# |---|---|---|
# | sizes | 16, 32, 64 pixels | 128, 256, 512 pixels |
# | between the groups | bicubic and a bridge of two convolutions; φ belongs to a map, not to a group. Our choice | not given |
# | small photos | shrunk with antialiased bicubic. Our choice | not given |
# | ladder | 1, 2, 4, 4, 4 · 8, 8 · 16, found by search | not printed |
# | overlap | on; off as an ablation | on |
# | cost at full size | measured above | "slightly worse", made up for by one more scale |
#
# ## References
#
# - A. Sánchez et al., [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025: hierarchical image tokenization; its second version is [H-VAR](https://arxiv.org/abs/2605.14891).
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: the plain tokenizer.
# - H. Tang et al., [HART](https://arxiv.org/abs/2410.10812), 2024: letting some images bypass the quantizer in training.
#
# **Next:** chapter 06 predicts these maps, one scale at a time.
