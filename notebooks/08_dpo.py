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
# # 08 · DPO: prefer the clean photo
#
# **We tell the model not only what is right, but also what it must not say: the tokens of the photo that it was given.**
# The chapter derives the term from games between players, draws it where two numbers are the whole model, and then fine-tunes the transformer of chapter 07 with it.
#
# ![The preference term: the transformer scores two token sequences for the same degraded photo, the clean photo's and the degraded photo's own; the difference of the scores goes through a logistic function and becomes a loss.](../assets/diagrams/preference.svg)
#
# After this chapter you will be able to
#
# - **derive** the loss of DPO from the Bradley–Terry model, in five steps;
# - **predict** what it does to a model that copies its input;
# - **decide** between sums and means, and between a reference and none;
# - **choose** a β, and recognise one that is too large;
# - **compare** fine-tuned models with a control that took the same steps.
#
# | time on two cores | needs | last verified |
# |---|---|---|
# | about a minute and 2.2 GB to run, an hour to read | chapters 06 and 07 | November 2026, torch 2.13 |
#
# **You are here.** [01 damage](01_photos_degradations_metrics.ipynb) → [02 codes](02_vector_quantization.ipynb) → [03 residual codes](03_residual_vq.ipynb) → [04 maps](04_multiscale_tokenizer.ipynb) → [05 three sizes](05_hierarchical_tokenizer.ipynb) → [06 transformer](06_next_scale_transformer.ipynb) → [07 photo in, photos out](07_super_resolution.ipynb) → **08 preference** → [09 verdict](09_evaluation.ipynb) → [10 scale](10_scaling_up.ipynb) → [11 GPU: tokenizer](11_gpu_tokenizer.ipynb) → [12 GPU: transformer](12_gpu_transformer.ipynb)
#
# **Words of other chapters**, in the [glossary](../book/glossary.md): Bradley–Terry model, LPIPS, mean codes, perceptual distance, prior, PSNR, teacher forcing.

# %% tags=["parameters"]
PROFILE = "cpu"
SEED = 0
DEVICE = "cpu"

# %%
import copy

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from vartutor.chapter import setup
from vartutor.show import COLORS
from vartutor.show.figures import image_grid, show

session = setup(PROFILE, SEED, DEVICE)
print(session)

# %% [markdown]
# ## What does cross entropy not say?
#
# The transformer sees a degraded photo and is asked for the tokens of the clean one. The degraded photo has tokens too: enlarge it, encode it.
# Chapter 05 counted how many of those are right. Of the coarse ones quite a few, of the fine ones hardly any.
#
# So there is an easy answer: *copy*. Say the degraded photo's own tokens, and be right now and then. How would you talk a model out of that?
#
# Take a photo of two tokens. The first is coarse, and its copy is right in nine photos of ten. The second is fine, and its copy is right in four of ten.
# The whole model is two numbers $\theta_1, \theta_2$: with probability $p_i = \sigma(\theta_i)$ it **corrects** token $i$, else it copies. (There are only two codes, so a corrected token that should be corrected is right.)

# %%
copied = torch.tensor([9 / 10, 4 / 10])  # how often the copy is right
kinds = torch.tensor([[0.0, 0.0],   # clean tokens equal the degraded ones
                      [0.0, 1.0],   # the fine one differs
                      [1.0, 0.0],   # the coarse one differs
                      [1.0, 1.0]])  # both differ  # fmt: skip
chance = torch.where(kinds == 1, 1 - copied, copied).prod(1)  # (4,): how often each kind of photo comes
for kind, share in zip(kinds.int().tolist(), chance, strict=True):
    print(kind, f"{share:.0%} of the photos")

# %% [markdown]
# A sequence is now a row of zeros (copied) and ones (corrected). Its log-likelihood is the sum over its tokens; we take the mean, as the loss of chapter 06 did.


# %%
def logp(theta, z):  # (..., 2), (..., 2) -> (...): log π(z), mean per token
    return (z * F.logsigmoid(theta) + (1 - z) * F.logsigmoid(-theta)).mean(-1)


def ce(theta):  # expected over the photos
    return -(chance * logp(theta[..., None, :], kinds)).sum(-1)


best = torch.logit(1 - copied)
print("CE when it always hesitates:", round(ce(torch.zeros(2)).item(), 2), "at best:", round(ce(best).item(), 2))

# %% [markdown]
# Cross entropy has one minimum, where the model corrects as often as it should: $p_i = 1 - c_i$, with $c_i$ the share of right copies.
# Keep this in mind. Whatever we add to the loss will move that minimum, and must have a good reason.
#
# ## From players to a loss, in five steps
#
# **Step 1: Bradley–Terry.** Three players have strengths $r$. In a game between $a$ and $b$, let $a$ win with probability
#
# $$ P(a \succ b) = \sigma(r_a - r_b), \qquad \sigma(x) = \frac{1}{1 + e^{-x}}. $$
#
# Only differences count; nobody ever sees $r$ itself, only who won. Let them play.

# %%
strength = torch.tensor([0.0, 1.0, 2.5])
a, b = torch.randint(3, (2, 20_000))
won = torch.rand(len(a)) < torch.sigmoid(strength[a] - strength[b])
winner, loser = torch.where(won, a, b), torch.where(won, b, a)
meets = ((a == 2) & (b == 0)) | ((a == 0) & (b == 2))
print(f"the strongest beats the weakest in {(winner[meets] == 2).float().mean():.0%} of their games")

# %% [markdown]
# **Step 2: strengths from games.** Turn it round: which $r$ makes the games that we saw most likely? The negative log-likelihood of a game is
#
# $$ -\log \sigma(r_{\text{winner}} - r_{\text{loser}}). $$
#
# This is the loss with which *reward models* of chatbots are trained; there a player is an answer, and a person says which of two is better.

# %%
r = torch.zeros(3, requires_grad=True)
optimizer = torch.optim.Adam([r], lr=0.1)
for _ in range(200):
    loss = -F.logsigmoid(r[winner] - r[loser]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
found = (r - r[0]).detach()
print("strengths, from the games alone:", *(f"{x:.1f}" for x in found))
assert (found - strength).abs().max() < 0.2

# %% [markdown]
# **Step 3: what would a model with this reward do?** Now players are sequences $z$, and $r(z)$ is a reward. We want a model $\pi$ with much reward that stays near a model $\pi_{\text{ref}}$ that we trust:
#
# $$ \max_\pi \; \mathbb E_{z \sim \pi}[r(z)] - \beta\, \mathrm{KL}(\pi \,\|\, \pi_{\text{ref}}) \quad\Longrightarrow\quad \pi^*(z) = \frac1Z\, \pi_{\text{ref}}(z)\, e^{r(z) / \beta}. $$
#
# Is that so? There are four sequences in our toy: maximise over all distributions on them, and compare. The reward shall be the number of corrections, more for the fine one.

# %%
reward, beta = kinds @ torch.tensor([1.0, 1.5]), 2.0
trusted = torch.tensor([0.4, 0.3, 0.2, 0.1])  # π_ref
closed = trusted * (reward / beta).exp()
closed = closed / closed.sum()
print("closed form:", *(f"{x:.3f}" for x in closed))

# %%
free = torch.zeros(4, requires_grad=True)
optimizer = torch.optim.Adam([free], lr=0.1)
for _ in range(400):
    pi = free.softmax(0)
    goal = (pi * reward).sum() - beta * (pi * (pi / trusted).log()).sum()
    optimizer.zero_grad()
    (-goal).backward()
    optimizer.step()
print("searched:   ", *(f"{x:.3f}" for x in pi))
assert torch.allclose(pi, closed, atol=1e-3)

# %% [markdown]
# **Step 4: read it backwards.** Solve for the reward: $r(z) = \beta \log \frac{\pi(z)}{\pi_{\text{ref}}(z)} + \beta \log Z$. So a model *is* a reward, up to a constant that nobody can compute.
# But Bradley–Terry needs only differences, and in a difference the constant goes. Put it into step 2:
#
# $$ \mathcal L_{\text{DPO}} = -\log \sigma\Big(\beta \log \frac{\pi(z_w)}{\pi_{\text{ref}}(z_w)} - \beta \log \frac{\pi(z_l)}{\pi_{\text{ref}}(z_l)}\Big). $$
#
# No reward model, no sampling: a loss on two likelihoods. That is the trick of Rafailov et al.

# %%
implied = beta * (pi / trusted).log().detach()
print("differences of reward:", (reward - reward[0]).tolist())
print("read from the model:  ", [round(x, 1) for x in (implied - implied[0]).tolist()])
assert torch.allclose(implied - implied[0], reward - reward[0], atol=0.02)

# %% [markdown]
# **Step 5: who plays, and who is trusted?** The paper lets two sequences meet for each photo †. The winner is $z_{\text{HR}}$, the clean photo's tokens; the loser is $z_{\text{LR}}$, those of the degraded photo.
# No person is asked. And it has no reference †. That is the same as a reference for which all sequences are equally likely: its terms cancel. († marks what we know of the paper at second hand. It may be wrong.)
#
# $$ \mathcal L = \mathrm{CE} + \lambda\, \mathcal L_{\text{DPO}}, \qquad \mathcal L_{\text{DPO}} = -\log \sigma(\beta m), \qquad m = \log \pi(z_{\text{HR}} \mid x) - \log \pi(z_{\text{LR}} \mid x). $$
#
# The number $m$ is the **margin**.
#
# **★ The loss · 10 min.** Log-likelihoods `logp_hr` and `logp_lr` are tensors (B,). Return the loss of every pair, (B,), without a reference. It must stay finite however far the loser leads.

# %% tags=["exercise"]
from vartutor.exercises import ch08


def my_loss(logp_hr, logp_lr, beta):
    return ...


dpo_loss = ch08.use("dpo_loss", my_loss)

# %%
ch08.hint("dpo_loss")
ch08.solution("dpo_loss")

# %% [markdown]
# From here on the toy learns by that function. The package has the same; with `ref_logp_hr` and `ref_logp_lr` also the form of step 4.


# %%
def margins(theta):  # (..., 4): of every kind of photo
    return logp(theta[..., None, :], kinds) - logp(theta, torch.zeros(2))[..., None]


def dpo(theta, beta, start=None):
    m = margins(theta) if start is None else margins(theta) - margins(start)
    return (chance * dpo_loss(m, torch.zeros_like(m), beta)).sum(-1)


# %%
from vartutor.train import preference

theta = torch.tensor([-1.0, 0.5])
hr, lr = logp(theta, kinds), logp(theta, torch.zeros(4, 2))
assert torch.allclose((chance * preference.dpo_loss(hr, lr, beta=3.0)).sum(), dpo(theta, 3.0))
print("margins of the four kinds:", *(f"{m:.2f}" for m in margins(theta)))

# %% [markdown]
# Look at the first margin. Where the degraded photo has the *right* tokens, winner and loser are one sequence, and the margin is zero whatever the model does. Such a photo teaches nothing.
# In the toy it is the same token by token: where both sequences agree, their terms cancel. In the real model, terms cancel token by token up to the first map that differs; in later maps even equal tokens have other inputs.
#
# ## How hard does it push?
#
# The gradient of $-\log\sigma(\beta m)$ by $m$ is $-\beta\, \sigma(-\beta m)$: a push that is strong while the loser leads, and fades once the winner does. β sets both its size and where it fades.

# %% tags=["hide-input"]
m = torch.linspace(-4, 4, 201)
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.5))
for b, color in ((0.2, COLORS["other"]), (1.0, COLORS["model"]), (5.0, COLORS["lr"])):
    axes[0].plot(m, -F.logsigmoid(b * m), color=color, label=f"β = {b:g}")
    axes[1].plot(m, b * torch.sigmoid(-b * m), color=color)
axes[0].set(xlabel="margin m (nats per token)", ylabel="loss", ylim=(0, 6))
axes[1].set(xlabel="margin m (nats per token)", ylabel="push β σ(-βm)")
axes[0].legend(fontsize=8)
show(
    figure,
    "The loss, and how hard it pushes: a small β hardly bends, a large one is a switch.",
    "Two panels over the margin. Left, three falling loss curves: nearly flat for a small beta, a hinge for a large "
    "one. Right, the push: low and constant, or high on the left and zero right of zero, like a switch.",
)

# %% [markdown]
# **What you should see.** With a small β the loss is a straight line: it pushes weakly, and never stops. With a large one it is a hinge: it pushes with all its might until the winner leads by a hair, and then not at all.
# A remark of the paper † fits: a β too small makes the term constant, one too large makes training unstable.
#
# ## What does the landscape look like?
#
# Two numbers are the model, so we can draw any loss as a map, and walk down it. Before you look: where does the DPO term alone have its minimum?


# %%
def descend(loss, steps=400, rate=0.5):
    theta, path = torch.tensor([-3.0, -3.0], requires_grad=True), []  # begin as a copier
    for _ in range(steps):
        path.append(theta.detach().clone())
        (slope,) = torch.autograd.grad(loss(theta), theta)
        theta = (theta - rate * slope).detach().requires_grad_(True)
    return torch.stack(path)


# %%
losses = {
    "CE": ce,
    "DPO, β = 4": lambda t: dpo(t, 4.0),
    "CE + DPO": lambda t: ce(t) + dpo(t, 4.0),
}
paths = {name: descend(loss) for name, loss in losses.items()}
for name, path in paths.items():
    coarse, fine = path[-1].sigmoid().tolist()
    print(f"{name:<11} corrects the coarse token in {coarse:.0%}, the fine one in {fine:.0%}")


# %% tags=["hide-input"]
def draw_landscape(ax, loss, path, title, top=4.0):
    across, up = torch.linspace(-4, 4, 121), torch.linspace(-4, top, 121)
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1)
    ax.contour(across, up, loss(grid), 16, colors=COLORS["bicubic"], linewidths=0.8)
    ax.plot(*path.T, ".-", color=COLORS["model"], markersize=3)
    ax.plot(*path[0], "o", color=COLORS["lr"])
    ax.plot(*path[-1], "o", color=COLORS["model"])
    ax.plot(*best, "*", color=COLORS["hr"], markersize=11)
    ax.set(title=title, xlabel="θ₁: coarse", xlim=(-4, 4), ylim=(-4, top))


figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharey=True)
for ax, (name, loss) in zip(axes, losses.items(), strict=True):
    draw_landscape(ax, loss, paths[name], name)
axes[0].set(ylabel="θ₂: fine")
show(
    figure,
    "Three landscapes, the way down from a model that copies (orange), and how often it should correct (green star).",
    "Three contour maps. Cross entropy is a bowl, and the path ends on the green star. DPO alone is a slope without a "
    "bottom; the path leads up and then to the right. Their sum is a bowl again, its bottom right of and above the star.",
)

# %% [markdown]
# **What you should see.** Cross entropy is a bowl with the star at its bottom. DPO alone has no bottom: it wants *more* correcting, without end.
# The sum is a bowl again, but the star is not its bottom. The model now corrects more often than the data say it should.
#
# So DPO is no free lunch: it biases. Whether the bias is welcome depends on what the model does wrong. A half-trained transformer that still clings to its input gets a push in the right direction.
# One that is calibrated already is pushed away from that.
#
# ## What does a model do that copies its input?
#
# Take one token alone, whose copy is right with probability $c$. Setting the gradient of the whole loss to zero gives
#
# $$ p = (1 - c)\,\bigl(1 + \lambda \beta\, \sigma(-\beta \theta)\bigr), \qquad p = \sigma(\theta). $$
#
# (Can you derive it? The right copies enter through the cross entropy alone.) The factor in brackets is the bias. For a stubborn copier it approaches $1 + \lambda\beta$: with the paper's setting, one fifth for β and one for λ †, the push out of copying is a fifth stronger than that of CE.


# %%
def settled(c, beta, lam=1.0, start=None):  # the p at which CE + λ DPO of one token has its minimum
    low, high = torch.full_like(c, -30.0), torch.full_like(c, 30.0)
    for _ in range(60):  # bisection: the slope grows with θ
        theta = (low + high) / 2
        m = theta if start is None else theta - start
        slope = theta.sigmoid() - (1 - c) * (1 + lam * beta * torch.sigmoid(-beta * m))
        low, high = torch.where(slope < 0, theta, low), torch.where(slope < 0, high, theta)
    return theta.sigmoid()


# %%
c = torch.linspace(0.01, 0.99, 99)
assert torch.allclose(settled(c, 1.0, lam=0.0), 1 - c, atol=1e-4)
for b in (0.2, 2.0, 20.0, 200.0):
    print(f"β = {b:<5g} a copy right in 90 % of the cases is corrected in {settled(torch.tensor([0.9]), b).item():.0%}")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(4.6, 3.0))
ax.plot(c, 1 - c, color="black", linestyle="--", label="as the data say (λ = 0)")
for b, color in ((0.2, COLORS["other"]), (2.0, COLORS["model"]), (20.0, COLORS["lr"])):
    ax.plot(c, settled(c, b), color=color, label=f"β = {b:g}")
ax.set(xlabel="share of right copies c", ylabel="share corrected p", ylim=(0, 1.02))
ax.legend(fontsize=8)
show(
    figure,
    "The larger β, the less a model trusts its input, right or wrong.",
    "Share of corrected tokens against the share of right copies. The dashed line falls straight from one to zero. "
    "A small beta lies just above it; a larger one bulges upwards; the largest follows the dashed line at first and "
    "then stays a little above one half until the copy is nearly always right.",
)

# %% [markdown]
# **What you should see.** The paper's β, read as a mean per token, hardly moves anything. A large one makes the model doubt every copy: it corrects half of the tokens whose copies are right nine times out of ten.
# The curve stops near one half because of the hinge: there the winner leads, and the push ends. For the same reason it does nothing on the left, where the data alone make the winner lead.
#
# And who copies? In this course the model is *given* the copy: the prior of chapter 07 adds the degraded photo's own tokens to the logits. The loser is exactly what the prior proposes. So DPO here tells the model how much to trust its own prior.
#
# ## Sum or mean?
#
# We do not know whether the paper's $\log\pi$ is a sum over the tokens or their mean. For chatbots this matters much, since answers have different lengths. A sum falls with every token, so whoever *ranks* answers by sums favours short ones. Yet models trained by DPO with sums are known to become long-winded: a longer pair has larger margins to win.
# For us all sequences have the same length $L$. What follows?

# %%
L = 437
logp_hr, logp_lr = -5 + 0.3 * torch.randn(6), -5.4 + 0.3 * torch.randn(6)  # six pairs, means per token
by_mean = dpo_loss(logp_hr, logp_lr, beta=2.0)
by_sum = dpo_loss(L * logp_hr, L * logp_lr, beta=2.0 / L)
assert torch.allclose(by_mean, by_sum, atol=1e-5)
pushed = torch.sigmoid(-0.2 * L * (logp_hr - logp_lr))
print("σ(-βm) of six pairs, sums and the paper's β:", [f"{x:.0e}" for x in pushed.tolist()])

# %% [markdown]
# **What you should see.** A sum with β *is* a mean with $L\beta$. There is nothing to decide but β itself.
# Yet a β of one fifth then means two different things. As a mean it is almost a straight line. As a sum over our 437 tokens it is the switch of the figure above: a pair that leads weighs nothing at all, and one that lags pushes with full force. At the published size, with thousands of tokens, still more so.
#
# The default of this course is the mean.
#
# ## With a reference, or without?
#
# Step 4 had a reference, the paper has none †. What would it change? Take the model that cross entropy alone would give, freeze a copy, and measure margins from there.

# %%
start = torch.logit(1 - c)  # where cross entropy alone ends
for b in (0.2, 2.0, 20.0):
    without, with_one = settled(c, b), settled(c, b, start=start)
    at = [(p[89] - (1 - c[89])).item() for p in (without, with_one)]
    print(f"β = {b:<4g} corrected too often, c = 90 %: {at[0]:.0%} without, {at[1]:.0%} with a reference")

# %% tags=["hide-input"]
figure, ax = plt.subplots(figsize=(4.6, 2.8))
for b, color in ((2.0, COLORS["model"]), (20.0, COLORS["lr"])):
    ax.plot(c, settled(c, b) - (1 - c), color=color, label=f"β = {b:g}, none")
    ax.plot(c, settled(c, b, start=start) - (1 - c), color=color, linestyle=":", label=f"β = {b:g}, reference")
ax.set(xlabel="share of right copies c", ylabel="corrected too often by")
ax.legend(fontsize=8)
show(
    figure,
    "Without a reference the bias is largest where copies are good; with one it is a low arch.",
    "Bias against the share of right copies. Without a reference both curves rise towards the right, that of the larger "
    "beta up to almost one half. With a reference, dotted, both are arches that are lowest at the two ends, and the "
    "arch of the larger beta is the lower one.",
)

# %% [markdown]
# **What you should see.** Without a reference, the push asks: does the winner lead? A token with good copies never lets it, so there the push stays on. With a reference it asks: has the lead *grown*? A small growth is enough, and it stops.
# So the reference protects the tokens that were right to copy; it is not gentler for all, as the left half shows. And it turns β round: a larger one is satisfied sooner, and the bias shrinks. What it costs is a second model in memory, and a forward pass.
#
# ## What breaks if β is large?
#
# Two things, and the toy shows both. First the *minimum* moves, as we saw. Second the *way* there: while the loser leads, the push is β times as strong as that of cross entropy, and no step size suits both.
# Same start, same rate, three values of β. The last one is the paper's, read as a sum over $L$ tokens.

# %%
walks = {b: descend(lambda t, b=b: ce(t) + dpo(t, b), steps=60) for b in (0.2, 20.0, 0.2 * L)}
for b, path in walks.items():
    jumps = (path[-10:] - path[-11:-1]).norm(dim=-1).mean().item()
    p = path[-10:].sigmoid()
    right = (p * (1 - copied) + (1 - p) * copied).mean().item()
    print(f"β = {b:<4g} CE {ce(path[-10:]).mean():.2f}, right tokens {right:.0%}, last steps {jumps:.4f} long")
assert ce(walks[20.0][-10:]).mean() > ce(walks[0.2][-1]) + 0.05

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.7), sharey=True)
for ax, (b, path) in zip(axes, walks.items(), strict=True):
    draw_landscape(ax, lambda t, b=b: ce(t) + dpo(t, b), path, f"β = {b:.2g}", top=11.0)
axes[0].set(ylabel="θ₂: fine")
show(
    figure,
    "Sixty steps down from the copier: to the star, past it to a crease, and far out in a single step.",
    "Three contour maps with paths from the lower left. With the small beta the path bends towards the star; with the "
    "middle one it passes it and ends on a crease at zero; with the large one the first step leads far up out of the "
    "region where the others end, and the rest crawls back along the crease.",
)

# %% [markdown]
# **What you should see.** With the small β the walk goes where cross entropy goes. With the middle one the landscape has a crease, at which a kind of photo changes its winner. The walk ends on it; there the model corrects the coarse token half the time.
# With the last one the first step is thrown across the whole map: the fine token is now *always* corrected. Out there the preference is content and pushes no more; only cross entropy crawls back. The coarse token trembles about the crease all the while.
#
# In both, the cross entropy is *worse* and fewer tokens are right than with the small β: the model has learned not to copy, and little else. That is the collapse.
#
# The static panels show three values; here is the slider. Watch the crease form as β grows, the first step get longer, and what λ does to the balance.

# %% tags=["widget", "nbval-ignore-output"]
from vartutor.show.widgets import explorer, slider


def draw(log_beta, lam):
    b = 10.0**log_beta

    def mixed(theta):
        return ce(theta) + lam * dpo(theta, b)

    figure, ax = plt.subplots(figsize=(3.6, 3.4))
    draw_landscape(ax, mixed, descend(mixed, steps=60), f"β = {b:.2g}, λ = {lam:.1f}")
    ax.set(ylabel="θ₂: fine")
    return figure


explorer(draw, log_beta=slider("log₁₀ β", 0.3, -1.0, 2.0, 0.1), lam=slider("λ", 1.0, 0.0, 4.0, 0.1))

# %% [markdown]
# **★★★ The largest β that still teaches · 30 min.** Call a pair saturated if σ(βm) is below `edge` or above 1 − `edge`: it is all push or none. `margins` is (N,). Return the largest β with which at most the share `share` of the pairs is saturated.
# A closed form exists; there is no need to search.


# %% tags=["exercise"]
def my_largest_beta(margins, edge, share):
    return ...


ch08.check("largest_beta", my_largest_beta)

# %%
ch08.hint("largest_beta")
ch08.solution("largest_beta")

# %% [markdown]
# ## Now the real model
#
# Load the transformer of chapter 07 and ask it about twenty pairs, the first crop of every test photo. For each pair it reads both sequences under teacher forcing: $z_{\text{HR}}$ with the inputs that follow from $z_{\text{HR}}$, and $z_{\text{LR}}$ with its own.
# Which of the two does it find likelier, and at which scales? Guess first: $z_{\text{LR}}$ is exactly what the prior of chapter 07 proposes.

# %%
from vartutor.data.pairs import Pairs, eval_pairs
from vartutor.data.presets import COURSE
from vartutor.train.preference import judge_preference
from vartutor.weights import load_start

start_model, tokenizer, asked = load_start("course")
start_model, tokenizer = start_model.to(session.device), tokenizer.to(session.device)
pairs = eval_pairs(COURSE, "test", session.profile.image_size, 1)
files = pairs.files
pairs = Pairs(pairs.lr.to(session.device), {s: x.to(session.device) for s, x in pairs.hr.items()})
before = judge_preference(start_model, start_model, tokenizer, pairs)

# %% tags=["nbval-ignore-output"]
from vartutor.metrics import bootstrap

print(f"it prefers the clean tokens in {before['accuracy'].mean():.0%} of {len(pairs.lr)} pairs")
print(f"hard cross entropy of the clean tokens: {bootstrap(before['ce'])} nats a token")
print(f"margin: {bootstrap(before['margin'])} nats a token")
for k, p in enumerate(start_model.config.patch_nums):
    print(f"map {k + 1} ({p} × {p}): margin {before[f'margin/{k}'].mean():+.2f}")

# %% [markdown]
# **★★ Log-likelihoods, map by map · 20 min.** `logits` is (B, L, V), `tokens` (B, L), and `squares` lists how many tokens each map has. Return (B, K): for every photo and map the mean log-likelihood of its tokens.


# %% tags=["exercise"]
def my_scale_logps(logits, tokens, squares):
    return ...


ch08.check("scale_logps", my_scale_logps)

# %%
ch08.hint("scale_logps")
ch08.solution("scale_logps")

# %% [markdown]
# **What you should see.** In nearly all pairs the model finds the *degraded* photo's tokens likelier than the clean ones, though it was never trained to say them. Why? Look how sure it is of *any* token, along each of the two sequences: the entropy of its own prediction.

# %% tags=["nbval-ignore-output"]
from vartutor.transformer.photo import force, pair_features

clean, degraded = pair_features(tokenizer, pairs.lr, pairs.hr[4])
squares = [p * p for p in start_model.config.patch_nums]
for name, features in (("clean", clean), ("degraded", degraded)):
    _, _, inputs, rests = force(tokenizer, features, degraded)
    with torch.no_grad():
        guess = start_model.body(start_model.condition(pairs.lr, degraded), inputs, rests).softmax(-1)
    own = [part.mean().item() for part in torch.special.entr(guess).sum(-1).split(squares, 1)]
    print(f"entropy along the {name:>8} tokens, map by map:", *(f"{x:.1f}" for x in own))

# %% [markdown]
# Along the degraded photo's tokens the model is surer at the fine maps, by half a nat at the last one. Its sums are smoother. After a smooth sum the model expects less detail, so fewer codes remain. The clean tokens say detail that nobody can know: each is one guess among many, and each of many is unlikely.
# So a negative margin is not yet a fault. But it is what the paper's loser is made for.
#
# Now a minute of fine-tuning: a copy of the model learns, the start stays frozen beside it. `PreferenceLoss` computes the loss of chapter 07 and the preference on the same batch.
# The control, λ = 0, takes the same steps on the same batches, for otherwise we would credit DPO with what more training does. The loop is that of chapter 07, but for the learning rate: over so few steps it stays as it is.

# %%
from vartutor.data.crops import RandomCrops
from vartutor.data.pairs import make_pairs
from vartutor.data.photos import load_pixels
from vartutor.train.loop import Moment
from vartutor.train.preference import Preference, PreferenceLoss
from vartutor.train.transformer import Objective, decay_groups

steps = max(2, session.profile.transformer.preference_steps // 30)
crops = RandomCrops(load_pixels("train"), session.profile.image_size, 4, seed=SEED)
batches = [make_pairs(crops.batch(), COURSE, session.generator) for _ in range(steps)]


def tune(preference, batches=batches):
    model = copy.deepcopy(start_model).requires_grad_(True).train()
    loss_of = PreferenceLoss(model, start_model, tokenizer, Objective(**asked), preference)
    optimizer = torch.optim.AdamW(decay_groups(model, 0.05), lr=2e-4, betas=(0.9, 0.95))
    torch.manual_seed(SEED)  # the same slips, too
    log = []
    for step, batch in enumerate(batches):
        seen = loss_of.features(batch.lr.to(session.device), batch.hr[4].to(session.device))
        loss, numbers = loss_of(seen, Moment(step, logged=False))  # the KL, logged, is one pass more
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.append({name: numbers[name].item() for name in ("margin", "dpo")})
    return model.eval().requires_grad_(False), log


# %% [markdown]
# The two habits of chapter 07 first. What should the preference term be at step 0? With no preference it is $\ln 2$. From the margins above we expect a little more. And one photo, learnt by heart: there the margin must change its sign.

# %%
one = Pairs(batches[0].lr[:1], {4: batches[0].hr[4][:1]})
_, heart = tune(Preference(beta=2.0), [one] * steps)
print(f"one photo: margin {heart[0]['margin']:+.2f} at first, {heart[-1]['margin']:+.2f} after {steps - 1} steps")

# %% [markdown]
# Then three ways: the control, the paper's β †, and one that should be too large. *KL* says how far the model has moved from the start, per token.

# %%
ways = {"CE only": Preference(lam=0.0), "CE + DPO, β = 0.2": Preference(), "β = 50": Preference(beta=50.0)}
tuned = {name: tune(preference) for name, preference in ways.items()}
after = {name: judge_preference(model, start_model, tokenizer, pairs) for name, (model, _) in tuned.items()}
expected = -F.logsigmoid(0.2 * before["margin"]).mean().item()
seen = tuned["CE + DPO, β = 0.2"][1][0]["dpo"]
print(f"the preference term at step 0: expected from the test margins {expected:.2f}, seen {seen:.2f}")

# %% tags=["nbval-ignore-output"]
for name, numbers in {"start": before, **after}.items():
    ce_now, margin, moved = (numbers[key].mean().item() for key in ("ce", "margin", "drift"))
    prefers = numbers["accuracy"].mean().item()
    print(f"{name:<18} hard CE {ce_now:.2f}, margin {margin:+.2f}, prefers clean {prefers:.0%}, KL {moved:.3f}")
if PROFILE == "cpu":
    assert after["CE + DPO, β = 0.2"]["margin"].mean() > after["CE only"]["margin"].mean() + 0.2

# %% tags=["hide-input"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.6))
for (name, (_, log)), color in zip(tuned.items(), (COLORS["bicubic"], COLORS["model"], COLORS["lr"]), strict=True):
    axes[0].plot(range(1, steps + 1), [step["margin"] for step in log], color=color, label=name)
    by_scale = [after[name][f"margin/{k}"].mean().item() for k in range(len(start_model.config.patch_nums))]
    axes[1].plot(range(1, len(by_scale) + 1), by_scale, "o-", color=color)
axes[0].set(xlabel="step", ylabel="margin, batch (nats)")
axes[1].set(xlabel="map", ylabel="margin, test pairs (nats)")
axes[0].legend(fontsize=8)
show(
    figure,
    "The margin per token while it trains, and afterwards map by map.",
    "Left, the margin of each batch over the steps for three fine-tunings of the same model. All jump alike from batch to "
    "batch; from the third step on the control lies lowest, the small beta above it, and the large beta highest. Right, the "
    "mean margin on the test pairs map by map: alike at the first maps, far apart at the last three, in the same order.",
)

# %% [markdown]
# These few steps already move the preference far; with the large β they turn it round.
#
# A warning about words. "CE" in the name of a run is what is *trained*: the soft loss of chapter 07, weighted by maps, after slips. The *hard* CE in the table is that of the clean tokens, every token alike, no slips. They are two things. The control trains on the first; the second does not fall for that, and in the study below it even rises a little.
#
# And the photos? Three of the twenty crops, the first, third and fifth by detail (mean step from pixel to pixel). Each is drawn once by the start, the control, the tuned model, and the one whose β is too large.

# %% tags=["hide-input"]
from vartutor.transformer.photo import restore_latents

models = {"start": start_model, **{name: model for name, (model, _) in tuned.items()}}
detail = pairs.hr[4].diff(dim=-1).abs().mean((1, 2, 3)) + pairs.hr[4].diff(dim=-2).abs().mean((1, 2, 3))
chosen = detail.argsort(descending=True)[:5:2]
print("by detail:", ", ".join(files[i] for i in chosen))
columns = [pairs.hr[4][chosen].cpu()]
for model in models.values():
    draws = torch.Generator(session.device).manual_seed(SEED)
    f_hats = restore_latents(model, tokenizer, pairs.lr[chosen], generator=draws)
    columns.append(tokenizer.decode(f_hats[4]).cpu())
figure = image_grid(
    [list(row) for row in zip(*columns, strict=True)], ["clean", "start", "CE only", "β = 0.2", "β = 50"]
)
show(
    figure,
    "Three test crops at ×4: the clean photo, and four models, one draw each.",
    "Three rows of five crops: the clean photo, then the same crop drawn by the start, by the control, by the model "
    "tuned with a beta of one fifth, and by the one with a very large beta.",
    photo=True,
)

# %% [markdown]
# **What you should see.** Three crops full of texture, and no model draws the right one. All three fine-tuned models draw rougher than the start, the control included. The large β gives the hardest specks, and is no nearer to the clean photo.
#
# ## Does it help? A study
#
# A minute and one seed prove nothing. So here are nine runs, all from the same start, with the same steps and, seed by seed, the same batches: `vartutor study --of preference --steps 60`. Each has three seeds (`--seeds 0 1 2`).
# They differ in one thing each: the control (*ce*), means, sums with a small β, a reference, a sweep over β, and the paper's β if its log-likelihoods should be sums.
#
# First, what the models think of held-out pairs. These are sixty, three crops of every test photo, so the start's numbers differ from those of the twenty above.

# %%
from vartutor.evaluate.table import compare, study_rows
from vartutor.tables import load_study

study = load_study("preference")
runs = ("start", "ce", "mean", "sum", "reference", "beta 0.02", "beta 2", "beta 20", "sum 0.2")


def mean_of(run, measure):  # over photos and seeds
    values = [value for seed in study[run, measure].values() for value in seed.values()]
    return sum(values) / len(values)


for run in runs:
    ce_now, margin, moved = (mean_of(run, name) for name in ("ce", "margin", "drift"))
    prefers = mean_of(run, "accuracy")
    print(f"{run:<10} prefers clean {prefers:4.0%}, margin {margin:+.2f}, hard CE {ce_now:.2f}, KL {moved:.3f}")

# %% [markdown]
# Second, what they restore. Every run is compared with the control on the same photos, with intervals over photos: PSNR in luma, first for draws, then for mean codes.

# %%
versus = {
    way: {(d.restorer, d.scale, d.measure): d.interval for d in compare(study_rows(study, way), "ce")}
    for way in ("sampled", "expected")
}
for way, gaps in versus.items():
    for run in runs:
        if run != "ce":
            print(f"{way:>8}, {run:<10}", *(f"×{s} {gaps[run, s, 'psnr_y']} dB " for s in "124"))

# %%
for way, gaps in versus.items():
    for name in ("mean", "beta 2", "sum 0.2"):
        for measure in ("ssim", "perceptual", "sharpness", "noise"):
            print(f"{way:>8}, {name:<7} {measure:<10}", *(f"×{s} {gaps[name, s, measure]} " for s in "124"))

# %% tags=["hide-input"]
marks, shown = {"1": "o", "2": "s", "4": "^"}, [run for run in runs if run != "ce"]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.4), sharey=True)
panels = {"psnr_y": "PSNR (luma), dB (right: better)", "perceptual": "perceptual (left: better)"}
for ax, (measure, title) in zip(axes, panels.items(), strict=True):
    for i, run in enumerate(shown):
        for j, (s, mark) in enumerate(marks.items()):
            gap = versus["sampled"][run, s, measure]
            reach = [[gap.mean - gap.low], [gap.high - gap.mean]]
            label = f"×{s}" if i == 0 else None
            ax.errorbar(gap.mean, i + 0.2 * (j - 1), xerr=reach, fmt=mark, color=COLORS["model"], label=label)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlabel=title, yticks=range(len(shown)), yticklabels=shown)
axes[0].invert_yaxis()
axes[1].legend(fontsize=8)
show(
    figure,
    "Draws of the fine-tuned models against the control's (the line at 0), with intervals over the test photos.",
    "Two panels with three marks per run. Left, at times four the runs with a preference lie left of the line, at times "
    "one on it; right, at times four they lie right of it. The start lies on the line in both, the smallest beta near it.",
)

# %% [markdown]
# **What you should see.** The preference does to the margin what it promises. From a minority of the pairs, the clean tokens come to lead in nearly all of them. Only the smallest β does not get there in so few steps. Sums, means and the reference differ little: the reference moves the model least.
#
# The price stands beside it: the hard cross entropy of the clean tokens *rises*. The model has not learned what to say, it has learned what not to say.
#
# In the photos that shows as *sharpness* and *noise*. Draws at ×4 are sharper and noisier than the control's, and by PSNR and the perceptual distance farther from the truth. At ×1 PSNR and the perceptual distance do not change, but sharpness and noise rise there, too, a little. In mean codes all PSNR differences are about a tenth of a decibel or less.
#
# The paper reports that DPO lowers LPIPS (RealSR: from 0.310 to 0.256) and raises PSNR at the small sizes by more than a decibel †. At our size *neither shows*. Why might that be? Our start is a small model whose draws are already bolder than it can afford; a push away from the photo makes them bolder, and noisier in flat regions. And its prior does the copying outside the weights that learn.
#
# Would DPO help a model without a prior, as the paper's is? We cannot say. For that one needs a start without prior that already restores photos. The *no prior* run of chapter 07's study restores nothing, and a preference cannot change that. With such a start it is one command: `vartutor study start ce mean --of preference --start RUN`.
#
# So our verdict is about this size and these steps. The margin rose as designed; in this model the photos did not improve. Run *mean*, seed 0, is shipped, so that you can look yourself: `vartutor upscale photo.jpg --out restored --model dpo`. The default of `upscale` stays the model of chapter 07.

# %% [markdown]
# ## Questions
#
# 1. A pair has the same tokens on both sides. What does the preference term cost, and what does it teach?
#
# <details><summary>Answer</summary>
#
# It costs $\ln 2$ whatever the model says, and its gradient is zero. It teaches nothing.
#
# </details>
#
# 2. The margin may grow although both log-likelihoods fall. How?
#
# <details><summary>Answer</summary>
#
# The loser's falls faster. Only the difference is in the loss. The cross entropy beside it is what holds the winner up.
#
# </details>
#
# 3. Why does a control with the same steps matter more here than the start?
#
# <details><summary>Answer</summary>
#
# Fine-tuning changes a model even without a preference. Against the start one would credit DPO with that change, too.
#
# </details>
#
# 4. Double β and halve λ. What stays the same?
#
# <details><summary>Answer</summary>
#
# The push on a pair whose loser leads far: λβσ(−βm) is about λβ there. What changes is where it ends: with twice the β it fades at half the margin.
#
# </details>
#
# 5. All sequences here have 437 tokens. Would mean against sum matter if photos of different sizes were mixed?
#
# <details><summary>Answer</summary>
#
# Yes. With sums a large photo has larger margins, so a larger push or an earlier end of it. With means every photo counts alike.
#
# </details>
#
# ## An open experiment
#
# Choose another loser. The degraded photo's tokens are one idea; a draw of the model itself is another, or the tokens of the CNN's picture. Fine-tune with each, and with the control.
#
# A good answer
#
# - says beforehand in which measure it expects a gain, and why;
# - keeps steps, batches and seeds equal, and has a control with λ = 0;
# - shows the margin before and after for *both* kinds of loser;
# - compares restored test photos with paired intervals, drawn and as means;
# - tells a model that changed from a model that improved.
#
# ## In five lines
#
# 1. A model is a reward up to a constant; in a difference the constant goes, and Bradley–Terry becomes a loss on two likelihoods.
# 2. The winner is the clean photo's sequence, the loser the degraded photo's own. Where both agree, the toy learns nothing from the preference.
# 3. DPO has no minimum of its own: added to cross entropy it makes the model correct more than the data say.
# 4. All photos have equally many tokens, so a sum is a mean with a larger β; a large β is a switch, and breaks the model.
# 5. A reference stops the push once the margin has grown; judge all of it against a control with the same steps.
#
# ## The course and the paper
#
# | | this course | H-VAR (the paper) |
# |---|---|---|
# | loser | tokens of the LR photo, enlarged with bicubic | the same, enlarged bilinearly † |
# | $\log \pi$ | mean per token; the sum is an option | sum or mean: not known |
# | reference | none; a frozen start is an option | none † |
# | β and λ | a fifth and one by default; a sweep above | a fifth and one † |
# | when | fine-tuning of a trained model, with a control | from the start of training † |
# | prior of the LR photo | on: the loser is what it proposes | none that we know of |
#
# † at second hand; the page *Paper versus course* of the book says from where.
#
# ## References
#
# - R. A. Bradley and M. E. Terry, [Rank Analysis of Incomplete Block Designs](https://doi.org/10.2307/2334029), 1952: strengths from games.
# - R. Rafailov et al., [Direct Preference Optimization](https://arxiv.org/abs/2305.18290), 2023: steps 3 and 4.
# - Y. Meng et al., [SimPO](https://arxiv.org/abs/2405.14734), 2024: means per token, and no reference.
# - A. Sánchez et al., [Multi-scale Image Super Resolution with a Single Auto-Regressive Model](https://arxiv.org/abs/2506.04990), 2025: the degraded photo's tokens as the loser; its second version is [H-VAR](https://arxiv.org/abs/2605.14891).
#
# **Next:** chapter 09 puts every claim of the paper to the test.
