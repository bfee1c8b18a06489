"""Break trainings and restorations in every way, and see that the same command finishes them: python tests/faults.py

Each case trains or restores at toy size, is broken at a random moment, and goes on by the command that a reader would
type. What it ends with must be what an unbroken one gives, bit for bit. Prints a table; exit code 1 if a line fails.
``--moments 20`` is how often each is killed. POSIX only; a full disk is a small tmpfs where one may be mounted.
"""

import argparse
import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from vartutor.cli import main
from vartutor.data.images import write_image
from vartutor.data.photos import find_photo
from vartutor.errors import UserError
from vartutor.train import source
from vartutor.train.trainer import Trainer
from vartutor.weights.files import load_state

KINDS = ("tokenizer", "baseline", "transformer", "fidelity", "refiner", "preference")
TOLD = ["--profile", "smoke", "--device", "cpu", "--no-report", "--set", "loop.steps=5", "--set", "loop.save_every=1"]
Sabotage = Callable[[], None]


def call(words: list[str], sabotage: Sabotage = lambda: None, seconds: float | None = None) -> tuple[int, str]:
    """Exit code and errors of a command in a process of its own, which is killed so long after its work began."""
    begun, begin = os.pipe()
    with tempfile.TemporaryFile("w+") as said:
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            os.close(begun)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            code = 99
            try:
                _announce(begin)
                sabotage()
                code = main(words)
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(begin)
        os.read(begun, 1)  # it trains now, or has ended
        os.close(begun)
        if seconds is not None:
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        return code, said.read()


def _announce(pipe: int) -> None:
    """Write a byte when the first step or the first photo begins."""
    original = Trainer.fit

    def fit(trainer, *args):
        os.write(pipe, b"x")
        return original(trainer, *args)

    Trainer.fit = fit


def train_words(kind: str, out: Path, models: Path) -> list[str]:
    """The command that trains at toy size, or goes on where there is a state."""
    over = {"transformer": f"tokenizer={models / 'tokenizer'}"}
    over |= dict.fromkeys(("fidelity", "refiner", "preference"), f"model={models / 'transformer'}")
    go_on = (out / "state.pt").exists()
    told = ["--resume", *TOLD[2:5]] if go_on else [*TOLD, *(["--set", over[kind]] if kind in over else [])]
    return ["train", kind, *told, "--out", str(out)]


def outcome(out: Path) -> tuple:
    """What a run ended with: its last loss, and all its averaged weights."""
    state = load_state(out / "state.pt")
    return state["step"], state["rows"][-1]["loss"], {name: v.tolist() for name, v in state["averaged"].items()}


def valid(out: Path) -> bool:
    """Whether there is a state to go on from, or none at all yet."""
    if not (out / "state.pt").exists():
        return True
    try:
        state = load_state(out / "state.pt")
    except UserError:
        return False
    return all(value.isfinite().all() for value in state["averaged"].values())


# --- ways to break a training --------------------------------------------------------------------------


def kill_while_saving(number: int) -> Sabotage:
    """Killed when the n-th state is half written."""

    def sabotage() -> None:
        save, count = torch.save, iter(range(10**6))

        def half(state, path, *args, **options):
            save(state, path, *args, **options)
            if next(count) == number:
                os.truncate(path, os.path.getsize(path) // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        torch.save = half

    return sabotage


def kill_before_renaming(number: int) -> Sabotage:
    """Killed when the n-th file is written, but has not its name yet."""

    def sabotage() -> None:
        replace, count = os.replace, iter(range(10**6))

        def stop(*args):
            if next(count) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*args)

        os.replace = stop

    return sabotage


@contextlib.contextmanager
def careless(path: Path) -> Iterator[Path]:
    """What to write a file in place would do, for a test of this program itself."""
    yield path


def small_files(size: int) -> Sabotage:
    """No file may be larger: stands for a full disk where none can be mounted."""

    def sabotage() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return sabotage


def nan_in_batch(step: int) -> Sabotage:
    """One number of a step's photos is none."""

    def sabotage() -> None:
        original, count = source.StoreSource.batch, iter(range(10**6))

        def batch(self, numbers):
            found = original(self, numbers)
            if next(count) == step:
                found.x[0, 0, 0, 0] = float("nan")
            return found

        source.StoreSource.batch = batch

    return sabotage


def jumping_clock() -> None:
    """The time of day jumps by up to a year, forwards and back."""
    original, rng = time.time, random.Random(0)
    time.time = lambda: original() + rng.uniform(-1, 1) * 3e7


# --- the campaign --------------------------------------------------------------------------------------


def finish(words: Callable[[], list[str]], tries: int = 3) -> str:
    """Rerun a command until it says that it is done; what is wrong, if it never is."""
    for _ in range(tries):
        code, said = call(words())
        if code == 0:
            return ""
    return f"ends with {code}: {said[-200:]}"


def survives(kind: str, out: Path, models: Path, whole: tuple, breaks: list, fails: str = "") -> str:
    """Break a training in these ways, one after the other, and finish it; what is wrong, or nothing.

    Args:
        breaks: pairs of a sabotage and the seconds after which it is killed, or None.
        fails: words of the line that a break must end with, if it is not killed.
    """
    for sabotage, seconds in breaks:
        code, said = call(train_words(kind, out, models), sabotage, seconds)
        if "Traceback" in said or (fails and (code != 2 or fails not in said.lower())):
            return f"code {code}: {said[-200:]}"
        if not valid(out):
            return "left a state that is none"
    if wrong := finish(lambda: train_words(kind, out, models)):
        return wrong
    if left := [path.name for path in out.rglob("*.part")]:
        return f"left {left[0]}"
    return "" if outcome(out) == whole else "ends with other numbers"


@contextlib.contextmanager
def small_disk(megabytes: float) -> Iterator[Path | None]:
    """A file system of its own; None where none may be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        how = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1024)}k", "none", folder]
        if os.geteuid() or subprocess.run(how, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, option: str) -> None:
    """Change the small disk: ``size=9m``, ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def on_disk(kind: str, models: Path, whole: tuple, megabytes: float, trouble: str, cure: str) -> str | None:
    """A training on a disk that becomes full or read-only, and is mended; None where none may be mounted."""
    with small_disk(megabytes) as disk:
        if disk is None:
            return None
        out = disk / "run"
        if trouble == "ro":
            call(train_words(kind, out, models), kill_before_renaming(4))
            remount(disk, trouble)
        code, said = call(train_words(kind, out, models))
        if code != 2 or not valid(out):
            return f"code {code}: {said[-200:]}"
        remount(disk, cure)
        return survives(kind, out, models, whole, [])


def campaign(kinds: list[str], folder: Path, moments: int, seed: int = 0) -> Iterator[tuple[str, str, str | None]]:
    """(what, how it was broken, what is wrong or nothing) for every case; None where it cannot be tried here."""
    rng, models = random.Random(seed), folder / "whole"
    for kind in KINDS:
        if kind in kinds or (kind in ("tokenizer", "transformer") and set(kinds) - {"tokenizer", "baseline"}):
            began = time.monotonic()
            code, said = call(train_words(kind, models / kind, models))
            if code:
                yield kind, "not at all", f"code {code}: {said[-200:]}"
                return
            took = time.monotonic() - began
        if kind not in kinds:
            continue
        whole, size = outcome(models / kind), (models / kind / "state.pt").stat().st_size
        any_time = [(lambda: None, rng.uniform(0, took)) for _ in range(moments)]
        saving = [(kill_while_saving(rng.randrange(3)), None) for _ in range(max(1, moments // 5))]
        naming = [(kill_before_renaming(rng.randrange(6)), None) for _ in range(max(1, moments // 5))]
        cases = {
            f"killed at {moments} random moments": (any_time, ""),
            f"killed {len(saving)} times while saving": (saving, ""),
            f"killed {len(naming)} times before a file had its name": (naming, ""),
            "a file that may not grow": ([(small_files(size // 2), None)], "cannot be written"),
            "no number in a batch": ([(nan_in_batch(2), None)], "nan"),
            "a clock that jumps": ([(jumping_clock, None)], ""),
        }
        for name, (breaks, fails) in cases.items():
            yield kind, name, survives(kind, folder / kind / name, models, whole, breaks, fails)
        room = 1.5 * size / 2**20
        yield kind, "a full disk", on_disk(kind, models, whole, room, "full", f"size={int(6 * room) + 1}m")
        yield kind, "a folder that becomes read-only", on_disk(kind, models, whole, 6 * room, "ro", "rw")


def upscaling(folder: Path, model: Path, moments: int, seed: int = 0) -> str:
    """Kill a restoration of three photos at random moments; what is wrong, or nothing."""
    rng, photos = random.Random(seed), folder / "photos"
    photos.mkdir(parents=True)
    for k in range(3):
        write_image(photos / f"{k}.png", find_photo("lemur").load()[:, 40 * k : 40 * k + 24, :24])

    def words(out: str) -> list[str]:
        return ["upscale", str(photos), "--model", str(model), "--out", str(folder / out)]

    began = time.monotonic()
    if wrong := finish(lambda: words("whole")):
        return wrong
    took = time.monotonic() - began
    for k in range(moments):
        harm = rng.choice([lambda: None, kill_before_renaming(k % 9)])
        call(words("broken"), harm, rng.uniform(0, took))
    if wrong := finish(lambda: words("broken")):
        return wrong
    whole, broken = ({p.name: p.read_bytes() for p in (folder / out).iterdir()} for out in ("whole", "broken"))
    return "" if whole == broken else f"other pictures: {sorted(whole.keys() ^ broken.keys())}"


def running(folder: Path, moments: int, seed: int = 0) -> str:
    """Kill the execution of a chapter at random moments; what is wrong, or nothing."""
    rng = random.Random(seed)
    words = ["run", "00", "--profile", "smoke", "--out", str(folder)]
    for _ in range(moments):
        call(words, lambda: None, rng.uniform(0, 20))
    return finish(lambda: words) or ("" if (folder / "summary.md").exists() else "no summary")


def show(what: str, how: str, wrong: str | None) -> bool:
    """Print a line of the table; whether it is well."""
    print(f"{what:<12} {how:<46} {'—' if wrong is None else wrong or 'ok'}", flush=True)
    return not wrong


if __name__ == "__main__":
    told = argparse.ArgumentParser()
    told.add_argument("what", nargs="*", default=[*KINDS, "upscale", "run"])
    told.add_argument("--moments", type=int, default=20)
    args = told.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        fine = [show(*line) for line in campaign([k for k in args.what if k in KINDS], place, args.moments)]
        if "upscale" in args.what:
            model = place / "whole" / "transformer"
            fine += [
                show(
                    "upscale", f"killed at {args.moments} random moments", upscaling(place / "up", model, args.moments)
                )
            ]
        if "run" in args.what:
            few = max(1, args.moments // 10)
            fine += [show("run", f"killed at {few} random moments", running(place / "chapters", few))]
    sys.exit(not all(fine))
