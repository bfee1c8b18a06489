"""The trainer on two processes: they do what one does, and whoever is killed can be replaced."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor

from vartutor.cli import main
from vartutor.data.draws import mix
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train.kinds import KINDS, train
from vartutor.train.processes import Process, this_process
from vartutor.train.sizes import make_transformer
from vartutor.train.source import make_source, share
from vartutor.train.transformer import Objective
from vartutor.weights import parts_of, tokenizer_of, transformer_of
from vartutor.weights.files import STATE, load_state

# Few codes and tokens: a vector that stands between two codes may fall to the other side by a rounding error.
SMOKE = replace(get_profile("smoke"), image_size=32, groups=((1, 2), (4,), (8,)), codes=16, cnn_width=8)


def settings(kind, steps=20, **changes):
    common = {"steps": steps, "lr": 3e-4, "log_every": 1, "save_every": 5, "validate_every": 0, "batch": 4}
    run_ = KINDS[kind].settings.of(SMOKE, **common | changes)
    if kind in ("fidelity", "refiner"):  # a sampled code may fall to the other side by a rounding error
        run_ = replace(run_, objective=replace(run_.objective, expected=True))
    if kind == "fidelity":  # its last layers start at zero, where Adam makes large steps of small differences
        run_ = replace(run_, loop=replace(run_.loop, lr=5e-5))
    return run_


def models(kind):
    """What a kind of run is trained over, untrained."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TokenizerConfig.of(SMOKE)).eval().requires_grad_(False)
    model = make_transformer(SMOKE, tokenizer).eval().requires_grad_(False)
    over = {"over": (model, tokenizer)}
    start = {"start": (model, tokenizer, vars(Objective.of(SMOKE.transformer)))}
    return {"transformer": {"tokenizer": tokenizer}, "preference": start, "fidelity": over, "refiner": over}.get(
        kind, {}
    )


def run(kind, out, resume=False, **changes):
    return train(kind, settings(kind, **changes), Path(out), device="cpu", resume=resume, **models(kind))


def losses(trainer):
    return [row["loss"] for row in trainer.rows]


def held(trainer):
    """Trained numbers that this process holds."""
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    return sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in weights)


# Every file name is KIND-STRATEGY-ROUNDS; a word of the script is one run.
BOTH = f"""
import os, sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import *
with this_process() as process:
    out, found = Path(os.environ["OUT"]), {{}}
    for name in sys.argv[1:]:
        kind, strategy, rounds = name.split("-")
        trainer = run(kind, out / name, strategy=strategy, accumulate=int(rounds), steps=12)
        found[name] = losses(trainer), held(trainer)
    torch.save(found, out / f"{{process.rank}}.pt")
"""

NAMES = (
    "tokenizer-ddp-1", "tokenizer-fsdp-2", "transformer-ddp-2", "transformer-fsdp-1", "preference-ddp-1",
    "preference-fsdp-2", "fidelity-ddp-2", "baseline-ddp-1", "baseline-fsdp-2", "refiner-ddp-1",
)  # fmt: skip


def test_two_processes_give_the_losses_of_one(two_processes, tmp_path):
    """All draws, of slips and of images that skip the quantizer too, are the photos' own."""
    first, second = two_processes(BOTH, *NAMES)
    for name in NAMES:
        together, numbers = first[name]
        assert together == second[name][0]
        kind, strategy, rounds = name.split("-")
        one = run(kind, tmp_path / f"alone-{name}", accumulate=int(rounds), steps=12)
        alone = losses(one)
        assert len(alone) == 12
        assert together == pytest.approx(alone, abs=1e-5)
        assert alone[-1] != alone[0]
        assert numbers == pytest.approx(held(one) / (2 if strategy == "fsdp" else 1), rel=0.1)
        ours, theirs = (load_state(tmp_path / run / STATE) for run in (name, f"alone-{name}"))
        assert ours["averaged"].keys() == theirs["averaged"].keys()
        assert all(torch.allclose(ours["averaged"][k], v, atol=1e-4) for k, v in theirs["averaged"].items())
    of = {name: load_state(tmp_path / name / STATE) for name in NAMES}
    assert tokenizer_of(parts_of(of["tokenizer-fsdp-2"])).quantizer.tokens == 85
    transformer_of(parts_of(of["transformer-fsdp-1"]))
    transformer_of(parts_of(of["preference-fsdp-2"]), "start")


@pytest.mark.parametrize("kind", list(KINDS))
def test_one_large_batch_is_one_large_batch(tmp_path, kind):
    """1 × 16 and 4 × 4: codes that follow averages, their hits, and every loss."""
    whole, rounds = (run(kind, tmp_path / str(n), batch=16, accumulate=n) for n in (1, 4))
    assert losses(rounds) == pytest.approx(losses(whole), abs=1e-5)
    assert len(losses(whole)) == 20
    ours, theirs = rounds.model.state_dict(), whole.model.state_dict()
    assert all(torch.allclose(ours[name].float(), theirs[name].float(), atol=1e-3) for name in theirs)


def test_revival_and_critic_move_once_per_step(tmp_path):
    lively = replace(
        settings("tokenizer").losses, revive_every=3, adversarial=0.5, adversarial_start=0.2, perceptual=0.1
    )
    steps, moved = [], []
    for n in (1, 2):
        trainer = run("tokenizer", tmp_path / str(n), accumulate=n, losses=lively, steps=9)
        adversary = trainer.job.parts["adversary"]
        steps.append({int(state["step"]) for state in adversary.optimizer.state.values()})
        moved.append(losses(trainer))
    assert steps[0] == steps[1] == {9}
    assert moved[0][0] == pytest.approx(moved[1][0], abs=1e-5)  # before the critic has a say
    assert moved[0] == pytest.approx(moved[1], rel=0.05)  # its weight is balanced round by round


KILL = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import *
from vartutor.train.trainer import Trainer
strategy, resume = sys.argv[1], len(sys.argv) > 2
original = Trainer._step
def step(trainer, moment):
    if trainer.step == 12 and trainer.process.rank == 1 and not resume:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(trainer, moment)
Trainer._step = step
out = Path(os.environ["OUT"])
trainer = run("transformer", out / "killed", strategy=strategy, resume=resume)
torch.save(losses(trainer), out / f"{{os.environ['RANK']}}.pt")
"""


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(two_processes, tmp_path, strategy):
    two_processes(KILL, strategy, fails="SIGKILL")
    assert load_state(tmp_path / "killed" / STATE)["step"] == 10
    assert [path.name for path in (tmp_path / "killed").iterdir() if path.suffix == ".part"] == []
    shutil.copytree(tmp_path / "killed", tmp_path / "one")
    whole = losses(run("transformer", tmp_path / "whole"))
    first, second = two_processes(KILL, strategy, "resume")
    assert first == second
    assert first == pytest.approx(whole, abs=1e-5)
    assert losses(run("transformer", tmp_path / "one", resume=True)) == pytest.approx(whole, abs=1e-5)


def test_processes_and_rounds_share_the_photos_of_a_step():
    run_ = settings("transformer", degradation="course")
    whole = make_source(run_, Process()).batch(share(7, 0, run_, Process()))
    for size, rounds in ((2, 1), (1, 2), (2, 2)):
        split, parts = replace(run_, accumulate=rounds), []
        for k in range(rounds):
            for rank in range(size):
                process = Process(rank, size)
                parts.append(make_source(split, process).batch(share(7, k, split, process)))
        assert torch.equal(torch.cat([part.lr for part in parts]), whole.lr)
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    other = make_source(run_, Process()).batch(share(8, 0, run_, Process()))
    assert not torch.equal(other.x, whole.x)


def test_seeds_of_steps_do_not_meet():
    seeds = {mix(seed, step, stream) for seed in range(5) for step in range(200) for stream in range(5)}
    assert len(seeds) == 5000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_processes_that_outnumber_the_gpus_share_the_cpu(monkeypatch, raises_user_error):
    """A machine with one visible GPU: two processes must not both ask for it, nor for a second one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with this_process() as process:
        assert (process.device.type, process.size, process.rank) == ("cpu", 2, 1)
    with raises_user_error("2 processes on 1 GPUs"), this_process("cuda"):
        pass


@pytest.mark.parametrize("kind", [pytest.param("tokenizer", marks=pytest.mark.slow), "transformer"])
def test_compiled_models_give_the_same_loss(tmp_path, kind):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain = losses(run(kind, tmp_path / "plain", steps=3))
    compiled = losses(run(kind, tmp_path / "compiled", steps=3, compile=(kind,)))
    assert compiled == pytest.approx(plain, abs=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    names = load_state(tmp_path / "plain" / STATE)["averaged"].keys()
    assert load_state(tmp_path / "compiled" / STATE)["averaged"].keys() == names


def test_unknown_parts_are_not_compiled(tmp_path, raises_user_error):
    with raises_user_error("no part 'head'", "transformer, tokenizer"):
        run("transformer", tmp_path, compile=("head",))


def test_dry_runs_by_the_command(tmp_path, capsys):
    call = ["--profile", "gpu", "--dry-run", "--device", "cpu", "--set", "loop.steps=2", "--out"]
    assert main(["train", "tokenizer", *call, str(tmp_path / "a")]) == 0
    words = ["train", "transformer", "--set", f"tokenizer={tmp_path / 'a'}", "--set", "init=none.pth"]
    assert main([*words, *call, str(tmp_path / "b")]) == 0
    assert "dry run: init=none.pth is left out" in capsys.readouterr().out
    words = ["train", "preference", "--set", f"model={tmp_path / 'b'}"]
    assert main([*words, *call, str(tmp_path / "c"), "--max-hours", "1e-9"]) == 0
    assert load_state(tmp_path / "c" / STATE)["step"] == 1
    assert main([*words, *call, str(tmp_path / "c"), "--resume"]) == 0
    state = load_state(tmp_path / "c" / STATE)
    assert (state["step"], state["info"]["kind"], len(state["rows"])) == (2, "preference", 2)
    assert state["info"]["run"]["data"] == ["photos"]
    assert capsys.readouterr().out.count("validation photos: ×1 ") == 1
