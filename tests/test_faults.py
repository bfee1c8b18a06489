"""Short forms of the campaign in faults.py: trainings and a restoration that are broken, and finish."""

import os
import sys
from itertools import islice

import pytest

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

import faults


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


def test_a_training_that_is_killed_or_lacks_room_ends_as_an_unbroken_one(place):
    lines = list(islice(faults.campaign(["baseline"], place / "short", moments=1), 5))
    assert [line for line in lines if line[2]] == []
    assert len(lines) == 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", faults.KINDS)
def test_a_broken_training_ends_as_an_unbroken_one(place, kind):
    lines = list(faults.campaign([kind], place, moments=2))
    assert [line for line in lines if line[2]] == []
    assert len(lines) == 8


@pytest.mark.slow
def test_a_broken_restoration_is_finished_by_the_same_command(place):
    models = place / "whole"
    for kind in ("tokenizer", "transformer"):
        assert os.path.exists(models / kind) or faults.call(faults.train_words(kind, models / kind, models))[0] == 0
    assert faults.upscaling(place / "up", models / "transformer", moments=4) == ""


def test_the_campaign_sees_what_is_wrong(place, monkeypatch):
    """A state that is written in place, as a careless program would, does not survive a kill."""
    monkeypatch.setattr("vartutor.train.state.whole", faults.careless)
    lines = [faults.survives("baseline", place / "careless", place, (), [(faults.kill_while_saving(1), None)])]
    assert lines == ["left a state that is none"]
