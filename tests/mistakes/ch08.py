"""Typical wrong answers of chapter 08: (exercise, answer, part of the diagnosis)."""

import math

import torch
import torch.nn.functional as F

from vartutor.exercises.ch08 import scale_logps


def by_scale(values, tokens, squares, how=torch.mean):
    picked = values.gather(-1, tokens[..., None])[..., 0]
    return torch.stack([how(part, 1) for part in picked.split(squares, dim=1)], 1)


def reach(edge):
    return math.log((1 - edge) / edge)


WRONG = [
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (lr - hr)), "winner and loser are exchanged"),
    ("dpo_loss", lambda hr, lr, beta: torch.sigmoid(beta * (hr - lr)), "chance of a win"),
    ("dpo_loss", lambda hr, lr, beta: F.logsigmoid(beta * (hr - lr)), "sign is wrong"),
    ("dpo_loss", lambda hr, lr, beta: -beta * F.logsigmoid(hr - lr), "β belongs inside"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * hr / lr), "not their quotient"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (hr.exp() - lr.exp())), "logarithms already"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (hr - lr)).mean(), "not their mean"),
    ("dpo_loss", lambda hr, lr, beta: -torch.sigmoid(beta * (hr - lr)).log(), "not finite"),
    ("scale_logps", lambda x, z, n: by_scale(x.log_softmax(-1), z, n, torch.sum), "those are sums"),
    ("scale_logps", lambda x, z, n: by_scale(x, z, n), "those are logits"),
    ("scale_logps", lambda x, z, n: by_scale(x.log_softmax(1), z, n), "runs over the tokens"),
    ("scale_logps", lambda x, z, n: by_scale(x.softmax(-1), z, n).log(), "logarithms first"),
    ("scale_logps", lambda x, z, n: by_scale(x.softmax(-1), z, n), "probabilities, not"),
    ("scale_logps", lambda x, z, n: by_scale(x.roll(1, 1).log_softmax(-1), z, n), "shifted against"),
    ("scale_logps", lambda x, z, n: -scale_logps(x, z, n), "minus that"),
    ("scale_logps", lambda x, z, n: scale_logps(x, z, n).mean(1), "one number per map"),
    ("scale_logps", lambda x, z, n: scale_logps(x, z, n).mean(0), "a row per photo"),
    ("largest_beta", lambda m, edge, share: reach(edge) / m.abs().max().item(), "saturates none"),
    (
        "largest_beta",
        lambda m, edge, share: reach(edge) / m.abs().sort().values[max(1, round(share * len(m))) - 1].item(),
        "the other part",
    ),
    ("largest_beta", lambda m, edge, share: reach(edge) / m.abs().mean().item(), "asks for a quantile"),
    (
        "largest_beta",
        lambda m, edge, share: -math.log(edge) / m.abs().sort().values[math.ceil((1 - share) * len(m)) - 1].item(),
        "not at log(edge)",
    ),
    (
        "largest_beta",
        lambda m, edge, share: reach(edge) / m.sort().values[math.ceil((1 - share) * len(m)) - 1].item(),
        "β is positive",
    ),
    ("largest_beta", lambda m, edge, share: 1.0, "are allowed"),
    ("largest_beta", lambda m, edge, share: 1e-6, "a larger β"),
]
