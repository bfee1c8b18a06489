"""The command line: every option is written out."""

import io
import sys
from contextlib import suppress

import pytest

from vartutor.cli import main, parser
from vartutor.cli.parser import Parser


def parsers(top):
    yield top
    for action in top._subparsers._group_actions if top._subparsers else ():
        for sub in action.choices.values():
            yield from parsers(sub)


def test_no_command_takes_shortened_options():
    found = list(parsers(parser()))
    assert {"vartutor", "vartutor upscale", "vartutor data prepare"} <= {each.prog for each in found}
    assert all(isinstance(each, Parser) and not each.allow_abbrev for each in found)


@pytest.mark.parametrize(
    "words",
    [
        ["--vers"],
        ["upscale", "--sca", "1", "x.png", "--out", "y"],
        ["evaluate", "--seed", "0", "--out", "y"],  # of --seeds
        ["data", "prepare", "div2k", "--ou", "y"],
    ],
)
def test_a_shortened_option_is_refused_in_one_line(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["train", "tokenizer", "--help"], ["data", "list"]])
def test_a_terminal_with_few_characters_gets_the_others_escaped(words, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with suppress(SystemExit):  # of --help
        assert main(words) == 0
    assert sys.stdout.tell() > 100
