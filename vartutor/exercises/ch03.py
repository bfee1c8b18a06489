"""Exercises of chapter 03."""

import math

import torch

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch03")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def residual_quantize(z, books):
    rest, indices = z, []
    for codes in books:
        idx = torch.cdist(rest, codes).argmin(1)
        rest = rest - codes[idx]
        indices.append(idx)
    return torch.stack(indices, dim=1)


def _data(n, stages=4, size=12, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, dim, generator=generator)
    scales = 0.6 ** torch.arange(stages)
    return z, torch.randn(stages, size, dim, generator=generator) * scales[:, None, None]


@sheet.exercise(1, residual_quantize)
def _test_residual_quantize(answer) -> None:
    """Start with rest = z. In a loop over the books: distances with torch.cdist(rest, codes), argmin over the codes,
    and subtract codes[idx] from rest. Stack the indices along dim=1."""
    z, books = _data(200)
    got, right = answer(z, books), residual_quantize(z, books)
    require(isinstance(got, torch.Tensor), "return one tensor of indices: torch.stack(list, dim=1)")
    require(got.shape != right.T.shape, "stages in rows: one row per vector please, (N, M): stack along dim=1")
    require(
        got.shape == right.shape and not got.is_floating_point(),
        f"return whole numbers of shape {tuple(right.shape)}: one row per vector, one column per stage",
    )

    def walk(step, pick=torch.argmin):
        rest, indices = z, []
        for codes in books:
            idx = pick(torch.cdist(rest, codes), 1)
            rest = step(rest, codes[idx])
            indices.append(idx)
        return torch.stack(indices, dim=1)

    rest, dots = z, []
    for codes in books:
        dots.append((rest @ codes.T).argmax(1))
        rest = rest - codes[dots[-1]]
    first = torch.stack([torch.cdist(z, books[0]).argmin(1)] * 4, dim=1)
    mistakes = {
        "every stage looks at z itself: subtract each code before the next stage": walk(lambda rest, code: rest),
        "you subtract from z every time: the next stage must get rest - code, what all stages so far leave": walk(
            lambda rest, code: z - code
        ),
        "the next stage gets the code, not what the code leaves over": walk(lambda rest, code: code),
        "that adds the code to the rest; subtract it": walk(lambda rest, code: rest + code),
        "those are the farthest codes: argmin, not argmax": walk(lambda rest, code: rest - code, torch.argmax),
        "the largest dot product is not the smallest distance: long codes win it": torch.stack(dots, dim=1),
        "all columns are the first one: later stages have to look for codes too": first,
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.equal(got, wrong), diagnosis)
    require(torch.equal(got, right), f"{(got != right).float().mean():.0%} of the indices differ")


def gap_to_bound(distortion, stages, size, dim):
    rate = stages * math.log2(size) / dim
    return 10 * math.log10(distortion / 2 ** (-2 * rate))


@sheet.exercise(2, gap_to_bound)
def _test_gap_to_bound(answer) -> None:
    """How many bits name one vector? Divide by its length to get R. The bound is 2 ** (-2 * R). A ratio of squared
    errors becomes decibels by 10 log10."""
    for distortion, stages, size, dim in ((0.12, 3, 64, 7), (0.3, 5, 16, 24)):
        got, right = float(answer(distortion, stages, size, dim)), gap_to_bound(distortion, stages, size, dim)
        bits = stages * math.log2(size)

        def gap(rate, factor=10, log=math.log10, exponent=2, distortion=distortion):
            return factor * log(distortion / 2 ** (-exponent * rate))

        mistakes = {
            gap(bits): "R is bits per number: divide by the length of the vector",
            gap(math.log2(size) / dim): "that is the rate of one stage; bits add up over the stages",
            gap(size * stages / dim): "an index among V codes takes log2(V) bits, not V",
            gap(math.log2(stages * size) / dim): "M stages have V to the power M sums, so M log2(V) bits in all",
            gap(stages * math.log(size) / dim): "bits come from the logarithm to base 2",
            gap(bits / dim, exponent=1): "the bound is 2 to the power -2R: each bit quarters the squared error",
            gap(bits / dim, factor=20): "20 log10 is for amplitudes; a distortion is squared already, so 10",
            gap(bits / dim, log=math.log): "decibels use the logarithm to base 10",
            -right: "upside down: a distortion above the bound must give a positive gap",
            distortion - 2 ** (-2 * bits / dim): "a difference is not in decibels: take the logarithm of the ratio",
            10 * math.log10(distortion): "that is the distortion in decibels; now compare it with the bound",
        }
        for wrong, diagnosis in mistakes.items():
            require(abs(got - wrong) > 1e-6, diagnosis)
        require(abs(got - right) < 1e-6, f"expected {right:.3f} dB, got {got:.3f}")


def beam_search(z, books, beam):
    paths = [([], z)]  # indices so far, and the rest that they leave
    for codes in books:
        longer = [([*idx, j], rest - codes[j]) for idx, rest in paths for j in range(len(codes))]
        longer.sort(key=lambda path: float(path[1].square().sum()))
        paths = longer[:beam]
    return paths[0][0]


def _search(z, books, keep, error):
    paths = [([], z)]
    for codes in books:
        longer = [([*idx, j], rest - codes[j]) for idx, rest in paths for j in range(len(codes))]
        paths = keep(sorted(longer, key=lambda path: float(error(path, codes))))
    return paths


@sheet.exercise(3, beam_search)
def _test_beam_search(answer) -> None:
    """Keep a list of pairs (indices, rest). At every stage extend each pair by every code, sort all the longer ones by
    the squared length of their rest, and keep the first `beam`."""
    vectors, books = _data(12, stages=3, size=6, dim=3, seed=1)

    def rest_of(path, codes):
        return path[1].square().sum()

    def everywhere(find):
        return [[int(j) for j in find(z)] for z in vectors]

    got, right = everywhere(lambda z: answer(z, books, 3)), everywhere(lambda z: beam_search(z, books, 3))
    require(
        all(len(path) == 3 for path in got), "return one path: the index of one code for each stage, in their order"
    )
    mistakes = {
        "that is greedy: keep the best `beam` paths after every stage, not one": lambda z: beam_search(z, books, 1),
        "nothing was cut: that is the full search over all sums; keep only the best `beam` after every stage": (
            lambda z: _search(z, books, lambda paths: paths, rest_of)[0][0]
        ),
        "you return the worst of the kept paths: the best one leaves the smallest rest": (
            lambda z: _search(z, books, lambda paths: paths[:3], rest_of)[-1][0]
        ),
        "the farthest sums survive: sort by the error from small to large": (
            lambda z: _search(z, books, lambda paths: paths[-3:], rest_of)[-1][0]
        ),
        "you judge a path by its last code alone: judge it by the rest that all its codes leave": (
            lambda z: _search(z, books, lambda paths: paths[:3], lambda p, c: (z - c[p[0][-1]]).square().sum())[0][0]
        ),
    }
    for diagnosis, wrong in mistakes.items():
        require(got != everywhere(wrong), diagnosis)
    require(got != everywhere(lambda z: beam_search(z, books, 3)[::-1]), "the path is back to front: stage 1 first")
    different = sum(a != b for a, b in zip(got, right, strict=True))
    require(not different, f"{different} of {len(right)} paths differ from a beam of 3")
    require(
        everywhere(lambda z: answer(z, books, 1)) == everywhere(lambda z: beam_search(z, books, 1)),
        "a beam of 1 must be greedy: use the argument `beam`, not a fixed number",
    )
