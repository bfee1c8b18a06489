"""Output that stops no work: characters that a terminal lacks are escaped, and a reader that leaves is not missed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress


class _Lasting:
    """A stream whose reader may leave, as ``head -1`` does: what is written then is dropped."""

    def __init__(self, stream):
        self.stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, action, *args) -> None:
        try:
            action(*args)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Standard output and errors, until the block ends."""
    with redirect_stdout(_Lasting(sys.stdout)) as out, redirect_stderr(_Lasting(sys.stderr)):
        try:
            yield
        finally:
            with suppress(ValueError):  # closed by somebody else
                out.flush()
