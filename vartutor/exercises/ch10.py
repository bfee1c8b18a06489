"""Exercises of chapter 10."""

import torch

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch10")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def block_flops(tokens, width):
    matrices = 2 * tokens * 12 * width**2  # qkv 3, projection 1, feed-forward 4 + 4
    scores = 4 * tokens**2 * width
    return matrices + scores


@sheet.exercise(1, block_flops)
def _test_block_flops(answer) -> None:
    """Count the weights of the four matrices in units of D². Each is used once per token, at two operations. Then
    attention: n² products of D numbers for the scores, and as many for the values."""
    for n, d in ((437, 192), (3154, 1024), (5, 8)):
        got, right = answer(n, d), block_flops(n, d)
        matrices, scores = 2 * n * 12 * d * d, 4 * n * n * d
        require(isinstance(got, (int, float)), "return a number")
        mistakes = {
            "a product and a sum are two operations: 2 per weight and position": (matrices / 2 + scores, right / 2),
            "the products of queries with keys, and of weights with values, are missing: 4 n² D": (matrices,),
            "attention has two products: queries by keys, and weights by values": (matrices + scores / 2,),
            "only the scores are counted; the matrices take 2 per weight and position": (scores,),
            "qkv has three matrices of D × D, the projection one, and the feed-forward part eight: 12 D² in all": (
                2 * n * 8 * d * d + scores,
                2 * n * 9 * d * d + scores,
                2 * n * 4 * d * d + scores,
                2 * n * 10 * d * d + scores,
            ),
            "every position uses every matrix: multiply by the number of tokens": (2 * 12 * d * d + scores,),
        }
        for diagnosis, wrong in mistakes.items():
            require(all(abs(got - value) > 1e-9 * right for value in wrong), diagnosis)
        require(abs(got - right) <= 1e-9 * right, f"{n} tokens of width {d}: expected {right:.4g}, got {got:.4g}")


def mean_gradient(gradients, counts):
    weights = torch.as_tensor(counts, dtype=gradients[0].dtype) / sum(counts)
    return sum(w * g for w, g in zip(weights, gradients, strict=True))


@sheet.exercise(2, mean_gradient)
def _test_mean_gradient(answer) -> None:
    """The gradient of the whole batch is the sum over all images, divided by their number. A process's mean times its
    count is its sum."""
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(3, 4, generator=generator) for _ in range(3)]
    alike = answer([g.clone() for g in gradients], [2, 2, 2])
    require(getattr(alike, "shape", None) == (3, 4), "return a gradient, of the shape of the others")
    plain = torch.stack(gradients).mean(0)
    require(
        not torch.allclose(alike, plain * 3, atol=1e-5), "that is the sum: divide, or the step grows with every GPU"
    )
    require(
        not torch.allclose(alike, plain / 2, atol=1e-5),
        "each gradient is the mean over its images already: do not divide by their number once more",
    )
    require(torch.allclose(alike, plain, atol=1e-5), "with equal shares it is the plain mean of the gradients")
    counts = [1, 2, 5]
    got, right = answer([g.clone() for g in gradients], counts), mean_gradient(gradients, counts)
    require(
        not torch.allclose(got, plain, atol=1e-5),
        "shares differ here: a process with more images must count for more",
    )
    inverse = mean_gradient(gradients, [1 / c for c in counts])
    require(not torch.allclose(got, inverse, atol=1e-5), "it counts for more the more images it has, not the fewer")
    require(torch.allclose(got, right, atol=1e-5), "weigh every gradient by its share of all images")


def fit_law(sizes, losses):
    N, L = torch.as_tensor(sizes).double(), torch.as_tensor(losses).double()
    best = (torch.inf,)
    for alpha in torch.linspace(0.05, 1, 191):
        X = torch.stack([torch.ones_like(N), N**-alpha], 1)
        E, A = torch.linalg.lstsq(X, L[:, None]).solution[:, 0]
        error = (E + A * N**-alpha - L).square().sum()
        if error < best[0]:
            best = (error, E.item(), A.item(), alpha.item())
    return best[1:]


@sheet.exercise(3, fit_law)
def _test_fit_law(answer) -> None:
    """For a given α the law is linear in E and A: torch.linalg.lstsq with the columns 1 and N^-α. Go through many α
    between 0 and 1, and keep the one with the smallest squared error. Work in float64."""
    sizes = [2.6e5, 6.6e5, 1.4e6, 4.3e6, 1.2e7]
    for E, A, alpha in ((4.0, 20.0, 0.25), (2.5, 60.0, 0.4)):
        losses = [E + A * n**-alpha for n in sizes]
        got = answer(list(sizes), losses)
        require(isinstance(got, (tuple, list)) and len(got) == 3, "return three numbers: E, A and alpha")
        e, a, b = (float(x) for x in got)
        logs = torch.tensor([sizes, losses], dtype=torch.double).log()
        slope = (
            -((logs[0] - logs[0].mean()) * (logs[1] - logs[1].mean())).sum() / (logs[0] - logs[0].mean()).square().sum()
        )
        require(
            abs(b - slope) > 0.01,
            "that is the slope of log loss against log size, without E: the line bends, for no size gets below E",
        )
        require(b > 0, "the loss falls as N grows: in A N^-α, α is positive")
        require(not (abs(a - E) < 0.1 and abs(e - A) < 3), "E comes first, then A, then α")
        require(
            abs(b - alpha) < 0.02, f"α should be about {alpha}, got {b:.3f}: try many α, and for each solve for E and A"
        )
        require(
            abs(e - E) < 0.05 and abs(a - A) < 0.2 * A,
            f"E and A should be about {E} and {A:g}, got {e:.3g} and {a:.3g}",
        )
