"""Exercises of chapter 04."""

import torch
import torch.nn.functional as F

from vartutor.exercises.sheet import Sheet, require

sheet = Sheet("ch04")
check, hint, solution = sheet.check, sheet.hint, sheet.solution


def token_map(rest, codes, p):
    z = F.interpolate(rest, size=(p, p), mode="area")
    z = z.permute(0, 2, 3, 1)[..., None, :]  # (B, p, p, 1, C)
    return (z - codes).square().sum(-1).argmin(-1).flatten(1)


def _features(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    rest = F.interpolate(torch.randn(2, 5, 3, 3, generator=generator), size=(16, 16), mode="bicubic")
    rest = rest + 0.7 * torch.randn(rest.shape, generator=generator)
    return rest, torch.randn(40, 5, generator=generator)


@sheet.exercise(1, token_map)
def _test_token_map(answer) -> None:
    """F.interpolate(rest, size=(p, p), mode='area') takes the means. Move the channels last, and compare with all codes
    as chapter 02 does."""
    rest, codes = _features()
    got, right = answer(rest, codes, 4), token_map(rest, codes, 4)
    require(
        getattr(got, "shape", None) == right.shape and not got.is_floating_point(),
        "return whole numbers of shape (B, p * p): one row of tokens per image",
    )

    def of(mode, farthest=False):
        z = F.interpolate(rest, size=(4, 4), mode=mode).permute(0, 2, 3, 1)[..., None, :]
        d = (z - codes).square().sum(-1)
        return (d.argmax(-1) if farthest else d.argmin(-1)).flatten(1)

    turned = right.view(2, 4, 4).transpose(1, 2).flatten(1)
    z = F.interpolate(rest, size=(4, 4), mode="area").permute(0, 2, 3, 1)
    mistakes = {
        "you took one pixel of each area; take the mean over the area (mode='area')": of("nearest"),
        "that is interpolation between a few pixels; take the mean over the whole area (mode='area')": of("bilinear"),
        "that is bicubic; shrink with the mean over areas (bicubic is for enlarging)": of("bicubic"),
        "those are the farthest codes: argmin, not argmax": of("area", True),
        "columns before rows: flatten row by row": turned,
        "the largest dot product is not the smallest distance: long codes win it": (z @ codes.T).argmax(-1).flatten(1),
    }
    for diagnosis, wrong in mistakes.items():
        require(not torch.equal(got, wrong), diagnosis)
    require(torch.equal(got, right), f"{(got != right).float().mean():.0%} of the tokens are not the nearest codes")


def multiscale(f, codes, sides):
    f_hat, rest, maps = torch.zeros_like(f), f, []
    for p in sides:
        idx = token_map(rest, codes, p)
        h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
        h = F.interpolate(h, size=f.shape[-2:], mode="bicubic")
        f_hat, rest = f_hat + h, rest - h
        maps.append(idx)
    return maps, f_hat


@sheet.exercise(2, multiscale)
def _test_multiscale(answer) -> None:
    """Keep two maps of full size: f_hat, which starts at zero, and rest, which starts at f. Every step adds the same
    thing to one and subtracts it from the other."""
    f, codes = _features(1)
    sides = (1, 4, 8, 16)
    maps, f_hat = answer(f, codes, sides)
    right, right_hat = multiscale(f, codes, sides)
    require(
        [tuple(m.shape) for m in maps] == [(2, p * p) for p in sides], "return one (B, p * p) map per side, then f_hat"
    )
    require(torch.equal(maps[0], right[0]), "the first map is the nearest code of the mean of all positions")
    alone = [token_map(f, codes, p) for p in sides]
    require(
        not all(torch.equal(a, b) for a, b in zip(maps, alone, strict=True)),
        "every map looks at f itself: subtract what the maps before it explain, and look at the rest",
    )

    def variant(mode="bicubic", small=False):
        total, rest, found = torch.zeros_like(f), f, []
        for p in sides:
            idx = token_map(rest, codes, p)
            h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
            h = F.interpolate(h, size=f.shape[-2:], mode=mode)
            total, rest = (total + h, f - h) if small else (total + h, rest - h)
            found.append(idx)
        return found, total

    for diagnosis, wrong in {
        "you enlarged by repeating pixels; use mode='bicubic'": variant("nearest"),
        "you enlarged with bilinear; use mode='bicubic'": variant("bilinear"),
        "you subtract the last map alone from f; subtract every map from the rest of the one before": variant(
            small=True
        ),
    }.items():
        require(not all(torch.equal(a, b) for a, b in zip(maps, wrong[0], strict=True)), diagnosis)
    require(all(torch.equal(a, b) for a, b in zip(maps, right, strict=True)), "the maps are not those of the algorithm")
    require(
        not torch.allclose(f_hat, f - right_hat, atol=1e-4), "that is what is left; f_hat is the sum of what was added"
    )
    require(
        torch.allclose(f_hat, right_hat, atol=1e-4),
        "the tokens are right, but f_hat is not the sum of the enlarged maps",
    )


def next_inputs(maps, codes, sides):
    f_hat, inputs = 0, []
    for idx, p, following in zip(maps, sides, sides[1:], strict=False):  # the last map is not an input
        h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
        f_hat = f_hat + F.interpolate(h, size=(sides[-1], sides[-1]), mode="bicubic")
        small = F.interpolate(f_hat, size=(following, following), mode="area")
        inputs.append(small.flatten(2).transpose(1, 2))
    return torch.cat(inputs, 1)


@sheet.exercise(3, next_inputs)
def _test_next_inputs(answer) -> None:
    """After map k you know f_hat. What does a model need to know to choose map k + 1, and at which size?"""
    f, codes = _features(2)
    sides = (1, 4, 8, 16)
    maps, _ = multiscale(f, codes, sides)
    got, right = answer(maps, codes, sides), next_inputs(maps, codes, sides)
    shape = tuple(getattr(got, "shape", ()))
    tokens = sum(p * p for p in sides)
    require(
        shape != (2, tokens, 5),
        "one input too many: the first map has no map before it, so there are L - 1 inputs for L tokens",
    )
    require(
        shape != (2, tokens - sides[-1] ** 2, 5),
        "those have the sizes of the maps before; the input for a map has the size of that map",
    )
    require(shape == tuple(right.shape), f"expected shape {tuple(right.shape)}, got {shape}")

    def variant(accumulate=True, size_mode="area"):
        f_hat, parts = 0, []
        for idx, p, following in zip(maps, sides, sides[1:], strict=False):
            h = codes[idx].transpose(1, 2).unflatten(2, (p, p))
            h = F.interpolate(h, size=(16, 16), mode="bicubic")
            f_hat = f_hat + h if accumulate else h
            parts.append(F.interpolate(f_hat, size=(following, following), mode=size_mode).flatten(2).transpose(1, 2))
        return torch.cat(parts, 1)

    for diagnosis, wrong in {
        "that is the last map alone; the input is the sum of all maps so far": variant(accumulate=False),
        "shrink f_hat with the mean over areas (mode='area')": variant(size_mode="bicubic"),
        "shrink f_hat with the mean over areas (mode='area'), not by picking pixels": variant(size_mode="nearest"),
    }.items():
        require(not torch.allclose(got, wrong, atol=1e-5), diagnosis)
    require(torch.allclose(got, right, atol=1e-5), "right shape, wrong values: compare one scale at a time")
