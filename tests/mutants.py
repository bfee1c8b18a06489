"""Mutants of the solutions: small changes of their syntax trees, and whether the checks notice those that matter.

``python tests/mutants.py [chapter ...]`` prints the score of every exercise, and what was accepted.
"""

import ast
import copy
import importlib
import inspect
import pkgutil
import signal
import sys
import textwrap
import warnings
from contextlib import contextmanager

import torch

import vartutor.exercises
from vartutor.exercises.ch04 import some_phi
from vartutor.exercises.ch05 import some_bridge
from vartutor.exercises.compare import same, unchanged

SHEETS = {
    module.name: importlib.import_module(f"vartutor.exercises.{module.name}").sheet
    for module in pkgutil.iter_modules(vartutor.exercises.__path__)
    if module.name.startswith("ch")
}

# --- what is changed ----------------------------------------------------------------------------------

OPERATORS = [ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult]
COMPARISONS = [ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.In, ast.NotIn]
NAMES = [  # each may be taken for the others in its row
    "mean sum median amax",
    "argmin argmax",
    "round floor ceil",
    "log log2 log10",
    "exp square abs sqrt",
    "softmax log_softmax sigmoid",
    "logsigmoid sigmoid relu",
    "minimum maximum",
    "min max",
    "cumsum cumprod",
    "stack cat",
    "zeros_like ones_like",
    "new_zeros new_ones",
    "any all",
    "avg_pool2d max_pool2d",
    "transpose view",
    "unique sort",
]
OTHERS = {name: [other for other in row.split() if other != name] for row in NAMES for name in row.split()}
MODES = ["area", "nearest", "bilinear", "bicubic"]


def numbers(value) -> list:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, -value, 2 * value]
    if isinstance(value, float):
        return [1.1 * value, 0.9 * value, 0.0, 10 * value]
    return [mode for mode in MODES if mode != value] if value in MODES else []


def sliced(node: ast.expr, text: str) -> ast.expr:
    return ast.parse(f"list({ast.unparse(node)})[{text}]", mode="eval").body


def instead(node: ast.AST, names: list[str]):
    """What may stand in the place of a node."""
    match node:
        case ast.BinOp(left, op, right):
            yield from (ast.BinOp(left, other(), right) for other in OPERATORS if other is not type(op))
            yield from (left, right, ast.BinOp(right, op, left))
        case ast.UnaryOp(_, operand):
            yield operand
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            yield from values
        case ast.Compare(left, [op], [right]):
            yield from (ast.Compare(left, [other()], [right]) for other in COMPARISONS if other is not type(op))
        case ast.Constant(value):
            yield from map(ast.Constant, numbers(value))
        case ast.Name(name, ast.Load()) if name in names:
            yield from (ast.Name(other, ast.Load()) for other in names if other != name)
        case ast.Attribute(value, name, _):
            yield value
            yield from (ast.Attribute(value, other, ast.Load()) for other in OTHERS.get(name, []))
        case ast.Call(function, arguments, keywords):
            if isinstance(function, ast.Attribute):
                yield function.value
            yield from arguments
            for k in range(len(arguments)):
                yield ast.Call(function, arguments[:k] + arguments[k + 1 :], keywords)
            for k in range(len(arguments) - 1):
                a, b = arguments[k : k + 2]
                yield ast.Call(function, [*arguments[:k], b, a, *arguments[k + 2 :]], keywords)
            for k in range(len(keywords)):
                yield ast.Call(function, arguments, keywords[:k] + keywords[k + 1 :])
        case ast.Subscript(value, ast.Slice(lower, upper)):
            text = [ast.unparse(part) if part else "" for part in (lower, upper)]
            for change in ("+ 1", "- 1"):
                for k in range(2):
                    moved = [f"{part or 0} {change}" if j == k else part for j, part in enumerate(text)]
                    yield ast.parse(f"{ast.unparse(value)}[{':'.join(moved)}]", mode="eval").body
            yield value
        case ast.Subscript(value, _, ast.Load()):
            yield value
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Tuple(parts, ast.Load()) | ast.List(parts, ast.Load()):
            for k in range(len(parts) - 1):
                yield type(node)([*parts[:k], parts[k + 1], parts[k], *parts[k + 2 :]], ast.Load())
        case ast.comprehension(target, loop, ifs, is_async):
            yield from (ast.comprehension(target, sliced(loop, s), ifs, is_async) for s in ("1:", ":-1", "::-1"))
            if ifs:
                yield ast.comprehension(target, loop, [], is_async)
                yield ast.comprehension(target, loop, [ast.UnaryOp(ast.Not(), ifs[0])], is_async)
        case ast.For():
            for s in ("1:", ":-1", "::-1"):
                yield ast.For(node.target, sliced(node.iter, s), node.body, node.orelse)
            yield ast.Pass()
        case ast.If(test, body, orelse) | ast.While(test, body, orelse):
            yield type(node)(ast.UnaryOp(ast.Not(), test), body, orelse)
            yield ast.Pass()
        case ast.Assign([ast.Name(name)], ast.BinOp(ast.Name(left), op, right)) if name == left:
            yield ast.AugAssign(ast.Name(name, ast.Store()), op, right)
            yield ast.Pass()
        case ast.AugAssign(target, op, value):
            yield ast.Assign([target], value)
            yield from (ast.AugAssign(target, other(), value) for other in OPERATORS[:4] if other is not type(op))
            yield ast.Pass()
        case ast.Assign() | ast.Expr():
            yield ast.Pass()


def mutants(function) -> dict[str, str]:
    """The source of every mutant, by a description of what was changed: ``line: old -> new``."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    names = sorted({n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
    names += [argument.arg for argument in tree.body[0].args.args]
    found = {}
    for position, node in enumerate(ast.walk(tree)):
        for new in instead(node, names):
            changed = copy.deepcopy(tree)
            old = list(ast.walk(changed))[position]
            new = ast.fix_missing_locations(copy.deepcopy(new))
            swap(changed, old, new)
            old, new, line = ast.unparse(node), ast.unparse(new), getattr(node, "lineno", 0)
            source = ast.unparse(ast.fix_missing_locations(changed))
            if isinstance(node, (ast.For, ast.If, ast.While)):  # their head says enough
                old, new = old.split("\n")[0], new.split("\n")[0]
            if source != ast.unparse(tree) and source not in found.values():
                found[f"{line}: {old} -> {new}"] = source
    return found


def swap(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, field, [new if item is old else item for item in value])


def compiled(source: str, function):
    space = dict(function.__globals__)
    exec(compile(source, "<mutant>", "exec"), space)
    return space[function.__name__]


# --- what matters -------------------------------------------------------------------------------------


class TimeUpError(BaseException):
    """No exception that a check would catch."""


@contextmanager
def limited(seconds: float):
    """Stops what runs longer than so many seconds of processor time."""

    def stop(*_):
        raise TimeUpError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def whole(low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, ()))


def sides(count: int, most: int = 12) -> tuple[int, ...]:
    return tuple(sorted(whole(1, most) for _ in range(count)))


def dividing(count: int, side: int) -> tuple[int, ...]:
    """Some divisors of a side in rising order, the side last."""
    return (*sorted(p for p in range(1, side) if side % p == 0)[-count:], side)


def groups() -> tuple:
    ladder = [*sides(3, 5), *(6 + p for p in sides(2, 5))]
    return (
        (tuple(ladder[:2]), tuple(ladder[2:3]), tuple(ladder[3:]))
        if whole(0, 1)
        else (tuple(ladder[:3]), tuple(ladder[3:]))
    )


def maps(ladder, batch, count):
    return [torch.randint(count, (batch, p * p)) for p in ladder]


def flat(grouped):
    return [p for group in grouped for p in group]


def features():
    grouped = groups()
    return [torch.randn(2, 3, s[-1], s[-1]) for s in grouped], torch.randn(20, 3), grouped, some_phi, some_bridge


def averages(V, C, N):
    weights = torch.rand(V) * torch.tensor([3.0, 0.003, 0.02])[torch.randint(3, (V,))]
    sums = torch.randn(V, C) * weights[:, None]
    return (
        torch.randn(V, C),
        sums,
        weights,
        torch.randn(N, C),
        torch.randint(V // 2, (N,)),
        float(0.5 + 0.49 * torch.rand(())),
    )


def crops():
    count = whole(8, 14)
    photos = torch.cat([torch.arange(count), torch.randint(count, (3 * count,))]).numpy()
    means = (-torch.rand(count).log()).numpy()
    values = 25 + 4 * (means[photos] + 0.8 * torch.randn(len(photos)).numpy()) / means.std()
    return values, photos


def seeds():
    names = [f"photo {n}" for n in torch.randperm(9).tolist()]

    def side(chosen):
        return {name: torch.randn(whole(1, 4)).tolist() for name in chosen}

    return side(names[2:]), side(sorted(names)[whole(0, 2) :])


def strip():
    n = whole(3, 8)
    lefts = [0]
    while len(lefts) < 5:
        lefts.append(lefts[-1] + whole(1, n - 1))
    return torch.randn(5, whole(1, 3), n, n), lefts, lefts[-1] + n


def law():
    E, A, alpha = whole(10, 40) / 10, whole(5, 80), whole(10, 70) / 100
    scale = 2.0 ** whole(0, 3)
    sizes = [scale * n for n in (2e5, 7e5, 1.1e6, 5e6, 2e7)]
    return sizes, [E + A * n**-alpha for n in sizes]


def gpus():
    each, count, rounds = whole(1, 12), whole(1, 8), whole(1, 6)
    return each * count * rounds, count, whole(1, 2 * each)


# Inputs as the chapters promise them; wider than those of the checks.
INPUTS = {
    "ch00 count_tokens": lambda: (sides(whole(1, 7)),),
    "ch00 to_pixels": lambda: (torch.randn(whole(1, 3), 3, 4, 5) * 0.6,),
    "ch00 coarse_to_fine": lambda: (torch.rand(2, 3, 12, 12) * 2 - 1, dividing(whole(1, 5), 12)),
    "ch01 psnr": lambda: tuple(torch.rand(2, 1, 3, 6, 7) * 2 - 1),
    "ch01 same_lr": lambda: tuple(torch.randn(2, 2, 3, 4 * whole(1, 3), 8)),
    "ch01 photo_interval": crops,
    "ch02 perplexity": lambda: (torch.randint(whole(1, 9), (whole(1, 3), 4, whole(1, 6))), whole(9, 20)),
    "ch02 quantize": lambda: (torch.randn(2, C := whole(1, 5), 3, whole(1, 4)), torch.randn(whole(2, 30), C)),
    "ch02 ema_step": lambda: averages(whole(2, 12), whole(1, 4), whole(1, 30)),
    "ch03 residual_quantize": lambda: (torch.randn(whole(1, 30), 3), list(torch.randn(whole(1, 5), 7, 3))),
    "ch03 gap_to_bound": lambda: (float(torch.rand(())) + 0.01, whole(1, 9), whole(2, 300), whole(1, 30)),
    "ch03 beam_search": lambda: (torch.randn(3), list(torch.randn(whole(1, 3), 5, 3)), whole(1, 6)),
    "ch04 token_map": lambda: (torch.randn(2, 3, 12, 12), torch.randn(whole(2, 30), 3), dividing(6, 12)[whole(0, 5)]),
    "ch04 multiscale": lambda: (torch.randn(2, 3, 12, 12), torch.randn(20, 3), dividing(whole(1, 5), 12), some_phi),
    "ch04 next_inputs": lambda: (maps(s := dividing(whole(1, 5), 12), 2, 20), torch.randn(20, 3), s, some_phi),
    "ch05 canvas": lambda: (whole(0, 4), groups()),
    "ch05 hierarchical": features,
    "ch05 next_inputs": lambda: (maps(flat(g := groups()), 2, 20), torch.randn(20, 3), g, some_phi, some_bridge),
    "ch06 block_mask": lambda: (sides(whole(1, 5), 5),),
    "ch06 top_p": lambda: (3 * torch.randn(whole(1, 5), whole(2, 30)), float(0.05 + 0.9 * torch.rand(()))),
    "ch06 cached_attention": lambda: tuple([torch.randn(2, 3, n, 5) for n in (1, 3, 4)] for _ in "qkv"),
    "ch07 patches": lambda: (torch.rand(2, 3, 4 * whole(1, 3), 8), 2 ** whole(1, 2)),
    "ch07 expected_code": lambda: (3 * torch.randn(6, 9), torch.randn(9, 4), whole(3, 20) / 10, whole(1, 9)),
    "ch07 soft_loss": lambda: (
        3 * torch.randn(2, n := whole(1, 4), 9),
        torch.randn(2, n, 3),
        torch.randn(9, 3),
        whole(1, 20) / 10,
    ),
    "ch07 blend": strip,
    "ch08 dpo_loss": lambda: (
        -(10.0 ** whole(0, 3)) * torch.rand(9),
        -(10.0 ** whole(0, 3)) * torch.rand(9),
        whole(1, 20) / 10,
    ),
    "ch08 scale_logps": lambda: (
        torch.randn(2, sum(s := [p * p for p in sides(3, 4)]), 5),
        torch.randint(5, (2, sum(s))),
        s,
    ),
    "ch08 largest_beta": lambda: (50 * torch.randn(whole(5, 50)) - 20, whole(1, 40) / 100, whole(0, 12) / 16),
    "ch09 differences": seeds,
    "ch09 interval": lambda: (torch.randn(9).numpy(), torch.randint(9, (whole(5, 90), 9)).numpy(), whole(30, 98) / 100),
    "ch09 front": lambda: ({str(n): (whole(20, 25), whole(1, 6)) for n in range(whole(1, 9))},),
    "ch10 block_flops": lambda: (whole(1, 900), whole(1, 900)),
    "ch10 mean_gradient": lambda: (list(torch.randn(n := whole(1, 5), 3, 4)), [whole(1, 9) for _ in range(n)]),
    "ch10 fit_law": law,
    "ch11 rounds": gpus,
    "ch11 price": lambda: (
        1e15 * whole(1, 90),
        whole(1, 9000),
        whole(1, 64),
        1e14 * whole(1, 20),
        whole(1, 9) / 10,
        whole(1, 40) / 10,
    ),
    "ch11 shares": lambda: (whole(0, 9), (r := whole(1, 4)) * (n := whole(1, 5)) * whole(1, 6), r, n),
    "ch12 steps": lambda: (whole(1, 9000), 2 * whole(1, 300) + 1, whole(1, 90)),
    "ch12 middle": lambda: (whole(128, 900), whole(128, 900)),
    "ch12 pull": lambda: (torch.randn(whole(1, 5), whole(1, 6)), whole(1, 40) / 10, bool(whole(0, 1))),
}


class Trial:
    """One exercise: its mutants, and what its solution returns for many inputs."""

    def __init__(self, chapter: str, name: str):
        self.sheet, self.name = SHEETS[chapter], name
        self.exercise = self.sheet.exercises[name]
        self.title = f"{chapter} {name}"
        torch.manual_seed(1)
        slow = name in ("photo_interval", "fit_law", "beam_search")
        self.inputs = [INPUTS[self.title]() for _ in range(6 if slow else 30)]
        self.right = [self.exercise.run(self.exercise.solution, *copy.deepcopy(given)) for given in self.inputs]

    def changes(self, function) -> bool:
        """Whether a mutant raises, changes its inputs or returns anything else, for some input."""
        for inputs, right in zip(self.inputs, self.right, strict=True):
            given = copy.deepcopy(inputs)
            try:
                got = self.exercise.run(function, *given)
            except Exception:
                return True
            if not same(got, right, self.exercise.agree) or not unchanged(inputs, given):
                return True
        return False

    def outcome(self, source: str) -> tuple[bool, bool]:
        """Whether a mutant changes results, and whether its check accepts it; one without end does the former only."""
        try:
            with limited(4), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                function = compiled(source, self.exercise.solution)
                return self.changes(function), self.sheet.verdict(self.name, function) == "ok"
        except TimeUpError:
            return True, False


def trials(every: int = 1, chapters: tuple[str, ...] = tuple(SHEETS)):
    """Title, change, whether it matters and whether it is accepted, of every so-manieth mutant of all exercises."""
    number = 0
    for chapter in chapters:
        for name, exercise in SHEETS[chapter].exercises.items():
            trial = None
            for change, source in mutants(exercise.solution).items():
                number += 1
                if number % every == 0:
                    trial = trial or Trial(chapter, name)
                    yield trial.title, change, *trial.outcome(source)


def main(chapters: list[str]) -> None:
    scores, accepted = {}, []
    for title, change, matters, ok in trials(1, tuple(chapters or SHEETS)):
        score = scores.setdefault(title, {"mutants": 0, "changed": 0, "rejected": 0})
        score["mutants"] += 1
        score["changed"] += matters
        score["rejected"] += matters and not ok
        if ok or not matters:
            accepted.append(f"{title} | {change} | {'SURVIVES' if matters else 'same' if ok else 'HARSH'}")
    print(*accepted, sep="\n")
    for title, score in scores.items():
        print(f"{title:28} {score['rejected']} of {score['changed']} that change results, {score['mutants']} in all")


if __name__ == "__main__":
    main(sys.argv[1:])
