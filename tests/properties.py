"""What property tests share: how many inputs, and what must hold for each, whatever it is.

The normal run takes about 500 inputs in all, the same every time; ``HYPOTHESIS_PROFILE=nightly pytest
tests/test_properties_*.py`` takes forty times as many, others every night. What once failed is kept as ``@example``.
"""

import contextlib
import io
import os
import signal
import threading

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings

from vartutor.cli import main
from vartutor.errors import UserError

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
SECONDS, BYTES = 30, 2**30  # of work, and of memory, that one input may take; where it only waits, ten times as long
PHASES = (Phase.explicit, Phase.generate)  # to shrink what fails would take minutes


def tries(quick: int):
    """A property's share of the inputs."""
    return settings(
        max_examples=quick * int(os.environ.get("TIMES", "40" if NIGHTLY else "1")),
        derandomize=not NIGHTLY,
        deadline=None,
        database=None,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def _late(*_):
    raise AssertionError("took too long")


@contextlib.contextmanager
def bounded():
    """The block ends in time, and what it leaves in memory is no flood."""
    before, timers = psutil.Process().memory_info().rss, {}
    if hasattr(signal, "SIGPROF") and threading.current_thread() is threading.main_thread():
        timers = {signal.ITIMER_PROF: (signal.SIGPROF, SECONDS), signal.ITIMER_REAL: (signal.SIGALRM, 10 * SECONDS)}
    for timer, (number, seconds) in timers.items():
        signal.signal(number, _late)
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
    assert psutil.Process().memory_info().rss < before + BYTES


def attempt(action, *args, **options):
    """What a call gives, or None where it says in one line what is wrong; nothing else may happen."""
    try:
        with bounded():
            return action(*args, **options)
    except UserError as error:
        line = str(error)
    assert line.strip()
    assert "\n" not in line
    return None


def command(words: list[str]) -> tuple[int, str, str]:
    """Exit code, output and errors of a command, which says what is wrong in lines of its own."""
    out, err = io.StringIO(), io.StringIO()
    with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:  # of argparse, after --help or for a wrong word
            code = end.code
    assert code in (0, 1, 2), (words, err.getvalue())
    assert "Traceback" not in err.getvalue()
    if code == 2:
        assert err.getvalue().startswith("vartutor"), (words, err.getvalue())
        assert err.getvalue().count("\n") == 1, (words, err.getvalue())
    return code, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def patched():
    """``patched.setattr(...)`` for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch
