"""What several test files share."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from vartutor.cli import main
from vartutor.course.times import read_times
from vartutor.data.photos import find_photo
from vartutor.errors import UserError
from vartutor.paths import course_root
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.trainer import Trainer

torch.set_num_threads(1)
STRAY = 3  # a chapter's time may be that many times off its header's
# What tests and notebooks answer is nobody's progress.
os.environ["VARTUTOR_RECORD"] = os.path.join(tempfile.gettempdir(), f"vartutor-{os.getpid()}.jsonl")

took = Counter()  # seconds of every notebook, for the check that follows


def pytest_runtest_logreport(report):
    """Add up the cells of a notebook."""
    if report.nodeid.startswith("notebooks/"):
        took[Path(report.nodeid.split("::")[0]).stem] += report.duration


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Where all chapters ran: does any take far longer or shorter, beside the others, than its header says?

    The machine is another one, and busy; so each is compared with the chapters' median.
    """
    said = {name: time.seconds for name, time in read_times(course_root()).items()}
    if said.keys() - took.keys():
        return
    ratios = {name: took[name] / said[name] for name in said}
    median = statistics.median(ratios.values())
    print("\nchapters' seconds here, as a share of the said ones over the median of all:")
    print(", ".join(f"{name[:2]} {ratio / median:.2f}" for name, ratio in ratios.items()))
    if any(not 1 / STRAY <= ratio / median <= STRAY for ratio in ratios.values()):
        print(f"more than a factor of {STRAY} off: measure again with `vartutor run --keep-times` on a quiet machine")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def raises_user_error():
    """``with raises_user_error("word", ...)``: the block raises a UserError of one line that contains the words."""

    @contextmanager
    def expect(*words):
        with pytest.raises(UserError) as caught:
            yield
        line = str(caught.value)
        assert line.strip()
        assert "\n" not in line
        for word in words:
            assert str(word) in line

    return expect


@pytest.fixture
def two_processes(tmp_path):
    """Run a script in two processes that know each other; returns what each saved to OUT/RANK.pt.

    ``fails``: words that its errors must have, where it is meant to fail; then nothing is returned.
    """

    def run(script, *arguments, fails=None):
        (tmp_path / "two.py").write_text(script)
        environment = {**os.environ, "OUT": str(tmp_path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "two.py"]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True)
        if fails is not None:
            assert done.returncode != 0
            assert fails in done.stderr
            return None
        assert done.returncode == 0, done.stderr[-2000:]
        return [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    return run


@pytest.fixture(scope="session")
def tiny_runs(tmp_path_factory):
    """Training runs of two steps each, by the command: ``hit``, ``transformer``, ``fidelity``, ``refiner``."""
    runs = tmp_path_factory.mktemp("runs")
    call = ["--profile", "smoke", "--device", "cpu", "--no-report", "--set", "loop.steps=2", "--out"]
    for words in (
        ["tokenizer", *call, str(runs / "hit")],
        ["transformer", "--set", f"tokenizer={runs / 'hit'}", *call, str(runs / "transformer")],
        ["fidelity", "--set", f"model={runs / 'transformer'}", *call, str(runs / "fidelity")],
        ["refiner", "--set", f"model={runs / 'transformer'}", *call, str(runs / "refiner")],
    ):
        assert main(["train", *words]) == 0
    return runs


@pytest.fixture(scope="module")
def tokenizer():
    """An untrained hierarchical tokenizer of the smoke profile, frozen."""
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(get_profile("smoke"))).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def median_ms():
    """Median duration of a call in milliseconds, after one call to warm up."""

    def measure(call, repeats=10):
        call()
        durations = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            durations.append(time.perf_counter() - start)
        return statistics.median(durations) * 1000

    return measure


@pytest.fixture(scope="session")
def lemur():
    """One photograph, (1, 3, 512, W) in [-1, 1]."""
    return find_photo("lemur").load()[None]


@pytest.fixture(scope="session")
def owl():
    return find_photo("kde_owl").load()[None]


@pytest.fixture
def interrupted(monkeypatch):
    """``with interrupted(n):`` a training gets Ctrl-C when n steps are done, and goes on for one more."""

    @contextmanager
    def run(steps):
        original = Trainer._step

        def cut(trainer, moment):
            if trainer.step == steps:
                os.kill(os.getpid(), signal.SIGINT)
            return original(trainer, moment)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_step", cut)
            yield

    return run


@pytest.fixture
def resumed(tmp_path, interrupted):
    """``resumed(train)``: trains to ``part``, is stopped, goes on; the trainer, like an unbroken run's bit for bit.

    ``train(out, resume=False)`` takes more than two steps.
    """

    def run(train):
        whole = train(tmp_path / "whole")
        with interrupted(2), pytest.raises(KeyboardInterrupt):
            train(tmp_path / "part")
        torch.manual_seed(999)  # nothing may depend on the state that the process is in
        again = train(tmp_path / "part", resume=True)
        ours, theirs = again.model.state_dict(), whole.model.state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        assert all(torch.equal(again.averages.values[name], value) for name, value in whole.averages.values.items())
        assert _timeless(again.rows) == _timeless(whole.rows)
        return again

    return run


def _timeless(rows):
    """What was logged, but for what another machine would do faster."""
    return [{k: v for k, v in row.items() if k not in ("photos/s", "mfu", "memory")} for row in rows]
