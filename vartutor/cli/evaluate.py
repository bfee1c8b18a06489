"""The command that measures restorers: evaluate."""

import argparse
import shlex
import sys
from pathlib import Path

from vartutor.cli.parser import Commands
from vartutor.errors import UserError


def _photos(args: argparse.Namespace):
    from vartutor.data.presets import get_preset
    from vartutor.evaluate.benchmarks import Benchmark
    from vartutor.evaluate.photos import crops, own_photos, split_photos

    preset = get_preset(args.degradation)
    if args.benchmark:
        return Benchmark(args.benchmark, args.photos, count=args.crops, preset=preset)
    if args.photos:
        return own_photos(args.photos, preset, largest=args.largest)
    return split_photos(preset, args.split, largest=args.largest) if args.whole else crops(preset, args.split)


def _measure(args: argparse.Namespace, restorers: list, photos, seeds: list[int], extras) -> list:
    from tqdm import tqdm

    from vartutor.evaluate.report import write_rows
    from vartutor.evaluate.restorers import evaluate, judge

    rows = []
    for photo in tqdm(photos, unit="photo", disable=not sys.stderr.isatty()):
        rows += evaluate(restorers, [photo], seeds, (judge, extras))
        write_rows(args.out / "results.csv", rows)  # what is measured is not lost
    return [*rows, *extras.of_the_set()]


def _budget(args: argparse.Namespace, resolver, seeds: list[int], command: str) -> None:
    from vartutor.data.presets import get_preset
    from vartutor.evaluate.budget import ErrorBudget
    from vartutor.evaluate.photos import crops
    from vartutor.evaluate.report import write_budget

    t = args.temperatures[0]
    how = {"top_k": 1} if t == 0 else {"temperature": t, "expected": args.expected}
    photos = crops(get_preset(args.degradation), args.split)
    budget = ErrorBudget(resolver.model, resolver.tokenizer, **how)
    rows = budget.rows(photos, seeds if t and not args.expected else [0])
    words = f"Crops of {len(photos)} {args.split} photos, degraded with `{args.degradation}`; generated with {how}."
    write_budget(args.out, list(rows), [command, words])


def _evaluate(args: argparse.Namespace) -> int:
    from vartutor.chapter import check_seed
    from vartutor.devices import find_device
    from vartutor.evaluate.choice import default_restorers, find_model, find_restorers
    from vartutor.evaluate.extras import Extras
    from vartutor.evaluate.report import write_results
    from vartutor.paths import commit, make_folder
    from vartutor.show.figures import render
    from vartutor.show.tradeoff import draw_tradeoff

    seeds = [check_seed(seed) for seed in args.seeds]
    if args.largest < 64:
        raise UserError(f"--largest {args.largest}: give 64 pixels or more")
    if args.benchmark and not args.photos:
        raise UserError(f"--benchmark {args.benchmark}: give its folder with --photos")
    if args.crops < 1:
        raise UserError(f"--crops {args.crops}: give a whole number from 1 on")
    args.degradation = args.degradation or ("varsr" if args.benchmark else "course")
    words, device = args.restorers or default_restorers(), find_device(args.device)
    ways = {"fidelities": args.fidelity, "guidances": args.guidance, "negative": args.negative, "refine": args.refine}
    restorers = find_restorers(words, args.model, args.temperatures, args.expected, **ways, device=device)
    extras = Extras(args.extra, device)
    names = [restorer.name for restorer in restorers]
    reference = args.reference or names[0]
    if reference not in names:
        raise UserError(f"--reference {reference!r}: choose one of {', '.join(names)}")
    resolver = find_model(args.model) if args.budget else None
    photos = _photos(args)
    make_folder(args.out)
    command = f"`{shlex.join(['vartutor', *args.words])}`, commit {commit() or 'unknown'}"
    rows = _measure(args, restorers, photos, seeds, extras)
    what = f"{len(photos)} {_what(args)} `{args.degradation}`."
    differences = write_results(args.out, rows, [command, what], reference)
    if differences:
        (args.out / "tradeoff.png").write_bytes(render(draw_tradeoff(differences, reference)))
    if args.budget:
        _budget(args, resolver, seeds, command)
    print((args.out / "summary.md").read_text(encoding="utf-8"))
    print(f"Tables and figure: {args.out}")
    return 0


def _what(args: argparse.Namespace) -> str:
    if args.benchmark:
        return f"photos of {args.benchmark} in {args.photos}, crops of 512 pixels, degraded as they come, or with"
    if args.photos:
        return f"photos of {args.photos}, at most {args.largest} pixels a side, degraded with"
    size = f"at most {args.largest} pixels a side" if args.whole else "three crops of each"
    return f"{args.split} photos, {size}, degraded with"


def add(commands: Commands) -> None:
    """Add this command."""
    sub = commands.add("evaluate", _evaluate, "measure a model and its baselines on test photos, or on your own")
    sub.add_argument(
        "--model",
        "--checkpoint",
        default="course",
        metavar="NAME|RUN",
        help="shipped, or a training run (default course)",
    )
    sub.add_argument(
        "--restorers",
        nargs="+",
        metavar="NAME",
        help="of bicubic; denoise or such as denoise:tv:0.5; cnn, cnn:RUN or cnn:RUN,RUN,RUN (one net per scale); "
        "model, model:NAME or model:RUN (default: bicubic denoise cnn model, without a cnn that is not shipped)",
    )
    sub.add_argument(
        "--temperatures", type=float, nargs="+", default=[1.0], help="of the model; 0 is greedy (default 1)"
    )
    sub.add_argument("--expected", action="store_true", help="also the model's mean codes, at each temperature")
    sub.add_argument(
        "--fidelity", type=float, nargs="+", default=[0.0], metavar="W", help="the model at each, 0 to 1 (default 0)"
    )
    sub.add_argument(
        "--guidance", type=float, nargs="+", default=[0.0], metavar="C", help="the model at each (default 0)"
    )
    sub.add_argument("--negative", default="null", help="what guidance moves away from: null (default), or photo")
    sub.add_argument(
        "--refine", type=float, nargs="+", default=[], metavar="T", help="all of that also refined, at each temperature"
    )
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the model's draws (default 0 1 2)")
    sub.add_argument("--split", default="test", help="train, val or test (default)")
    sub.add_argument("--whole", action="store_true", help="whole photos instead of crops")
    sub.add_argument("--photos", type=Path, metavar="FOLDER", help="your own clean photos instead of the shipped ones")
    sub.add_argument("--benchmark", metavar="NAME", help="--photos holds div2k-val, realsr or drealsr, as they come")
    sub.add_argument("--crops", type=int, default=3000, help="in all, of div2k-val's clean photos (default 3000)")
    sub.add_argument(
        "--extra",
        nargs="+",
        default=[],
        metavar="METRIC",
        help="of vgg, at every scale; lpips, dists, fid, niqe, musiq, maniqa, clipiqa, at the largest: they need "
        "packages and weights",
    )
    sub.add_argument(
        "--largest", type=int, default=1024, help="of larger photos, the middle of this size (default 1024)"
    )
    sub.add_argument(
        "--degradation",
        help="course (default), bicubic, varsr (of benchmarks); never trained on: impulse, speckle, motion, jpeg",
    )
    sub.add_argument("--reference", help="name of the restorer that the others are compared with (default: the first)")
    sub.add_argument("--budget", action="store_true", help="also the model's error budget, part by part")
    sub.add_argument("--device", default="cpu", help="of the models: cpu (default), cuda, mps or auto")
    sub.add_argument("--out", type=Path, default=Path("build/evaluate"), help="folder for tables and figure")
