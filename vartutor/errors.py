"""The one exception that a reader of the course is meant to see."""


class UserError(ValueError):
    """A mistake that one line explains: what is wrong, where, and what to do.

    The command line prints it and ends with exit code 2; a notebook shows the line without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of printing the stack: the line already says everything.
        return [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
