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


def by_count(margins, edge, share, whole):
    count = max(1, whole((1 - share) * len(margins)))
    return reach(edge) / margins.abs().sort().values[count - 1].item()


WRONG = [
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (lr - hr)), "winner and loser are exchanged"),
    ("dpo_loss", lambda hr, lr, beta: torch.sigmoid(beta * (hr - lr)), "chance of a win"),
    ("dpo_loss", lambda hr, lr, beta: F.logsigmoid(beta * (hr - lr)), "sign is wrong"),
    ("dpo_loss", lambda hr, lr, beta: -beta * F.logsigmoid(hr - lr), "it belongs inside"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * hr / lr), "take their difference"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (hr.exp() - lr.exp())), "logarithms already"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid(beta * (hr - lr)).mean(), "one number per pair"),
    ("dpo_loss", lambda hr, lr, beta: -torch.sigmoid(beta * (hr - lr)).log(), "log 0 is infinite"),
    ("scale_logps", lambda x, z, n: by_scale(x.log_softmax(-1), z, n, torch.sum), "those are sums"),
    ("scale_logps", lambda x, z, n: by_scale(x, z, n), "those are logits"),
    ("scale_logps", lambda x, z, n: by_scale(x.log_softmax(1), z, n), "runs over the tokens"),
    ("scale_logps", lambda x, z, n: by_scale(x.softmax(-1), z, n).log(), "logarithms first"),
    ("scale_logps", lambda x, z, n: by_scale(x.softmax(-1), z, n), "probabilities, not"),
    ("scale_logps", lambda x, z, n: by_scale(x.roll(1, 1).log_softmax(-1), z, n), "shifted against"),
    ("scale_logps", lambda x, z, n: -scale_logps(x, z, n), "minus that"),
    ("scale_logps", lambda x, z, n: scale_logps(x, z, n).mean(1), "shape (1, 2), and is"),
    ("scale_logps", lambda x, z, n: scale_logps(x, z, n).mean(0), "a row for each"),
    ("largest_beta", lambda m, edge, share: reach(edge) / m.abs().max().item(), "saturates none"),
    (
        "largest_beta",
        lambda m, edge, share: reach(edge) / m.abs().sort().values[max(1, math.ceil(share * len(m))) - 1].item(),
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
        "very negative ones",
    ),
    ("largest_beta", lambda m, edge, share: 1.0, "that may be"),
    ("largest_beta", lambda m, edge, share: 1e-6, "a larger β"),
    ("dpo_loss", lambda hr, lr, beta: -((beta * (hr - lr)).sigmoid() + 1e-8).log(), "cuts the loss"),
    ("dpo_loss", lambda hr, lr, beta: -F.logsigmoid((beta * (hr - lr)).clamp(-50, 50)), "is something clamped"),
    ("largest_beta", lambda m, edge, share: by_count(m, edge, share, math.floor), "rounded the number of pairs down"),
    ("largest_beta", lambda m, edge, share: by_count(m, edge, share, round), "where that is down"),
]
