"""Exercises of chapter 08."""

import math

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch08")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def dpo_loss(logp_hr, logp_lr, beta):
    return -F.logsigmoid(beta * (logp_hr - logp_lr))


@sheet.exercise(1, dpo_loss)
def _test_dpo_loss(answer) -> None:
    """The margin is a difference of logarithms. Multiply by β, then F.logsigmoid, then a minus."""
    hr, lr = torch.tensor([-3.0, -2.0, -5.0]), torch.tensor([-4.0, -2.0, -2.5])
    got, right = answer(hr, lr, 0.4), dpo_loss(hr, lr, 0.4)
    shape = getattr(got, "shape", None)
    require(shape != (), "one number per pair, please: (B,), not their mean")
    require(shape == right.shape, "return a tensor (B,): the loss of every pair")
    gap = hr - lr
    mistakes = {
        "that falls when the degraded photo's tokens become likelier: winner and loser are exchanged": -F.logsigmoid(
            -0.4 * gap
        ),
        "that is the chance of a win; the loss is minus its logarithm": torch.sigmoid(0.4 * gap),
        "the sign is wrong: a logarithm of a chance is negative, a loss is not": F.logsigmoid(0.4 * gap),
        "β belongs inside σ, before the difference": -0.4 * F.logsigmoid(gap),
        "take the difference of the log-likelihoods, not their quotient": -F.logsigmoid(0.4 * hr / lr),
        "these are logarithms already: subtract them as they are": -F.logsigmoid(0.4 * (hr.exp() - lr.exp())),
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.allclose(got, wrong, atol=1e-5), diagnosis)
    require(torch.allclose(got, right, atol=1e-5), f"expected {right.tolist()}, got {got.tolist()}")
    far = answer(torch.tensor([-500.0]), torch.tensor([0.0]), 1.0)
    require(
        bool(far.isfinite().all()),
        "at a margin of -500 your loss is not finite: σ rounds to 0 there; use F.logsigmoid, or softplus",
    )


def scale_logps(logits, tokens, squares):
    logp = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]  # (B, L)
    return torch.stack([part.mean(1) for part in logp.split(squares, dim=1)], 1)


@sheet.exercise(2, scale_logps)
def _test_scale_logps(answer) -> None:
    """log_softmax over the codes; gather the token that is there; split along the sequence; a mean of each."""
    generator = torch.Generator().manual_seed(0)
    squares = [1, 4, 9]
    logits, tokens = torch.randn(2, 14, 6, generator=generator) * 2, torch.randint(6, (2, 14), generator=generator)
    got, right = answer(logits, tokens, squares), scale_logps(logits, tokens, squares)
    shape = tuple(getattr(got, "shape", ()))
    require(shape != (2, 14), "that is one number per token; take means over the tokens of each map")
    require(shape != (2,), "one number per map, not one for the whole sequence")
    require(shape != (3,), "a row per photo: do not average over the batch")
    require(shape == (2, 3), f"expected shape (2, 3): photos, maps; got {shape}")

    def reduce(values, how=torch.mean):
        parts = values.split(squares, dim=1)
        return torch.stack([how(part, 1) for part in parts], 1)

    def pick(values):
        return values.gather(-1, tokens[..., None])[..., 0]

    shifted = logits.roll(1, 1).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    mistakes = {
        "those are sums; divide by the tokens of each map": reduce(pick(logits.log_softmax(-1)), torch.sum),
        "those are logits: they need a log-softmax over the codes first": reduce(pick(logits)),
        "the softmax runs over the tokens; it belongs over the codes, the last dimension": reduce(
            pick(logits.log_softmax(1))
        ),
        "take logarithms first and means after: the log of a mean is something else": reduce(
            pick(logits.softmax(-1))
        ).log(),
        "those are probabilities, not their logarithms": reduce(pick(logits.softmax(-1))),
        "logits are shifted against tokens; in a next-scale model, row i already predicts token i": reduce(shifted),
        "that is a cross entropy; a log-likelihood is minus that": -right,
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.allclose(got, wrong, atol=1e-5), diagnosis)
    require(torch.allclose(got, right, atol=1e-5), "right shape, wrong values: compare one token by hand")


def largest_beta(margins, edge, share):
    reach = math.log((1 - edge) / edge)  # |β m| at which σ(β m) is edge or 1 - edge
    allowed = math.ceil((1 - share) * len(margins) - 1e-9)  # pairs that must not be saturated
    return reach / margins.abs().sort().values[allowed - 1].item()


@sheet.exercise(3, largest_beta)
def _test_largest_beta(answer) -> None:
    """σ(βm) reaches the edge where |βm| = log((1 - edge) / edge). Sort the sizes of the margins: up to which of them
    must β keep below that?"""
    generator = torch.Generator().manual_seed(5)
    margins = torch.randn(40, generator=generator) * 30 - 45
    for edge, share in ((0.05, 0.25), (0.1, 0.5), (0.02, 0.0)):
        got, right = answer(margins, edge, share), largest_beta(margins, edge, share)
        got = float(got) if isinstance(got, (int, float, torch.Tensor)) else math.nan
        require(not math.isnan(got), "return one number, β")
        require(got > 0, "β is positive: σ saturates at both ends, so only the size of a margin counts")
        reach, sizes = math.log((1 - edge) / edge), margins.abs().sort().values
        count = math.ceil((1 - share) * len(margins) - 1e-9)
        mistakes = {
            "that β saturates none of the pairs; a share of them may be": reach / sizes[-1].item(),
            "that leaves only `share` of the pairs unsaturated: the share that *may* saturate is the other part": reach
            / sizes[max(1, len(margins) - count) - 1].item(),
            "that looks at the mean margin; a share of the pairs asks for a quantile": reach
            / margins.abs().mean().item(),
            "σ(x) = edge at x = log(edge / (1 - edge)), not at log(edge)": -math.log(edge) / sizes[count - 1].item(),
            "the largest positive margins do not count alone: very negative ones saturate too": reach
            / margins.sort().values[count - 1].abs().item(),
        }
        for diagnosis, wrong in mistakes.items():
            different = abs(wrong - right) > 1e-4 * right
            require(not different or abs(got - wrong) > 1e-4 * wrong, diagnosis)

        def saturated(beta, edge=edge):
            chance = torch.sigmoid(beta * margins.double())
            return ((chance < edge) | (chance > 1 - edge)).double().mean().item()

        require(
            saturated(got * 0.9999) <= share + 1e-9,
            f"with edge {edge}, β = {got:.3g} saturates {saturated(got):.0%} of the pairs, and {share:.0%} are allowed",
        )
        require(got > 0.999 * right, f"with edge {edge}, a larger β than {got:.3g} keeps within {share:.0%} too")
