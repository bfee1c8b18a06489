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
# # 07 · Super-resolution in one pass
#
# **One degraded photo goes in; one pass over eight token maps gives it back at ×1, ×2 and ×4.**
# This chapter tells the transformer of chapter 06 a photo, trains a small one for a minute, then takes the shipped one apart: what it does better than simple methods, what it does worse, and where the error comes from.
#
# ![The degraded photo becomes prefix tokens and latents; the transformer reads both and writes three groups of token maps; after each group the decoder makes a photo, at times one, two and four, with a second look at the degraded photo if asked.](../assets/diagrams/superres.svg)
#
# After this chapter you will be able to
#
# - **condition** a transformer on a photo, in two ways;
# - **choose** what to ask of it: one code, or all near ones;
# - **decode** a distribution over tokens into one picture, blurred or bold;
# - **compare** with honest baselines, on intervals;
# - **find** the part that loses the quality, by replacing one part at a time with the truth.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about four minutes to run, an hour and a half to read | chapters 05 and 06 | November 2026, torch 2.13 |

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
profile, recipe = session.profile, session.profile.transformer
print(session)

# %% [markdown]
# ## What is asked?
#
# Chapter 06 learnt $p(q_1 \dots q_K)$, the chances of all pictures of a family. Now somebody hands us a photo $y$, small, noisy, squeezed. What is asked is
#
# $$ p(q_1, \dots, q_K \mid y) = \prod_{k=1}^{K} p(q_k \mid q_1, \dots, q_{k-1}, y): $$
#
# the chances of the tokens of the *clean* photo. The maps of chapter 05 end with a complete photo at ×1, at ×2 and at ×4. So one walk through the product gives three answers.
#
# The true tokens are there in training only. Here are four pairs, with what the tokenizer makes of the clean ones: the best that any transformer over this tokenizer can reach.

# %%
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("hit").to(session.device)
quantizer, codes = tokenizer.quantizer, tokenizer.quantizer.codes
pairs = eval_pairs(COURSE, "val", 64, 3)

# %%
lr, hr = pairs.lr.to(session.device), {s: x.to(session.device) for s, x in pairs.hr.items()}
with torch.no_grad():
    true = tokenizer.tokenize(hr[4])  # 8 maps, (N, p * p) each
    ceiling = tokenizer.decode_scales(true)
print("degraded:", tuple(lr.shape), " tokens:", sum(q.shape[1] for q in true))

# %% tags=["hide-input"]
picks = [0, 9, 16, 27]
rows = [lr, *hr.values(), ceiling[4]]
figure = image_grid(
    [list(x[picks].cpu()) for x in rows],
    labels=["degraded", "clean ×1", "clean ×2", "clean ×4", "its tokens"],
    height=0.75,
)
show(
    figure,
    "What goes in (top), what should come out at three sizes, and the clean photo after the tokenizer (bottom).",
    "Five rows of four small photos: degraded ones, grainy and soft; the clean ones at three resolutions; and their "
    "reconstructions from tokens, which look nearly like the clean ones.",
    photo=True,
)

# %% [markdown]
# ## How can the transformer be told a photo?
#
# As more tokens. Cut the degraded photo into patches of 2 × 2 pixels, let two small convolutions look at each patch and its neighbours, and put the result *before* the first map: a **prefix**. All maps may look at it, as they look at earlier maps. The rotations of chapter 06 tell where each patch lies, on the same frame as the maps.
#
# The paper does this too, with tokens from a learned encoder; LLaVA tells a language model its picture in this way.

# %%
from vartutor.transformer.condition import PhotoPrefix

torch.manual_seed(SEED)
prefix = PhotoPrefix(width=96).to(session.device)
patches = F.pixel_unshuffle(lr, 2)  # (N, 12, 8, 8): 2 × 2 pixels of 3 colours become 12 channels
with torch.no_grad():
    tokens = prefix.proj(prefix.layers(patches).flatten(2).mT)  # (N, 64, D)
    assert torch.equal(tokens, prefix(lr)[0])
print("prefix:", tuple(tokens.shape))

# %% [markdown]
# That is enough in principle. It is not enough in minutes: from scratch, the transformer must first find out how pixels become codes, which is what the tokenizer knows already. (At the end of the chapter we leave everything else out, and watch it fail.)
#
# ## What is known before any training?
#
# The tokenizer can read the degraded photo too. Enlarge it, encode it: latents $z$, at all three sizes. At every map, ask what $z$ lacks, given the sum so far, and which code is nearest. That would be the token, if the degraded photo were the answer:
#
# $$ r_k = \mathrm{area}(z - \hat f_{k-1},\, p_k), \qquad \text{own}_k = \arg\min_j \lVert r_k - e_j \rVert^2 . $$

# %%
from vartutor.transformer.photo import photo_features

z = photo_features(tokenizer, lr)  # latents of the enlarged photo, for each of the three groups
f_hat, own = None, []
for k in range(len(quantizer.patch_nums)):
    rest = quantizer.rest(z, f_hat, k)  # (N, p * p, C)
    own.append((rest[:, :, None] - codes).square().sum(-1).argmin(-1))
    f_hat, _ = quantizer.step(f_hat, own[-1], k)
right = [(a == b).float().mean().item() for a, b in zip(own, true, strict=True)]
print("the photo's own token is the true one, by map:", *(f"{100 * x:.0f} %" for x in right))

# %% [markdown]
# The first maps are nearly given away: what a photo looks like from far is not changed by noise. The last ones hardly at all.
#
# So start there. Give code $j$ the logit
#
# $$ \ell_j = -\alpha_k \lVert r_k + \Delta - e_j \rVert^2 + h_j , $$
#
# where $h$ is what a transformer's head says anyhow. An untrained one has $h \approx 0$ and $\Delta = 0$: it "tokenises the degraded photo". Training must only learn the *difference*: $\Delta$, where the clean latents lie, how sure to be ($\alpha$, which may rise and fall with the place), and $h$, all the rest.
# This **prior** is ours; we know of no paper that has it.

# %%
from vartutor.transformer.model import TransformerConfig
from vartutor.transformer.photo import PhotoTransformer

torch.manual_seed(SEED)
config = TransformerConfig(quantizer.patch_nums, *codes.shape, width=96, depth=3, heads=3, rope=True)
model = PhotoTransformer(config, codes).to(session.device).eval()

# %%
prior, h = model.body.prior, torch.zeros(1, 1, 96, device=session.device)
alpha = prior.log_alpha[k].exp()
by_hand = -alpha * (rest[:, :, None] - codes).square().sum(-1)
with torch.no_grad():
    assert torch.allclose(by_hand.softmax(-1), prior.logits(rest, k, h).softmax(-1), atol=1e-4)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")

# %% [markdown]
# ## What should it be asked for?
#
# For *the* right token, says the usual cross entropy, and the paper. But look how the codes lie. Take the vectors that the true tokens stand for, and measure how far the nearest ten codes are.

# %%
from vartutor.transformer.photo import force, pair_features

clean, degraded = pair_features(tokenizer, lr, hr[4])
targets, goals, inputs, rests = force(tokenizer, clean, degraded)
distances = (goals[:, :, None] - codes).square().sum(-1).topk(10, largest=False).values  # (N, L, 10)
ratio = (distances / distances[..., :1]).mean((0, 1)).sqrt()
print("distance of the nearest codes, the first as unit:", *(f"{x:.2f}" for x in ratio))

# %% [markdown]
# Even the tenth code is only half as far again as the first. To call nine of them wrong, as wrong as any other code, is a harsh way to teach. So let near codes be nearly right. With $g$ the vector that the token stands for, and $d$ the distance of the code nearest to it:
#
# $$ L = -\sum_j t_j \log p_j, \qquad t_j \propto \exp\!\left(-\frac{\lVert g - e_j \rVert^2}{\tau\, d^2}\right). $$
#
# A small $\tau$ is the usual cross entropy again. That $d$ is each token's own matters: vectors of the finest map are forty times as far from their codes, in squares, as those of map 5. With one unit for all maps we had, the coarse maps learnt to say "anything", and sampled photos were all grain.
#
# And one more thing. The finest map has 256 of the 437 tokens, the first has one. In a plain mean the fine maps drown the coarse ones. So a token of a map with $n$ tokens counts $n^{-1/2}$ times.

# %%
from vartutor.train.transformer import Objective

squares = torch.tensor([p * p for p in quantizer.patch_nums], device=session.device)
shares = (squares**-recipe.balance / (squares ** (1 - recipe.balance)).sum()).repeat_interleave(squares)


def soft_loss(logits, goals):
    far = (goals[:, :, None] - codes).square().sum(-1)
    t = (-far / (recipe.tau * far.amin(-1, keepdim=True))).softmax(-1)
    return -((t * logits.log_softmax(-1)).sum(-1) @ shares).mean()


# %% [markdown]
# Is that what the package trains with? Ask it, with the same batch. `features` encodes degraded and clean photos; `force` is teacher forcing: targets, inputs and rests of all maps at once.

# %%
from vartutor.data.crops import RandomCrops
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.train.transformer import TransformerLoss

crops = RandomCrops(load_pixels("train"), profile.image_size, recipe.batch, seed=SEED)
damage = torch.Generator().manual_seed(SEED)
objective = Objective(hard=0.0, soft=1.0, tau=recipe.tau, balance=recipe.balance)  # no slips yet
loss = TransformerLoss(model, tokenizer, objective)


def draw():
    pairs = make_pairs(crops.batch(), COURSE, damage)
    return loss.features(pairs.lr.to(session.device), pairs.hr[4].to(session.device))


# %%
seen = draw()
targets, goals, inputs, rests = force(tokenizer, seen.clean, seen.degraded)
with torch.no_grad():
    ours = soft_loss(model.body(model.condition(seen.photo, seen.degraded), inputs, rests), goals)
    theirs, _ = loss(seen)
assert torch.allclose(ours, theirs, rtol=1e-4)

# %% [markdown]
# ## What does it see meanwhile?
#
# In training, the maps before are the true ones. In generation they are its own, with its own mistakes, and it has never seen any. It trusts them: "what is said so far is right, so little is missing". Nothing gets corrected, and the mistakes of eight maps add up. This is *exposure bias*.
#
# So let some tokens **slip** in training: replace them by codes from around the degraded photo's rest. And let all later targets be the nearest codes to what the clean photo lacks *then*. To correct becomes part of the task.

# %%
torch.manual_seed(SEED)
slipped, *_ = force(tokenizer, seen.clean, seen.degraded, slip=recipe.slip)
changed = (slipped != targets).float().split(squares.tolist(), 1)
print("new targets after slips, by map:", *(f"{100 * x.mean():.0f} %" for x in changed))

# %% [markdown]
# (Map 1 comes first, so its target stays. Of the later ones, most change.)
#
# ## Train one for a minute
#
# First `calibrate`: on one batch, which no step will see, find for every map the $\alpha$ that makes the true tokens likeliest. With a far too large one the model would begin by being sure of the wrong codes.
# Encoding costs more than this small model does, so we encode some batches once, and use each a few times.

# %%
from vartutor.train.transformer import calibrate

calibrate(model, tokenizer, draw())
kept = [draw() for _ in range(min(64, profile.lesson_steps))]

# %% [markdown]
# Then the loop. It is that of `vartutor train` (`vartutor/train/trainer.py`), without what surrounds it there: averaged weights, validation, and states to go on from.

# %%
from vartutor.train.loop import LoopConfig, Moment, learning_rate
from vartutor.train.transformer import decay_groups


def train(model, objective):
    loss = TransformerLoss(model, tokenizer, objective)
    loop = LoopConfig(profile.lesson_steps, lr=2e-3, warmup=0.1, weight_decay=0.05)
    optimizer = torch.optim.AdamW(decay_groups(model, loop.weight_decay), betas=(0.9, 0.95))
    log = []
    model.train()
    for step in range(loop.steps):
        moment = Moment(step, (step + 1) / loop.steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(moment.progress, loop)
        value, _ = loss(kept[step % len(kept)], moment)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), loop.clip)
        optimizer.step()
        log.append(value.item())
    model.eval()
    return log


# %% [markdown]
# How do we turn a distribution over codes into a picture? For now in the calmest way: instead of one code take their mean, $\sum_j p_j e_j$, a little sharpened (temperature one half). More on that below.

# %%
from vartutor.metrics import psnr
from vartutor.transformer.photo import restore_latents


def restore(model, lr, **options):
    latents = restore_latents(model, tokenizer, lr, **options)
    return {s: tokenizer.decode(f_hat) for s, f_hat in latents.items()}


def quality(images):
    return [psnr(images[s], hr[s], color="rgb").mean().item() for s in (1, 2, 4)]


# %%
calm = {"expected": True, "temperature": 0.5}
before = restore(model, lr, **calm)
log = train(model, Objective.of(recipe))
after = restore(model, lr, **calm)

# %%
for name, images in {"bicubic": upscale_bicubic(lr), "untrained": before, "trained": after, "ceiling": ceiling}.items():
    print(f"{name:>10}:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(images), strict=True)))
if PROFILE == "cpu":
    assert np.mean(log[-50:]) < np.mean(log[:20]) - 0.3
    assert quality(after)[2] > quality(before)[2]

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.4))
ax.plot(log, color=COLORS["token"], alpha=0.2)
ax.plot(smooth(log, 25), color=COLORS["token"])
ax.set(xlabel="step", ylabel="loss")
show(
    figure,
    "The loss of the small model while it trains, and its running mean.",
    "A noisy curve, which falls steeply for some fifty steps and slowly from then on.",
)

# %% [markdown]
# **What you should see.** The untrained model is level with bicubic interpolation: it *is* little more than the degraded photo, said in tokens. In a minute it gains at ×2 and ×4. The ceiling is far away.
#
# ## The shipped model
#
# The same, larger, and trained for more than an hour on one core: `vartutor train transformer --set bf16=true`. From here on, `model` is that one.

# %%
from vartutor.superres import SuperResolver

resolver = SuperResolver.from_pretrained("course", device=session.device)
model = resolver.model
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")
print(f"width {model.config.width}, {model.config.depth} blocks, {model.config.heads} heads")

# %% [markdown]
# ### Watch it work
#
# Map by map, each decoded at once. `iterate` is the generator of chapter 06; the condition now holds a photo.

# %%
from vartutor.transformer.generate import iterate

some = lr[picks]
condition = model.condition(some, photo_features(tokenizer, some))
steps = list(iterate(model.body, tokenizer, condition, expected=True, temperature=0.5))
film = [F.interpolate(tokenizer.decode(step.f_hat).cpu(), size=(64, 64)) for step in steps]

# %% tags=["hide-input"]
columns = [F.interpolate(some.cpu(), size=(64, 64)), *film, hr[4][picks].cpu()]
figure = image_grid(
    [[column[i] for column in columns] for i in range(4)],
    ["degraded", *(f"map {k + 1}" for k in range(8)), "clean"],
)
show(
    figure,
    "Four photos, as they appear map by map: ×1 is complete after map 5, ×2 after map 7, ×4 after map 8.",
    "Four rows of ten small photos: a grainy one of 16 by 16 pixels, then a flat colour, coarse blobs, a small photo that "
    "is complete after map 5, one of twice the size after map 7 and of four times after map 8, and the clean photo.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Maps 1 to 5 make a photo of 16 × 16 pixels, and it has lost the grain. Then the canvas doubles, twice; what is added is finer and fainter each time.
#
# ## How bold should it be?
#
# For every token we get a distribution over a thousand codes, and it is broad: many different details fit one small photo. Three ways to end it:
#
# - **greedy**: the likeliest code;
# - **sampled**: any code, by its chances, at a temperature;
# - **expected**: the mean of all codes, by their chances. This is not a code, but the decoder does not mind. It is the answer with the least squared error.
#
# Judge them twice. PSNR asks how far the pixels are off. The perceptual distance of chapter 01 asks whether a network that knows photos sees the same.

# %%
from vartutor.perceptual import perceptual_distance

ways = {
    "greedy": {"top_k": 1},
    "sampled, τ = 1": {},
    "sampled, τ = 0.5": {"temperature": 0.5},
    "expected, τ = 1": {"expected": True},
    "expected, τ = 0.5": {"expected": True, "temperature": 0.5},
}

# %%
dice = torch.Generator(session.device).manual_seed(SEED)
found = {"bicubic": upscale_bicubic(lr)}
found |= {name: restore(model, lr, generator=dice, **options) for name, options in ways.items()}
for name, images in found.items():
    far = perceptual_distance(images[4], hr[4]).mean().item()
    print(
        f"{name:>18}:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(images), strict=True)), f"{far:.3f}"
    )

# %% tags=["hide-input"]
names = ["bicubic", "greedy", "sampled, τ = 1", "sampled, τ = 0.5", "expected, τ = 0.5"]
figure = image_grid(
    [*([found[name][4][i].cpu() for i in picks] for name in names), [hr[4][i].cpu() for i in picks]],
    labels=["bicubic", "greedy", "τ = 1", "τ = ½", "mean", "clean"],
    height=0.75,
)
show(
    figure,
    "The same four photos at ×4, decoded in different ways.",
    "Six rows of four small photos at times four: bicubic ones are soft and grainy; greedy and sampled ones show false "
    "texture, at temperature one coarse noise; the expected ones are smooth; below the clean ones.",
    photo=True,
)

# %% [markdown]
# **What you should see.** With the mean codes, PSNR rises above bicubic at every size. A draw at temperature one looks bold, like sandpaper: every token is drawn alone, and a small model spreads its chances widely. The likeliest codes lie in between.
# Neither ruler prefers the draws. That is a fact about *this* model, not about drawing: a draw is only as good as the distribution, and on GPUs models draw fur. So the course's default is the mean of the codes, at temperature one half, which narrows the mean to the likelier codes.
#
# ## A second look at the photo
#
# The decoder sees tokens only, and tokens are few. At ×1 that is absurd: the degraded photo itself lies before us, and at mild damage it is *better* than the best that 53 tokens can say.
# So let the decoder look at it. From the decoder's features $F$ and the photo's own, a small network computes a scale $\alpha$ and a shift $\beta$ for every position (CodeFormer calls it a *controllable feature transformation*):
#
# $$ F' = F + \alpha \odot F + \beta. $$
#
# It is trained with everything else frozen, for pixels and for perception, on crops turned and recoloured at random: `vartutor train fidelity --set augment=true` (the manifest of the checkpoints has its other settings).

# %%
fidelity = resolver.fidelity
z_tokens = restore_latents(model, tokenizer, lr, **ways["expected, τ = 0.5"])[1]  # f_hat at ×1
photo1 = upscale_bicubic(lr)[1]
with torch.no_grad():
    features = tokenizer.decoder.conv_in(tokenizer.post_quant_conv(z_tokens))
    _, seen = fidelity.look(photo1, 1)
    scale, shift = fidelity.mix[0](torch.cat([features, seen], 1)).chunk(2, dim=1)
    assert torch.equal(features + scale * features + shift, fidelity._steer(features, seen, 0))
print(f"{sum(p.numel() for p in fidelity.parameters()) / 1e6:.2f} million parameters")

# %% [markdown]
# And if half of that look would be better than all of it? CodeFormer has a knob $w$ *inside*: $F' = F + w\,(\alpha \odot F + \beta)$. Or *mix* the two finished pictures, the one from tokens alone and the one with a look:
#
# $$ x = (1 - w)\, x_0 + w\, x_1 . $$
#
# Try both. (All that the module adds comes out of linear layers. Scale these, and what it adds is scaled.)

# %%
from copy import deepcopy

from vartutor.tokenizer.fidelity import decode_faithfully

latents = restore_latents(model, tokenizer, lr, **ways["expected, τ = 0.5"])
enlarged = upscale_bicubic(lr)


def look_again(module, w):
    return {s: decode_faithfully(tokenizer, module, latents[s], enlarged[s], s, w) for s in (1, 2, 4)}


inside = deepcopy(fidelity)
for last in (*inside.heads, *(mix[-1] for mix in inside.mix), inside.pixels):
    last.weight *= 0.6
    last.bias *= 0.6

# %%
looks = {"w = 0": look_again(fidelity, 0), "w = 0.6": look_again(fidelity, 0.6), "w = 1": look_again(fidelity, 1)}
mixed = {s: 0.4 * looks["w = 0"][s] + 0.6 * looks["w = 1"][s] for s in (1, 2, 4)}
assert all(torch.allclose(mixed[s], looks["w = 0.6"][s], atol=1e-5) for s in (1, 2, 4))

# %%
for name, images in (looks | {"0.6, inside": look_again(inside, 1)}).items():
    far = [perceptual_distance(images[s], hr[s]).mean().item() for s in (1, 2, 4)]
    print(
        f"{name:>11}:", *(f"×{s} {x:5.2f} dB {y:.3f} " for s, x, y in zip((1, 2, 4), quality(images), far, strict=True))
    )
if PROFILE == "cpu":
    assert all(a > b for a, b in zip(quality(looks["w = 0.6"]), quality(enlarged), strict=True))

# %% tags=["hide-input"]
figure = image_grid(
    [
        [enlarged[4][i].cpu() for i in picks],
        *([images[4][i].cpu() for i in picks] for images in looks.values()),
        [hr[4][i].cpu() for i in picks],
    ],
    labels=["bicubic", *looks, "clean"],
    height=0.85,
)
show(
    figure,
    "Fidelity at ×4: tokens alone (w = 0), with a look at the degraded photo (w = 1), and a mixture of both.",
    "Five rows of four small photos: bicubic, soft and grainy; w of 0, smooth and a little off; w of 0.6 and 1, cleaner "
    "and with sharper edges; the clean ones.",
    photo=True,
)

# %% [markdown]
# **What you should see.** At ×1 the look at the photo helps most. At ×2 and ×4 it costs a little in pixels and gains a little to the eye, for what is missing there is not in the photo. With $w$ inside, the way between is worse than both ends: the decoder meets features that no training showed it.
# A mixture of pictures cannot be: squared errors are convex. And since the two err in different places, at ×2 and ×4 it is better to the eye than either. So `upscale` uses $w = .6$ unless told otherwise. On the validation photos no other value tried is better to the eye by a thousandth at ×2 or ×4: `vartutor evaluate --split val --restorers bicubic model --temperatures .5 --expected --fidelity 0 .2 .4 .5 .6 .7 .8 1`. Nothing of this is special to our model: two CNNs would gain by mixing, too. It costs a second decode.
#
# ## Whole photos
#
# The model knows tiles of 16 × 16 degraded pixels. A photo is cut into overlapping tiles; each becomes tokens and then three pictures; where pictures overlap they are averaged, with weights that fall towards a tile's border. `upscale` does that for any size, with bounded memory; here is a test photo, degraded, at all three sizes.
#
# (VARSR averages *latents* and decodes once. We tried: at ×1 it cost eight decibels. A tile has 4 × 4 latents there, all of them know of the tile's border, and in the middle of a large map there is none.)

# %%
import time

from vartutor.data.pairs import make_pairs
from vartutor.data.photos import find_photo

clean_photo = find_photo("red_panda").load()[None, :, 32:416, 280:664]
pair = make_pairs(clean_photo, COURSE, torch.Generator().manual_seed(SEED))
start = time.perf_counter()
restored = resolver.upscale(pair.lr[0])
seconds = time.perf_counter() - start
print({s: tuple(image.shape) for s, image in restored.items()})

# %% tags=["nbval-ignore-output"]
pixels = pair.lr[0, 0].numel()
print(f"{seconds:.1f} s for {pixels:,} pixels: {1e6 * seconds / pixels:.0f} µs per pixel in")

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 5, figsize=(6.6, 1.75))
panels = {
    "degraded": pair.lr[0],
    **{f"×{s}": image for s, image in restored.items()},
    "clean ×4": clean_photo[0],
}
for ax, (title, image) in zip(axes, panels.items(), strict=True):
    ax.imshow(((image.permute(1, 2, 0) + 1) / 2).clamp(0, 1), interpolation="nearest")
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
show(
    figure,
    "A test photo: degraded, restored at three sizes in one pass, and clean.",
    "Five pictures of a red panda: a grainy one of 96 by 96 pixels, three restored ones of rising resolution, which are "
    "clean and a little soft, and the clean photo with all its fur.",
    photo=True,
)

# %% [markdown]
# ### Try it
#
# Another photo, another part of it, more or less bold; or stop after any map.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def look(crop, temperature, mean, w, maps):
    x, condition = lr[crop : crop + 1], None
    condition = model.condition(x, photo_features(tokenizer, x))
    dice = torch.Generator(session.device).manual_seed(SEED)
    options = {"expected": bool(mean), "temperature": temperature, "generator": dice}
    step = list(iterate(model.body, tokenizer, condition, **options))[maps - 1]
    s = tokenizer.scales[sum(maps > end for end in quantizer.ends)]
    image = decode_faithfully(tokenizer, fidelity, step.f_hat, upscale_bicubic(x)[s], s, w)
    return image_grid([[x[0].cpu(), image[0].cpu(), hr[s][crop].cpu()]], ["degraded", f"×{s}", "clean"], height=1.9)


explorer(
    look,
    crop=slider("photo", 9, 0, len(lr) - 1, 1),
    temperature=slider("temperature", 0.5, 0.1, 1.5, 0.1),
    mean=slider("mean of the codes (1)", 1, 0, 1, 1),
    w=slider("fidelity w", 0.6, 0.0, 1.0, 0.2),
    maps=slider("maps", 8, 1, 8, 1),
)

# %% [markdown]
# ## Is it any good?
#
# Good compared with what? Bicubic interpolation is a weak opponent. Take four:
#
# - **bicubic**, the usual one;
# - a classical **denoiser** (total variation, chosen on validation photos), then bicubic;
# - a plain **CNN** in the manner of EDSR, as many parameters as the transformer, trained on crops that are turned and recoloured as for our fidelity module, and for as long as that (the transformer before it took half as long). This is the honest line to beat;
# - **cnn:perceptual**, that CNN trained once more, as many steps, with the perceptual distance in its loss as our fidelity module has it: `vartutor train baseline --set bf16=true --set augment=true --set perceptual=.5 --set loop.steps=6427 --out perceptual`.
#
# All of them restored the 20 test photos, three crops each; ours with three seeds where it draws. One command made the table, and everybody can run it:
# `vartutor evaluate --restorers bicubic denoise cnn cnn:perceptual model --temperatures 0 .5 1 --expected --fidelity 0 .6 1`.
# Intervals are over photos. Since photos differ much more than methods do, every method is compared with bicubic *on the same photo*.

# %%
from vartutor.evaluate.table import compare, read_rows
from vartutor.paths import assets

rows = read_rows(assets() / "studies" / "superres.csv")
gains = {(s.restorer, s.scale, s.measure): s.interval for s in compare(rows, "bicubic")}
shown = list(dict.fromkeys(name for name, *_ in gains))
for name in shown:
    print(f"{name:>45}:", *(f"×{s} {gains[name, s, 'psnr_y']} dB " for s in "124"))

# %%
for name in shown:
    print(f"{name:>45}:", *(f"×{s} {gains[name, s, 'perceptual']} " for s in "124"))

# %% tags=["hide-input"]
from vartutor.show.tradeoff import draw_tradeoff

drawn = [d for d in compare(rows, "bicubic") if "fidelity 1, temp" not in d.restorer]  # much like those at 0.6
figure = draw_tradeoff(drawn, "bicubic")
show(
    figure,
    "Test photos against bicubic, which is the origin: right is closer in pixels, down is closer to the eye.",
    "Three planes, for times one, two and four, with one mark with error bars for every method.",
)

# %% [markdown]
# **What you should see.** Read the default first: *fidelity .6, expected*, at the lower temperature. It is ahead of bicubic at all sizes in both rulers, with intervals that stay off zero, and of the classical denoiser. Who wants ×1 alone gains half a decibel with all of the look, *fidelity 1*.
#
# And the CNN? It wins in PSNR, at every size, clearly. In perceptual distance it wins at ×1, and the two are level at ×2 and ×4. Yet that ruler was part of our training and not of the CNN's, which flatters us. Where the CNN had the same chance, it pays some PSNR and is ahead of ours by that ruler too, at every size. So at this size, and for this training time, the honest answer is: **if you only want the cleanest photo, take the CNN.** It needs no codebook, no prior and no loop.
# What the transformer has and the CNN lacks is the distribution: it can be asked for the mean, or for bolder guesses, and its likeliest codes make sharper pictures than the CNN does (the command's `summary.md` has that table). What that is worth when the model is large enough to draw *well*, only the full run can show.
#
# ## What if it began where the CNN ends?
#
# The transformer begins at the tokens of the bicubic photo, and the CNN is a decibel or more ahead of that photo. Is all our training spent on catching up? Then let the CNN go first: **restore first, then write**. DiffBIR does so before a diffusion model. `--set restorer=course` puts our CNN in front. Its picture is encoded where the enlarged photo was; nothing else changes.
#
# Two runs tell. Both start from the shipped transformer and train 600 steps of 16 photos more, on the course's photos and 443 others; the second begins at the CNN's picture:
#
# - *bicubic prior, trained on*: `vartutor train transformer --set init=course --set loop.steps=600 --set loop.lr=5e-4 --set loop.ema=.99 --set batch=16 --set bf16=true --set data=FOLDER`;
# - *restored prior*: the same with `--set restorer=course`.
#
# The decoder can begin at the CNN's picture, too: a look that adds to it (`--set objective.base=photo`), 700 steps with the perceptual distance in the loss. And here is the question behind it all: **do the tokens say anything that the CNN does not know?** Train that look a second time, *blind*: its decoder gets zeros in the place of tokens (`--set objective.blind=true`). What the first has over the second, the tokens have said.
#
# Everything was measured on the middles of the test photos (`vartutor evaluate --whole --largest 192 --extra vgg`), by two rulers: the course's, which taught the looks, and VGG-16 features, which taught nobody here. Differences from the CNN on the same photo:

# %%
found = read_rows(assets() / "studies" / "restored.csv")


def show_differences(reference, names, measures=("psnr_rgb", "perceptual", "vgg")):
    differences = {(s.restorer, s.scale, s.measure): s.interval for s in compare(found, reference)}
    for measure in measures:
        print(f"{measure} against {reference}, ×1, ×2 and ×4")
        for name in names:
            own = [differences[name, s, measure] for s in "124"]
            print(f"{name:>27}:", *(f"{i.mean:+.3f} [{i.low:+.3f}, {i.high:+.3f}] " for i in own))


names = dict.fromkeys(row.restorer for row in found)
show_differences("CNN", [name for name in names if name != "CNN"])

# %% [markdown]
# And the look with tokens, compared with the blind one:

# %%
show_differences("look without tokens", ["look with tokens"])

# %% [markdown]
# **What you should see.** To train on helps little; to begin at the CNN's picture helps at once, by a quarter of a decibel at ×2 and by a seventh at ×4. There, about half of our distance from the CNN was the start. The other half, and nearly all of it at ×1, is the tokens': what goes through them loses what they cannot hold.
#
# The look that begins at the CNN's picture is level with the CNN or a little better by both rulers, for less than a tenth of a decibel. But so is the blind one, by as much: the second table is as good as zero. So the gain is the loss's and the module's. **Of what a photo's mean picture needs, these tokens say nothing that the net did not know.** They could hardly: tokens, too, are made from the degraded photo alone, and the look learned from *mean* codes, which are as unsure as the net.
#
# What can a token model add, then? What is *not* in the photo: a draw from what might have been there. For that, the decoder must believe its tokens. So teach the look with *true* tokens (`--set objective.forced=1`), which know more than the photo does; then let the transformer draw. The shipped model `detail` is made this way: the transformer with the restored prior, trained on, and such a look over it. `vartutor upscale … --model detail` draws with it. Measured by the same command, with `--restorers bicubic cnn model:detail --temperatures .5 1 --expected --fidelity 1 --seeds 0 1`:

# %%
found = read_rows(assets() / "studies" / "detail.csv")
show_differences("CNN", ["mean codes", "drawn at 0.5", "drawn at 1"], ("psnr_rgb", "perceptual", "vgg", "sharpness"))

# %% [markdown]
# Numbers first, now the eyes. Pieces of four test photos, each from 36 × 36 pixels; two of the columns are two draws.

# %% tags=["hide-input"]
from vartutor.weights import load_cnn

writer, net = SuperResolver.from_pretrained("detail", device=session.device), load_cnn().to(session.device)
places = {"raccoon": (160, 245), "hedgehog": (160, 262), "lemur": (160, 288), "chicken": (160, 288)}  # top, left
drawn = []
for name, (top, left) in places.items():
    clean = find_photo(name).load()[None, :, top : top + 192, left : left + 192]
    own = make_pairs(clean, COURSE, torch.Generator().manual_seed(SEED))
    certain = net.restore(own.lr.to(session.device))[4][0].cpu()
    draws = [writer.upscale(own.lr[0], (4,), seed=seed)[4] for seed in (1, 2)]
    drawn.append([image[:, 24:168, 24:168] for image in (certain, *draws, own.hr[4][0])])
figure = image_grid(drawn, ["CNN", "one draw", "another", "clean"], height=1.8)
show(
    figure,
    "What the CNN is sure of, two draws of the model at ×4, and the clean photo.",
    "Four rows of four pieces: a raccoon's face, a hedgehog's side, a lemur, two hens. The CNN's are smooth. Both draws "
    "have harder edges, and the hedgehog gets spines, others in each draw; the lemur's breast stays bare. The clean photos "
    "are full of fine hair.",
    photo=True,
)

# %% [markdown]
# **What you should see.** With mean codes nothing is won: a little behind the CNN by every ruler, and no sharper. Drawn, there is something to see: harder edges, spines on the hedgehog, marks in the fur; at ×4 nearly half again the CNN's sharpness. The price is more than half a decibel. The course's ruler minds it, and VGG-16, at ×4, does not. At τ = 1 the price doubles, and hardly anything is sharper.
#
# Compare the two draws. Edges agree, spines and fur do not: where the photo leaves freedom, the model uses it. Not always well: the spines have no common direction, and where the CNN saw nothing at all, as on the lemur's breast, nothing is written. That is the trade of Blau and Michaeli, made by a model that learned for some two hours on one core. The recipes `vartutor overnight` and `vartutor speedrun` go the same way with larger tiles: restore, write, then decode with a look that believes its tokens. Larger models should draw better; that remains to be shown.
#
# ## Where does the error come from?
#
# Replace one part at a time by the truth, and measure again. What the *clean features* lose is the autoencoder's; what the *true tokens* lose beyond that is the quantizer's. The *photo's own tokens* are the untrained prior. And if the true maps are given up to ×1, or up to ×2, how much of the rest does the model get right? (Mean codes at temperature one half, no look at the photo: `vartutor evaluate --restorers bicubic --temperatures .5 --expected --budget`.)

# %%
budget = read_rows(assets() / "studies" / "superres_budget.csv")


def mean_of(part, scale, measure):
    return np.mean([r.value for r in budget if (r.restorer, r.scale, r.measure) == (part, scale, measure)])


parts = ["clean features", "true tokens", "model after ×2", "model after ×1", "model", "photo's own tokens"]
for part in parts:
    print(f"{part:>18}:", *(f"×{s} {mean_of(part, s, 'psnr_rgb'):5.2f} dB " for s in "124"))

# %% [markdown]
# And token by token? *Teacher forced*: the share of right tokens if all maps before are true. *Free running*: the same after the model's own maps, where "right" is what the clean photo still lacks *then*.

# %% tags=["hide-input"]
figure, (ax, other) = plt.subplots(1, 2, figsize=(7.2, 2.5))
maps = [f"map {k}" for k in range(8)]
for part, color in (("teacher forced", "token"), ("free running", "model")):
    ax.plot(range(1, 9), [100 * mean_of(part, m, "top-1") for m in maps], "o-", color=COLORS[color], label=part)
    other.plot(range(1, 9), [mean_of(part, m, "cross entropy") for m in maps], "o-", color=COLORS[color], label=part)
ax.plot(range(1, 9), [100 * x for x in right], "s--", color=COLORS["lr"], label="the photo's own (validation)")
other.axhline(np.log(1024), color="black", linewidth=0.8, linestyle=":")
ax.set(xlabel="map", ylabel="right tokens (%)", xticks=range(1, 9))
other.set(xlabel="map", ylabel="cross entropy (nats)", xticks=range(1, 9))
ax.legend(fontsize=8)
show(
    figure,
    "How well each map is predicted, with true maps before it and with the model's own; dotted: guessing.",
    "Left, the share of right tokens falls from nearly all at map 1 to a few per cent at the last maps; right, the cross "
    "entropy rises from near zero towards the dotted line of guessing.",
)

# %% [markdown]
# **What you should see.** *True tokens* are the tokenizer's ceiling, far above the model at ×2 and ×4: the tokenizer does not limit us there. At ×1 it nearly does.
# Give the model the true maps of ×1, and ×2 gets only a little better. Give it those of ×2 as well, and ×4 gains two decibels, yet stays far below its ceiling. So most is lost in the maps where a size is *new*: their detail is not in the small photo, and must be guessed.
#
# In the token plot, the trained model is right more often than the photo itself, from map 3 on. But *free running* falls behind at maps 5, 7 and 8, the last of their sizes: what is lacking there are the model's own errors, and it has seen such sums only in the form of slips. Exposure bias is smaller than without slips (see the study below), not gone. And a cross entropy of five nats means 150 codes that are equally good: nobody knows, not even the model.
#
# ## What does it look at?
#
# Take one token of the last map, and read its attention: over the prefix, which is the photo, and over all maps. The code is that of chapter 06, with a prefix.


# %%
from vartutor.transformer.attention import as_mask, rotate


@torch.no_grad()
def attention(crop):
    caught, (x, clean_x) = [], (t[crop : crop + 1] for t in (lr, hr[4]))
    hooks = [b.attn.register_forward_pre_hook(lambda _, given: caught.append(given)) for b in model.body.blocks]
    clean_z, z = pair_features(tokenizer, x, clean_x)
    _, _, inputs, rests = force(tokenizer, clean_z, z)
    model.body(model.condition(x, z), inputs, rests)
    maps = []
    for hook, block, (h, views, angles, *_) in zip(hooks, model.body.blocks, caught, strict=True):
        hook.remove()
        attn = block.attn
        q, k, _ = F.linear(h, attn.qkv.weight).unflatten(2, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q + attn.q_bias.view(attn.heads, 1, -1), dim=-1) * attn.log_scale.exp()
        a = rotate(q, angles) @ rotate(F.normalize(k, dim=-1), angles).mT
        maps.append(a.masked_fill(~as_mask(views).to(a.device), -torch.inf).softmax(-1).mean(1))  # over heads
    return torch.stack(maps, 1)[0]  # (blocks, P + L, P + L)


heard = attention(picks[1])
assert torch.allclose(heard.sum(-1), torch.ones_like(heard[..., 0]), atol=1e-4)


# %%
def draw_attention(heard, row, column, blocks):
    token = len(heard[0]) - 256 + row * 16 + column  # of the last map
    sizes = [8, *quantizer.patch_nums]  # the prefix is 8 × 8 patches
    figure, axes = plt.subplots(len(blocks), 9, figsize=(7.2, 0.95 * len(blocks) + 0.25), squeeze=False)
    for block, line in zip(blocks, axes, strict=True):
        weights = heard[block, token].cpu() * heard.shape[-1]  # 1: as if all were heard alike
        for ax, part, side in zip(line, weights.split([p * p for p in sizes]), sizes, strict=True):
            ax.imshow(part.view(side, side), cmap="Purples", vmin=0, vmax=6)
            ax.plot((column + 0.5) / 16 * side - 0.5, (row + 0.5) / 16 * side - 0.5, ".", color=COLORS["rest"])
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
        line[0].set_ylabel(f"block {block + 1}")
    for ax, name in zip(axes[0], ["photo", *(f"map {k}" for k in range(1, 9))], strict=True):
        ax.set_title(name)
    return figure


# %% tags=["hide-input"]
show(
    draw_attention(heard, 6, 9, range(len(heard))),
    "How much one token of map 8 (dot) hears the photo's patches and all maps; the darker, the more.",
    "One row of nine square maps per block, with an orange dot at the token's place: some blocks are dark around the dot "
    "in the photo and in the fine maps, others spread over the coarse maps.",
)

# %% tags=["widget", "nbval-ignore-output"]
explorer(
    lambda row, column, block: draw_attention(heard, row, column, [block - 1]),
    row=slider("row", 6, 0, 15, 1),
    column=slider("column", 9, 0, 15, 1),
    block=slider("block", 1, 1, len(heard), 1),
)

# %% [markdown]
# **What you should see.** In our run the first block looks at the photo, at the patches where the token lies. The blocks in the middle compare neighbours in maps 6 to 8, and ask the coarse maps what is there as a whole. After the first block hardly anybody asks the photo again; the prior has already brought it to every token.
#
# ## One pass or three?
#
# One model gives three sizes. Would three models, each for one size, do better? And do prefix, prior, loss, positions, size matter? Small models, few and equal steps, the same batches: `vartutor study --of transformer --steps 200`. Such a study does not tell what a long training gives; it tells what helps *early*.
#
# Every run is compared with the course's recipe on the same test photos, expected codes at temperature one.

# %%
from vartutor.evaluate.table import study_rows
from vartutor.tables import load_study

study = load_study("transformers")
versus = {(d.restorer, d.scale, d.measure): d.interval for d in compare(study_rows(study, "expected"), "course")}
for name in dict.fromkeys(name for name, *_ in versus):
    gaps = [f"×{s} {versus[name, s, 'psnr_y']} " for s in "124" if (name, s, "psnr_y") in versus]
    print(f"{name:>18}:", *gaps)

# %% tags=["hide-input"]
marks = {"1": "o", "2": "s", "4": "^"}
runs = [name for name in dict.fromkeys(name for name, *_ in versus) if name not in ("no prior", "paper")]
figure, ax = plt.subplots(figsize=(6.4, 3.6))
for i, name in enumerate(runs):
    for s, mark in marks.items():
        if (gap := versus.get((name, s, "psnr_y"))) is not None:
            reach = [[gap.mean - gap.low], [gap.high - gap.mean]]
            ax.errorbar(gap.mean, i + 0.2 * (list(marks).index(s) - 1), xerr=reach, fmt=mark, color=COLORS["model"])
for s, mark in marks.items():
    ax.plot([], [], mark, color=COLORS["model"], label=f"×{s}")
ax.axvline(0, color="black", linewidth=0.8)
ax.set(xlabel="PSNR gained, dB", yticks=range(len(runs)), yticklabels=runs)
ax.invert_yaxis()
ax.legend(fontsize=8)
show(
    figure,
    "Short runs against the course's recipe (the line at 0), with intervals over the test photos; those without the "
    "prior are far off to the left.",
    "Up to three marks with error bars per row: no slips and narrow lie left of the line, hard labels right of it at "
    "times one, all tokens alike left of it at times one, and the others on it.",
)

# %% [markdown]
# **What you should see.** Read the printed lines from the end. Without the prior (*no prior*, and *paper*, which has hard labels and no slips besides) a run of this length restores nothing. Slips help at all sizes. A model of half the width loses a little, one of twice the depth gains nothing: this few steps do not fill it.
#
# Much else makes no difference: no prefix, a prefix added to the maps instead of put before them, learned positions. With the prior, the photo reaches every token anyhow.
# *Hard* labels are a surprise. For mean codes at ×1 they are better than our soft ones; sampled at ×4 they are worse (change `"expected"` to `"sampled"`, and see). So this choice is not what makes the model work.
#
# And one pass or three? *Only 1*, *only 2*, *only 4* are models for one size each, with as many steps each as the one model for all. No difference beyond a tenth of a decibel: sharing costs nothing, and saves two models. (*Only 4* uses the plain tokenizer of chapter 04, whose ceiling at ×4 is higher.)
# One seed, short runs: small differences here mean nothing.
#
# ## Where does it fail?
#
# A gallery of favourites would prove little. So let a rule pick: rank the test photos by what the default gains on bicubic in PSNR at ×4, and take the best one, the middle one and the worst one.

# %%
default = "model, fidelity 0.6, expected, temperature 0.5"


def by_photo(name):
    return {r.photo: r.value for r in rows if (r.restorer, r.scale, r.measure) == (name, "4", "psnr_y")}


ours, theirs = by_photo(default), by_photo("bicubic")
ranked = sorted(ours, key=lambda photo: ours[photo] - theirs[photo])
chosen = {"best": ranked[-1], "middle": ranked[len(ranked) // 2], "worst": ranked[0]}
for word, photo in chosen.items():
    print(f"{word:>7}: {photo}, {ours[photo] - theirs[photo]:+.2f} dB")

# %% tags=["hide-input"]
test = eval_pairs(COURSE, "test", 64, 3)
strips = []
for file in chosen.values():
    i = test.files.index(file)
    x = test.lr[i : i + 1].to(session.device)
    made = resolver.upscale(x[0].cpu(), (4,))[4]
    strips.append([upscale_bicubic(x.cpu(), (4,))[4][0], made, test.hr[4][i]])
figure = image_grid(
    [list(column) for column in zip(*strips, strict=True)],
    list(chosen),
    labels=["bicubic", "model", "clean"],
    height=0.95,
)
show(
    figure,
    "One crop of the test photo where the default gains most at ×4, a middle amount, and least.",
    "Three columns of three small photos, bicubic above, the model in the middle, the clean photo below.",
    photo=True,
)

# %% [markdown]
# ## What breaks if the prior is left out?
#
# Then we have the paper's form: prefix, hard labels, cross entropy. Same small size, same steps, same batches as above.

# %%
torch.manual_seed(SEED)
bare = PhotoTransformer(config, codes, prior=False).to(session.device)
train(bare, Objective())  # hard labels, every token alike
alone = restore(bare, lr, **calm)
print("without the prior:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(alone), strict=True)))
if PROFILE == "cpu":
    assert quality(alone)[2] < quality(before)[2] - 3

# %% tags=["hide-input"]
figure = image_grid(
    [[images[4][i].cpu() for i in picks] for images in (alone, after, hr | {4: hr[4]})],
    labels=["no prior", "with it", "clean"],
    height=0.85,
)
show(
    figure,
    "After the same training at ×4: without the prior, with it, and the clean photos.",
    "Three rows of four small photos: above flat grey, in the middle soft but recognisable photos, below the clean ones.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Flat grey. The model has learnt how often each code is used, and nothing about any photo: the mean of that is grey. It has not even begun to read the prefix.
# What is missing is not a better formula but time: on GPUs, and from VAR's weights, the same form learns to read photos by itself (chapter 12).
#
# ## Your turn
#
# **★ Patches.** Turn a photo (B, 3, h, w) into (B, h w / p², 3 p²): one row per patch of `p` × `p` pixels, patches in reading order; the order of the numbers within a row is free, but the same for all.

# %% tags=["exercise"]
from vartutor.exercises import ch07


def my_patches(photo, p):
    return ...


ch07.check("patches", my_patches)

# %%
ch07.hint("patches")
ch07.solution("patches")

# %% [markdown]
# **★★ An expected code.** `logits` is (N, V), `codes` (V, C). Keep the `top` likeliest codes of each row; return their mean, weighted by their probabilities at the given temperature.


# %% tags=["exercise"]
def my_expected_code(logits, codes, temperature, top):
    return ...


ch07.check("expected_code", my_expected_code)

# %%
ch07.hint("expected_code")
ch07.solution("expected_code")

# %% [markdown]
# **★★★ No seams.** `tiles` is (T, C, n, n), tile $t$ has its left edge at `lefts[t]`, and neighbours overlap. Return the (C, n, width) strip: at every place the mean of the tiles there, weighted by a tile's own weights, which rise linearly from its left border and fall to its right one: `1, 2, …, 2, 1`.


# %% tags=["exercise"]
def my_blend(tiles, lefts, width):
    return ...


ch07.check("blend", my_blend)

# %%
ch07.hint("blend")
ch07.solution("blend")

# %% [markdown]
# ## In five lines
#
# 1. A photo is told as prefix tokens; the course also adds its own latents as a prior, so that training only learns the difference.
# 2. Codes lie close together: let near ones be nearly right, and let every map be heard in the loss.
# 3. The mean of the codes is closest in pixels; a sampled code is a bolder guess.
# 4. A knob lets the decoder look at the degraded photo: tokens alone, or faithful.
# 5. Replace parts by the truth, one at a time, to find out where the quality is lost.
#
# ## The course and the papers
#
# | | this course | the paper, as far as it is known |
# |---|---|---|
# | photo | 64 tokens, from two convolutions on 2 × 2 patches | prefix tokens |
# | prior | the photo's own latents | none |
# | loss | cross entropy with near codes, maps weighted | cross entropy with one code |
# | decode | mean of the codes by default, drawn codes if asked | drawn codes |
# | look at the photo | a knob, 0 to 1 | none |
# | size | about four million parameters, ×4 is 64 × 64 per tile | 310 million, ×4 is 512 × 512 |
#
# ## References
#
# - [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025: the paper of this course.
# - Y. Qu et al., [Visual Autoregressive Modeling for Image Super-Resolution](https://arxiv.org/abs/2501.18993), 2025: prefix tokens for a photo.
# - S. Zhou et al., [Towards Robust Blind Face Restoration with Codebook Lookup Transformer](https://arxiv.org/abs/2206.11253), 2022: the knob $w$.
# - B. Lim et al., [Enhanced Deep Residual Networks for Single Image Super-Resolution](https://arxiv.org/abs/1707.02921), 2017: EDSR, the form of our CNN.
# - X. Lin et al., [DiffBIR](https://arxiv.org/abs/2308.15070), 2023: restore first, then generate.
# - Y. Blau and T. Michaeli, [The Perception-Distortion Tradeoff](https://arxiv.org/abs/1711.06077), 2018: why no method wins both.
# - J. Han et al., [Infinity](https://arxiv.org/abs/2412.04431), 2024: training on inputs with mistakes.
#
# **Next:** chapter 08 asks the model to *prefer* the clean photo's tokens to those of the degraded one.
