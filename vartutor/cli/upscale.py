"""The command that restores photos: upscale."""

import argparse
import sys
import time
from pathlib import Path

from vartutor.cli.parser import Commands, add_seed
from vartutor.errors import one_line


def _upscale(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from vartutor.addons.refiner import load_refiner, make_writer
    from vartutor.chapter import check_seed
    from vartutor.devices import find_device
    from vartutor.restore import find_photos, restore
    from vartutor.superres import SuperResolver
    from vartutor.transformer.generate import check_temperature
    from vartutor.weights import load_restorer
    from vartutor.weights.files import checksum

    check_temperature(args.temperature)
    options = {"fidelity": args.fidelity, "color_fix": args.color_fix, "temperature": args.temperature}
    options |= {"seed": check_seed(args.seed)} | ({} if args.sample is None else {"expected": not args.sample})
    photos = find_photos(args.photos, lambda line: print(one_line(f"vartutor upscale: {line}"), file=sys.stderr))
    device = find_device(args.device)
    resolver = SuperResolver(*load_restorer(args.model), device=device)
    resolver.check(args.scales, args.fidelity or 0.0, args.color_fix)
    refiner = None if args.refine is None else load_refiner(args.model)
    parts = resolver.model, resolver.model.restorer, resolver.tokenizer, resolver.fidelity, refiner
    sums = [checksum(part) for part in parts if part is not None]
    how = f"{options} {args.guidance} {args.negative} {args.refine} {sums}"
    options["write"] = make_writer(resolver.model, args.guidance, args.negative, args.refine, refiner)

    def upscale(path: Path, scales: tuple[int, ...]) -> dict:
        with tqdm(desc=path.name, unit="tile", disable=not sys.stderr.isatty(), leave=False) as bar:
            began = time.perf_counter()

            def progress(done: int, total: int) -> None:
                minutes = (time.perf_counter() - began) * total / done / 60
                if bar.total is None and done < total and minutes >= 1:  # the first tiles tell what all will cost
                    what = f"{total} tiles, about {minutes:.0f} minutes and {_memory(path, scales):.1f} GB of memory"
                    tqdm.write(f"vartutor upscale: {path}: {what}", file=sys.stderr)
                bar.total = total
                bar.update(done - bar.n)

            return resolver.upscale(path, scales, progress=progress, **options)

    def report(outcome) -> None:
        if not outcome.error:
            done = ", ".join(path.name for path in outcome.written)
            print(one_line(f"{outcome.source} -> {done}" if done else f"{outcome.source}: already there"), flush=True)

    outcomes = restore(photos, args.out, upscale, args.scales, how=how, force=args.force, report=report)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(one_line(f"vartutor upscale: {outcome.error}"), file=sys.stderr)
    return 1 if failed else 0


def _memory(path: Path, scales: tuple[int, ...]) -> float:
    """Of the results, in GB: all that grows with the photo."""
    from PIL import Image

    with Image.open(path) as image:
        return 4e-9 * image.width * image.height * sum(s * s for s in scales)  # Pillow keeps 4 bytes per pixel


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write them like 1,2,4") from None


def add(commands: Commands) -> None:
    """Add this command."""
    sub = commands.add("upscale", _upscale, "restore photos at ×1, ×2 and ×4; exit code 1 if one fails")
    sub.add_argument("photos", nargs="+", type=Path, metavar="IN", help="photos, or folders of photos")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for NAME_x1.png and so on")
    sub.add_argument("--scales", type=_scales, default=(1, 2, 4), help="of 1, 2 and 4 (default 1,2,4)")
    sub.add_argument(
        "--fidelity",
        type=float,
        metavar="W",
        help="0: the tokens alone … 1: true to the photo (default: as the model was taught; course takes 0.6)",
    )
    add_seed(sub)
    sub.add_argument("--temperature", type=float, default=0.5, help="lower is surer, to 0; higher bolder (default 0.5)")
    sub.add_argument(
        "--sample",
        action=argparse.BooleanOptionalAction,
        help="draw codes, a bolder guess, or take their mean (default: as the model was taught; course takes the mean)",
    )
    sub.add_argument(
        "--refine", type=float, nargs="?", const=0.0, metavar="T", help="draw what the finest tokens leave unsaid, at T"
    )
    sub.add_argument("--guidance", type=float, default=0.0, metavar="C", help="away from the negative (default 0)")
    sub.add_argument("--negative", default="null", help="null (default): no photo; photo: a worse one")
    sub.add_argument("--color-fix", default="none", help="colours of the photo: none (default), mean or wavelet")
    sub.add_argument("--model", default="course", help="course (default), detail, dpo, or the folder of a run")
    sub.add_argument("--device", default="cpu", help="cpu (default), cuda, mps or auto")
    sub.add_argument(
        "--force", action="store_true", help="make results that are there again; no other picture is overwritten"
    )
