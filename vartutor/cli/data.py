"""Commands that fetch photos for full runs: data prepare, data list."""

import argparse
from pathlib import Path

from vartutor.cli.parser import Commands
from vartutor.errors import UserError


def _list(args: argparse.Namespace) -> int:
    from vartutor.workshop.prepare import terms
    from vartutor.workshop.sets import SETS

    print("\n".join(terms(photos) for photos in SETS.values()))
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from vartutor.workshop.prepare import prepare, terms
    from vartutor.workshop.sets import get_set

    sets = [get_set(name) for name in args.names]
    if args.source and len(sets) != 1:
        raise UserError("--from gives the photos of one set: name one")
    if not 1 <= args.least <= args.tile:
        raise UserError(
            f"--tile {args.tile}, --least {args.least}: give pixels from 1 on, the first at least the second"
        )
    print("\n".join(map(terms, sets)), flush=True)
    if not args.yes and any(photos.licence for photos in sets):
        raise UserError("nothing is fetched before you accept these terms: add --yes")
    options = {"source": args.source, "tile": args.tile, "least": args.least, "workers": args.workers}
    for photos in sets:
        print(prepare(photos, args.out, **options), flush=True)
    return 0


def add(commands: Commands) -> None:
    """Add these commands."""
    data = Commands(commands.add("data", None, "photo sets for full runs"), "what")
    data.add("list", _list, "the sets, their sizes and terms")
    sub = data.add("prepare", _prepare, "download photo sets, and cut them into pieces; goes on where it stopped")
    sub.add_argument("names", nargs="+", metavar="NAME", help="such as div2k; see vartutor data list")
    sub.add_argument(
        "--out", type=Path, default=Path("build/data"), help="folder for downloads and pieces, 3 bytes a pixel"
    )
    sub.add_argument("--yes", action="store_true", help="you accept the sets' terms")
    sub.add_argument("--from", dest="source", type=Path, metavar="PATH", help="folder or archive with the set's photos")
    sub.add_argument("--tile", type=int, default=1024, help="largest side of a piece in pixels (default 1024)")
    sub.add_argument("--least", type=int, default=512, help="smallest side of a photo that is kept (default 512)")
    sub.add_argument("--workers", type=int, default=1, help="processes that cut (default 1)")
