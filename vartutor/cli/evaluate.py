"""The command that measures restorers: evaluate."""

import argparse
import shlex
import sys
from pathlib import Path

from vartutor.cli.parser import Commands
from vartutor.errors import UserError


def _restorers(args: argparse.Namespace, model) -> list:
    from vartutor.baselines.cnn import separate
    from vartutor.evaluate.models import find_cnn
    from vartutor.evaluate.restorers import BICUBIC, of_model, seedless

    found = []
    for name in args.restorers:
        if name == "bicubic":
            found.append(BICUBIC)
        elif name.split(":")[0] == "denoise":
            from vartutor.baselines.classical import parse_denoiser

            found.append(seedless(name, parse_denoiser(name)))
        elif name == "cnn":
            found.append(seedless(name, separate([find_cnn(source) for source in args.cnn])))
        elif name == "model":
            found += [of_model(model, f"model, temperature {t:g}", t) for t in args.temperatures]
            if args.expected:
                warm = [t for t in args.temperatures if t > 0]
                found += [of_model(model, f"model, expected, temperature {t:g}", t, expected=True) for t in warm]
        else:
            raise UserError(
                f"unknown restorer {name!r}: choose from bicubic, denoise, denoise:METHOD:FACTOR, cnn, model"
            )
    return found


def _photos(args: argparse.Namespace):
    from vartutor.data.presets import get_preset
    from vartutor.evaluate.photos import crops, own_photos, split_photos

    preset = get_preset(args.degradation)
    if args.photos:
        return own_photos(args.photos, preset, largest=args.largest)
    return split_photos(preset, args.split, largest=args.largest) if args.whole else crops(preset, args.split)


def _measure(args: argparse.Namespace, restorers: list, photos, seeds: list[int]) -> list:
    from tqdm import tqdm

    from vartutor.evaluate.report import write_rows
    from vartutor.evaluate.restorers import evaluate

    rows = []
    for photo in tqdm(photos, unit="photo", disable=not sys.stderr.isatty()):
        rows += evaluate(restorers, [photo], seeds)
        write_rows(args.out / "results.csv", rows)  # what is measured is not lost
    return rows


def _budget(args: argparse.Namespace, model, seeds: list[int], origin: list[str]) -> None:
    from vartutor.data.presets import get_preset
    from vartutor.evaluate.budget import ErrorBudget
    from vartutor.evaluate.photos import crops
    from vartutor.evaluate.report import write_budget

    greedy = args.temperatures[0] == 0
    how = {"top_k": 1} if greedy else {"temperature": args.temperatures[0], "expected": args.expected}
    budget = ErrorBudget(model.model, model.tokenizer, **how)
    photos = crops(get_preset(args.degradation), args.split)
    rows = list(budget.rows(photos, seeds[:1] if greedy or args.expected else seeds))
    write_budget(args.out, rows, [*origin, "Generated with " + ", ".join(f"{k} {v}" for k, v in how.items()) + "."])


def _evaluate(args: argparse.Namespace) -> int:
    from vartutor.baselines.pretrained import shipped_cnns
    from vartutor.chapter import check_seed
    from vartutor.evaluate.models import find_model
    from vartutor.evaluate.report import write_results
    from vartutor.paths import commit, make_folder
    from vartutor.show.figures import render
    from vartutor.show.tradeoff import draw_tradeoff

    seeds = [check_seed(seed) for seed in args.seeds]
    if args.largest < 64:
        raise UserError(f"--largest {args.largest}: give 64 pixels or more")
    if min(args.temperatures) < 0:
        raise UserError(f"temperature {min(args.temperatures):g}: give 0, which is greedy, or more")
    if not args.restorers:
        args.restorers = [
            "bicubic",
            "denoise",
            *["cnn"] * (args.cnn != ["course"] or "course" in shipped_cnns()),
            "model",
        ]
    model = find_model(args.model) if args.budget or "model" in args.restorers else None
    restorers, photos = _restorers(args, model), _photos(args)
    make_folder(args.out)
    origin = [
        f"`{shlex.join(['vartutor', *args.words])}`, commit {commit() or 'unknown'}",
        f"{len(photos)} {_what(args)}, degraded with `{args.degradation}`.",
    ]
    rows = _measure(args, restorers, photos, seeds)
    summaries = write_results(args.out, rows, origin, args.reference or restorers[0].name)
    (args.out / "tradeoff.png").write_bytes(render(draw_tradeoff(summaries)))
    if args.budget:
        _budget(args, model, seeds, origin)
    print((args.out / "summary.md").read_text(encoding="utf-8"))
    print(f"Tables and figure: {args.out}")
    return 0


def _what(args: argparse.Namespace) -> str:
    if args.photos:
        return f"photos of {args.photos}, at most {args.largest} pixels a side"
    return f"{args.split} photos, " + (f"at most {args.largest} pixels a side" if args.whole else "three crops of each")


def add(commands: Commands) -> None:
    """Add this command."""
    sub = commands.add("evaluate", _evaluate, "measure a model and its baselines on test photos, or on your own")
    sub.add_argument(
        "--model", default="course", metavar="NAME|RUN", help="shipped, or a training run (default course)"
    )
    sub.add_argument(
        "--cnn", nargs="+", default=["course"], metavar="NAME|RUN", help="the same of the CNN; or one run per scale"
    )
    sub.add_argument(
        "--restorers",
        nargs="+",
        metavar="NAME",
        help="of bicubic, denoise, denoise:METHOD:FACTOR, cnn, model; all that are there if left out",
    )
    sub.add_argument(
        "--temperatures", type=float, nargs="+", default=[1.0], help="of the model; 0 is greedy (default 1)"
    )
    sub.add_argument("--expected", action="store_true", help="also the model's mean codes, at each temperature")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the model's draws (default 0 1 2)")
    sub.add_argument("--split", default="test", help="val or test (default)")
    sub.add_argument("--whole", action="store_true", help="whole photos instead of crops")
    sub.add_argument("--photos", type=Path, metavar="FOLDER", help="your own clean photos instead of the shipped ones")
    sub.add_argument(
        "--largest", type=int, default=1024, help="of larger photos, the middle of this size (default 1024)"
    )
    sub.add_argument(
        "--degradation",
        default="course",
        help="course (default), bicubic, varsr; never trained on: impulse, speckle, motion, jpeg",
    )
    sub.add_argument("--reference", help="restorer that the others are compared with (default: the first)")
    sub.add_argument("--budget", action="store_true", help="also the model's error budget, part by part")
    sub.add_argument("--out", type=Path, default=Path("build/evaluate"), help="folder for tables and figure")
