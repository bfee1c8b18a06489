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
# This chapter tells the transformer of chapter 06 a photo, and trains a small one for a minute. Then it takes the shipped one apart: what it does better than simple methods, what it does worse, and where the error comes from.
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
# | about four minutes and 2.2 GB to run, an hour and a half to read | chapters 05 and 06 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → **07 photo in, photos out** → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): codebook, entropy, fidelity module, mean codes, perceptual distance, prefix tokens, PSNR, teacher forcing, temperature, tokenizer.

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
# The true tokens are there in training only. Here are three pairs, with what the tokenizer makes of the clean ones: close to the best that a transformer over this tokenizer can reach.
#
# Which three? Not those that flatter us. A rule chooses: rank the validation photos by the *detail* of their richest crop, the mean step from pixel to pixel, and take the first, third and fifth of the twelve.

# %%
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("hit").to(session.device)
quantizer, codes = tokenizer.quantizer, tokenizer.quantizer.codes
pairs = eval_pairs(COURSE, "val", 64, 3)

# %%
from vartutor.exercises import ch05

hierarchical = ch05.use("hierarchical")  # yours of chapter 05, if it is saved there and right
lr, hr = pairs.lr.to(session.device), {s: x.to(session.device) for s, x in pairs.hr.items()}
with torch.no_grad():
    true, _ = hierarchical(tokenizer.encode(hr[4]), codes, quantizer.groups, quantizer.phi, quantizer.bridge)
    same = [(a == b).float().mean() for a, b in zip(true, tokenizer.tokenize(hr[4]), strict=True)]
    ceiling = tokenizer.decode_scales(true)
assert min(same) > 0.999  # 8 maps, (N, p p) each, as the package has them
print("degraded:", tuple(lr.shape), " tokens:", sum(q.shape[1] for q in true))


# %%
def detail(x):  # mean step from pixel to pixel, (N, 3, H, W) -> (N,)
    return x.diff(dim=-1).abs().mean((1, 2, 3)) + x.diff(dim=-2).abs().mean((1, 2, 3))


def richest(files, x):  # of every photo its crop with most detail, the richest photo first
    order = detail(x).argsort().tolist()
    return dict(reversed({files[i]: i for i in order}.items()))


found = richest(pairs.files, hr[4])
picks = list(found.values())[:5:2]
print("first, third and fifth by detail:", ", ".join(list(found)[:5:2]))

# %% tags=["hide-input"]
columns = [lr, *hr.values(), ceiling[4]]
figure = image_grid(
    [[x[i].cpu() for x in columns] for i in picks],
    ["degraded", "clean ×1", "clean ×2", "clean ×4", "its tokens"],
    colors=[COLORS["lr"], *[COLORS["hr"]] * 3, COLORS["token"]],
)
show(
    figure,
    "What goes in, what should come out at three sizes, and the clean photo after the tokenizer.",
    "Three rows of five small photos: a degraded one of 16 by 16 pixels, grainy and soft; the clean one at three "
    "resolutions; and its reconstruction from tokens, which looks nearly like the clean one.",
    photo=True,
)

# %% [markdown]
# ## How can the transformer be told a photo?
#
# As more tokens. Cut the degraded photo into patches of 2 × 2 pixels, let two small convolutions look at each patch and its neighbours, and put the result *before* the first map: a **prefix**. All maps may look at it, as they look at earlier maps. The rotations of chapter 06 tell where each patch lies, on the same frame as the maps.
#
# The paper does this too, with 1024 tokens that the tokenizer's encoder makes of the enlarged photo †; LLaVA tells a language model its picture in this way. († marks what we know of the paper at second hand. It may be wrong.)
#
# **★ Patches · 10 min.** Turn a photo (B, 3, h, w) into (B, h w / p², 3 p²): one row per patch of `p` × `p` pixels, patches in reading order. The order of the numbers within a row is free, but the same for all. (Since it is free, the convolutions below keep their own.)

# %% tags=["exercise"]
from vartutor.exercises import ch07


def my_patches(photo, p):
    return ...


ch07.check("patches", my_patches)

# %%
ch07.hint("patches")
ch07.solution("patches")

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
from vartutor.exercises import ch02, ch04
from vartutor.transformer.photo import photo_features

token_map, quantize = ch04.use("token_map"), ch02.use("quantize")
z = photo_features(tokenizer, lr)  # latents of the enlarged photo, for each of the three groups
f_hat, own = None, []
for k, p in enumerate(quantizer.patch_nums):
    rest = quantizer.rest(z, f_hat, k)  # (N, p * p, C)
    missing = rest.mT.unflatten(2, (p, p))  # (N, C, p, p)
    own.append(token_map(missing, codes, p))
    said = quantize(missing, codes).flatten(2).mT  # the codes of these tokens, (N, p p, C)
    f_hat, _ = quantizer.step(f_hat, said, k)
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
#
# The rest $r_k$ enters a second time: a linear layer, `prior.embed`, adds it to the input of every token. So the blocks, too, see what the photo itself would say there.
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
# For *the* right token, says the usual cross entropy, and the paper †. But look how the codes lie. Take the vectors that the true tokens stand for, and measure how far the nearest ten codes are.

# %%
from vartutor.transformer.photo import force, pair_features

clean, degraded = pair_features(tokenizer, lr, hr[4])
targets, goals, inputs, rests = force(tokenizer, clean, degraded)
distances = (goals[:, :, None] - codes).square().sum(-1).topk(10, largest=False).values  # (N, L, 10)
ratio = (distances / distances[..., :1]).mean((0, 1)).sqrt()
print("distance of the nearest codes, the first as unit:", *(f"{x:.2f}" for x in ratio))
squares = torch.tensor([p * p for p in quantizer.patch_nums], device=session.device)
means = [part.mean().item() for part in distances[..., 0].split(squares.tolist(), 1)]
print("squared distance of the nearest, mean by map:", *(f"{x:.1f}" for x in means))
print(f"map 8 against map 5: {means[7] / means[4]:.0f} times")

# %% [markdown]
# Even the tenth code is only half as far again as the first. To call nine of them wrong, as wrong as any other code, is a harsh way to teach. So let near codes be nearly right. With $g$ the vector that the token stands for, and $d$ the distance of the code nearest to it:
#
# $$ L = -\sum_j t_j \log p_j, \qquad t_j \propto \exp\!\left(-\frac{\lVert g - e_j \rVert^2}{\tau\, d^2}\right). $$
#
# A small $\tau$ is the usual cross entropy again. That $d$ is each token's own matters: vectors of the finest map lie many times as far from their codes, in squares, as those of map 5 (the last printed line). When we used one unit for all maps, the coarse maps learnt to say "anything", and samples were grain.
#
# **★★ A soft loss · 20 min.** `logits` is (B, L, V), `goals` are the vectors $g$ (B, L, C), `codes` (V, C). Return $L$ for every token, (B, L).


# %% tags=["exercise"]
def my_soft_loss(logits, goals, codes, tau):
    return ...


soft_loss = ch07.use("soft_loss", my_soft_loss)

# %%
ch07.hint("soft_loss")
ch07.solution("soft_loss")

# %% [markdown]
# And one more thing. The finest map has 256 of the 437 tokens, the first has one. In a plain mean the fine maps drown the coarse ones. So a token of a map with $n$ tokens counts $n^{-1/2}$ times. In code, and with the equation of above to compare:


# %%
from vartutor.train.transformer import Objective

shares = (squares**-recipe.balance / (squares ** (1 - recipe.balance)).sum()).repeat_interleave(squares)


def by_equation(logits, goals):
    far = (goals[:, :, None] - codes).square().sum(-1)
    t = (-far / (recipe.tau * far.amin(-1, keepdim=True))).softmax(-1)
    return -(t * logits.log_softmax(-1)).sum(-1)  # L


def soft_mean(logits, goals):
    return (soft_loss(logits, goals, codes, recipe.tau) @ shares).mean()


# %% [markdown]
# The pass itself is that of chapter 06, and so is the mask. The prefix counts as part of the first map: its 64 tokens may look where the first one may.


# %%
from vartutor.exercises import ch06

block_mask = ch06.use("block_mask")
place = torch.cat([torch.zeros(64, dtype=torch.long), torch.arange(sum(squares))])  # the prefix stands for token 0
mask = block_mask(quantizer.patch_nums)[place][:, place]  # (64 + L, 64 + L)
counts = [64 + 1, *squares[1:].tolist()]
views = [(n, (slice(0, int(part[0].sum())),)) for n, part in zip(counts, mask.split(counts), strict=True)]


def forward(model, seen, inputs, rests):  # all maps at once, (B, L, V)
    body, condition, own = model.body, model.condition(seen.photo, seen.degraded), rests.split(squares.tolist(), 1)
    later = enumerate(inputs.split(squares[1:].tolist(), 1), 1)
    x = [body.embed_start(condition, own[0]), *(body.embed_inputs(m, k, own[k], condition) for k, m in later)]
    x = torch.cat(x, 1)  # (B, 64 + L, D)
    for block, m in zip(body.blocks, body.modulations(condition.vector), strict=True):
        x = block(x, m, views, body.angles(condition))
    maps = zip(x[:, 64:].split(squares.tolist(), 1), own, strict=True)
    return torch.cat([body.run_head(h, condition.vector, k, rest) for k, (h, rest) in enumerate(maps)], 1)


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
    logits = forward(model, seen, inputs, rests)
    ours, (theirs, _) = soft_mean(logits, goals), loss(seen)
    each = soft_loss(logits, goals, codes, recipe.tau)
assert torch.allclose(each, by_equation(logits, goals), rtol=1e-3, atol=1e-3)
assert torch.allclose(ours, theirs, rtol=1e-4)

# %% [markdown]
# ## What does it see meanwhile?
#
# In training, the maps before are the true ones. In generation they are its own, with its own mistakes, and it has never seen any. It trusts them: "what is said so far is right, so little is missing". Nothing gets corrected, and the mistakes of eight maps add up. This is *exposure bias*.
#
# So let some tokens **slip** in training. Each photo draws its share of slips, uniformly from 0 to `recipe.slip`. A token that slips is replaced by a random code $j$ from around the degraded photo's rest $r$:
#
# $$ P(j) \propto \exp\!\left(-\lVert r - e_j \rVert^2 / d_k^2\right), \qquad d_k^2 = \text{mean of } \lVert r - g \rVert^2 \text{ over the map}. $$
#
# So a slip is about as wrong as the degraded photo is. In code, with one random number `u` from 0 to 1 for every token:


# %%
from vartutor.transformer.photo import slip_codes


def slips(r, g, u):  # (N, n, C), (N, n, C), (N, n) -> (N, n)
    d2 = (r - g).square().sum(-1).mean(1)[:, None, None]
    chances = (-(r[:, :, None] - codes).square().sum(-1) / d2).softmax(-1)  # (N, n, V)
    return (chances.cumsum(-1) < u[..., None]).sum(-1).clamp(max=len(codes) - 1)


fine, u = slice(181, 437), torch.rand(len(rests), 256, device=session.device)  # of map 8
ours = slips(rests[:, fine], goals[:, fine], u)
theirs = slip_codes(codes, rests[:, fine], goals[:, fine], u)
assert (ours == theirs).float().mean() > 0.99  # rounding may move a border between two codes
lengths = [(rests[:, fine] - other).square().sum(-1).mean().item() for other in (codes[ours], goals[:, fine])]
print(f"squared distance from the rest, map 8: a slip {lengths[0]:.0f}, the clean photo's goal {lengths[1]:.0f}")

# %% [markdown]
# All later targets are then the nearest codes to what the clean photo lacks *after* the slips. To correct becomes part of the task.

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
# Encoding costs time, so we encode 64 batches once, and go through them a few times.

# %%
from vartutor.train.transformer import calibrate

calibrate(model, tokenizer, draw())
kept = [draw() for _ in range(min(64, profile.lesson_steps))]

# %% [markdown]
# Then the loop. It is that of `vartutor train` (`vartutor/train/trainer.py`), without what surrounds it there: averaged weights, validation, and states to go on from.

# %%
from copy import deepcopy

from vartutor.train.loop import LoopConfig, Moment, learning_rate
from vartutor.train.transformer import decay_groups


def own_loss(model, slip=recipe.slip):  # with the mask and the loss of above
    def loss(seen):
        _, goals, inputs, rests = force(tokenizer, seen.clean, seen.degraded, slip, seen.draws[:, 1:])
        return soft_mean(forward(model, seen, inputs, rests), goals)

    return loss


def train(model, loss, batches=kept, steps=profile.lesson_steps):
    loop = LoopConfig(steps, lr=2e-3, warmup=0.1, weight_decay=0.05)
    optimizer = torch.optim.AdamW(decay_groups(model, loop.weight_decay), betas=(0.9, 0.95))
    log = []
    model.train()
    for step in range(loop.steps):
        moment = Moment(step, (step + 1) / loop.steps)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(moment.progress, loop)
        value = loss(batches[step % len(batches)])
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), loop.clip)
        optimizer.step()
        log.append(value.item())
    model.eval()
    return log


# %% [markdown]
# Two habits before every long training. **Compute the loss of step 0** first, then look whether you see it. A model that knows nothing pays $\ln V$. Ours has the prior, with $\Delta = 0$, so it should pay what the prior alone pays.
# And **overfit one photo**: a model that cannot learn a single photo by heart is broken. The soft targets have an entropy of their own, so the floor is not zero. Compute that, too.

# %%
first = kept[0]
_, goals, _, theirs = force(tokenizer, first.clean, first.degraded)
by_map = enumerate(theirs.split(squares.tolist(), 1))
with torch.no_grad():
    by_prior = soft_mean(torch.cat([prior.logits(r, k, h) for k, r in by_map], 1), goals).item()
    step0 = loss(first)[0].item()
print(f"guessing {np.log(len(codes)):.2f}, the prior alone {by_prior:.2f}, seen at step 0: {step0:.2f}")
assert abs(step0 - by_prior) < 0.1

# %%
far = (goals[:1, :, None] - codes).square().sum(-1)
floor = soft_mean(-far / (recipe.tau * far.amin(-1, keepdim=True)), goals[:1]).item()
one = type(first)(first.photo[:1], *([f[:1] for f in fs] for fs in (first.clean, first.degraded)), first.draws[:1])
pupil = deepcopy(model)
heart = train(pupil, own_loss(pupil, slip=0), [one], min(150, profile.lesson_steps))
print(f"one photo: {heart[0]:.2f} at first, {heart[-1]:.2f} after {len(heart)} steps; floor {floor:.2f}")

# %% [markdown]
# How do we turn a distribution over codes into a picture? For now in the calmest way: instead of one code take their mean, $\sum_j p_j e_j$, a little sharpened (temperature one half). More on that below.
#
# **★★ An expected code · 20 min.** `logits` is (N, V), `codes` (V, C). Keep the `top` likeliest codes of each row; return their mean, weighted by their probabilities at the given temperature.


# %% tags=["exercise"]
def my_expected_code(logits, codes, temperature, top):
    return ...


expected_code = ch07.use("expected_code", my_expected_code)

# %%
ch07.hint("expected_code")
ch07.solution("expected_code")

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
log = train(model, own_loss(model))
after = restore(model, lr, **calm)

# %%
print("PSNR in RGB on the validation crops")
for name, images in {"bicubic": upscale_bicubic(lr), "untrained": before, "trained": after, "ceiling": ceiling}.items():
    print(f"{name:>10}:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(images), strict=True)))
if PROFILE == "cpu":
    assert np.mean(log[-50:]) < np.mean(log[:20]) - 0.3
    assert quality(after)[2] > quality(before)[2]

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.8, 2.6))
ax.plot(log, color=COLORS["token"], alpha=0.2)
ax.plot(smooth(log, 25), color=COLORS["token"])
for begin in range(0, len(log), len(kept)):
    part = log[begin : begin + len(kept)]
    ax.plot([begin, begin + len(part)], [np.mean(part)] * 2, color=COLORS["rest"], linewidth=2)
ax.set(xlabel="step", ylabel="loss")
show(
    figure,
    "The loss of the small model while it trains, its running mean, and its mean in each pass over the 64 batches.",
    "A noisy curve, which stays level for some forty steps, then falls, and from about step eighty on slowly, with bumps; "
    "the level lines, one per pass, go down like stairs.",
)

# %% [markdown]
# **What you should see.** The untrained model is level with bicubic interpolation: it *is* little more than the degraded photo, said in tokens. In a minute it gains at all sizes, most at ×2 and ×4. The ceiling is far away.
# The running mean has bumps, for batches differ: some photos are harder. The same 64 batches come round again and again, so compare whole passes, the level lines.
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
words = ["degraded", *(f"map {k + 1}" for k in range(8)), "clean"]
figure = image_grid([[column[0] for column in columns[half : half + 5]] for half in (0, 5)], [words[:5], words[5:]])
show(
    figure,
    "A photo, as it appears map by map: ×1 is complete after map 5, ×2 after map 7, ×4 after map 8.",
    "Two rows of five pictures: the degraded photo of 16 by 16 pixels, then a flat colour, coarse blobs, a small photo that "
    "is complete after map 5, one of twice the size after map 7 and of four times after map 8, and the clean photo.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Maps 1 to 5 make a photo of 16 × 16 pixels, and it has lost the grain. Then the canvas doubles, twice; what is added is finer and fainter each time.
#
# ### The whole model, in the open
#
# Chapters 02 to 06 opened the model piece by piece. What is missing is what this chapter adds: how the photo becomes a prefix, how its rest enters the input of *every* token (`prior.embed`), and how the prior makes logits.

# %%
from vartutor.open_code import conv, frame_angles, linear, run_blocks  # of 02 and 06


# %% tags=["model"]
def photo_prefix(w, photo):  # the model: (B, 3, 16, 16) -> a token for every 2 × 2 pixels, (B, 64, D)
    h = F.silu(conv(w, "prefix.layers.0", F.pixel_unshuffle(photo, 2)))
    h = F.silu(conv(w, "prefix.layers.2", h))  # (B, 64, 8, 8)
    return linear(w, "prefix.proj", h.flatten(2).mT)


def input_of(w, k, f_hat_k, rest):  # the sum so far and the photo's rest, (B, p², C) each -> (B, p², D)
    x = w["pos_start"] + w["class_emb.weight"] if k == 0 else linear(w, "word_embed", f_hat_k)
    return x + w["level.weight"][k] + linear(w, "prior.embed", rest)


def map_logits(w, h, rest, k):  # h (B, p², D) -> (B, p², V)
    shift, sharper = linear(w, "prior.revise", h).split([rest.shape[-1], 1], -1)
    r = rest + w["prior.unit"] * shift  # r + Δ
    distance = w["prior.codes"].square().sum(1) - 2 * r @ w["prior.codes"].T  # less ‖r + Δ‖²
    return linear(w, "head", h) - (w["prior.log_alpha"][k] + sharper).exp() * distance


# %% [markdown]
# And this is all of it: degraded photos in, restored ones out. `tok` and `w` are the weights of the tokenizer and of the transformer.

# %%
from vartutor.open_code import SIDES, add_map, at_size, canvas, decode, hit_features, rest_of, shrunk


# %% tags=["model"]
def mean_code(logits, codes):  # the model: (B, n, V) -> the mean of all codes, (B, n, C)
    return (logits / 0.5).softmax(-1) @ codes


@torch.no_grad()
def write_photo(tok, w, photo, say=mean_code):  # (B, 3, 16, 16) -> logits of every map, {s: photo at ×s}
    z = hit_features(tok, shrunk(photo, 64))  # of the enlarged photo
    f_hat, seen, logits, photos = torch.zeros_like(z[0]), {}, [], {}
    for k, p in enumerate(SIDES):
        rest = rest_of(tok, z, f_hat, k).flatten(2).mT  # (B, p², C)
        x = input_of(w, k, at_size(canvas(tok, f_hat, k), k).flatten(2).mT, rest)
        angles = frame_angles(p).to(x)
        if k == 0:  # the photo stands before the first map
            x = torch.cat([photo_prefix(w, photo), x], 1)
            angles = torch.cat([frame_angles(8).to(x), angles])
        h = run_blocks(w, x, w["class_emb.weight"][None], angles, seen)[:, -p * p :]
        logits.append(map_logits(w, h, rest, k))
        said = say(logits[k], tok["quantizer.codes"])
        f_hat = add_map(tok, f_hat, said, k)
        photos[f_hat.shape[-1] // 4] = decode(tok, f_hat)  # the last map of a group has the final word
    return logits, photos


# %%
weights = {name.removeprefix("body."): value for name, value in model.state_dict().items()}
logits, photos = write_photo(tokenizer.state_dict(), weights, some)
for step, ours in zip(steps, logits, strict=True):
    assert torch.allclose(ours, step.logits, rtol=1e-4, atol=0.01)
assert all(torch.allclose(photos[s], tokenizer.decode(steps[k].f_hat), atol=1e-4) for s, k in ((1, 4), (2, 6), (4, 7)))
print("our logits and photos are the package's")

# %% [markdown]
# `say` decides what becomes of a distribution. Here are two that the exercises made: your mean of the likeliest hundred codes, and a draw from what your `top_p` of chapter 06 leaves.

# %%
top_p, dice = ch06.use("top_p"), torch.Generator(session.device).manual_seed(SEED)


def mean_of_hundred(logits, codes):
    return expected_code(logits.flatten(0, 1), codes, 0.5, 100).unflatten(0, logits.shape[:2])


def careful_draw(logits, codes):
    kept = top_p(logits.flatten(0, 1), 0.5).softmax(-1)
    return codes[torch.multinomial(kept, 1, generator=dice).view(logits.shape[:2])]


for say in (mean_code, mean_of_hundred, careful_draw):
    _, photos = write_photo(tokenizer.state_dict(), weights, some, say)
    print(
        f"{say.__name__:>15}:",
        *(f"×{s} {psnr(y, hr[s][picks], color='rgb').mean():.2f} dB (RGB) " for s, y in photos.items()),
    )

# %% [markdown]
# The cells marked `the model` in chapters 02, 04, 05, 06 and 07 are a complete program of about 130 lines. Put one after the other, they need nothing but PyTorch and two files of weights, and a test of this repository runs them so.
#
# %% [markdown]
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
print("PSNR in RGB, dB; last, the perceptual distance at ×4")
for name, images in found.items():
    far = perceptual_distance(images[4], hr[4]).mean().item()
    print(
        f"{name:>18}:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(images), strict=True)), f"{far:.3f}"
    )

# %% tags=["hide-input"]
names = ["bicubic", "greedy", "sampled, τ = 1", "sampled, τ = 0.5", "expected, τ = 0.5"]
words = ["bicubic", "greedy", "sampled, τ = 1", "sampled, τ = ½", "mean, τ = ½", "clean"]
row = [*(found[name][4][picks[1]].cpu() for name in names), hr[4][picks[1]].cpu()]
figure = image_grid([row[:3], row[3:]], [words[:3], words[3:]])
show(
    figure,
    "The second photo at ×4, decoded in different ways.",
    "A tower before the sky in six versions, at times four: bicubic is soft and grainy; greedy and sampled ones have harder "
    "edges, most of them in wrong places; the mean is smooth; and the clean photo has ribs and a balcony.",
    photo=True,
)

# %% [markdown]
# **What you should see.** With the mean codes, PSNR rises above bicubic at every size. A draw at temperature one looks torn: every token is drawn alone, and a small model spreads its chances widely. The likeliest codes lie in between.
# Neither ruler prefers the draws. That is a fact about *this* model, not about drawing: a draw is only as good as the distribution. So the course's default is the mean of the codes, at temperature one half, which narrows the mean to the likelier codes.
#
# ## A second look at the photo
#
# The decoder sees tokens only, and tokens are few. At ×1 the degraded photo itself lies before us. How much more than that photo do the model's 53 tokens say? And how much more could they say, if they were the true ones?

# %%
photo1 = upscale_bicubic(lr)[1]  # at ×1: the degraded photo itself
at1 = {"degraded photo": photo1, "model's tokens": found["expected, τ = 0.5"][1], "true tokens": ceiling[1]}
points = {name: psnr(image, hr[1], color="rgb") for name, image in at1.items()}
for name, values in points.items():
    print(f"{name:>14}: ×1 {values.mean():.2f} dB (RGB)")
for name in ("model's tokens", "true tokens"):
    share = (points["degraded photo"] > points[name]).float().mean()
    print(f"the degraded photo is closer to the truth than the {name} in {share:.0%} of the crops")

# %% [markdown]
# On average the model's tokens say little more than the degraded photo already does. In half of the crops they say less, and in a good third even the true tokens do.
# So let the decoder see the photo. From the decoder's features $F$ and the photo's own, a small network computes a scale $\alpha$ and a shift $\beta$ for every position (CodeFormer calls it a *controllable feature transformation*):
#
# $$ F' = F + \alpha \odot F + \beta. $$
#
# It is trained with everything else frozen, for pixels and for perception, on crops turned and recoloured at random: `vartutor train fidelity --set augment=true` (the manifest of the checkpoints has its other settings).

# %%
fidelity = resolver.fidelity
z_tokens = restore_latents(model, tokenizer, lr, **ways["expected, τ = 0.5"])[1]  # f_hat at ×1
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
print("PSNR in RGB, and the perceptual distance")
for name, images in (looks | {"0.6, inside": look_again(inside, 1)}).items():
    far = [perceptual_distance(images[s], hr[s]).mean().item() for s in (1, 2, 4)]
    print(
        f"{name:>11}:", *(f"×{s} {x:5.2f} dB {y:.3f} " for s, x, y in zip((1, 2, 4), quality(images), far, strict=True))
    )
if PROFILE == "cpu":
    assert all(a > b for a, b in zip(quality(looks["w = 0.6"]), quality(enlarged), strict=True))

# %% tags=["hide-input"]
columns = [enlarged[4], *(images[4] for images in looks.values()), hr[4]]
figure = image_grid([[column[i].cpu() for column in columns] for i in picks[:2]], ["bicubic", *looks, "clean"])
show(
    figure,
    "Fidelity at ×4: tokens alone (w = 0), with a look at the degraded photo (w = 1), and a mixture of both.",
    "Two rows of five small photos: bicubic, soft and grainy; w of 0, smooth; w of 0.6 and 1, edges a little firmer and a "
    "faint mottle in flat places; the clean ones.",
    photo=True,
)

# %% [markdown]
# **What you should see.** At ×1 the look at the photo helps most. At ×2 and ×4 it costs a little in pixels and gains a little to the eye, for what is missing there is not in the photo. With $w$ inside, the way between is worse than both ends: the decoder meets features that no training showed it.
# A mixture of two pictures can never be worse than the worse of the two, since squared error is convex. And since the two err in different places, at ×2 and ×4 it is better by the perceptual distance than either. So `upscale` uses $w = .6$ unless told otherwise. On the validation photos no other $w$ that we tried lowers the perceptual distance at ×2 or ×4 by more than a thousandth: `vartutor evaluate --split val --restorers bicubic model --temperatures .5 --expected --fidelity 0 .2 .4 .5 .6 .7 .8 1`. Nothing of this is special to our model: two CNNs would gain by mixing, too. It costs a second decode.
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

# %% [markdown]
# **★★★ No seams · 30 min.** `tiles` is (T, C, n, n), tile $t$ has its left edge at `lefts[t]`, and neighbours overlap. Return the (C, n, width) strip: at every place the weighted mean of the tiles there. The weights of a tile rise linearly from its left border and fall to its right one: `1, 2, …, 2, 1`.


# %% tags=["exercise"]
def my_blend(tiles, lefts, width):
    return ...


blend = ch07.use("blend", my_blend)

# %%
ch07.hint("blend")
ch07.solution("blend")

# %% [markdown]
# A strip across the panda's face: nine tiles, restored one by one with all the pieces of this chapter, then blended. For comparison, tiles that only touch. How large is the step from pixel to pixel at a border, and how large elsewhere?


# %%
def tiles_at(lefts):  # of the rows 40 to 55 of the degraded photo, restored to ×4
    small = torch.cat([pair.lr[:, :, 40:56, left : left + 16] for left in lefts]).to(session.device)
    return write_photo(tokenizer.state_dict(), weights, small, mean_of_hundred)[1][4].cpu()


lefts = list(range(0, 81, 10))
strips = {"touching": torch.cat(list(tiles_at(range(0, 96, 16))), -1)}
strips["blended"] = blend(tiles_at(lefts), [4 * left for left in lefts], 4 * 96)
for name, strip in strips.items():
    steps_x = strip.diff(dim=-1).abs().mean((0, 1))  # (383,)
    at = torch.arange(63, 383, 64)  # where touching tiles meet
    print(f"{name:>9}: {steps_x[at].mean():.3f} where tiles touch, {steps_x.mean():.3f} on average")

# %% [markdown]
# Touching tiles show their borders; blended ones do not. And whose model was that? `whose` lists the functions of exercises that this session uses.

# %%
from vartutor.exercises.sheet import whose

whose()

# %% tags=["hide-input"]
bicubic = upscale_bicubic(pair.lr, (4,))[4]
parts = {"degraded": (pair.lr[0], 1), **{f"×{s}": (image, s) for s, image in restored.items()}}
parts |= {"bicubic ×4": (bicubic[0], 4), "clean ×4": (clean_photo[0], 4)}
cut = {name: image[:, 24 * s : 72 * s, 26 * s : 74 * s] for name, (image, s) in parts.items()}
upper, lower = ["degraded", "×1", "×2"], ["bicubic ×4", "×4", "clean ×4"]
figure = image_grid([[cut[name] for name in line] for line in (upper, lower)], [upper, lower])
show(
    figure,
    "A piece of a test photo: degraded, restored at ×1 and ×2; and at ×4, between bicubic and the clean photo.",
    "Two rows of three pictures of a red panda's face. Above, the degraded one is grainy, and the restored ones at times "
    "one and two are smooth and finer. Below, bicubic is blurred and grainy, the model's is clean and soft with firmer "
    "edges, and the clean photo has all its fur.",
    photo=True,
)

# %% [markdown]
# ### Try it
#
# Another photo, another part of it, more or less bold; or stop after any map. For a photo of your own, open `notebooks/try_it.ipynb` in JupyterLab.

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
    return image_grid([[x[0].cpu(), image[0].cpu(), hr[s][crop].cpu()]], ["degraded", f"×{s}", "clean"])


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
# - a plain **CNN** in the manner of EDSR, with as many parameters as the transformer. It was trained on crops that are turned and recoloured as for our fidelity module, and for as long as that (the transformer before it took half as long). This is the honest line to beat;
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
print("PSNR (luma) gained on bicubic")
for name in shown:
    print(f"{name:>45}:", *(f"×{s} {gains[name, s, 'psnr_y']} dB " for s in "124"))

# %%
print("perceptual distance added to bicubic's; less is better")
for name in shown:
    print(f"{name:>45}:", *(f"×{s} {gains[name, s, 'perceptual']} " for s in "124"))

# %% tags=["hide-input"]
from vartutor.show.tradeoff import draw_tradeoff

seven = ["denoise", "cnn", "cnn:perceptual", "model, temperature 0.5", "model, expected, temperature 0.5"]
seven += ["model, fidelity 0.6, temperature 0.5", "model, fidelity 0.6, expected, temperature 0.5"]
figure = draw_tradeoff([d for d in compare(rows, "bicubic") if d.restorer in seven], "bicubic")
show(
    figure,
    "Test photos against bicubic, which is the origin: right is closer in pixels (luma), down is closer to the eye.",
    "Three planes, for times one, two and four, with one mark with error bars for each of seven methods and bicubic at the "
    "origin. The two CNNs lie farthest to the right and lowest; the model's draws lie left of its mean codes.",
)

# %% [markdown]
# **What you should see.** Read the default first: *fidelity .6, expected*, at the lower temperature. It is ahead of bicubic at all sizes in both rulers, with intervals that stay off zero, and of the classical denoiser. If you want ×1 alone, take all of the look, *fidelity 1*: it gains another half decibel.
#
# And the CNN? It wins in PSNR, at every size, clearly. In perceptual distance it wins at ×1, and the two are level at ×2 and ×4. Yet that ruler was part of our training and not of the CNN's, which flatters us. Where the CNN had the same chance, it pays some PSNR and is ahead of ours by that ruler too, at every size. So at this size, and for this training time, the honest answer is: **if you only want the cleanest photo, take the CNN.** It needs no codebook, no prior and no loop.
# What the transformer has and the CNN lacks is the distribution: it can be asked for the mean, or for bolder guesses. Its likeliest codes make pictures with stronger edges than the CNN's, though partly of false texture (the command's `summary.md` has that table). What that is worth when the model is large enough to draw *well*, only the full run can show.
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
# The look that begins at the CNN's picture is level with the CNN or a little better by both rulers, for less than a tenth of a decibel. But so is the blind one, by as much: the second table is as good as zero. So the gain is the loss's and the module's. **Of what a photo's mean picture needs, these tokens say nothing that the net did not know.** They could hardly. Tokens, too, are made from the degraded photo alone. And the look learned from *mean* codes, which are as unsure as the net.
#
# What can a token model add, then? What is *not* in the photo: a draw from what might have been there. For that, the decoder must believe its tokens. So teach the look with *true* tokens (`--set objective.forced=1`), which know more than the photo does; then let the transformer draw. The shipped model `detail` is made this way: the transformer with the restored prior, trained on, and such a look over it. `vartutor upscale … --model detail` draws with it. Measured by the same command, with `--restorers bicubic cnn model:detail --temperatures .5 1 --expected --fidelity 1 --seeds 0 1`:

# %%
found = read_rows(assets() / "studies" / "detail.csv")
ways = ["mean codes", "drawn at 0.5", "drawn at 1", "with a critic, at 0.5"]
show_differences("CNN", ways, ("psnr_rgb", "perceptual", "vgg", "sharpness"))

# %% [markdown]
# Numbers first, now the eyes. Pieces of three test photos, each from 36 × 36 pixels; two of the columns are two draws.

# %% tags=["hide-input"]
from vartutor.weights import load_cnn

writer, net = SuperResolver.from_pretrained("detail", device=session.device), load_cnn().to(session.device)
places = {"raccoon": (160, 245), "hedgehog": (160, 262), "lemur": (160, 288)}  # top, left
drawn = []
for name, (top, left) in places.items():
    clean = find_photo(name).load()[None, :, top : top + 192, left : left + 192]
    own = make_pairs(clean, COURSE, torch.Generator().manual_seed(SEED))
    certain = net.restore(own.lr.to(session.device))[4][0].cpu()
    draws = [writer.upscale(own.lr[0], (4,), seed=seed)[4] for seed in (1, 2)]
    drawn.append([image[:, 24:168, 24:168] for image in (certain, *draws, own.hr[4][0])])
figure = image_grid(drawn, ["CNN", "one draw", "another", "clean"])
show(
    figure,
    "What the CNN is sure of, two draws of the model at ×4, and the clean photo.",
    "Three rows of four pieces: a raccoon's face, a hedgehog's side, a lemur. The CNN's are smooth. Both draws "
    "have harder edges, and the hedgehog gets spines, others in each draw; the lemur's breast stays bare. The clean photos "
    "are full of fine hair.",
    photo=True,
)

# %% [markdown]
# Look closer, with the slider: the raccoon, by the CNN and drawn.

# %% tags=["nbval-ignore-output"]
from vartutor.show.before_after import before_after

words = "A raccoon's face: smooth on the left; on the right with harder edges and dark lines in the fur."
before_after(*drawn[0][:2], ("CNN", "one draw"), words)

# %% [markdown]
# **What you should see.** With mean codes nothing is won: a little behind the CNN by every ruler, and no sharper. Drawn, there is something to see: harder edges, spines on the hedgehog, marks in the fur; at ×4 nearly half again the CNN's sharpness. The price is more than half a decibel. The course's ruler minds it, and VGG-16, at ×4, does not. At τ = 1 the price doubles, and hardly anything is sharper.
#
# Compare the two draws. Edges agree, spines and fur do not: where the photo leaves freedom, the model uses it. Not always well: the spines have no common direction, and where the CNN saw nothing at all, as on the lemur's breast, nothing is written. That is the trade of Blau and Michaeli, made by a model that learned for some two hours on one core. The recipes `vartutor overnight` and `vartutor speedrun` go the same way with larger tiles: restore, write, then decode with a look that believes its tokens. Larger models should draw better; that remains to be shown.
#
# **Would a critic help?** The last row tried it. The look was trained on, for half an hour: a third of the photos with true tokens, the others with drawn ones. The error of these counted a fifth. Instead a critic of pixels, which learns to tell restored photos from true ones, judged them (`--set init=detail --set objective.forced=.3 --set objective.trust=.2 --set objective.adversarial=.006`). The result is closer to the clean photo by every ruler; at ×2 and ×4 it is less sharp. Probably a look that meets drawn tokens in training learns to distrust them, and this critic was too quiet to make up for it. Louder ones, tried for a few hundred steps, wove a pattern into flat places. So `detail` is shipped without.
#
# ## Where does the error come from?
#
# Replace one part at a time by the truth, and measure again. What the *clean features* lose is the autoencoder's; what the *true tokens* lose beyond that is the quantizer's. The *photo's own tokens* are the untrained prior. And if the true maps are given up to ×1, or up to ×2, how much of the rest does the model get right? (Mean codes at temperature one half, no look at the photo: `vartutor evaluate --restorers bicubic --temperatures .5 --expected --budget`.)

# %%
budget = read_rows(assets() / "studies" / "superres_budget.csv")


def mean_of(part, scale, measure):
    return np.mean([r.value for r in budget if (r.restorer, r.scale, r.measure) == (part, scale, measure)])


parts = ["clean features", "true tokens", "model after ×2", "model after ×1", "model", "photo's own tokens"]
print("PSNR in RGB on the test crops")
for part in parts:
    print(f"{part:>18}:", *(f"×{s} {mean_of(part, s, 'psnr_rgb'):5.2f} dB " for s in "124"))

# %% [markdown]
# And token by token? *Teacher forced*: all maps before are the true ones. *Free running*: they are the model's own, and the "right" token is the one for what the clean photo still lacks *then*. The model's own maps are mean codes or drawn ones; does that matter?
#
# Cross entropy says how unlikely the right token was. The model's *entropy*, $-\sum_j p_j \log p_j$, says how unsure it is. A model that knows what it does not know has both alike.


# %%
@torch.no_grad()
def by_map(**options):  # (3, 8): right tokens, cross entropy of the right token, the model's own entropy
    clean, z = pair_features(tokenizer, lr, hr[4])
    measured, f_hat = [], None
    for step in iterate(model.body, tokenizer, model.condition(lr, z), **options):
        goal = quantizer.rest(clean, f_hat, step.k)  # what is lacking now
        right_now, f_hat = quantizer.lookup(goal.mT[..., None]), step.f_hat
        logp = step.logits.log_softmax(-1)
        hits, own = (logp.argmax(-1) == right_now).float().mean(), -(logp.exp() * logp).sum(-1).mean()
        measured.append([100 * hits.item(), F.nll_loss(logp.flatten(0, 1), right_now.flatten()).item(), own.item()])
    return np.array(measured).T


dice = torch.Generator(session.device).manual_seed(SEED)
runs = {"teacher forced": {"given": true}, "own mean codes": calm, "own drawn codes": {"generator": dice}}
runs = {name: by_map(**options) for name, options in runs.items()}
for name, (_, entropy, own) in runs.items():
    print(f"{name:>15}, cross entropy/entropy:", *(f"{a:.1f}/{b:.1f}" for a, b in zip(entropy, own, strict=True)))

# %% tags=["hide-input"]
figure, (ax, other) = plt.subplots(1, 2, figsize=(7.2, 2.9))
for (name, (hits, entropy, own)), color in zip(runs.items(), ("token", "lr", "model"), strict=True):
    ax.plot(range(1, 9), hits, "o-", color=COLORS[color], label=name)
    other.plot(range(1, 9), entropy, "o-", color=COLORS[color])
    other.plot(range(1, 9), own, ":", color=COLORS[color])
ax.plot(range(1, 9), [100 * x for x in right], "s--", color=COLORS["bicubic"], label="the photo's own tokens")
other.axhline(np.log(1024), color="black", linewidth=0.8)
other.text(1, np.log(1024) + 0.1, "guessing", fontsize=8)
ax.set(xlabel="map", ylabel="right tokens (%)", xticks=range(1, 9))
other.set(xlabel="map", ylabel="nats", xticks=range(1, 9), title="cross entropy; dotted: entropy")
ax.legend(fontsize=8)
show(
    figure,
    "How well each map of the validation crops is predicted, after true maps and after the model's own, mean or drawn.",
    "Left, the share of right tokens falls from nearly all at map 1 to about a tenth at the last maps; after mean codes it "
    "is lower from map 4 on. Right, cross entropy rises from map to map; after mean codes that of maps 7 and 8 shoots to or "
    "above the line of guessing, while the dotted entropy stays near four; in the other two runs both stay together.",
)

# %% [markdown]
# **What you should see.** *True tokens* are the tokenizer's ceiling, far above the model at ×2 and ×4: the tokenizer does not limit us there. At ×1 it nearly does.
# Give the model the true maps of ×1, and ×2 gets only a little better. Give it those of ×2 as well, and ×4 gains two decibels, yet stays far below its ceiling. So most is lost in the maps where a size is *new*: their detail is not in the small photo, and must be guessed.
#
# In the token plot, the trained model is right more often than the photo itself, from map 3 on. After its own *drawn* codes it is right about as often as after the true ones. Its cross entropy is higher by less than a nat, and close to its entropy. So there is little exposure bias: slips are what it was trained with, and draws look like slips.
#
# After its own *mean* codes it is worse from map 4 on. At map 7 it is worse than guessing, at map 8 no better. A mean of codes is no code. What is lacking after it is a vector that neither true tokens nor slips have left over in training. The entropy hardly rises: the model is sure, *and* wrong. The mean still gives the better PSNR, for these last maps add little; but their probabilities can no longer be trusted.
#
# And a cross entropy of five nats, even after true maps? It is as unsure as a fair choice among 150 codes, $e^5$.
#
# ## What does it look at?
#
# Take one token of the last map, and read its attention: over the prefix, which is the photo, and over all maps. The code is that of chapter 06, with a prefix.


# %%
from vartutor.transformer.attention import rotate


@torch.no_grad()
def attention(crop):
    caught, (x, clean_x) = [], (t[crop : crop + 1] for t in (lr, hr[4]))
    hooks = [b.attn.register_forward_pre_hook(lambda _, given: caught.append(given)) for b in model.body.blocks]
    clean_z, z = pair_features(tokenizer, x, clean_x)
    _, _, inputs, rests = force(tokenizer, clean_z, z)
    model.body(model.condition(x, z), inputs, rests)
    maps = []
    for hook, block, (h, _, angles, *_) in zip(hooks, model.body.blocks, caught, strict=True):
        hook.remove()
        attn = block.attn
        q, k, _ = F.linear(h, attn.qkv.weight).unflatten(2, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q + attn.q_bias.view(attn.heads, 1, -1), dim=-1) * attn.log_scale.exp()
        a = rotate(q, angles) @ rotate(F.normalize(k, dim=-1), angles).mT
        maps.append(a.masked_fill(~mask.to(a.device), -torch.inf).softmax(-1).mean(1))  # over heads
    return torch.stack(maps, 1)[0]  # (blocks, P + L, P + L)


heard = attention(picks[1])
assert torch.allclose(heard.sum(-1), torch.ones_like(heard[..., 0]), atol=1e-4)
counts = {"photo": 64, "maps 1 to 5": 53, "maps 6 and 7": 128, "map 8": 256}
shares = heard[:, -256:].mean(1).split(list(counts.values()), 1)  # of what the tokens of map 8 hear, (blocks, n) each
for (name, count), share in zip(counts.items(), shares, strict=True):
    print(f"{name:>12}: even share {count / 501:.0%}; blocks:", *(f"{100 * x:.0f} %" for x in share.sum(1)))


# %%
def draw_attention(heard, row, column, blocks):
    token = len(heard[0]) - 256 + row * 16 + column  # of the last map
    sizes = [8, *quantizer.patch_nums]  # the prefix is 8 × 8 patches
    figure, axes = plt.subplots(len(blocks), 9, figsize=(7.2, 0.95 * len(blocks) + 0.25), squeeze=False)
    for block, line in zip(blocks, axes, strict=True):
        weights = heard[block, token].cpu() * heard.shape[-1]  # 1: as if all were heard alike
        for ax, part, side in zip(line, weights.split([p * p for p in sizes]), sizes, strict=True):
            ax.imshow(part.view(side, side), cmap="Purples", vmin=0, vmax=6)
            ax.plot((column + 0.5) / 16 * side - 0.5, (row + 0.5) / 16 * side - 0.5, ".", color="black")
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
    "One row of nine square maps per block, with a dot at the token's place: most blocks are dark around the dot in maps 6 "
    "to 8, the first and the fourth also in patches of maps 3 to 5; the photo's maps are pale.",
)

# %% tags=["widget", "nbval-ignore-output"]
explorer(
    lambda row, column, block: draw_attention(heard, row, column, [block - 1]),
    row=slider("row", 6, 0, 15, 1),
    column=slider("column", 9, 0, 15, 1),
    block=slider("block", 1, 1, len(heard), 1),
)

# %% [markdown]
# **What you should see.** The first block gives the photo about its even share, the blocks after it much less. All blocks look most at the last three maps, and there near the token. Some ask the coarse maps, too.
# A likely reason why the photo itself is asked so little: the prior has already brought it to every token.
#
# ## One pass or three?
#
# One model gives three sizes. Would three models, each for one size, do better? And do prefix, prior, loss, positions, size matter? Small models, few and equal steps, the same batches: `vartutor study --of transformer --steps 200`. Such a study does not tell what a long training gives; it tells what helps *early*.
#
# Every run is compared with the course's recipe on the same test photos, PSNR in luma. Two tables: mean codes at temperature one, and draws. A finding that holds in one of them only is a finding about the decode, too.

# %%
from vartutor.evaluate.table import study_rows
from vartutor.tables import load_study

study = load_study("transformers")


def against_course(way):
    return {(d.restorer, d.scale, d.measure): d.interval for d in compare(study_rows(study, way), "course")}


for way in ("sampled", "expected"):
    versus = against_course(way)
    print(f"{way}, PSNR (luma) against the course's recipe, dB")
    for name in dict.fromkeys(name for name, *_ in versus):
        gaps = [f"×{s} {versus[name, s, 'psnr_y']} " for s in "124" if (name, s, "psnr_y") in versus]
        print(f"{name:>18}:", *gaps)

# %%
for way in ("sampled", "expected"):
    gap = against_course(way)
    print(f"{way}, perceptual distance, hard labels:", *(f"×{s} {gap['hard', s, 'perceptual']} " for s in "124"))

# %% tags=["hide-input"]
marks = {"1": "o", "2": "s", "4": "^"}
runs = [name for name in dict.fromkeys(name for name, *_ in versus) if name not in ("no prior", "prefix alone")]
figure, ax = plt.subplots(figsize=(6.4, 3.6))
for i, name in enumerate(runs):
    for s, mark in marks.items():
        if (gap := versus.get((name, s, "psnr_y"))) is not None:
            reach = [[gap.mean - gap.low], [gap.high - gap.mean]]
            ax.errorbar(gap.mean, i + 0.2 * (list(marks).index(s) - 1), xerr=reach, fmt=mark, color=COLORS["model"])
for s, mark in marks.items():
    ax.plot([], [], mark, color=COLORS["model"], label=f"×{s}")
ax.axvline(0, color="black", linewidth=0.8)
ax.set(xlabel="PSNR gained (luma), dB", yticks=range(len(runs)), yticklabels=runs)
ax.invert_yaxis()
ax.legend(fontsize=8)
show(
    figure,
    "Mean codes of short runs against the course's recipe (the line at 0), with intervals over the test photos; those "
    "without the prior are far off to the left.",
    "Up to three marks with error bars per row: no slips and narrow lie left of the line, hard labels right of it at "
    "times one, all tokens alike left of it at times one, and the others on it.",
)

# %% [markdown]
# **What you should see.** Look first at *no prior* and *prefix alone* (they are not at the end; the second has hard labels and no slips besides). Without the prior, a run of this length restores nothing. Take mean codes next, the second table and the figure. Slips help at all sizes. A model of half the width loses a little, one of twice the depth gains nothing: so few steps do not fill it. No prefix, a prefix added to the maps instead of put before them, learned positions: none of them matters. With the prior, the photo reaches every token anyhow.
#
# *Hard* labels are a surprise. At ×1 they are better than our soft ones, in mean codes by a third of a decibel, in draws by almost a whole one. Drawn, they are better by the perceptual distance, too. Drawn at ×4 they are worse by both rulers. So this choice is not what makes the model work: hard labels suit ×1, soft ones draws at ×4.
#
# And one pass or three? *Only 1*, *only 2*, *only 4* are models for one size each, with as many steps each as the one model for all. In mean codes the means differ by less than a tenth of a decibel, though at ×4 the interval reaches to a quarter. In draws *only 2* is ahead at ×2, and *only 4* behind at ×4, each by about two tenths. So sharing costs little or nothing, and saves two models. (*Only 4* uses the plain tokenizer of chapter 04, whose ceiling at ×4 is higher.)
# One seed, short runs: small differences here mean nothing.
#
# ## Where does it fail?
#
# A gallery of favourites would prove little. So let a rule pick. Rank the test photos by what the default gains on bicubic in PSNR (luma) at ×4. Take the best one, the middle one and the worst one. Of each, show the crop with most detail.

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
crop_of, strips = richest(test.files, test.hr[4]), []
for file in chosen.values():
    i = crop_of[file]
    x = test.lr[i : i + 1]
    with torch.no_grad():
        certain = net.restore(x.to(session.device))[4][0].cpu()
    made = resolver.upscale(x[0], (4,))[4]
    strips.append([upscale_bicubic(x, (4,))[4][0], certain, made, test.hr[4][i]])
figure = image_grid(
    strips,
    ["bicubic", "CNN", "model", "clean"],
    labels=list(chosen),
    colors=[COLORS["bicubic"], COLORS["rest"], COLORS["model"], COLORS["hr"]],
)
show(
    figure,
    "The test photo where the default gains most at ×4, a middle amount, and least: its crop with most detail.",
    "Three rows of four small photos: bicubic, blurred and grainy; the CNN's and the model's, both smooth; and the clean one.",
    photo=True,
)

# %% [markdown]
# **What you should see.** The best gain is mostly cleaning: behind the kingfisher all is flat, and bicubic leaves its grain there. The worst is grass. It is as fine as grain, so the model smooths it away with the grain. The CNN does the same. On none of the three does the model write the detail that the clean photo has: no lichen, no leaf, no blade.
#
# ## What breaks if the prior is left out?
#
# Then the photo speaks through the prefix alone. To come nearer to the paper's form †, let the prefix be what the tokenizer's encoder makes of the enlarged photo: 16 × 16 latents, 256 tokens. Hard labels, every token alike. Same small size, same steps, same batches as above. One thing stays different: the paper starts from VAR's trained weights †, we start from nothing.


# %%
class LatentPrefix(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = torch.nn.Linear(codes.shape[1], width)

    def forward(self, photo):  # (B, 3, 16, 16) -> (B, 256, D), and their side
        z = photo_features(tokenizer, photo)[-1]
        return self.proj(z.flatten(2).mT), z.shape[-2:]


# %%
torch.manual_seed(SEED)
bare = PhotoTransformer(config, codes, prior=False).to(session.device)
bare.prefix = LatentPrefix(config.width).to(session.device)
hard = TransformerLoss(bare, tokenizer, Objective())  # hard labels, every token alike
losses = train(bare, lambda seen: hard(seen)[0])
alone = restore(bare, lr, **calm)
print("without the prior, RGB:", *(f"×{s} {x:5.2f} dB " for s, x in zip((1, 2, 4), quality(alone), strict=True)))
if PROFILE == "cpu":
    assert quality(alone)[2] < quality(before)[2] - 3

# %% tags=["hide-input"]
figure = image_grid(
    [[images[4][i].cpu() for images in (alone, after, hr)] for i in picks[:2]], ["no prior", "with it", "clean"]
)
show(
    figure,
    "After the same training at ×4: without the prior, with it, and the clean photos.",
    "Two rows of three photos: on the left flat grey, in the middle soft but recognisable, on the right the clean ones.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Flat grey. The model has learnt how often each code is used, and nothing about any photo: the mean of that is grey. It has not even begun to read the prefix. (With pixels as prefix it is the same: *prefix alone* in the study above.)
# What is missing is time, and weights to start from. Chapter 12 plans the full-size run that could show whether the form then reads photos by itself; we have not run it.
#
# %% [markdown]
# ## Questions
#
# 1. The prior already gives every code a logit. Why does the model still need the head's own logits $h$?
#
# <details><summary>Answer</summary>
#
# The prior can only say "near this vector". It is a single bump around $r + \Delta$. With $h$ the model can prefer one of two far codes, or several at once.
#
# </details>
#
# 2. The mean of the codes has the least squared error *in the space of latents*. Does it then have the best PSNR among all decodes?
#
# <details><summary>Answer</summary>
#
# Not by law. The decoder is not linear, and maps depend on each other. It was the best that we measured.
#
# </details>
#
# 3. After its own mean codes the model's cross entropy at map 7 is above guessing. How can a model be worse than guessing?
#
# <details><summary>Answer</summary>
#
# Guessing gives every code the same small chance. A model that is sure of wrong codes gives the right one less than that.
#
# </details>
#
# 4. True tokens give many decibels more than the model at ×4. Would a better tokenizer help the model there?
#
# <details><summary>Answer</summary>
#
# Hardly. The tokenizer is not what limits it at ×4: the model does not know which tokens are right. More true detail would only be more to guess.
#
# </details>
#
# 5. A colleague trains a model with soft labels and reports that its cross entropy with hard labels is worse. Is the model worse?
#
# <details><summary>Answer</summary>
#
# One cannot say. It was asked to spread its chances over near codes, so it gives the nearest one less. Compare the decoded photos.
#
# </details>
#
# ## An open experiment
#
# The mean of the codes makes the best PSNR, drawn codes keep the probabilities honest. Find a decode that takes from both: for instance draw the maps of ×1 and take means at the last map, or average several draws.
#
# A good answer
#
# - says beforehand what it expects, and why;
# - chooses on validation photos and measures once on test photos;
# - gives paired differences with intervals, in PSNR and in perceptual distance, at all three sizes;
# - reports the entropy and the cross entropy of the last maps, as above;
# - says what the decode costs in time, and for which photos it fails.
#
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
# | photo | 64 tokens, from two convolutions on 2 × 2 patches | 1024 tokens, from the encoder † |
# | prior | the photo's own latents | none that we know of |
# | loss | cross entropy with near codes, maps weighted | cross entropy, and DPO (chapter 08) † |
# | starts from | nothing | VAR-d16 † |
# | decode | mean of the codes by default, drawn codes if asked | not known |
# | look at the photo | a knob, 0 to 1 | none that we know of |
# | size | about four million parameters, ×4 is 64 × 64 per tile | 310 million, ×4 is 512 × 512 † |
#
# † at second hand; the page *Paper versus course* of the book says from where.
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
