"""Exercises of chapter 12."""

import torch

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch12")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def steps(photos, batch, epochs):
    return round(photos * epochs / batch)


@sheet.exercise(1, steps)
def _test_steps(answer) -> None:
    """All images that are seen, by the images of a step. Round at the end, not before."""
    for photos, batch, epochs in ((1000, 10, 3), (25_274, 384, 200), (100, 300, 6), (50, 16, 7)):
        got, right = answer(photos, batch, epochs), steps(photos, batch, epochs)
        call = f"steps({photos}, {batch}, {epochs})"
        require(isinstance(got, int) and not isinstance(got, bool), f"{call}: return a whole number")
        require(got != photos * epochs, f"{call}: that counts images; a step takes {batch} of them")
        require(
            got == right or got != (photos // batch) * epochs,
            f"{call}: the last part of an epoch is no reason to stop: the stream goes on, so divide at the end",
        )
        require(got == right, f"{call} gave {got}, expected {right}")


def middle(height, width):
    top, left = (height - 128) // 2, (width - 128) // 2
    return (top, left), (4 * top, 4 * left)


@sheet.exercise(2, middle)
def _test_middle(answer) -> None:
    """Find the corner in the degraded photo first; half of what is left over, rounded down. The other corner is four
    times that one."""
    for height, width in ((228, 328), (128, 128), (229, 130), (131, 401)):
        got, right = answer(height, width), middle(height, width)
        where = f"a degraded photo of {height} × {width}"
        require(
            isinstance(got, (tuple, list))
            and len(got) == 2
            and all(isinstance(c, (tuple, list)) and len(c) == 2 for c in got),
            "return two corners: (top, left) in the degraded photo, (top, left) in the clean one",
        )
        low, high = (tuple(corner) for corner in got)
        require(low != right[0][::-1] or right[0][0] == right[0][1], f"{where}: top comes before left")
        require(low != (height // 2, width // 2), f"{where}: that is the middle itself, not the corner of a crop there")
        require(all(isinstance(x, int) for x in (*low, *high)), f"{where}: corners are whole numbers")
        require(low == right[0], f"{where}: the small crop begins at {low}, expected {right[0]}")
        alone = ((4 * height - 512) // 2, (4 * width - 512) // 2)
        require(
            high == right[1] or high != alone,
            f"{where}: the middle of the clean photo is {alone}, up to two pixels from 4 times {low}: they must agree",
        )
        require(high == right[1], f"{where}: the large crop begins at {high}, expected {right[1]}")


def pull(margins, beta, total):
    photos, tokens = margins.shape
    weight = 1 if total else 1 / tokens
    M = margins.sum(1, keepdim=True) * weight
    return (-beta * torch.sigmoid(-beta * M) * weight / photos).expand_as(margins)


@sheet.exercise(3, pull)
def _test_pull(answer) -> None:
    """The derivative of -log σ(x) is -σ(-x). By the chain rule: times β, times what one token adds to M, by the number
    of photos. All tokens of a photo feel the same pull."""
    margins = torch.linspace(-1, 1.5, 12, dtype=torch.float64).view(3, 4).requires_grad_(True)
    for total in (False, True):
        M = margins.sum(1) if total else margins.mean(1)
        loss = -torch.nn.functional.logsigmoid(0.7 * M).mean()
        (right,) = torch.autograd.grad(loss, margins)
        got = answer(margins.detach(), 0.7, total)
        how = "sum" if total else "mean"
        require(tuple(getattr(got, "shape", ())) == (3, 4), f"{how}: return (B, L), one number per token")
        close = lambda a, b: torch.allclose(a.double(), b, rtol=1e-4)  # noqa: E731
        require(not close(got, -right), f"{how}: the sign: a larger margin lowers the loss")
        require(not close(got, 3 * right), f"{how}: the loss is a mean over photos: divide by their number")
        require(not close(got, right / 0.7), f"{how}: β is missing: it stands outside the logistic function too")
        require(not close(got, 4 * right) or total, "mean: each token has a share of 1 / L")
        wrong = -0.7 * torch.sigmoid(0.7 * M.detach())[:, None] / 3 * (1 if total else 0.25)
        require(not close(got, wrong.expand(3, 4)), f"{how}: 1 - σ(x) is σ(-x): the pull fades as the margin grows")
        require(close(got, right), f"{how}: the gradient differs from autograd's")
