"""Exercises of chapter 08."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet

sheet = Sheet("ch08")
check, use, hint, solution = sheet.check, sheet.use, sheet.hint, sheet.solution


def dpo_loss(logp_hr, logp_lr, beta):
    return -F.logsigmoid(beta * (logp_hr - logp_lr))


def _say_far(got, right, *case):
    if right.max() > 99:
        return f"Where the loser leads by 497 the loss is 497, not {got[0]:.4g}: is something clamped?"


@sheet.exercise(1, 10, dpo_loss, explain=_say_far)
def _dpo_loss():
    """How does one loss go with one margin? And what does σ become in floating point where the margin is -500?

    The margin is a difference of logarithms. Multiply by β, then F.logsigmoid, then a minus.
    """
    far = torch.tensor([-500.0, -2.0]), torch.tensor([-3.0, -300.0]), 1.0
    cases = [
        (torch.tensor([-3.0, -5.5]), torch.tensor([-4.0, -2.5]), 0.4),
        (-9 * torch.rand(7), -9 * torch.rand(7), 0.7),
        far,
    ]
    mistakes = {
        "winner and loser are exchanged: your loss falls when the degraded photo's tokens become likelier.": (
            lambda hr, lr, b: dpo_loss(lr, hr, b)
        ),
        "that is the chance of a win; the loss is minus its logarithm.": lambda hr, lr, b: (b * (hr - lr)).sigmoid(),
        "the sign is wrong; the logarithm of a chance is negative, and a loss is not.": lambda *a: -dpo_loss(*a),
        "β stands outside σ; it belongs inside, before the difference.": lambda hr, lr, b: b * dpo_loss(hr, lr, 1),
        "β is missing.": lambda hr, lr, b: dpo_loss(hr, lr, 1),
        "you divide the log-likelihoods; take their difference.": lambda hr, lr, b: -F.logsigmoid(b * hr / lr),
        "you take exp first; these are logarithms already, so subtract them as they are.": (
            lambda hr, lr, b: dpo_loss(hr.exp(), lr.exp(), b)
        ),
        "those are the losses' mean; return one number per pair, (B,).": lambda *a: dpo_loss(*a).mean(),
        "σ rounds to 0 where the loser leads far, and log 0 is infinite; use F.logsigmoid, or softplus.": (
            lambda hr, lr, b: -(b * (hr - lr)).sigmoid().log()
        ),
        "a small number is added under the logarithm, which cuts the loss where the loser leads; use F.logsigmoid.": (
            lambda hr, lr, b: -((b * (hr - lr)).sigmoid() + 1e-8).log()
        ),
        "that is a hinge; the loss of a pair is -log σ(β m).": lambda hr, lr, b: (-b * (hr - lr)).clamp(min=0),
    }
    return cases, mistakes


def scale_logps(logits, tokens, squares):
    logp = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]  # (B, L)
    return torch.stack([part.mean(1) for part in logp.split(squares, dim=1)], 1)


def _by_map(logits, tokens, squares, of=lambda x: x.log_softmax(-1), how=torch.mean, after=lambda x: x):
    picked = of(logits).gather(-1, tokens[..., None])[..., 0]
    return after(torch.stack([how(part, 1) for part in picked.split(squares, dim=1)], 1))


@sheet.exercise(2, 20, scale_logps)
def _scale_logps():
    """First one number for every token: the log-probability of the code that is there. Then group them by map.

    log_softmax over the codes; gather the token that is there; split along the sequence; a mean of each.
    """
    sizes = ((1, 3, [1, 2]), (2, 6, [1, 4, 9]), (3, 5, [4, 9]))
    cases = [(2 * torch.randn(b, sum(n), v), torch.randint(v, (b, sum(n))), n) for b, v, n in sizes]
    mistakes = {
        "those are sums; divide by the tokens of each map.": partial(_by_map, how=torch.sum),
        "those are logits; they need a log-softmax over the codes first.": partial(_by_map, of=lambda x: x),
        "the softmax runs over the tokens; it belongs over the codes.": partial(_by_map, of=lambda x: x.log_softmax(1)),
        "that is the logarithm of a mean; take logarithms first and means after.": (
            partial(_by_map, of=lambda x: x.softmax(-1), after=torch.log)
        ),
        "those are probabilities, not their logarithms.": partial(_by_map, of=lambda x: x.softmax(-1)),
        "logits are shifted against tokens; in a next-scale model, row i already predicts token i.": (
            partial(_by_map, of=lambda x: x.roll(1, 1).log_softmax(-1))
        ),
        "that is a cross entropy; a log-likelihood is minus that.": partial(_by_map, after=torch.neg),
        "that is for the likeliest tokens; gather those in `tokens`.": lambda x, z, n: scale_logps(x, x.argmax(-1), n),
        "that is one number per token; take means over the tokens of each map.": (
            lambda x, z, n: x.log_softmax(-1).gather(-1, z[..., None])[..., 0]
        ),
        "that is one number for all maps; return one per map.": lambda x, z, n: scale_logps(x, z, [sum(n)])[:, 0],
        "photos are averaged; return a row for each.": partial(_by_map, after=lambda x: x.mean(0)),
        "maps stand in rows; return one row per photo, (B, K).": partial(_by_map, after=torch.t),
    }
    return cases, mistakes


def largest_beta(margins, edge, share):
    reach = math.log((1 - edge) / edge)  # |β m| at which σ(β m) is edge or 1 - edge
    allowed = math.ceil((1 - share) * len(margins) - 1e-9)  # pairs that must not be saturated
    return reach / margins.abs().sort().values[allowed - 1].item()


def _beta(m, edge, share, count=math.ceil, size=torch.abs, reach=lambda edge: math.log((1 - edge) / edge)):
    return reach(edge) / size(m).sort().values[max(1, count((1 - share) * len(m))) - 1].item()


def _say_saturated(got, right, margins, edge, share):
    chance = torch.sigmoid(float(got) * margins.double())
    part = ((chance < edge) | (chance > 1 - edge)).double().mean()
    limit = "more than" if part > share else "but a larger β keeps within"
    return f"Yours saturates {part:.0%} of the pairs, {limit} the {share:.0%} that may be."


@sheet.exercise(3, 30, largest_beta, explain=_say_saturated)
def _largest_beta():
    """Turn the condition round: for one pair, which β saturates it? Then think of all pairs, sorted.

    σ(βm) reaches the edge where |βm| = log((1 - edge) / edge). Sort the sizes of the margins: up to which of them
    must β keep below that?
    """
    settings = ((5, 0.1, 0.3), (37, 0.05, 0.25), (37, 0.1, 0.5), (24, 0.02, 0.25), (41, 0.2, 0.65))
    cases = [(30 * torch.randn(n) - 15, edge, share) for n, edge, share in settings]
    mistakes = {
        "that β saturates none of the pairs; a share of them may be.": lambda m, e, s: largest_beta(m, e, 0),
        "that leaves only `share` of the pairs unsaturated; the share that *may* saturate is the other part.": (
            lambda m, e, s: _beta(m, e, 1 - s)
        ),
        "that looks at the mean margin; a share of the pairs asks for a quantile.": (
            lambda m, e, s: math.log((1 - e) / e) / m.abs().mean().item()
        ),
        "σ(x) = edge at x = log(edge / (1 - edge)), not at log(edge).": partial(_beta, reach=lambda e: -math.log(e)),
        "not only large positive margins count; very negative ones saturate too.": partial(_beta, size=lambda m: m),
        "that is 1 over the margin; σ reaches the edge at log((1 - edge) / edge).": partial(_beta, reach=lambda e: 1),
        "you rounded the number of pairs down; then one pair too many is saturated.": partial(_beta, count=math.floor),
        "you rounded the number of pairs; where that is down, one too many is saturated.": partial(_beta, count=round),
        "you count one pair too many; β can be larger.": partial(_beta, count=lambda n: math.ceil(n) + 1),
        "the edges are exchanged, so β is negative; σ saturates where |βm| is large.": lambda *a: -largest_beta(*a),
    }
    return cases, mistakes
