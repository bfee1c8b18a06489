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
# # 06 · The next-scale transformer
#
# **A transformer writes a picture in eight steps: all tokens of a map at once, each map after all maps before it.**
# This chapter builds it, proves that it cannot peek, trains a small one in little more than a minute, and lets it draw.
#
# ![Attention from scale to scale: the tokens of each map look at all tokens of the same map and of the maps before it; a step produces a whole map, the sum so far is enlarged and becomes the input of the next step.](../assets/diagrams/next_scale.svg)
#
# After this chapter you will be able to
#
# - **factorise** a picture by scales, and count what that saves;
# - **compute** attention by hand, and mask it so that no map sees a later one;
# - **prove** with gradients who sees whom;
# - **generate** with a cache, and get the same numbers as in training;
# - **steer** the draw with temperature, top-k and top-p.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about three minutes and 0.8 GB to run, an hour to read | chapters 04 and 05 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → **06 transformer** → [07 photo in, photos out](07_super_resolution.ipynb) → [08 preference](08_dpo.ipynb) → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): bridge, ladder, next-scale prediction, temperature.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show, smooth

session = setup(PROFILE, SEED, DEVICE)
print(session)

# %% [markdown]
# ## What should the model predict first?
#
# A language model predicts one token from all before it: $p(t_1, \dots, t_L) = \prod_i p(t_i \mid t_1 \dots t_{i-1})$. Any order of the tokens gives a correct formula; a text has a natural one.
#
# A picture has not, but its *scales* have. Chapter 05 wrote it as maps $q_1 \dots q_K$ from coarse to fine. So let a step be a whole map:
#
# $$ p(q_1, \dots, q_K) = \prod_{k=1}^{K} p(q_k \mid q_1, \dots, q_{k-1}). $$
#
# Within a map, the $n_k$ tokens are drawn at the same time, each without knowing what its neighbours will be:
#
# $$ p(q_k \mid q_1, \dots, q_{k-1}) = \prod_{i=1}^{n_k} p(q_{k,i} \mid q_1, \dots, q_{k-1}). $$
#
# So tokens of a map are *independent given the coarser maps*, which those of real pictures are not. How much does that hurt? The coarser maps have settled much already, and finer ones can repair some of what clashes. Below you will see a picture for which it is enough, and read of one for which it is not.

# %%
from vartutor.weights import load_tokenizer

tokenizer = load_tokenizer("hit").to(session.device)
patch_nums = tokenizer.quantizer.patch_nums
squares = [p * p for p in patch_nums]
print("tokens per map:", squares)
print(f"next token: {sum(squares)} steps; next scale: {len(squares)} steps")

# %% [markdown]
# Eight passes instead of hundreds: that is where VAR's speed comes from.
#
# ## What does the model see when it predicts a map?
#
# A language model feeds the last token back in. Here that cannot work: one map has 16 tokens and the next 64. And it would be the wrong question.
# A map says what the sum of all maps before it *still lacks* (chapter 04). To know what is lacking, the model must see that sum. Two different rows of maps with the same sum leave the same rest.
#
# So the input is the sum $\hat f$, shrunk to the size of the map to come: one vector for each token to be predicted. Where a new group begins (maps 6 and 8), the bridge of chapter 05 first carries $\hat f$ to the larger canvas.
# The first map has nothing before it. Its input is a *start token*, which carries what the picture shall be of: a class in VAR, here nothing yet.
#
# $$ x^{(k)} = W\, \mathrm{area}(\hat f_{k-1}, p_k) + \text{level}_k + \text{position}. $$
#
# (VAR adds a vector for the position here; ours comes in another way, see below.)

# %%
from vartutor.data.crops import eval_crops
from vartutor.exercises import ch05


def by_package(maps, *_):
    return tokenizer.next_inputs(maps[:-1])  # the last map is no input


next_inputs = ch05.use("next_inputs", package=by_package)  # yours of chapter 05, if it is saved there and right


def inputs_of(maps):  # of the maps after the first, up to the last one that is given
    q = tokenizer.quantizer
    return next_inputs(maps, q.codes, q.groups if len(maps) == 8 else q.groups[:2], q.phi, q.bridge)


x, _ = eval_crops("val", 64, 1)
with torch.no_grad():
    maps = tokenizer.tokenize(x[:4].to(session.device))
    inputs = inputs_of(maps)  # (4, L - 1, C)
    assert torch.allclose(inputs, tokenizer.next_inputs(maps), atol=1e-4)
targets = torch.cat(maps, 1)  # (4, L)
f_hat, following = tokenizer.quantizer.step(None, maps[0], 0)  # the sum after map 1, and the input of map 2
assert torch.allclose(inputs[:, :4], F.adaptive_avg_pool2d(f_hat, 2).flatten(2).mT, atol=1e-5)
print("targets:", tuple(targets.shape), " inputs:", tuple(inputs.shape), "and a start token")

# %% [markdown]
# ## How does a token look at others?
#
# Attention, by hand, on three tokens of two numbers. Each token asks with a *query* $q$; each offers a *key* $k$ and a *value* $v$. The better they fit, the more of the value is taken:
#
# $$ a_{ij} = \frac{\exp(s\, q_i \cdot k_j)}{\sum_m \exp(s\, q_i \cdot k_m)}, \qquad \text{out}_i = \sum_j a_{ij}\, v_j . $$
#
# VAR makes queries and keys unit vectors first, so $q \cdot k$ is a cosine, and learns the temperature $s$, one per head. Large activations can then not freeze the softmax.

# %%
q = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=-1)
k = F.normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0], [1.0, 0.9]]), dim=-1)
v = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
s = 4.0
a = (s * q @ k.T).softmax(-1)  # a_ij: row i says whom token i hears
print(a.numpy().round(2))

# %% [markdown]
# Every row adds up to one. The third token asks for both directions at once, and hears the third most. What each token takes home is the mean of the values with these weights; PyTorch has it in one call.

# %%
out = a @ v
assert torch.allclose(out, F.scaled_dot_product_attention(q, k, v, scale=s), atol=1e-6)
print(out.numpy().round(2))

# %% [markdown]
# ## Who may look at whom?
#
# In training all maps of a picture are known, so all inputs can be laid side by side and all maps predicted in one pass: *teacher forcing*. That is fast, and it invites cheating.
# Within a map everybody may look at everybody: the inputs of a map are all known before it is drawn. But nobody may look at a later map, whose input contains the answer.
# So the mask is made of blocks: token $i$ may look at token $j$ if the level of $i$ is at least the level of $j$.
#
# **★ The mask · 10 min.** From the ladder, return the (L, L) mask: True where row $i$ may look at column $j$.

# %% tags=["exercise"]
from vartutor.exercises import ch06


def my_mask(patch_nums):
    return ...


block_mask = ch06.use("block_mask", my_mask)

# %%
ch06.hint("block_mask")
ch06.solution("block_mask")

# %% [markdown]
# A later map sees all that came before, without a gap. So attention need not read the mask place by place. `views_of` reads from it, for every map, how many tokens ask and which they hear. The model calls plain attention once per map: the same sums, and nothing forbidden is computed (chapter 10 measures it).


# %%
from vartutor.transformer.attention import as_mask, block_causal


def views_of(mask, counts):
    heard = [int(part[0].sum()) for part in mask.split(counts)]  # by the first token of each map
    return [(count, (slice(0, n),)) for count, n in zip(counts, heard, strict=True)]


counts, level = [1, 4, 9, 16], torch.repeat_interleave(torch.arange(4), torch.tensor([1, 4, 9, 16]))
mask = block_mask((1, 2, 3, 4))
assert torch.equal(mask, level[:, None] >= level)
views = views_of(mask, counts)
assert views == block_causal(counts) and torch.equal(as_mask(views), mask)
for count, (keys,) in views:
    print(f"{count:2} tokens hear the first {keys.stop}")

# %% [markdown]
# A mask that is off by one is easy to write and hard to see: the loss looks wonderful. So do not believe the mask, ask the gradient.
# If the prediction of map $i$ depends on the input of map $j$, then its gradient there is not zero.

# %%
from vartutor.transformer.condition import Condition
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig

torch.manual_seed(SEED)
config = TransformerConfig(patch_nums, codes=1024, channels=16, width=96, depth=2, heads=3, rope=True)
probe = NextScaleTransformer(config).to(session.device)
start = Condition(probe.class_emb.weight[:1])

# %% [markdown]
# The model is fresh, with random weights: what can be seen is a matter of the wiring, not of training. Row $i$ of `seen` takes the logits of map $i$, and keeps the largest gradient at the inputs of each map $j$.

# %%
probed = inputs[:1].clone().requires_grad_()
logits = probe(start, probed)
seen = torch.zeros(8, 8)
for i, part in enumerate(logits.split(squares, 1)):
    (g,) = torch.autograd.grad(part.square().sum(), probed, retain_graph=True, allow_unused=True)
    if g is not None:
        seen[i, 1:] = torch.stack([g_j.abs().amax() for g_j in g[0].split(squares[1:])])
assert torch.equal(seen[:, 1:] > 0, torch.tril(torch.ones(8, 8))[:, 1:] > 0)

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(3.6, 3.0))
image = ax.imshow(seen.log10().where(seen > 0, torch.nan), cmap="Purples", vmin=-11)
ax.set_xticks(range(8), [f"{p}" for p in patch_nums])
ax.set_yticks(range(8), [f"{p}" for p in patch_nums])
ax.set(xlabel="input of map (side)", ylabel="prediction of map (side)")
ax.grid(False)
figure.colorbar(image, ax=ax, label="log₁₀ of the gradient")
show(
    figure,
    "Which prediction depends on which input: nothing above the diagonal.",
    "A square of eight by eight cells, dark on the diagonal, pale below it and blank above it; the first column, the start "
    "token, is blank because it is no input.",
)

# %% [markdown]
# **What you should see.** A staircase. Map $i$ depends on the inputs of maps up to $i$, and on none after.
# (Its own input holds the maps before it, not itself.) The diagonal is dark, for that way is direct. What lies below has to pass through attention, which a fresh model keeps very quiet.
#
# ## Where is a token?
#
# Attention does not know order or place; they must be told. VAR learns a vector for each of its 680 positions. That table fits one size of picture only.
# The course uses *rotations* (RoPE): before queries meet keys, each is turned by an angle that grows with its coordinate, so their product depends on the *difference* of the places.
#
# What are the coordinates of a token in a map of 2 × 2, compared with one of 16 × 16? Put all maps on one frame, and every token at the centre of its cell:
#
# $$ (u, v) = \Big( \tfrac{i + 1/2}{p},\; \tfrac{j + 1/2}{p} \Big) \cdot 32 . $$

# %%
from vartutor.transformer.attention import grid_angles, rotate

angles = grid_angles([(p, p) for p in patch_nums], dim=32)  # (L, 16): 8 for the row, 8 for the column
q, k = torch.randn(2, 1, 1, 1, 32)
a, b = angles[7:8], angles[50:51]
assert torch.allclose((rotate(q, a) * rotate(k, b)).sum(), (q * rotate(k, b - a)).sum(), atol=1e-3)
coarse, fine = angles[1:5, 0].view(2, 2), angles[-256:, 0].view(16, 16)  # the fastest angle is the row itself
assert torch.allclose(coarse, F.avg_pool2d(fine[None], 8)[0], atol=1e-4)
print("rows of the 2 × 2 tokens:", coarse[:, 0].tolist(), " of the 16 × 16:", fine[:3, 0].tolist(), "…")

# %% [markdown]
# A coarse token sits in the middle of the fine tokens it stands for. So "look at the coarse token above you" is a rule the model can learn once, for all scales.
#
# ## What is in a block?
#
# A block is attention, then a small network for each token alone. Each is added to what was there, times a *gate*. Here are the pieces, in the order of the data.
#
# First the rotation: neighbouring channels are a point in the plane, turned by the angle of the token's place.


# %% tags=["model"]
def turn(x, angles):  # the model: pairs of channels of (B, heads, n, 32), turned by (n, 16)
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def frame_angles(p, dim=32):  # of a map of p × p tokens: (p p, dim / 2)
    speed = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))  # from 1 radian per unit of the frame to 1/1000
    place = (torch.arange(p) + 0.5) / p * 32
    row, column = place.repeat_interleave(p), place.repeat(p)
    return torch.cat([row[:, None] * speed, column[:, None] * speed], 1)


# %% [markdown]
# Then attention, as by hand above, for several heads. Two details are VAR's. Queries and values have a bias and keys have none; and the temperature is learnt as a logarithm, and held below 100.
# `seen` keeps the keys and values of all that was computed before. That is the *cache*; it is needed when the model writes.


# %% tags=["model"]
def linear(w, name, x):  # the model
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def self_attention(w, name, x, angles, seen, mask=None):  # (B, n, D) -> (B, n, D)
    q_bias, v_bias = w[f"{name}.q_bias"], w[f"{name}.v_bias"]
    qkv = F.linear(x, w[f"{name}.qkv.weight"], torch.cat([q_bias, torch.zeros_like(q_bias), v_bias]))
    heads = w[f"{name}.log_scale"].shape[1]
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, n, D / heads) each
    s = w[f"{name}.log_scale"].clamp(max=np.log(100)).exp()
    q, k = turn(s * F.normalize(q, dim=-1), angles), turn(F.normalize(k, dim=-1), angles)
    if name in seen:
        k, v = torch.cat([seen[name][0], k], 2), torch.cat([seen[name][1], v], 2)
    seen[name] = k, v
    a = q @ k.mT  # (B, heads, n, all so far)
    if mask is not None:
        a = a.masked_fill(~mask, -torch.inf)
    return linear(w, f"{name}.proj", (a.softmax(-1) @ v).transpose(1, 2).flatten(2))


# %% [markdown]
# What comes in is normalised, then scaled and shifted. Factor and shift, and the gates too, are computed from one vector per picture: the class in VAR, here a learned constant. This is *AdaLN*:
#
# $$ x \mathrel{+}= \gamma_1\, \mathrm{attention}\big(\mathrm{LN}(x)(1 + s_1) + b_1\big), \qquad x \mathrel{+}= \gamma_2\, W_2\, \mathrm{gelu}\big(W_1 (\mathrm{LN}(x)(1 + s_2) + b_2)\big), $$
#
# with $(\gamma_1, \gamma_2, s_1, s_2, b_1, b_2) = W\, \mathrm{silu}(\text{vector})$. The weights of the gates start near zero, so every block starts near the identity.


# %% tags=["model"]
def modulated(x, s, b):  # the model: LN(x) (1 + s) + b
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + s) + b


def adaln_block(w, name, x, vector, angles, seen, mask=None):  # (B, n, D), vector (B, 1, D) -> (B, n, D)
    g1, g2, s1, s2, b1, b2 = linear(w, f"{name}.modulation", F.silu(vector)).chunk(6, -1)
    x = x + g1 * self_attention(w, f"{name}.attn", modulated(x, s1, b1), angles, seen, mask)
    h = F.gelu(linear(w, f"{name}.fc1", modulated(x, s2, b2)), approximate="tanh")
    return x + g2 * linear(w, f"{name}.fc2", h)


def run_blocks(w, x, vector, angles, seen, mask=None):  # what the head reads
    for i in range(sum(name.endswith("fc1.weight") for name in w)):
        x = adaln_block(w, f"blocks.{i}", x, vector, angles, seen, mask)
    s, b = linear(w, "head_modulation", F.silu(vector)).chunk(2, -1)
    return modulated(x, s, b)  # (B, n, D)


# %% [markdown]
# ## The whole forward pass
#
# Teacher forcing, in the open. Start token and inputs stand side by side, each with the vector of its level; the blocks run once; the head gives a logit for every code.


# %%
def forward_by_hand(w, inputs, mask):  # (B, L - 1, C) -> (B, L, V)
    maps = inputs.split(squares[1:], 1)
    vector = w["class_emb.weight"].expand(len(inputs), 1, -1)
    start = vector + w["pos_start"] + w["level.weight"][0]
    later = [linear(w, "word_embed", m) + w["level.weight"][k] for k, m in enumerate(maps, 1)]
    angles = torch.cat([frame_angles(p) for p in patch_nums]).to(inputs)
    return linear(w, "head", run_blocks(w, torch.cat([start, *later], 1), vector, angles, {}, mask))


# %%
mask = block_mask(patch_nums).to(session.device)
with torch.no_grad():
    theirs = probe(Condition(probe.class_emb.weight[:1].expand(4, -1)), inputs)
    ours = forward_by_hand(probe.state_dict(), inputs, mask)
assert torch.allclose(ours, theirs, atol=1e-4)
print("logits:", tuple(ours.shape), " ours are the package's")

# %% [markdown]
# From here on we use the package's modules, which do the same faster. The same pass with them:


# %%
def forward(model, inputs, views):
    condition = Condition(model.class_emb.weight[:1].expand(len(inputs), -1))
    maps = inputs.split([p * p for p in model.config.patch_nums[1:]], 1)
    x = torch.cat([model.embed_start(condition), *(model.embed_inputs(m, k) for k, m in enumerate(maps, 1))], 1)
    for block, m in zip(model.blocks, model.modulations(condition.vector), strict=True):
        x = block(x, m, views, model.angles(condition))
    return model.run_head(x, condition.vector)  # (B, L, V)


with torch.no_grad():
    assert torch.allclose(forward(probe, inputs, views_of(mask, squares)), theirs, atol=1e-5)

# %% [markdown]
# ## Can a small one learn to draw?
#
# Not photos, in so short a time. But *suns*: one disc in a blue sky, anywhere and of any size. Enough to be wrong in many ways: two suns, half a sun, a square one.
# And we stop after the second group of maps: 181 tokens, pictures of 32 × 32 pixels.


# %%
def suns(count, generator):
    row, column, size = torch.rand(count, 3, 1, 1, generator=generator).unbind(1)
    y = torch.linspace(-1, 1, 64)[:, None]
    distance = torch.hypot(y - 1.2 * row + 0.6, y.T - 1.2 * column + 0.6)
    inside = torch.sigmoid(16 * (0.3 + 0.4 * size - distance))[:, None]
    sky, sun = torch.tensor([[-0.8, -0.35, 0.3], [0.9, 0.45, -0.5]])[:, :, None, None]
    return (sky + (sun - sky) * inside).to(session.device)  # (B, 3, 64, 64)


ladder = patch_nums[:7]
squares = [p * p for p in ladder]
views = views_of(block_mask(ladder), squares)
config = TransformerConfig(ladder, codes=1024, channels=16, width=64, depth=3, heads=4, rope=True)
model = NextScaleTransformer(config).to(session.device)
print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters, {sum(squares)} tokens")


# %%
def train(model, views, steps, draw=lambda: suns(8, session.generator)):
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        maps = tokenizer.tokenize(draw())[:7]
        logits = forward(model, inputs_of(maps), views).split(squares, 1)
        each = torch.stack([F.cross_entropy(a.flatten(0, 1), b.flatten()) for a, b in zip(logits, maps, strict=True)])
        optimizer.zero_grad()
        (each @ share).backward()  # the mean over all tokens
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(each.detach().cpu())
    return torch.stack(losses).numpy()  # (steps, 7): cross entropy of each map


share = torch.tensor(squares, device=session.device) / sum(squares)

# %% [markdown]
# Two habits before a training. **What should the first loss be?** An untrained model knows nothing of 1024 codes: $\ln 1024$ nats for every map. **Can it learn one batch by heart?** With eight suns, whatever is random is which of the eight: at best $\ln 8$ nats for a whole picture, and next to nothing per token. If it stays far above that, look for a mistake before you wait for the real run.

# %%
torch.manual_seed(SEED)
one = suns(8, torch.Generator().manual_seed(SEED))
pupil = NextScaleTransformer(config).to(session.device)
heart = train(pupil, views, max(3, session.profile.draw_steps // 7), lambda: one) @ share.cpu().numpy()
print(f"expected at step 0: {np.log(1024):.2f} nats, seen: {heart[0]:.2f}")
print(f"one batch by heart: {heart[-1]:.2f} after {len(heart)} steps; at best {np.log(8) / sum(squares):.2f}")

# %%
losses = train(model, views, session.profile.draw_steps)
if PROFILE == "cpu":
    assert losses[:5].mean() > 6 and losses[-50:].mean() < 2.6

# %% tags=["hide-input"]
figure, (ax, bars) = plt.subplots(1, 2, figsize=(7.2, 2.6), width_ratios=[1.5, 1], sharey=True)
for k, column in enumerate(losses.T):
    ax.plot(smooth(column, 25), color=COLORS["token"], alpha=0.25 + 0.75 * (k + 1) / 7, label=f"map {k + 1}")
bars.bar(
    range(1, 8), losses[-100:].mean(0), color=[(*to_rgb(COLORS["token"]), 0.25 + 0.75 * k / 7) for k in range(1, 8)]
)
for axes in (ax, bars):
    axes.axhline(np.log(1024), color="black", linewidth=0.8, linestyle=":")
ax.legend(fontsize=8, ncols=2)
ax.set(xlabel="step", ylabel="cross entropy (nats)", ylim=(0, 7.2))
bars.set(xlabel="map", title="in the end", xticks=range(1, 8))
show(
    figure,
    "What each map costs to predict, the finer the darker; the dotted line is guessing among all codes.",
    "Left, seven lines start at the dotted line of guessing, fall steeply for a hundred steps and then slowly; the "
    "palest, map 1, is flat first. Right, seven bars: map 2 is the highest, maps 3 and 6 are the lowest.",
)

# %% [markdown]
# **What you should see.** All maps start at the dotted line. Map 1 is learnt at once, and then stays where it is: nothing comes before it, and how bright a picture is as a whole is pure chance.
# Map 2 ends highest, for it decides where the sun stands, and nobody has told it. Maps 3 and 6, the first of their size, end lowest: the coarser sum has settled nearly all that they draw.
# The maps after them describe small rests. Which of many similar codes is the nearest is almost chance there.
#
# No curve goes to zero, and none should. The family is random: even a perfect model cannot know which sun comes next.
#
# ## How does it write?
#
# Map by map. Predict map 1 from the start token, draw its tokens, add them to $\hat f$; shrink that to the size of map 2, and so on.
# A step needs the keys and values of all tokens before it, but those do not change: earlier maps never see later ones. So keep them, in a *cache*.

# %%
from vartutor.transformer.generate import iterate

model.eval()
blank = Condition(model.class_emb.weight[:1].expand(6, -1))
dice = torch.Generator(session.device).manual_seed(SEED)
steps = list(iterate(model, tokenizer, blank, generator=dice))
drawn = [step.idx for step in steps]
with torch.no_grad():
    again = forward(model, inputs_of(drawn), views)
assert torch.allclose(torch.cat([step.logits for step in steps], 1), again, atol=1e-3)
until = np.cumsum(squares)
print(f"tokens computed: {until[-1]} with the cache, {until.sum()} without; the logits are those of teacher forcing")

# %% [markdown]
# `iterate` in the open. With the pieces of above it is a dozen lines; `seen` is the cache, and `choose` makes tokens of logits.

# %%
from vartutor.open_code import add_map, at_size, canvas  # of chapter 05


@torch.no_grad()
def write(w, count, choose):  # choose: (N, V) -> (N,); returns f_hat after the last map
    tok, vector, seen = tokenizer.state_dict(), w["class_emb.weight"].expand(count, 1, -1), {}
    f_hat, dim = tok["quantizer.codes"].new_zeros(count, 16, 4, 4), config.width // config.heads
    for k, p in enumerate(ladder):
        said = at_size(canvas(tok, f_hat, k), k).flatten(2).mT  # (B, p p, C)
        x = vector + w["pos_start"] if k == 0 else linear(w, "word_embed", said)
        h = run_blocks(w, x + w["level.weight"][k], vector, frame_angles(p, dim).to(x), seen)
        idx = choose(linear(w, "head", h).flatten(0, 1)).view(count, -1)
        f_hat = add_map(tok, f_hat, tok["quantizer.codes"][idx], k)
    return f_hat


*_, last = iterate(model, tokenizer, blank, top_k=1)
assert torch.allclose(write(model.state_dict(), 6, lambda logits: logits.argmax(-1)), last.f_hat, atol=1e-3)

# %% [markdown]
# **★★★ A cache · 30 min.** `q`, `k`, `v` are (B, H, n, d) for the tokens of a new map; `cache` is a dictionary, empty at first. Return what the new tokens hear when they look at all tokens so far and at each other, and leave in the cache what the next map will need. Scale by $1 / \sqrt d$.
# (The chapter keeps its own: the model's attention has unit vectors and rotations besides.)


# %% tags=["exercise"]
def my_cached_attention(q, k, v, cache):
    return ...


ch06.check("cached_attention", my_cached_attention)

# %%
ch06.hint("cached_attention")
ch06.solution("cached_attention")

# %% [markdown]
# ### Watch it draw
#
# After every map, decode what is there. The first five steps belong to the small picture of 16 × 16; then the canvas doubles.

# %% tags=["hide-input"]
film = []
with torch.no_grad():
    for step in steps:
        film.append(F.interpolate(tokenizer.decode(step.f_hat).cpu(), size=(64, 64)))
real = suns(6, session.generator).cpu()
words = [*(f"map {k + 1}" for k in range(7)), "a real one"]
frames = [[*(frame[i] for frame in film), real[i]] for i in (0, 1)]
figure = image_grid([row[h : h + 4] for row in frames for h in (0, 4)], [words[:4], words[4:]] * 2)
show(
    figure,
    "Two pictures being drawn, and two real ones.",
    "Two pictures in two rows of four each: a flat blue, then a blue with one brighter side or corner, then a coarse "
    "yellow blob there, which becomes rounder and finer with the later maps; last a real disc.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Map 1 gives the mean colour, map 2 a glow on one side, map 3 a blob where the glow was. From then on nobody moves the sun; it is only made rounder and sharper.
# It stays a bit lumpy: the tokens at its rim are drawn at the same time, and do not know of each other.
#
# Here the assumption from the beginning shows its price. Replace the suns by narrow stripes of any direction, and the same training gives patchwork (we tried). The mean of a corner does not tell the direction. So all tokens of map 3 would have to agree on one, and they cannot.
#
# ### Whom does it ask?
#
# Attention can be read. Take one token of the last map: how much does it hear every other? This is the attention by hand of above, with the trained queries and keys of every block.


# %%
@torch.no_grad()
def attention(model, inputs):
    caught, maps = [], []
    hooks = [block.attn.register_forward_pre_hook(lambda _, given: caught.append(given)) for block in model.blocks]
    forward(model, inputs, views)
    for hook, block, (x, seen, angles, _) in zip(hooks, model.blocks, caught, strict=True):
        hook.remove()
        attn = block.attn
        q, k, _ = F.linear(x, attn.qkv.weight).unflatten(2, (3, attn.heads, -1)).permute(2, 0, 3, 1, 4)
        q = F.normalize(q + attn.q_bias.view(attn.heads, 1, -1), dim=-1) * attn.log_scale.exp()
        a = rotate(q, angles) @ rotate(F.normalize(k, dim=-1), angles).mT
        maps.append(a.masked_fill(~as_mask(seen).to(a.device), -torch.inf).softmax(-1).mean(1))  # over heads
    return torch.stack(maps, 1)  # (B, blocks, L, L)


heard = attention(model, inputs_of(drawn))
assert torch.allclose(heard.sum(-1), torch.ones_like(heard[..., 0]), atol=1e-4)

# %% tags=["hide-input"]
row, column = 2, 5  # of map 7
token = until[-2] + row * 8 + column
figure, axes = plt.subplots(len(model.blocks), 7, figsize=(7.2, 1.1 * len(model.blocks) + 0.2))
for block, line in zip(heard.mean(0)[:, token].cpu(), axes, strict=True):
    for ax, part, side in zip(line, (block * len(block)).split(squares), ladder, strict=True):
        ax.imshow(part.view(side, side), cmap="Purples", vmin=0, vmax=4)
        ax.plot((column + 0.5) / 8 * side - 0.5, (row + 0.5) / 8 * side - 0.5, "o", color=COLORS["rest"], markersize=5)
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
for ax, k in zip(axes[0], range(1, 8), strict=True):
    ax.set_title(f"map {k}")
for ax, k in zip(axes[:, 0], range(1, 9), strict=False):
    ax.set_ylabel(f"block {k}")
show(
    figure,
    "How much one token of map 7 (orange) hears the tokens of all maps; the darker, the more.",
    "Three rows of seven square maps, one row per block, with an orange dot at the token's place. In blocks 1 and 2 dark "
    "spots lie beside the dot in maps 6 and 7; block 2 also hears map 1; block 3 hears maps 3 to 5 in broad patches.",
    photo=True,
)

# %% [markdown]
# **What you should see.** White is not heard at all, and the darkest shade is four times as much as if everything were heard alike.
# In our run, blocks 1 and 2 look in maps 6 and 7 at a patch beside the token, towards the middle, where a sun would be. Block 2 also asks map 1, which knows how bright the picture is, so how large the sun. Block 3 gathers from the maps in between.
# Nobody told the blocks to share the work like this, and another seed shares it otherwise. Look for what stays: places nearby, and the coarse maps for the whole.
#
# ### How bold should it be?
#
# The model gives every code a probability. Take always the likeliest (*greedy*), and there is only one picture. Draw freely, and now and then something silly is drawn, for there are a thousand codes, and the small chances of the silly ones add up.
#
# Three knobs: divide the logits by a **temperature** $\tau$; keep the **top k**; keep the fewest that hold a share **p** of the probability (*top-p*).
#
# **★★ Top-p · 20 min.** `logits` is (N, V). Keep in each row the fewest codes whose probabilities add up to at least `p`, and set all others to minus infinity. The likeliest code always stays.


# %% tags=["exercise"]
def my_top_p(logits, p):
    return ...


top_p = ch06.use("top_p", my_top_p)

# %%
ch06.hint("top_p")
ch06.solution("top_p")

# %% tags=["nbval-ignore-output"]
logits = steps[3].logits[0, 5]  # one token of map 4
curves = {f"τ = {t}": (logits / t).softmax(-1).sort(descending=True).values for t in (0.5, 1.0, 2.0)}
needed = {name: int((c.cumsum(0) < 0.9).sum()) + 1 for name, c in curves.items()}
print("codes that hold 90 % of the probability:", needed)
assert needed["τ = 0.5"] <= needed["τ = 1.0"] <= needed["τ = 2.0"]

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(5.6, 2.6))
for (name, curve), alpha in zip(curves.items(), (1.0, 0.65, 0.35), strict=True):
    ax.loglog(np.arange(1, 1025), curve.clamp(min=1e-7).cpu(), color=COLORS["token"], alpha=alpha, label=name)
ax.set(xlabel="rank of the code", ylabel="probability", ylim=(1e-6, 1))
ax.legend(fontsize=8)
show(
    figure,
    "What temperature does to the probabilities of one token, sorted.",
    "Three falling curves of probability against rank on logarithmic axes, steeper for a lower temperature: the darkest "
    "one, for one half, falls fastest, and the palest one, for two, is the flattest.",
)

# %%
knobs = {
    "τ = 2": {"temperature": 2.0},
    "τ = 1": {},
    "τ = 0.5": {"temperature": 0.5},
    "top 20": {"top_k": 20},
    "greedy": {"top_k": 1},
}
ends = {}  # f_hat after the last map
for name, options in knobs.items():
    *_, last = iterate(model, tokenizer, blank, generator=dice, **options)
    ends[name] = last.f_hat


other_dice = torch.Generator(session.device).manual_seed(SEED)


def careful(logits):  # what top_p keeps, drawn by its probabilities
    return torch.multinomial(top_p(logits, 0.9).softmax(-1), 1, generator=other_dice)[:, 0]


ends["top-p 0.9"] = write(model.state_dict(), 6, careful)

# %% tags=["hide-input"]
with torch.no_grad():
    rows = [list(tokenizer.decode(f_hat).cpu()) for f_hat in ends.values()]
show(
    image_grid(rows, labels=list(ends)),
    "Six draws with each knob; the last row is drawn by `top_p`.",
    "Six rows of six small pictures: torn suns at temperature 2, whole ones of many sizes at 1 and 0.5, with the top 20 and "
    "with top-p, where one has none; with greedy draws six times the same sky without a sun.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Too hot, and the suns are torn. With greedy draws you get the same picture six times, with a small sun or, as here, with none. For almost every token the sky is likelier than the sun. And the likeliest code of each token does not make the likeliest picture.
# Between the two you trade variety for care. Turn the knobs yourself, and stop the draw at any map.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def draw(temperature, top_k, maps, seed):
    generator = torch.Generator(session.device).manual_seed(seed)
    frames = list(iterate(model, tokenizer, blank, temperature=temperature, top_k=top_k, generator=generator))
    with torch.no_grad():
        pictures = tokenizer.decode(frames[maps - 1].f_hat).cpu()
    return image_grid([list(pictures)])


explorer(
    draw,
    temperature=slider("temperature", 1.0, 0.2, 2.0, 0.1),
    top_k=slider("top k (0: off)", 0, 0, 200, 10),
    maps=slider("maps", 7, 1, 7, 1),
    seed=slider("seed", 0, 0, 20, 1),
)

# %% [markdown]
# ## What breaks if the mask is missing?
#
# Train the same model without a mask, for half of the steps. Now the prediction of map $k$ may look at the inputs of all maps, and those of later maps contain what map $k$ adds to the sum: the answer.
# Before you run it: which map cannot cheat, even so?

# %% tags=["nbval-ignore-output"]
torch.manual_seed(SEED)
cheat = NextScaleTransformer(config).to(session.device)
easy = train(cheat, None, max(3, session.profile.draw_steps // 2))
for name, run in {"no mask": easy, "mask": losses}.items():
    print(f"{name:>8}:", *(f"{x:5.2f}" for x in run[-100:].mean(0)))
if PROFILE == "cpu":
    assert easy[-100:, :3].mean() < 0.6 * losses[-100:, :3].mean()

# %% tags=["hide-input"]
cheat.eval()
with torch.no_grad():
    *_, last = iterate(cheat, tokenizer, blank, generator=dice)
    nonsense = tokenizer.decode(last.f_hat).cpu()
figure = image_grid([list(nonsense[:5]), list(film[-1][:5])], labels=["no mask", "mask"])
show(
    figure,
    "Drawn by the model that was allowed to peek, and by the honest one.",
    "Two rows of five small pictures: above, blotches of colour without order; below, suns in a blue sky.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Look at the upper row of numbers first. After half of the steps, most maps cost a small part of what the honest model pays after all of them. As a training curve it is a dream. The pictures are rubbish.
# The model learnt to read the answer off the next input: what a map adds is the sum after it, minus the sum before. In generation the next input does not exist yet.
#
# Map 7 cannot cheat, for no input comes after it. Map 5 hardly can: the picture doubles between it and map 6, and a small network changes the sum on the way (chapter 05's bridge).
# So a loss that is too good is a finding. Ask the gradient before you celebrate.
#
# ## And the published one?
#
# The same class, larger: width 1024, 16 blocks, 16 heads, learned positions, a thousand classes.

# %%
with torch.device("meta"):
    ladder_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    d16 = NextScaleTransformer(TransformerConfig(ladder_256, 4096, 32, width=1024, depth=16, heads=16, classes=1001))
print(f"VAR-d16: {sum(p.numel() for p in d16.parameters()):,} parameters")

# %% [markdown]
# ## Questions
#
# 1. Why is the input of a map the *sum* so far, and not the last map alone?
#
# <details><summary>Answer</summary>
#
# A map says what the sum still lacks. Only the sum tells what that is.
#
# </details>
#
# 2. Tokens of one map attend to each other. Why is that no cheating?
#
# <details><summary>Answer</summary>
#
# What they look at are the *inputs* of the map, made of earlier maps only. The map's own tokens are not among them.
#
# </details>
#
# 3. Your training loss is far below what you expected. Name two tests before you celebrate.
#
# <details><summary>Answer</summary>
#
# The gradient test: does a prediction depend on an input of a later map? And generation: does it look as good as the loss says?
#
# </details>
#
# 4. Without a cache, 415 tokens are computed for 181. Where does 415 come from?
#
# <details><summary>Answer</summary>
#
# Each of the seven steps computes all tokens so far again: 1 + 5 + 21 + 37 + 53 + 117 + 181.
#
# </details>
#
# 5. Greedy decoding takes the likeliest code everywhere. Why is the result not the likeliest picture?
#
# <details><summary>Answer</summary>
#
# Tokens of a map are chosen one by one. The picture of the single best guesses may be a combination that never occurs. And a good first map may lead to unlikely later ones.
#
# </details>
#
# ## An open experiment
#
# How far does "independent given the coarser maps" reach? Invent a family of pictures with one knob between the suns, which work, and the stripes, which do not: for instance stripes of growing width. Train the model of this chapter along the knob.
#
# A good answer
#
# - has a measure of "wrong picture" that needs no eye, such as the spread of directions within a picture;
# - predicts beforehand where along the knob it breaks, from the sides of the maps;
# - keeps steps and model fixed, and says what three seeds do;
# - shows drawn pictures next to real ones, chosen by a rule;
# - tries one cure (more steps, a further coarse map, a lower temperature) and reports it even if it fails.
#
# ## In five lines
#
# 1. Next-scale prediction draws a whole map per step: eight steps instead of hundreds.
# 2. The input of a map is the sum of all maps before it, at that map's size; there is one start token.
# 3. The mask is made of blocks; gradients prove that no map sees a later one.
# 4. With a cache, generation computes every token once, and gives the numbers of teacher forcing.
# 5. Temperature, top-k and top-p trade variety for care.
#
# ## The course and the papers
#
# | | this course | VAR-d16 |
# |---|---|---|
# | width, blocks, heads | 64, 3, 4 in this chapter; 192, 6, 6 in the next | 1024, 16, 16 |
# | positions | rotations on a frame that all scales share, as in VARSR; ours are centred | a learned table |
# | start | one learned vector, a photo from chapter 07 on | a class |
# | queries and keys | unit vectors, one learned temperature per head | the same |
# | regularisation | none | stochastic depth, dropped labels |
#
# ## References
#
# - K. Tian et al., [Visual Autoregressive Modeling](https://arxiv.org/abs/2404.02905), 2024: the transformer is in its section 3.3.
# - J. Su et al., [RoFormer](https://arxiv.org/abs/2104.09864), 2021: rotary positions.
# - Y. Qu et al., [Visual Autoregressive Modeling for Image Super-Resolution](https://arxiv.org/abs/2501.18993), 2025: rotations aligned across scales.
# - J. Ho and T. Salimans, [Classifier-Free Diffusion Guidance](https://arxiv.org/abs/2207.12598), 2022: guidance.
# - A. Holtzman et al., [The Curious Case of Neural Text Degeneration](https://arxiv.org/abs/1904.09751), 2019: top-p.
#
# **Next:** chapter 07 tells the transformer a degraded photo, and asks for the clean one.
