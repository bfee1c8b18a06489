"""What all commands share: one-line errors, and options that several of them have."""

import argparse
import sys
from collections.abc import Callable


class Parser(argparse.ArgumentParser):
    """argparse, but a wrong call gets one line instead of the usage text, and no option may be shortened.

    Subcommands get parsers of this class too.
    """

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> None:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


class Commands:
    """The subcommands of a parser, each with the function that runs it."""

    def __init__(self, parser: argparse.ArgumentParser, dest: str):
        self._commands = parser.add_subparsers(dest=dest, required=True, metavar=dest.upper())

    def add(self, name: str, action: Callable[[argparse.Namespace], int] | None, summary: str) -> Parser:
        """A parser for one subcommand; None for one that has subcommands itself."""
        sub = self._commands.add_parser(name, help=summary, description=summary)
        if action:
            sub.set_defaults(action=action)
        return sub


def add_profile(sub: argparse.ArgumentParser, default: str | None = "cpu") -> None:
    """Add ``--profile``."""
    sub.add_argument("--profile", default=default, help="smoke, cpu (default), gpu or gpu1")


def add_seed(sub: argparse.ArgumentParser) -> None:
    """Add ``--seed``."""
    sub.add_argument("--seed", type=int, default=0, help="a whole number from 0 to 9999 (default 0)")
