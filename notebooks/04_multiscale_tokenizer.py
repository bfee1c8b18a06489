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
# # 04 · The multi-scale tokenizer
#
# **A photo becomes eight small maps of tokens: first one token for the whole, then four, and so on, each map saying what those before it left out.**
# This chapter builds that tokenizer, which is the one of VAR, trains it, and finds the place where it fails.
#
# ![The token pyramid: features of 16 by 16 positions are shrunk to one position, quantized, enlarged, and subtracted; the rest is shrunk to 2 by 2, quantized, enlarged and subtracted; and so on to 16 by 16.](../assets/diagrams/multiscale.svg)
#
# After this chapter you will be able to
#
# - **quantize** a feature map from coarse to fine, by hand and in eight lines;
# - **decode** the tokens of the first scales alone, and say what the picture shows and what it does not;
# - **build** the inputs that teach a transformer to predict the next scale;
# - **measure** which scales collapse onto a few codes, and what helps;
# - **load** the tokenizer that the authors of VAR published.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about a minute to run, an hour to read | chapters 02 and 03 | November 2026, torch 2.13 |

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
# ## In which order should a model write a photo?
#
# Chapter 02 turned a photo of 64 × 64 pixels into 256 tokens on a grid. A transformer writes tokens one after the other. Which first?
#
# Row by row, as in a text? Then the first token decides the top left corner, before anything is known about the rest, and a mistake there can never be mended.
# Nobody paints like that. A painter sketches the whole, then the large shapes, then the hair.
#
# Residual quantization has that order in it: the first code says most, each later one refines.
# But in chapter 03 all codes of a position sit at one size. The sketch of a whole photo does not need 256 positions. It needs one, then four.
#
# So let the first map have one position, and the last all of them. Between two maps, shrink and enlarge.
#
# ### By hand
#
# Take a "photo" of 4 × 4 numbers, and a codebook of seven numbers. Three maps: 1 × 1, 2 × 2, 4 × 4. Shrink by taking means, enlarge by repeating.
# Follow it on paper: the mean of all is a little over four, so the nearest code is 4. What is left? Subtract, and go on.

# %%
photo = torch.tensor([[9., 7, 2, 2],
                      [7., 9, 2, 2],
                      [4., 4, 6, 2],
                      [4., 4, 2, 6]])  # fmt: skip
codebook = torch.tensor([-4.0, -2, -1, 0, 1, 2, 4])

rest = photo
for p in (1, 2, 4):
    means = F.avg_pool2d(rest[None], 4 // p)[0]
    idx = (means[..., None] - codebook).abs().argmin(-1)
    rest = rest - codebook[idx].repeat_interleave(4 // p, 0).repeat_interleave(4 // p, 1)
    print(f"{p} × {p} tokens mean {codebook[idx].long().tolist()}; the largest rest is {rest.abs().max():g}")
assert rest.abs().max() == 0

# %% [markdown]
# Twenty-one tokens, and nothing is left. That was arranged; with real features something always is.
#
# The first map knew the brightness of the whole. The second knew that the top left is brighter, and the rest a little darker. The third drew the pattern.
# Each map holds only *differences* to what is already said. Remember this; it will bite us at the end of the chapter.
#
# ## The algorithm
#
# Now with features. The encoder turns a photo into a map $f$ of 16 × 16 positions with 16 channels. The *ladder* $p_1 \dots p_K$ lists the sides of the token maps; a side may stand in it more than once.
# Start with $\hat f = 0$ and $r = f$. For $k = 1 \dots K$:
#
# $$ z_k = \mathrm{area}(r,\, p_k), \qquad q_k = \arg\min_j \lVert z_k - e_j \rVert, \qquad h_k = \phi_k\big(\mathrm{bicubic}(e_{q_k},\, p_K)\big), \qquad \hat f \mathrel{+}= h_k, \quad r \mathrel{-}= h_k. $$
#
# In words: shrink what is left, take the nearest codes, enlarge them, add them to the sum, subtract them from the rest. One codebook serves all scales.
# The equation is the loop:


# %%
def quantize(f, codes, sides, phi):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for k, p in enumerate(sides):
        z = F.interpolate(rest, size=(p, p), mode="area")  # (B, C, p, p)
        distance = (z.movedim(1, -1)[..., None, :] - codes).square().sum(-1)  # (B, p, p, V)
        idx = distance.argmin(-1)
        wide = F.interpolate(codes[idx].movedim(-1, 1), size=f.shape[-2:], mode="bicubic")
        h = phi(wide, k)
        f_hat, rest = f_hat + h, rest - h
        maps.append(idx.flatten(1))
    return maps, f_hat


# %% [markdown]
# $\phi_k$ is the only piece that is new. An enlarged map of 2 × 2 is smooth, and no photo is. So each scale passes its map through a small convolution that *learns* how to enlarge, mixed with the map itself:
#
# $$ \phi_k(h) = \tfrac12 h + \tfrac12\, \mathrm{conv}_k(h). $$
#
# VAR has four such convolutions for ten scales: neighbours in the ladder share one. The course does the same. Is our loop what the package computes?

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("var")
quantizer = tokenizer.quantizer
x, files = eval_crops("test", 64, 3)  # (60, 3, 64, 64): three crops of every test photo
with torch.no_grad():
    f = tokenizer.encode(x)
    ours, f_hat = quantize(f[:8], quantizer.codes, quantizer.patch_nums, quantizer.phi)
    theirs = tokenizer.tokenize(x[:8])
equal = torch.cat([(a == b).flatten() for a, b in zip(ours, theirs, strict=True)]).float().mean()
assert equal > 0.999  # rounding may flip a tie
print("ladder:", *quantizer.patch_nums, "| which φ:", *quantizer.phi.choice)
print(f"{quantizer.tokens} tokens for a photo of 64 × 64; ours and the package's agree")

# %% [markdown]
# ## What do the tokens look like?
#
# `load_tokenizer("var")` is a tokenizer that the course trained, with the command that the manifest of the checkpoints gives.
# Below are the eight maps of three crops. A token is a number, and its neighbours 411 and 412 have nothing in common; so we colour each token by its *code*, squeezed to three numbers with PCA. Similar codes get similar colours.

# %% tags=["hide-input"]
codes = quantizer.codes.detach()
_, _, basis = torch.pca_lowrank(codes, q=3)
tint = (codes - codes.mean(0)) @ basis
tint = (tint / tint.abs().quantile(0.98, dim=0)).clamp(-1, 1)  # (V, 3): a colour for each code


def token_pictures(maps, i):
    pictures = [tint[m[i]].T.reshape(3, p, p) for m, p in zip(maps, quantizer.patch_nums, strict=True)]
    return [F.interpolate(picture[None], size=(64, 64), mode="nearest")[0] for picture in pictures]


with torch.no_grad():
    maps = tokenizer.tokenize(x)
    films = [tokenizer.decode(f_hat) for f_hat in tokenizer.latents(maps)]  # after each scale
chosen = [35, 22, 48]
titles = [f"{p} × {p}" for p in quantizer.patch_nums]
figure = image_grid(
    [[*token_pictures(maps, i), x[i]] for i in chosen],
    [*titles, "photo"],
    colors=[COLORS["token"]] * 8 + [COLORS["hr"]],
)
show(
    figure,
    "The token pyramid of three crops, one colour per code.",
    "Three rows of eight square mosaics and a photo. The first mosaic is one patch of colour, the next has four, then "
    "three of sixteen, two of sixty-four, and one of 256; only the finest hints at the outlines of the photo.",
    photo=True,
)

# %% [markdown]
# ## What does each scale add?
#
# Decode the sum after every scale: `latents` gives $\hat f$ after each, and the decoder turns any of them into a photo. Played from left to right, it is a film of a photo that comes into focus.

# %% tags=["hide-input"]
after = np.cumsum([p * p for p in quantizer.patch_nums])
figure = image_grid(
    [[*(film[i] for film in films), x[i]] for i in chosen],
    [*(f"{n} token{'s' if n > 1 else ''}" for n in after), "photo"],
    colors=[COLORS["model"]] * 8 + [COLORS["hr"]],
)
show(
    figure,
    "The same crops, decoded after each scale.",
    "Three rows of nine pictures. After one token a flat colour field, after five a vague gradient, after 21 to 53 "
    "blurred blobs, after 117 and 181 recognisable shapes, and after all 437 a picture close to the photo at the right.",
    photo=True,
)

# %%
from vartutor.metrics import bootstrap, psnr

curve = [psnr(film, x, color="rgb") for film in films]  # dB, one per crop, after each scale
with torch.no_grad():
    rest = [((f - f_hat).square().mean() / f.square().mean()).item() for f_hat in tokenizer.latents(maps)]
assert rest == sorted(rest, reverse=True)  # every scale explains something

# %% tags=["hide-input"]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.5))
left.bar(range(8), rest, color=COLORS["rest"])
left.set_xticks(range(8), [f"{p}" for p in quantizer.patch_nums])
left.set(xlabel="side of the token map", ylabel="share of f left over")
right.plot(after, [c.mean() for c in curve], "o-", color=COLORS["model"])
right.set(xlabel="tokens so far", ylabel="PSNR of the decode (dB)")
show(
    figure,
    "What each scale leaves over (left), and what it buys in the photo (right).",
    "Left: bars that shrink from scale to scale, a little among the coarse maps and by half at the last. Right: PSNR against the number of tokens, a line "
    "that rises from scale to scale and does not flatten at the end.",
)

# %% [markdown]
# **What you should see.** No single token says as much as the first: it is the mean of the whole map. The coarse maps after it take away a little each; a side that stands in the ladder a second or third time refines what the same positions said before.
# Then come the steps that matter to the eye, each time the side doubles. The last map, with more than half of the tokens, explains more than half of what was left.
# Most of a photo is fine detail, and most tokens are spent on it.
#
# In JupyterLab, turn the knob: choose a crop and the number of scales.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def draw(crop, scales):
    pictures = [token_pictures(maps, crop)[scales - 1], films[scales - 1][crop], x[crop]]
    return image_grid([pictures], [f"map {scales}", f"{after[scales - 1]} tokens", "photo"], height=2.2)


explorer(draw, crop=slider("test crop", 22, 0, len(x) - 1, 1), scales=slider("scales", 4, 1, 8, 1))

# %% [markdown]
# ## Can two cores train it?
#
# The loss has two parts. The photo must come back: $\lVert x - \hat x \rVert_1 + \lVert x - \hat x \rVert^2$. And after *every* scale, the sum so far must approach the features, and the features the sum (β as in chapter 02):
#
# $$ \mathcal L_{\mathrm{VQ}} = \frac1K \sum_k \lVert \hat f_k - \mathrm{sg}[f] \rVert^2 + \beta\, \lVert f - \mathrm{sg}[\hat f_k] \rVert^2 . $$
#
# The mean over all $k$ makes early scales say as much as they can. Without it, only the last sum would count, and the first maps could say anything.
#
# In VAR, the first term moves the codes. Here it moves only φ: the codes follow moving averages, and dead ones are revived, the two cures that won in chapter 02.

# %%
from vartutor.data.photos import load_pixels
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer

model = build_tokenizer(TokenizerConfig.of(profile, "var")).to(session.device)
model.quantizer.use_moving_averages()
crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.95))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=profile.lesson_steps)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")

# %%
decibels = []
for step in range(profile.lesson_steps):
    batch = crops.batch().to(session.device)
    image, indices, vq_loss = model(batch)  # f_hat carries the straight-through gradient
    loss = F.l1_loss(image, batch) + F.mse_loss(image, batch) + 0.25 * vq_loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    if step % 20 == 19:
        model.quantizer.revive()  # codes that nobody uses move to where they are needed
    decibels.append(psnr(image.detach(), batch, color="rgb").mean().item())

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.2))
ax.plot(decibels, color=COLORS["model"], alpha=0.3, linewidth=0.8)
ax.plot(smooth(decibels, 20), color=COLORS["model"])
ax.set(xlabel="step", ylabel="PSNR of the batch (dB)")
show(
    figure,
    "A tokenizer learns from nothing: reconstruction quality of each batch, and its running mean.",
    "A line chart of PSNR against training steps. It rises steeply in the first fifty steps and then ever more slowly, "
    "with noise from batch to batch.",
)

# %%
if PROFILE == "cpu":
    assert np.mean(decibels[-30:]) > np.mean(decibels[:30]) + 4
with torch.no_grad():
    scores = psnr(tokenizer.reconstruct(x), x, color="rgb")
print(f"shipped tokenizer, test photos: {bootstrap(scores, files)} dB with {quantizer.tokens} tokens")

# %% [markdown]
# **What you should see.** The steep part is over in seconds. The shipped tokenizer is the same model after 20,000 steps; that took less than an hour on one core.
# To train your own: `vartutor train tokenizer --set ladder=var --set bf16=true`. It saves its state as it goes, and `--resume` continues with the same numbers as if it had never stopped.
#
# ## Do all scales use the codebook?
#
# A warning runs through the issues of every project that trained such a tokenizer: at the coarse scales, the codes *collapse*. All photos get the same few tokens there, and the first maps say next to nothing.
# Why the coarse ones? A moving average is a vote: a code goes where the vectors are that chose it. The last map has more vectors than all others together. Code by code, it takes over the book.
#
# So the package counts the *scales* alike, as the loss does: a vector of the 4 × 4 maps weighs sixteen times as much as one of the last map. And it revives dead codes. Does either help?
# Three short runs each, of 600 steps: `vartutor study var "votes by token" "no revival" --seeds 0 1 2`. We count which codes each scale uses in 1024 random crops.

# %%
from vartutor.tables import load_study

study = load_study()
usage = {}
for run in ("var", "votes by token", "no revival"):
    seeds = study[run, "used"].values()
    usage[run] = np.array([[seed[str(k)] for k in range(8)] for seed in seeds])  # (seed, scale)
    everywhere = [seed["all"] / 1024 for seed in seeds]
    print(f"{run:<16}codebook in use at any scale: {min(everywhere):.0%} to {max(everywhere):.0%}")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 2.5))
names = {"no revival": "no revival", "votes by token": "votes by token", "var": "as the package does it"}
for i, (run, label) in enumerate(names.items()):
    at = np.arange(8) + 0.27 * (i - 1)
    ax.bar(at, usage[run].mean(0), width=0.25, color=COLORS[("bicubic", "rest", "token")[i]], label=label)
    ax.plot(np.repeat(at[None], 3, 0).T, usage[run].T, ".", color="black", markersize=3)
ax.set_xticks(range(8), [str(p) for p in quantizer.patch_nums])
ax.set(xlabel="side of the token map", ylabel="codes in use, of 1024")
ax.legend(fontsize=8)
show(
    figure,
    "Codes that each scale uses after 600 steps; dots are the three seeds.",
    "Groups of three bars for the eight scales. The first scale uses few codes and the number grows towards the fine "
    "scales, where all three use the whole book. At the coarse scales the bars of the package stand above the other two.",
)

# %% [markdown]
# **What you should see.** In all nine runs practically every code is in use at *some* scale: moving averages keep the book alive. But for whom? The maps of 2 × 2 and 4 × 4 use clearly more codes if the scales vote alike *and* dead codes are revived; without either, the finest maps get them.
# So one number for the whole book hides the collapse. Such short runs still end equally well, to a tenth of a decibel or so.
#
# And in a long run? Below, the logs of two trainings of 20,000 steps: `vartutor train tokenizer --set ladder=var --set bf16=true`, as it is and with `--set losses.votes=token`. The log counts the codes that each map of a batch uses.

# %%
from vartutor.paths import assets

logs = {votes: assets() / "studies" / f"var_votes_{votes}.csv" for votes in ("scale", "token")}
logs = {votes: np.genfromtxt(path, delimiter=",", names=True, deletechars="") for votes, path in logs.items()}
kept = {votes: np.mean([log[f"used/{k}"] for k in (2, 3, 4)], 0) for votes, log in logs.items()}
for votes, codes_used in kept.items():
    print(
        f"votes by {votes}: {codes_used[10:20].mean():.0f} codes in a 4 × 4 map at first, {codes_used[-20:].mean():.0f} at the end"
    )

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 2.3))
for votes, color in (("scale", COLORS["token"]), ("token", COLORS["rest"])):
    ax.plot(logs[votes]["step"], smooth(kept[votes], 10), color=color, label=f"votes by {votes}")
ax.set(xlabel="step", ylabel="codes in use", ylim=(0, None))
ax.legend()
show(
    figure,
    "Codes that a 4 × 4 map of a batch uses, mean of the three maps, in two long trainings.",
    "Two falling lines over twenty thousand steps. With votes by token the number of codes halves, mostly in the first "
    "few thousand steps; with votes by scale it falls less and more slowly.",
)

# %% [markdown]
# **What you should see.** With a vote for every vector, the three maps of 4 × 4 lose half of their codes, most of them early. With a vote for every scale they keep more, though they lose some too.
# The finest map pays nothing for it: both tokenizers end within a few tenths of a decibel, the one with votes by scale ahead. The next chapter's tokenizer, whose coarse maps must make small photos, gains a whole decibel at the smallest size.
#
# The first scale has one token per photo: it cannot use more codes than there are kinds of mean colour, and does not need to. So a small bar there is no illness by itself.
# Revival, too, is a matter of *where to*: the package moves dead codes to vectors of all scales in equal numbers, and calls dead what no *scale* needs, not what few vectors need.
#
# ## What does the transformer see?
#
# The model of chapter 06 predicts map $k + 1$ from all maps before it. What should its input be? Not the tokens of map $k$, for a difference means nothing without what it is a difference to.
# It gets the sum $\hat f_k$, shrunk to the size of the map it is about to predict:
#
# $$ \text{input}_{k+1} = \mathrm{area}\big(\hat f_k,\; p_{k+1}\big). $$
#
# This is the most-asked question about VAR, so let us test it. Which is closer to the features that map $k + 1$ must explain, the sum or the last map alone?

# %%
with torch.no_grad():
    inputs = tokenizer.next_inputs(maps)  # (60, 436, 16)
    print("tokens:", quantizer.tokens, " inputs:", tuple(inputs.shape), " (the first map has no input)")
    for k in (2, 4, 6):
        p = quantizer.patch_nums[k + 1]
        goal = F.interpolate(f, size=(p, p), mode="area")
        total = F.interpolate(tokenizer.latents(maps)[k], size=(p, p), mode="area")
        last = F.interpolate(quantizer.embed(maps[k], (quantizer.patch_nums[k],) * 2), size=(p, p), mode="bicubic")
        error = [((goal - guess).square().mean() / goal.square().mean()).item() for guess in (total, last)]
        print(f"before map {k + 2}: the sum is {error[0]:.1%} off, the last map alone {error[1]:.0%}")
        assert 2 * error[0] < error[1]

# %% [markdown]
# The sum is a blurred version of the goal. The last map alone is almost nothing like it.
# And there is one input fewer than tokens: the first map has nothing before it. In VAR its input is the class, in this course it will be the degraded photo.
#
# ## What breaks if you stop early?
#
# The film above suggests a beautiful idea. After 53 tokens there is a picture with the detail of 16 × 16 pixels; after 181, of 32 × 32. Is that not what we want, a photo at ×1, at ×2, and at ×4, all from one sequence?
#
# Test it. Shrink the photo to 16 × 16: that is the truth at ×1. To make a picture of that size from the unfinished $\hat f$, there are two ways: decode at full size and shrink the picture, or shrink $\hat f$ and decode that.

# %%
from vartutor.data.pairs import pyramid

true = pyramid(x)  # {1: (60, 3, 16, 16), 2: (60, 3, 32, 32), 4: x}


def decode_small(f_hat, s):
    smaller = F.interpolate(f_hat, size=(4 * s, 4 * s), mode="area")  # features of a photo at ×s
    return {"decoded first": pyramid(tokenizer.decode(f_hat))[s], "shrunk first": tokenizer.decode(smaller)}


with torch.no_grad():
    latents = tokenizer.latents(maps)
    early = {1: decode_small(latents[4], 1), 2: decode_small(latents[6], 2)}
for s, ways in early.items():
    for way, image in ways.items():
        print(f"×{s}, {way}: {bootstrap(psnr(image, true[s], color='rgb'), files)} dB")

# %% tags=["hide-input"]
small = [[true[1][i], early[1]["decoded first"][i], early[1]["shrunk first"][i]] for i in chosen]
figure = image_grid(
    small,
    ["the photo at ×1", "decoded first", "shrunk first"],
    colors=[COLORS["hr"], COLORS["model"], COLORS["model"]],
    height=1.3,
)
show(
    figure,
    "Neither way gives the small photo.",
    "Three crops at 16 by 16 pixels, three pictures each: the shrunk photo with clear shapes, the shrunk decode, which "
    "is a blurred version of it, and the decode of the shrunk sum, which has wrong colours or contrast.",
    photo=True,
)

# %%
with torch.no_grad():
    finished = {s: pyramid(tokenizer.reconstruct(x))[s] for s in early}
for s, ways in early.items():
    best = torch.stack([psnr(image, true[s], color="rgb") for image in ways.values()]).amax(0)
    behind = psnr(finished[s], true[s], color="rgb") - best
    print(f"×{s}: {bootstrap(behind, files)} dB below the finished decode, shrunk")
    assert behind.mean() > 3  # even with the better way for every crop

# %% [markdown]
# **What you should see.** A blur. The shrunk photo is *sharp at its size*; the early decode is not. And shrinking the features first is worse, since nobody ever taught the decoder what small features mean.
#
# Why? The maps up to 4 × 4 describe what a map of 16 × 16 features looks like from afar. Nothing in the loss asks that they hold the *small photo*: its edges, its contrast. They hold differences that later maps will complete.
# A sentence that stops in the middle is not a short sentence.
#
# So the plain tokenizer cannot do what our model is for. The next chapter changes one thing, and then it can.
#
# ## And the published one?
#
# It is the same class with other numbers: a deeper autoencoder that makes 16 pixels one position, 4096 codes with 32 channels, a ladder of ten maps. Count its parameters without allocating them:

# %%
from vartutor.profiles import get_profile

with torch.device("meta"):
    published = build_tokenizer(TokenizerConfig.of(get_profile("gpu"), "var"))
print(f"{sum(p.numel() for p in published.parameters()):,} parameters")

# %% [markdown]
# With a network connection, two lines fetch the authors' weights (436 MB, checksum verified) and load them:
#
# ```python
# from vartutor.weights.official_tokenizer import download_official, load_vqvae
# tokenizer = load_vqvae(download_official("weights"))
# ```
#
# The tests of this repository compare it with the authors' own code, layer by layer, on small weights of the same form: indices exactly, values to a hundred-thousandth.
#
# ## Your turn
#
# **★ One map.** `rest` is (B, C, H, W), `codes` (V, C). Return the token map of side `p` as (B, p · p) whole numbers, row by row: the nearest codes to the means over areas.

# %% tags=["exercise"]
from vartutor.exercises import ch04


def my_token_map(rest, codes, p):
    return ...


ch04.check("token_map", my_token_map)

# %%
ch04.hint("token_map")
ch04.solution("token_map")

# %% [markdown]
# **★★ The pyramid.** Return all token maps of `f` for the ladder `sides`, and $\hat f$. No φ: enlarge with bicubic, to the size of `f`, and leave it at that. The last side is that of `f`.


# %% tags=["exercise"]
def my_multiscale(f, codes, sides):
    return ...


ch04.check("multiscale", my_multiscale)

# %%
ch04.hint("multiscale")
ch04.solution("multiscale")

# %% [markdown]
# **★★★ Inputs for a transformer.** Given the token maps, the codes and the ladder, return what a model sees when it predicts maps 2 … K, in one tensor (B, L − p_1², C). Again without φ.


# %% tags=["exercise"]
def my_next_inputs(maps, codes, sides):
    return ...


ch04.check("next_inputs", my_next_inputs)

# %%
ch04.hint("next_inputs")
ch04.solution("next_inputs")

# %% [markdown]
# ## In five lines
#
# 1. A multi-scale tokenizer is residual quantization with maps of growing size: shrink the rest, quantize, enlarge, subtract.
# 2. One codebook serves all scales; small shared convolutions φ learn how to enlarge.
# 3. The sum after each scale can be decoded, and the photo comes into focus.
# 4. The transformer's input is that sum, shrunk to the next map's size; the codes of the last map alone mean little.
# 5. Stopped early, the tokens do not hold a small photo: nothing ever asked them to.
#
# ## The course and the papers
#
# | | this course | VAR |
# |---|---|---|
# | photo, features | 64 × 64 pixels, 16 × 16 positions | 256 × 256 pixels, 16 × 16 positions |
# | ladder | 1, 2, 4, 4, 4, 8, 8, 16: 437 tokens; sides repeat | 1, 2, 3, 4, 5, 6, 8, 10, 13, 16: 680 tokens |
# | codebook | 1024 codes of 16 numbers | 4096 codes of 32 numbers |
# | loss | L1 + L2 + VQ; perceptual and adversarial terms are options | L2, LPIPS, adversarial and VQ; the training code was never published |
# | codes | follow moving averages, in which all scales count alike; dead ones are revived | follow the loss; dead ones stay dead |
# | bypass | one image in ten skips the quantizer, an idea of HART | none |
#
# ## References
#
# - K. Tian et al., [Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction](https://arxiv.org/abs/2404.02905), 2024: VAR; the algorithm is in its section 3.
# - D. Lee et al., [Autoregressive Image Generation using Residual Quantization](https://arxiv.org/abs/2203.01941), 2022: residual codes at one size.
# - H. Tang et al., [HART: Efficient Visual Generation with Hybrid Autoregressive Transformer](https://arxiv.org/abs/2410.10812), 2024: the bypass.
# - P. Esser et al., [Taming Transformers for High-Resolution Image Synthesis](https://arxiv.org/abs/2012.09841), 2021: the adversarial loss.
#
# **Next:** chapter 05 makes the first tokens of a large photo the tokens of the small one.
