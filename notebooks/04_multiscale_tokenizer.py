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
# | about a minute and 0.7 GB to run, an hour to read | chapters 02 and 03 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → **04 maps** → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): codebook, dead code, perplexity, PSNR, revival, straight-through, usage.

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
# Chapter 02 turned a photo of 64 × 64 pixels into 256 tokens on a grid. A transformer writes tokens one after the other. Which comes first?
#
# Should it go row by row, as in a text? Then the first token decides the top left corner, before anything is known about the rest, and a mistake there can never be mended.
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
# There are twenty-one tokens, and nothing is left. That was arranged; with real features something always is.
#
# The first map knew the brightness of the whole. The second knew that the top left is brighter and the top right darker; the bottom half was right on average. The third drew the pattern.
# Each map holds only *differences* to what is already said. Remember this; it will bite us at the end of the chapter.
#
# ## The algorithm
#
# Now we do it with features. The encoder turns a photo into a map $f$ of 16 × 16 positions with 16 channels. The *ladder* $p_1 \dots p_K$ lists the sides of the token maps; a side may stand in it more than once.
# Start with $\hat f = 0$ and $r = f$. For $k = 1 \dots K$:
#
# $$ z_k = \mathrm{area}(r,\, p_k), \qquad q_k = \arg\min_j \lVert z_k - e_j \rVert, \qquad h_k = \phi_k\big(\mathrm{bicubic}(e_{q_k},\, p_K)\big), \qquad \hat f \mathrel{+}= h_k, \quad r \mathrel{-}= h_k. $$
#
# In words: shrink what is left, take the nearest codes, enlarge them, add them to the sum, subtract them from the rest. One codebook serves all scales.
#
# **★ One map · 10 min.** The first two equations are one step: `rest` is (B, C, H, W), `codes` (V, C). Return the token map of side `p` as (B, p · p) whole numbers, row by row: the nearest codes to the means over areas.
# Write it before you read on. `use` checks your function. If it is right, the chapter goes on with it; if not, with the package's.

# %% tags=["exercise"]
from vartutor.exercises import ch04


def my_token_map(rest, codes, p):
    return ...


token_map = ch04.use("token_map", my_token_map)

# %%
ch04.hint("token_map")
ch04.solution("token_map")

# %% [markdown]
# $\phi_k$ is the only piece that is new. An enlarged map of 2 × 2 is smooth, and no photo is. So each scale passes its map through a small convolution that *learns* how to enlarge, mixed with the map itself:
#
# $$ \phi_k(h) = \tfrac12 h + \tfrac12\, \mathrm{conv}_k(h). $$
#
# VAR has four such convolutions for ten scales: neighbours in the ladder share one. The course does the same, with this rule: scale $k$ stands at $k / (K - 1)$ on a line from 0 to 1, the four convolutions at $\tfrac1{12}, \tfrac{13}{36}, \tfrac{23}{36}, \tfrac{11}{12}$, and the nearest is taken.
#
# As in chapter 02, the model's own functions take the list `w` of its tensors by name. `vartutor.open_code` brings those of earlier chapters, as they stand there.

# %%
from vartutor.open_code import conv, encode, paint  # of chapter 02


# %% tags=["model"]
def nearest(codes, z):  # the model: (V, C), (B, C, h, w) -> (B, h w)
    flat = z.flatten(2).mT  # (B, h w, C)
    return (codes.square().sum(1) - 2 * flat @ codes.T).argmin(-1)  # ‖z‖² is the same for all codes


def phi(w, h, k, K=8):  # (B, C, H, W) of scale k -> the same
    ticks = torch.linspace(1 / 12, 11 / 12, 4, dtype=torch.float64)
    i = int((ticks - k / (K - 1)).abs().argmin())
    return h / 2 + conv(w, f"quantizer.phi.convs.{i}", h) / 2


def contribution(w, said, k, p, side):  # what map k adds to f_hat: (B, p p, C) -> (B, C, side, side)
    h = said.mT.unflatten(2, (p, p))  # (B, C, p, p)
    return phi(w, F.interpolate(h, size=(side, side), mode="bicubic") if p < side else h, k)


# %% [markdown]
# **★★ The pyramid · 20 min.** Now the whole loop. Return all token maps of `f` for the ladder `sides`, and $\hat f$. `phi(h, k)` is given: it takes the enlarged codes (B, C, H, W) and the number of the map, from 0.
# Enlarge with bicubic, to the size of `f`. The last side is that of `f`.


# %% tags=["exercise"]
def my_multiscale(f, codes, sides, phi):
    return ...


multiscale = ch04.use("multiscale", my_multiscale)

# %%
ch04.hint("multiscale")
ch04.solution("multiscale")

# %% [markdown]
# And ours, to compare: the equation is the loop.


# %%
def quantize(f, codes, sides, phi):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for k, p in enumerate(sides):
        idx = token_map(rest, codes, p)  # z_k and q_k: (B, p p)
        wide = F.interpolate(codes[idx].mT.unflatten(2, (p, p)), size=f.shape[-2:], mode="bicubic")
        h = phi(wide, k)
        f_hat, rest = f_hat + h, rest - h
        maps.append(idx)
    return maps, f_hat


# %% [markdown]
# Is the loop, with this φ, what the package computes? From here on, all token maps of this chapter come from `multiscale`: yours, if it passed.

# %%
from vartutor.data.crops import RandomCrops, eval_crops
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("var")
quantizer = tokenizer.quantizer
x, files = eval_crops("test", 64, 3)  # (60, 3, 64, 64): three crops of every test photo


def shipped_phi(h, k):
    return phi(tokenizer.state_dict(), h, k)


with torch.no_grad():
    f = encode(tokenizer.state_dict(), x)
    given = f[:8], quantizer.codes, quantizer.patch_nums, shipped_phi
    ours, f_hat = multiscale(*given)
    assert all(torch.equal(a, b) for a, b in zip(ours, quantize(*given)[0], strict=True))
    w = tokenizer.state_dict()
    again = sum(contribution(w, quantizer.codes[q], k, quantizer.patch_nums[k], 16) for k, q in enumerate(ours))
    theirs = tokenizer.tokenize(x[:8])
equal = torch.cat([(a == b).flatten() for a, b in zip(ours, theirs, strict=True)]).float().mean()
assert equal > 0.999  # rounding may flip a tie
assert torch.allclose(again, f_hat, atol=1e-4)  # f_hat is a sum of contributions
print("ladder:", *quantizer.patch_nums, "| which φ:", *quantizer.phi.choice)
print(f"{quantizer.tokens} tokens for a photo of 64 × 64; ours and the package's agree")

# %% [markdown]
# ## What do the tokens look like?
#
# `load_tokenizer("var")` is a tokenizer that the course trained, with the command that the manifest of the checkpoints gives.
# Below are four of the eight maps of three crops: the last map of each side from 2 on. A token is a number, and its neighbours 411 and 412 have nothing in common. So we colour each token by its *code*, squeezed to three numbers with PCA. Similar codes get similar colours.
#
# Which crops? A tokenizer has most to do where there is texture. We take each photo's crop with most fine detail, rank the photos by it, and show the third, the sixth and the ninth.

# %% tags=["hide-input"]
codes = quantizer.codes.detach()
_, _, basis = torch.pca_lowrank(codes, q=3)
tint = (codes - codes.mean(0)) @ basis
tint = (tint / tint.abs().quantile(0.98, dim=0)).clamp(-1, 1)  # (V, 3): a colour for each code


def token_pictures(maps, i):
    pictures = [tint[m[i]].T.reshape(3, p, p) for m, p in zip(maps, quantizer.patch_nums, strict=True)]
    return [F.interpolate(picture[None], size=(64, 64), mode="nearest")[0] for picture in pictures]


with torch.no_grad():
    parts = [multiscale(part, codes, quantizer.patch_nums, shipped_phi)[0] for part in f.split(15)]
    maps = [torch.cat(idx) for idx in zip(*parts, strict=True)]  # (60, p p) each
    films = [tokenizer.decode(f_hat) for f_hat in tokenizer.latents(maps)]  # after each scale
fine = x - F.interpolate(F.avg_pool2d(x, 4), scale_factor=4, mode="nearest")
crop_of = {}
for i in fine.square().mean((1, 2, 3)).argsort(descending=True).tolist():
    crop_of.setdefault(files[i], i)  # each photo's crop with most fine detail
chosen = list(crop_of.values())[2:9:3]
print("crops of", *list(crop_of)[2:9:3])
drawn = [1, 4, 6, 7]  # scales: the last of each side from 2 on
figure = image_grid(
    [[*(token_pictures(maps, i)[k] for k in drawn), x[i]] for i in chosen],
    [*(f"{quantizer.patch_nums[k]} × {quantizer.patch_nums[k]}" for k in drawn), "photo"],
    colors=[COLORS["token"]] * 4 + [COLORS["hr"]],
)
show(
    figure,
    "Four maps of the token pyramid of three crops, one colour per code.",
    "Three rows of four square mosaics and a photo. The mosaics have four, sixteen, sixty-four and 256 squares of "
    "colour; the coarser ones differ little in colour, the finest is a chequered mix of all colours.",
    photo=True,
)

# %% [markdown]
# ## What does each scale add?
#
# Decode the sum after every scale: `latents` gives $\hat f$ after each, and the decoder turns any of them into a photo. Played from left to right, it is a film of a photo that comes into focus.

# %% tags=["hide-input"]
after = np.cumsum([p * p for p in quantizer.patch_nums])
figure = image_grid(
    [[*(films[k][i] for k in drawn), x[i]] for i in chosen],
    [*(f"{after[k]} tokens" for k in drawn), "photo"],
    colors=[COLORS["model"]] * 4 + [COLORS["hr"]],
)
show(
    figure,
    "The same crops, decoded after four of the scales.",
    "Three rows of five pictures. After five tokens a vague gradient, after 53 blurred blobs, after 181 recognisable "
    "shapes crossed by a fine regular pattern, and after all 437 a picture close to the photo at the right.",
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
right.set(xlabel="tokens so far", ylabel="PSNR of the decode in dB (RGB)")
show(
    figure,
    "What each scale leaves over (left), and what it buys in the photo (right).",
    "Left: bars that shrink from scale to scale, a little among the coarse maps and by half at the last. Right: PSNR "
    "against the number of tokens, a line that rises from scale to scale and does not flatten at the end.",
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
    return image_grid([pictures], [f"map {scales}", f"{after[scales - 1]} tokens", "photo"])


explorer(draw, crop=slider("test crop", 22, 0, len(x) - 1, 1), scales=slider("scales", 4, 1, 8, 1))

# %% [markdown]
# ## Can two cores train it?
#
# The loss has two parts. The photo must come back. And after *every* scale, the sum so far must approach the features, and the features the sum (β = ¼ as in chapter 02):
#
# $$ \mathcal L = \lVert x - \hat x \rVert_1 + \lVert x - \hat x \rVert^2 + \tfrac14\, \mathcal L_{\mathrm{VQ}}, \qquad
# \mathcal L_{\mathrm{VQ}} = \frac1K \sum_k \lVert \hat f_k - \mathrm{sg}[f] \rVert^2 + \beta\, \lVert f - \mathrm{sg}[\hat f_k] \rVert^2 . $$
#
# The mean over all $k$ makes early scales say as much as they can. Without it, only the last sum would count, and the first maps could say anything.
# Chapter 02 gave its quantizer's loss the weight 1. The tokenizers of the course use ¼, so that the picture counts more; $\beta$ stands inside and is another ¼.
#
# Three things are added to the loop of above: the loss after every scale, the straight-through gradient of chapter 02, and a record of the vectors that were looked up.


# %%
def fit(w, f, sides):  # (B, C, H, W) -> what the decoder gets, the token maps, the vectors looked up, the loss
    codes, f_hat, maps, vectors, losses = w["quantizer.codes"], torch.zeros_like(f), [], [], []
    for k, p in enumerate(sides):
        z = F.interpolate((f - f_hat).detach(), size=(p, p), mode="area")  # (B, C, p, p)
        maps.append(nearest(codes, z))
        vectors.append(z.flatten(2).mT)  # (B, p p, C)
        f_hat = f_hat + contribution(w, codes[maps[k]], k, p, f.shape[-1])
        losses.append(F.mse_loss(f_hat, f.detach()) + 0.25 * F.mse_loss(f_hat.detach(), f))
    return f + (f_hat - f).detach(), maps, vectors, sum(losses) / len(losses)  # ◂ straight through


# %% [markdown]
# In VAR, the first term of the loss moves the codes. Here it moves only φ. The codes follow the moving mean of their vectors, and dead ones are revived: the two cures that won in chapter 02.
# A new question comes up. One map has 256 vectors, another has one. Whose vectors count? Here every *map* has the same weight, so a vector of map $k$ counts $L / (K p_k^2)$ times, with $L$ tokens in all. The section after the next shows why.


# %%
class Book:
    def __init__(self, codes, scales):
        self.codes, self.sums, self.weights = codes, codes.clone(), torch.ones_like(codes[:, 0])
        self.hits = codes.new_zeros(scales, len(codes))  # how often each scale uses each code

    def follow(self, maps, vectors):
        sums, weights = torch.zeros_like(self.sums), torch.zeros_like(self.weights)
        total = sum(q.numel() for q in maps)
        for k, (q, z) in enumerate(zip(maps, vectors, strict=True)):
            vote = total / (len(maps) * q.numel())
            counts = torch.bincount(q.flatten(), minlength=len(self.codes)).float()
            sums.index_add_(0, q.flatten(), vote * z.flatten(0, 1))
            weights += vote * counts
            self.hits[k].lerp_(counts, 0.01)
        self.sums.lerp_(sums, 0.01)  # 0.99 old + 0.01 new
        self.weights.lerp_(weights, 0.01)
        self.codes.copy_(self.sums / self.weights.clamp(min=1e-3)[:, None])
        self.vectors = vectors

    def revive(self):
        hits = F.normalize(self.hits, p=1, dim=1).sum(0)  # every scale counts alike here too
        for j in (hits < 0.05 * hits.mean()).nonzero()[:, 0]:
            z = self.vectors[int(torch.randint(len(self.vectors), ()))].flatten(0, 1)  # of any scale
            self.codes[j] = self.sums[j] = z[int(torch.randint(len(z), ()))]
            self.weights[j], self.hits[:, j] = 1.0, self.hits.mean()


# %% [markdown]
# That is the whole trainable tokenizer. `build_tokenizer` gives it its first random weights. Does the package's own class compute the same loss from them, and move the codes to the same places?

# %%
from vartutor.data.photos import load_pixels
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer

model = build_tokenizer(TokenizerConfig.of(profile, "var")).to(session.device)
model.quantizer.use_moving_averages()
w, sides = dict(model.named_parameters()), model.quantizer.patch_nums
book = Book(w["quantizer.codes"].detach().clone(), len(sides))
crops = RandomCrops(load_pixels("train"), profile.image_size, profile.batch_size, seed=SEED)
batch = crops.batch().to(session.device)
with torch.no_grad():
    _, tokens, vectors, ours = fit(w, encode(w, batch), sides)
    book.follow(tokens, vectors)
    theirs = model(batch)[2]  # this moves the package's codes
assert torch.allclose(ours, theirs, rtol=1e-4)
assert (book.codes - w["quantizer.codes"]).abs().max() < 1e-3
print(f"{sum(p.numel() for p in w.values()) / 1e6:.1f} million parameters; the loss of one batch is {ours:.4f}")

# %% [markdown]
# First the three looks of chapter 00, on one batch of four crops.
# At step 0 the decoder's output has nothing to do with the photo, so the squares add up: we expect the mean square of the photo plus that of the output.
# Then a copy learns this one batch, and we count how many codes each scale uses. That is what "activations" are here: a code that no scale uses is as dead as a dead ReLU.

# %% tags=["nbval-ignore-output"]
import copy

probe, batch = copy.deepcopy(model), crops.batch()[:4].to(session.device)
with torch.no_grad():
    image = probe(batch)[0]
expected, seen = (batch.square().mean() + image.square().mean()).item(), F.mse_loss(image, batch).item()
print(f"squared error at step 0: expected {expected:.3f}, seen {seen:.3f}")
assert abs(seen / expected - 1) < 0.2

# %% tags=["nbval-ignore-output"]
once = torch.optim.AdamW([p for p in probe.parameters() if p.requires_grad], lr=2e-3, betas=(0.9, 0.95))
for _ in range(120 if PROFILE != "smoke" else 2):
    image, indices, vq_loss = probe(batch)
    once.zero_grad()
    (F.l1_loss(image, batch) + F.mse_loss(image, batch) + 0.25 * vq_loss).backward()
    torch.nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
    once.step()
flat = batch.mean((2, 3), keepdim=True).expand_as(batch)  # one colour for each crop
learned, constant = (psnr(y.detach(), batch, color="rgb").mean().item() for y in (image, flat))
print(f"one batch, 120 times: {learned:.1f} dB (RGB); one colour for each crop: {constant:.1f} dB")
print("codes in use, scale by scale:", *(len(idx.unique()) for idx in indices))
if PROFILE == "cpu":
    assert learned > constant + 1

# %% [markdown]
# It learns its batch, and all scales use several codes. Now the real loop, with fresh crops at every step. For comparison we also note what one flat colour for each crop would get.

# %%
book.codes = w["quantizer.codes"].data  # from now on ours moves
learning = [p for p in w.values() if p.requires_grad]
optimizer = torch.optim.AdamW(learning, lr=2e-3, betas=(0.9, 0.95))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=profile.lesson_steps)
decibels, colour = [], []
for step in range(profile.lesson_steps):
    batch = crops.batch().to(session.device)
    latent, tokens, vectors, vq_loss = fit(w, encode(w, batch), sides)
    image = paint(w, latent)
    loss = F.l1_loss(image, batch) + F.mse_loss(image, batch) + 0.25 * vq_loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learning, 1.0)
    optimizer.step()
    schedule.step()
    with torch.no_grad():
        book.follow(tokens, [z.detach() for z in vectors])
        if step % 20 == 19:
            book.revive()  # codes that nobody uses move to where they are needed
    decibels.append(psnr(image.detach(), batch, color="rgb").mean().item())
    flat = batch.mean((2, 3), keepdim=True).expand_as(batch)
    colour.append(psnr(flat, batch, color="rgb").mean().item())

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.4, 2.2))
ax.plot(decibels, color=COLORS["model"], alpha=0.3, linewidth=0.8)
ax.plot(smooth(decibels, 20), color=COLORS["model"], label="the tokenizer")
ax.plot(smooth(colour, 20), color=COLORS["bicubic"], linestyle="--", label="one colour for each crop")
ax.set(xlabel="step", ylabel="PSNR in dB (RGB)")
ax.legend()
show(
    figure,
    "A tokenizer learns from nothing: reconstruction quality of each batch, and its running mean.",
    "A line chart of PSNR against training steps. The running mean climbs to a plateau near step 40, a little below "
    "the dashed line of one flat colour for each crop. From about step 80 it climbs again, crosses that line, and "
    "ends far above.",
)

# %%
if PROFILE == "cpu":
    assert np.mean(decibels[-30:]) > np.mean(decibels[:30]) + 4
with torch.no_grad():
    scores = psnr(tokenizer.reconstruct(x), x, color="rgb")
print(f"shipped tokenizer, test photos: {bootstrap(scores, files)} dB (RGB) with {quantizer.tokens} tokens")

# %% [markdown]
# **What you should see.** There are two climbs with a plateau between them. The plateau lies below the dashed line: for some forty steps, the tokenizer is worth no more than one flat colour for each crop.
# In the second climb it learns to draw. So do not stop a training on its first plateau.
# The shipped tokenizer is the same model after 20,000 steps; that took less than an hour on one core.
# To train your own: `vartutor train tokenizer --set ladder=var --set bf16=true`. It saves its state as it goes, and `--resume` continues with the same numbers as if it had never stopped.
#
# ## Do all scales use the codebook?
#
# Such tokenizers can *collapse* at the coarse scales: all photos get the same few tokens there, and the first maps say next to nothing.
# Why the coarse ones? A moving average is a vote: a code goes to the mean of all vectors that chose it. Suppose one code is chosen by a vector of a coarse map and by ten vectors of the last one. Their mean lies near the ten.
# The last map has more vectors than all others together. So, code by code, it takes over the book.
#
# The package therefore gives every *scale* the same vote, as the loss does. A 4 × 4 map has a sixteenth of the vectors of the last map, so each of its vectors counts sixteen times as much.
# And it *revives*: every 20 steps, a dead code moves to a vector that was just seen, drawn from a random scale. Does either help?
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


def better(run):  # dB by which the package's way is ahead at ×4, over photos and seeds
    ours, theirs = study["var", "psnr 4"], study[run, "psnr 4"]
    return bootstrap(*zip(*((ours[s][p] - theirs[s][p], p) for s in ours for p in ours[s]), strict=True))


for run in ("votes by token", "no revival"):
    print(f"the package's way against {run!r}: {better(run)} dB (RGB)")

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
    "scales, where all three use the whole book. At the coarse scales the bars of the package stand above the other "
    "two.",
)

# %% [markdown]
# **What you should see.** In all nine runs practically every code is in use at *some* scale: moving averages keep the book alive. But for whom? The maps of 2 × 2 and 4 × 4 use clearly more codes if the scales vote alike *and* dead codes are revived. At the three finest maps the runs do not differ: those use nearly all codes anyway.
# So one number for the whole book hides what happens at the coarse scales. In so short a run it costs no decibels: both intervals above contain zero.
#
# Chapter 02 said to look at perplexity as well as usage. Here are both for the shipped tokenizer, on the test crops.

# %% tags=["nbval-ignore-output"]
from vartutor.tokenizer.vq import perplexity

print("side  positions  codes used  perplexity")
for p, idx in zip(quantizer.patch_nums, maps, strict=True):
    print(f"{p:>4}{idx.numel():>11}{len(idx.unique()):>12}{perplexity(idx, len(quantizer.codes)):>12.0f}")

# %% [markdown]
# Wherever there are many more positions than codes in use, perplexity is well below usage: some codes are common and most are rare. But no scale has collapsed.
#
# What happens in a long run? Below are the logs of two trainings of 20,000 steps: `vartutor train tokenizer --set ladder=var --set bf16=true`, as it is and with `--set losses.votes=token`. The log counts the codes that each map of a batch uses.

# %%
from vartutor.paths import assets

logs = {votes: assets() / "studies" / f"var_votes_{votes}.csv" for votes in ("scale", "token")}
logs = {votes: np.genfromtxt(path, delimiter=",", names=True, deletechars="") for votes, path in logs.items()}
kept = {votes: np.mean([log[f"used/{k}"] for k in (2, 3, 4)], 0) for votes, log in logs.items()}
for votes, codes_used in kept.items():
    early, late = codes_used[10:20].mean(), codes_used[-20:].mean()
    quality = logs[votes]["psnr4"][-20:].mean()
    print(f"votes by {votes}: {early:.0f} codes in a 4 × 4 map at first, {late:.0f} at the end; {quality:.1f} dB (RGB)")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 2.3))
for votes, color in (("scale", COLORS["token"]), ("token", COLORS["rest"])):
    ax.plot(logs[votes]["step"], smooth(kept[votes], 10), color=color, label=f"votes by {votes}")
ax.set(xlabel="step", ylabel="codes in use (of 256)", ylim=(0, None))
ax.legend()
show(
    figure,
    "Codes that a 4 × 4 map of a batch uses, mean of the three maps, in two long trainings.",
    "Two falling lines over twenty thousand steps. With votes by token the number of codes halves, mostly in the "
    "first few thousand steps; with votes by scale it falls less and more slowly.",
)

# %% [markdown]
# **What you should see.** A batch has 16 crops, so a 4 × 4 map of it has 256 positions and can use at most 256 codes. With a vote for every vector, the three maps of 4 × 4 lose half of their codes, most of them early. With a vote for every scale they keep more, though they lose some too.
# The photo at full size hardly notices; compare the decibels above, which are of the last training batches and of one run each. The next chapter decodes small photos from the coarse maps alone. There it matters what they say.
#
# The first scale has one token per photo: it cannot use more codes than there are kinds of mean colour, and does not need to. So a small bar there is no illness by itself.
# Revival must count by scales, too. A code is dead if every scale rarely uses it. One used only by the few coarse vectors is kept.
#
# ## What does the transformer see?
#
# The model of chapter 06 predicts map $k + 1$ from all maps before it. What should its input be? The tokens of map $k$ are an obvious choice, but a poor one: a difference means nothing without what it is a difference to.
# It gets the sum $\hat f_k$, shrunk to the size of the map it is about to predict:
#
# $$ \text{input}_{k+1} = \mathrm{area}\big(\hat f_k,\; p_{k+1}\big). $$
#
# Why the sum? Map $k + 1$ must explain what is left, $f - \hat f_k$. The model of this course sees the degraded photo, so it has a rough guess $g$ of $f$. Given the sum it can subtract: what is left should be near $g - \hat f_k$. Given the last map alone, it cannot know what was said before.
#
# Let us test that. The guess $g$ is the features of the degraded photo, enlarged with bicubic. How much of the next map's target does each difference explain, if one factor is fitted?

# %%
from vartutor.data.pairs import eval_pairs, upscale_bicubic
from vartutor.data.presets import COURSE


def explained(guess, target):  # share of the target's energy that the best multiple of the guess explains
    return ((guess * target).sum() ** 2 / guess.square().sum() / target.square().sum()).item()


with torch.no_grad():
    g = tokenizer.encode(upscale_bicubic(eval_pairs(COURSE).lr)[4])  # of the same 60 crops
    sums = [torch.zeros_like(f), *tokenizer.latents(maps)]  # f̂_0 … f̂_K
for k in (2, 5, 7):  # before the first map of a new side
    p = quantizer.patch_nums[k]
    target, by_sum, by_last = (
        F.interpolate(z, size=(p, p), mode="area") for z in (f - sums[k], g - sums[k], g - (sums[k] - sums[k - 1]))
    )
    share = explained(by_sum, target), explained(by_last, target)
    print(
        f"map {k + 1}, {p:>2} × {p:<2}: with the sum {share[0]:.0%} explained, with the last map alone {share[1]:.0%}"
    )
    assert share[0] > 2 * share[1]

# %% [markdown]
# **★★★ Inputs for a transformer · 30 min.** Given the token maps, the codes, the ladder and φ, return what a model sees when it predicts maps 2 … K, in one tensor (B, L − p_1², C).


# %% tags=["exercise"]
def my_next_inputs(maps, codes, sides, phi):
    return ...


next_inputs = ch04.use("next_inputs", my_next_inputs)

# %%
ch04.hint("next_inputs")
ch04.solution("next_inputs")

# %%
with torch.no_grad():
    inputs = next_inputs(maps, codes, quantizer.patch_nums, shipped_phi)
    assert torch.allclose(inputs, tokenizer.next_inputs(maps), atol=1e-4)
print("tokens:", quantizer.tokens, " inputs:", tuple(inputs.shape), " (the first map has no input)")
assert torch.allclose(inputs[:, :4], F.interpolate(sums[1], size=(2, 2), mode="area").flatten(2).mT, atol=1e-5)

# %% [markdown]
# **What you should see.** With the sum, plain subtraction explains a good part of the coarse map; with the last map alone, next to nothing. At the fine maps a guess from the degraded photo says little about the detail, and the transformer has to know more.
#
# And there is one input fewer than tokens: the first map has nothing before it. In VAR its input is the class, in this course it will be the degraded photo.
#
# ## What breaks if you stop early?
#
# The film above suggests a beautiful idea. One position of the features covers 4 × 4 pixels. So a photo of 16 × 16 pixels *has* 4 × 4 features, and one of 32 × 32 pixels has 8 × 8.
# The first 53 tokens are all maps up to side 4: just the maps that a photo of 16 × 16 pixels needs. The first 181 are all up to side 8. Could they *be* the tokens of the small photos? Then one sequence would hold the photo at ×1, at ×2 and at ×4.
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
        print(f"×{s}, {way}: {bootstrap(psnr(image, true[s], color='rgb'), files)} dB (RGB)")

# %% tags=["hide-input"]
small = [[true[1][i], early[1]["decoded first"][i], early[1]["shrunk first"][i]] for i in chosen]
figure = image_grid(
    small,
    ["the photo at ×1", "decoded first", "shrunk first"],
    colors=[COLORS["hr"], COLORS["model"], COLORS["model"]],
)
show(
    figure,
    "Neither way gives the small photo.",
    "Three crops at 16 by 16 pixels, three pictures each: the shrunk photo with clear shapes, the shrunk decode, "
    "which is a blurred version of it, and the decode of the shrunk sum, which has wrong colours or contrast.",
    photo=True,
)

# %%
with torch.no_grad():
    finished = {s: pyramid(tokenizer.reconstruct(x))[s] for s in early}
for s, ways in early.items():
    best = torch.stack([psnr(image, true[s], color="rgb") for image in ways.values()]).amax(0)
    behind = psnr(finished[s], true[s], color="rgb") - best
    print(f"×{s}: {bootstrap(behind, files)} dB (RGB) below the finished decode, shrunk")
    assert behind.mean() > 3  # even with the better way for every crop

# %% [markdown]
# **What you should see.** The early decode is a blur. The shrunk photo is *sharp at its size*. And shrinking the features first is worse, since nobody ever taught the decoder what small features mean.
#
# Why? The maps up to 4 × 4 describe what a map of 16 × 16 features looks like from afar. Nothing in the loss asks that they hold the *small photo*: its edges, its contrast. They hold differences that later maps will complete.
# A sentence that stops in the middle is not a short sentence.
#
# So the plain tokenizer cannot do what our model is for. The next chapter changes one thing, and then it can.
#
# ## And the published one?
#
# It is the same class with other numbers: a deeper autoencoder that makes 16 × 16 pixels one position, 4096 codes with 32 channels, a ladder of ten maps. Count its parameters without allocating them:

# %%
from vartutor.profiles import get_profile

with torch.device("meta"):
    published = build_tokenizer(TokenizerConfig.of(get_profile("gpu"), "var"))
print(f"{sum(p.numel() for p in published.parameters()):,} parameters")

# %% [markdown]
# ## Questions
#
# <details><summary>1. In the example by hand, the second map is 4, −2, 0, 0. What does it say, and why are two of its tokens zero?</summary>
# The top left is brighter by four than the first map said, and the top right darker by two. The bottom quarters already had the right mean, so nothing was left for them at that size.
# </details>
#
# <details><summary>2. The side 4 stands three times in the ladder. Why is the second 4 × 4 map not useless?</summary>
# One code of 1024 cannot name a vector exactly. The second map quantizes what the first left over at the same positions, as in chapter 03.
# </details>
#
# <details><summary>3. What would φ learn if enlarging were perfect already?</summary>
# To change nothing: its convolution would become the identity. It is there because an enlarged coarse map is smooth, and features are not.
# </details>
#
# <details><summary>4. All codes are in use, over all scales together. Why is that no proof of a healthy codebook?</summary>
# The finest map has most tokens and can use all codes by itself. The coarse maps may still get the same few tokens for every photo. Count by scale, and look at perplexity as well.
# </details>
#
# <details><summary>5. Why may a transformer not get the sum up to and including the map that it predicts?</summary>
# The sum would contain the answer. In training the model would learn to copy it, and when it draws a photo nobody can give it that sum.
# </details>
#
# ## An open experiment
#
# Which ladder is best for a fixed number of tokens? Keep the total near 437 and change how it is spent: more coarse maps, fewer repeated sides, or other sides. The last must be 16.
#
# A good answer
#
# - trains each ladder equally long, with at least two seeds;
# - gives PSNR (with its convention) as a *difference* to this chapter's ladder, with an interval over photos;
# - shows the quality after each scale as well as at the end, since a ladder can be good early or late;
# - reports codes in use and perplexity by scale;
# - says what a run of a few minutes cannot tell about one of hours.
#
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
