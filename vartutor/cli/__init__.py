"""The ``vartutor`` command. Imports wait until a command needs them, so that ``--help`` is quick."""

import sys

from vartutor import __version__
from vartutor.cli import classes, course, data, evaluate, plan, speedrun, study, train, upscale
from vartutor.cli.parser import Commands, Parser
from vartutor.cli.streams import lasting_streams
from vartutor.errors import UserError


def parser() -> Parser:
    """All commands with their options."""
    top = Parser(prog="vartutor", description="The course on multi-scale super-resolution, and its package.")
    top.add_argument("--version", action="version", version=f"vartutor {__version__}")
    commands = Commands(top, "command")
    for room in (upscale, course, classes, train, speedrun, study, evaluate, data, plan):
        room.add(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; a :class:`UserError` becomes one line on stderr and exit code 2."""
    with lasting_streams():
        return _run(argv)


def _run(argv: list[str] | None) -> int:
    args = parser().parse_args(argv)
    args.words = sys.argv[1:] if argv is None else argv
    try:
        return args.action(args)
    except UserError as error:
        print(f"vartutor {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "vartutor":
            raise
        extra = {"book": "book", "train": "gpu"}.get(args.command, "notebooks")
        print(f"vartutor {args.command}: needs {error.name}: pip install -e '.[{extra}]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vartutor {args.command}: stopped; run it again to go on", file=sys.stderr)
        return 130
