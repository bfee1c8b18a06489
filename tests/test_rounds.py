"""``batch=auto``: by the plan, halved where memory ends all the same, and always said."""

from dataclasses import replace

import pytest
import torch

from vartutor.cli import main
from vartutor.plan.rounds import fit, in_rounds, plan_of
from vartutor.profiles import get_profile
from vartutor.train.kinds import KINDS
from vartutor.train.processes import Process
from vartutor.train.tokenizer import TokenizerLoss
from vartutor.weights.files import STATE, load_state

SMOKE = replace(get_profile("smoke"), full_batch=12)


@pytest.fixture
def room(monkeypatch):
    """``room(bytes)``: what every device has."""
    return lambda size: monkeypatch.setattr("vartutor.plan.rounds.memory_of", lambda process: size)


def auto(kind):
    return KINDS[kind].settings.of(SMOKE, batch="auto")


@pytest.mark.parametrize("kind", ["tokenizer", "transformer", "preference"])
def test_the_profiles_batch_in_as_few_rounds_as_the_plan_says(kind, room):
    plan = plan_of(kind, auto(kind), 1e12, 1)
    for at_once, rounds in ((12, 1), (11, 2), (6, 2), (5, 3), (1, 12)):
        room((plan.state + plan.counts.activations(at_once)) / 0.9 + 1)
        run, line = fit(kind, auto(kind), Process())
        assert (run.batch, run.accumulate) == (12, rounds)
        assert f"12 photos = 1 processes × {rounds} rounds × {12 // rounds}, " in line
        run.check(1)
    for size in (2, 3):
        run, line = fit(kind, auto(kind), Process(size=size))
        assert (run.batch, run.accumulate) == (12, 12 // size)
        assert f"{size} processes" in line


def test_blocks_are_computed_twice_only_where_few_photos_would_fit(room):
    plan = plan_of("transformer", auto("transformer"), 1e12, 1)
    for at_once, again in ((4, False), (3, True)):
        room((plan.state + plan.counts.activations(at_once)) / 0.9 + 1)
        run, line = fit("transformer", auto("transformer"), Process())
        assert run.profile.transformer.checkpointing == again
        assert line.endswith(", blocks computed twice") == again


def test_what_cannot_be_planned_is_one_line(room, raises_user_error):
    room(1e6)
    with raises_user_error("batch=auto", "not one photo fits into 0 GB"):
        fit("tokenizer", auto("tokenizer"), Process())
    with raises_user_error("batch=auto", "a baseline is not planned"):
        fit("baseline", auto("baseline"), Process())
    with raises_user_error("batch=auto is for the command"):
        auto("tokenizer").check(1)
    run = replace(auto("tokenizer"), batch=7)
    assert fit("tokenizer", run, Process()) == (run, "")


def test_rounds_share_a_batch_evenly():
    run = replace(auto("tokenizer"), batch=48)
    assert [in_rounds(run, 2, least).accumulate for least in (1, 5, 7, 13, 30)] == [1, 6, 8, 24, 24]


def train(out, *words):
    call = ["train", "tokenizer", "--profile", "smoke", "--device", "cpu", "--no-report", "--out", str(out)]
    return main([*call, "--set", "loop.steps=2", *words])


@pytest.fixture
def memory_for(monkeypatch):
    """``memory_for(n)``: no more photos than n at once, or the device is out of memory."""
    original = TokenizerLoss.__call__

    def limit(count):
        def call(loss, batch, moment):
            if len(batch.x) > count:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.40 GiB.")
            return original(loss, batch, moment)

        monkeypatch.setattr(TokenizerLoss, "__call__", call)

    return limit


def test_where_memory_ends_all_the_same_half_as_many_go_on(tmp_path, capsys, memory_for):
    memory_for(1)
    assert train(tmp_path / "auto", "--set", "batch=auto") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "rounds" in line]
    assert said[0].startswith("batch by plan: 4 photos = 1 processes × 1 rounds × 4, ")
    assert said[1:] == [f"out of memory: goes on with half as many photos at once, {n} rounds per step" for n in (2, 4)]
    assert train(tmp_path / "told", "--set", "accumulate=4") == 0
    auto, told = (load_state(tmp_path / name / STATE) for name in ("auto", "told"))
    assert auto["info"]["settings"] == told["info"]["settings"]
    assert all(torch.equal(auto["averaged"][name], value) for name, value in told["averaged"].items())


def test_a_batch_that_was_told_stays_and_what_to_do_is_said(tmp_path, capsys, memory_for):
    memory_for(1)
    assert train(tmp_path, "--set", "batch=4") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "out of memory with 1 rounds per step: begin again, or --resume, with --set accumulate=2" in said
    memory_for(0)
    assert train(tmp_path, "--set", "batch=auto") == 2
    assert "out of memory with 4 rounds per step" in capsys.readouterr().err
