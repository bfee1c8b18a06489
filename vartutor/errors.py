"""The one exception that a reader of the course is meant to see."""

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def one_line(text: str) -> str:
    """Text with its control characters escaped: names of files may hold line breaks, and worse."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(ValueError):
    """A mistake that one line explains: what is wrong, where, and what to do.

    The command line prints it and ends with exit code 2; a notebook shows the line without a traceback.
    """

    def __init__(self, line: str):
        super().__init__(one_line(line))

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of printing the stack: the line already says everything.
        return [f"{type(self).__name__}: {self}"]


def pick(name: str, table: Mapping[str, Value], what: str) -> Value:
    """What a name stands for in a table of such things.

    Raises:
        UserError: it is not there.
    """
    if name not in table:
        raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(table)}")
    return table[name]


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
