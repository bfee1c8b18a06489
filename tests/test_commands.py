"""What the text says to type, the program takes: README, book, chapters, and the settings that are shipped."""

import re
import shlex
from pathlib import Path

import pytest

from vartutor.cli import parser
from vartutor.profiles import get_profile
from vartutor.train.kinds import KINDS
from vartutor.train.options import read_settings

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md")), *sorted((ROOT / "notebooks").glob("*.py"))]


def commands(text: str) -> list[str]:
    """``vartutor`` calls with options, in backticks and in blocks of shell; those with gaps to fill are left out."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [*re.findall(r"`(vartutor [^`]+)`", text), *lines]
    found = [re.search(r"(?:^|-m )vartutor (\w.* --.+)", call.split("   #")[0].replace("\n", " ")) for call in calls]
    return [call[1] for call in found if call and "…" not in call[1] and "--help" not in call[1]]


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
        run.check(processes=8 if args.profile else 1)
        assert type(run) is kind.settings


@pytest.mark.parametrize("path", sorted((ROOT / "assets" / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_settings_that_are_shipped_fit_eight_gpus_and_repeat_the_profile(path):
    start = KINDS[path.stem].settings.of(get_profile("gpu"))
    run = read_settings(start, path)
    run.check(processes=8)
    assert (run.batch, run.loop.steps, run.loop.lr) == (start.batch, start.loop.steps, start.loop.lr)
