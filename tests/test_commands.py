"""What the text says to type, the program takes: README, book, chapters, and the settings that are shipped."""

import re
import shlex
from pathlib import Path

import pytest

from vartutor.cli import parser
from vartutor.gpus import get_gpu
from vartutor.plan.rounds import fit, plan_of
from vartutor.profiles import get_profile
from vartutor.train.kinds import KINDS
from vartutor.train.options import read_settings
from vartutor.train.processes import Process

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")), *sorted((ROOT / "notebooks").glob("*.py"))]


def commands(text: str) -> list[str]:
    """``vartutor`` calls with options, in backticks and in blocks of shell; those with gaps to fill are left out."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [*re.findall(r"`(vartutor [^`]+)`", text), *lines]
    found = [re.search(r"(?:^|-m )vartutor (\w.* --.+)", call.split("   #")[0].replace("\n", " ")) for call in calls]
    return [call[1] for call in found if call and "…" not in call[1] and "--help" not in call[1]]


def full_runs(text: str) -> list[tuple[str, int, str]]:
    """Commands that train at the published size; on how many GPUs, and which: the one that was planned for before."""
    found, gpu = [], "h100"
    for line in re.sub(r"\\\n *", " ", text).splitlines():
        gpu = m[1] if (m := re.search(r"vartutor plan .*--gpu (\S+)", line)) else gpu
        if m := re.search(r"(?:--nproc-per-node (\d+) .*)?vartutor (train .*--profile gpu1?\b[^`]*)", line):
            found.append((m[2].split("   #")[0], int(m[1] or 1), gpu))
    return found


def fitted(kind, run, processes, gpu):
    """The settings with a batch for this GPU, as the command finds it; the plan's bytes are below the GPU's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vartutor.plan.rounds.memory_of", lambda process: get_gpu(gpu).memory)
        told, _ = fit(kind, run, Process(size=processes))
    told.check(processes)
    plan, at_once = plan_of(kind, told, get_gpu(gpu).memory, processes), told.batch // processes // told.accumulate
    assert at_once <= plan.largest
    assert plan.state + plan.counts.activations(at_once) < 0.9 * get_gpu(gpu).memory
    return told


CALLS = [(path.name, call) for path in TEXTS for call in commands(path.read_text(encoding="utf-8"))]


def test_the_text_has_commands():
    assert {"README.md", "from-varsr.md", "07_super_resolution.py"} <= {name for name, _ in CALLS}
    assert {call.split()[1] for _, call in CALLS if call.startswith("train ")} == KINDS.keys()


@pytest.mark.parametrize(("where", "call"), CALLS)
def test_the_program_takes_every_command_of_the_text(where, call):
    args = parser().parse_args(shlex.split(call))
    assert args.command == shlex.split(call)[0]
    assert callable(args.action)
    if args.command == "train":
        kind = KINDS[args.what]
        run = read_settings(
            kind.settings.of(get_profile(args.profile or "cpu")), args.config and ROOT / args.config, args.set
        )
        assert type(run) is kind.settings
        if run.batch != "auto":
            run.check(processes=8 if args.profile else 1)


FULL = [(path.name, *call) for path in TEXTS for call in full_runs(path.read_text(encoding="utf-8"))]


def test_the_text_has_full_runs():
    assert {"README.md", "commands.md"} <= {where for where, *_ in FULL}
    assert {(processes, "--profile gpu1" in call) for _, call, processes, _ in FULL} == {(8, False), (1, True)}


@pytest.mark.parametrize(("where", "call", "processes", "gpu"), FULL)
def test_full_runs_fit_the_gpus_that_the_text_names(where, call, processes, gpu):
    args = parser().parse_args(shlex.split(call))
    start = KINDS[args.what].settings.of(get_profile(args.profile))
    run = read_settings(start, args.config and ROOT / args.config, args.set)
    told = fitted(args.what, run, processes, gpu)
    assert run.batch != "auto" or told.batch == start.batch


@pytest.mark.parametrize("path", sorted((ROOT / "assets" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_that_are_shipped_fit_eight_gpus_and_repeat_the_profile(path):
    start = KINDS[path.stem].settings.of(get_profile("gpu"))
    run = read_settings(start, path)
    assert (run.loop.steps, run.loop.lr) == (start.loop.steps, start.loop.lr)
    assert fitted(path.stem, run, 8, "h100").batch == start.batch
