"""Full runs: one process and two agree, killed runs go on, and the settings that a run can be told."""

import csv
import errno
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.distributed.tensor import DTensor
from vartutor.train.config import RunConfig, read_config
from vartutor.train.distributed import DistributedTrainer
from vartutor.train.launch import launch
from vartutor.train.runs import trained_start, trained_tokenizer, trained_transformer
from vartutor.train.sources import PhotoSource

from vartutor.cli import main
from vartutor.data.crops import RandomCrops
from vartutor.data.images import read_image
from vartutor.data.order import mix
from vartutor.data.photos import load_pixels
from vartutor.data.presets import COURSE
from vartutor.paths import assets
from vartutor.profiles import get_profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.train import sharded
from vartutor.train.loop import Trainer
from vartutor.train.processes import Process
from vartutor.train.transformer import make_transformer
from vartutor.weights.files import load_state

# Few codes and tokens: a vector that stands between two codes may fall to the other side by a rounding error.
SMOKE = replace(get_profile("smoke"), image_size=32, groups=((1, 2), (4,), (8,)), codes=16)


def settings(what, steps=20, **changes):
    run = RunConfig.of(what, SMOKE)
    loop = replace(run.loop, steps=steps, lr=3e-4, log_every=1, save_every=5)
    # What is drawn for every process on its own would differ from one process's draws.
    losses, objective = replace(run.losses, bypass=0.0, revive_every=0), replace(run.objective, slip=0.0)
    return replace(
        run, loop=loop, losses=losses, objective=objective, **{"batch": 4, "degradation": "course"} | changes
    )


def frozen_tokenizer():
    torch.manual_seed(0)
    return build_tokenizer(TokenizerConfig.of(SMOKE)).eval().requires_grad_(False)


def train(what, out, resume=False, **changes):
    run, options = settings(what, **changes), {}
    if what != "tokenizer":
        options["tokenizer"] = frozen_tokenizer()
    if what == "preference":
        options["start"] = make_transformer(run.profile, options["tokenizer"], run.objective).requires_grad_(False)
    return launch(what, run, Path(out), resume=resume, **options)


def start(*args, **options):
    return [row["loss"] for row in train(*args, **options).rows]


def held(trainer):
    """Trained numbers that this process holds."""
    weights = [p for p in trainer.model.parameters() if p.requires_grad]
    return sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in weights)


# Every file name is WHAT-STRATEGY-ROUNDS; a line of the script is one run.
BOTH = f"""
import os, sys, torch
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import *
from vartutor.train.processes import this_process
with this_process() as process:
    out, found = Path(os.environ["OUT"]), {{}}
    for name in sys.argv[1:]:
        what, strategy, rounds = name.split("-")
        trainer = train(what, out / name, strategy=strategy, accumulate=int(rounds))
        found[name] = [row["loss"] for row in trainer.rows], held(trainer)
    torch.save(found, out / f"{{process.rank}}.pt")
"""

NAMES = (
    "tokenizer-ddp-1", "tokenizer-fsdp-1", "transformer-ddp-2", "transformer-fsdp-2", "preference-ddp-1",
    "preference-fsdp-1",
)  # fmt: skip


def test_two_processes_give_the_losses_of_one(two_processes, tmp_path):
    first, second = two_processes(BOTH, *NAMES)
    for name in NAMES:
        losses, numbers = first[name]
        assert losses == second[name][0]
        what, strategy, rounds = name.split("-")
        one = train(what, tmp_path / f"alone-{name}", accumulate=int(rounds))
        alone = [row["loss"] for row in one.rows]
        assert len(alone) == 20
        assert losses == pytest.approx(alone, abs=1e-5)
        assert alone[-1] != alone[0]
        assert numbers == pytest.approx(held(one) / (2 if strategy == "fsdp" else 1), rel=0.02)
    # The whole averaged weights stand in state.pt, whoever held them.
    of = {name: load_state(tmp_path / name / "state.pt") for name in NAMES}
    for name in NAMES:
        alone = load_state(tmp_path / f"alone-{name}" / "state.pt")
        assert of[name]["averaged"].keys() == alone["averaged"].keys()
        assert all(torch.allclose(of[name]["averaged"][k], v, atol=1e-4) for k, v in alone["averaged"].items())
    assert trained_tokenizer(of["tokenizer-fsdp-1"]).quantizer.tokens == 85
    trained_transformer(of["transformer-fsdp-2"])
    trained_start(of["preference-fsdp-1"])


KILL = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_distributed import *
strategy, resume = sys.argv[1], len(sys.argv) > 2
original = DistributedTrainer._step
def step(trainer):
    if trainer.step == 12 and trainer.process.rank == 1 and not resume:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(trainer)
DistributedTrainer._step = step
out = Path(os.environ["OUT"])
losses = start("transformer", out / "killed", strategy=strategy, resume=resume)
torch.save(losses, out / f"{{os.environ['RANK']}}.pt")
"""


@pytest.mark.parametrize("strategy", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(two_processes, tmp_path, strategy):
    two_processes(KILL, strategy, fails="SIGKILL")
    assert [path.name for path in (tmp_path / "killed").glob("step-*")] == ["step-00000010"]
    assert not (tmp_path / "killed" / "state.pt").exists()
    shutil.copytree(tmp_path / "killed", tmp_path / "one")
    whole = start("transformer", tmp_path / "whole")
    first, second = two_processes(KILL, strategy, "resume")
    assert first == second
    assert first == pytest.approx(whole, abs=1e-5)
    assert start("transformer", tmp_path / "one", resume=True) == pytest.approx(whole, abs=1e-5)


def test_one_process_resumes_bit_for_bit(tmp_path):
    whole = start("tokenizer", tmp_path / "whole", steps=8)
    start("tokenizer", tmp_path / "cut", steps=8, max_hours=1e-9)
    assert start("tokenizer", tmp_path / "cut", steps=8, resume=True) == whole


def test_weights_that_no_scale_takes_do_not_stop_a_resumed_run(tmp_path):
    short = replace(SMOKE, groups=((2,), (4,), (8,)))  # three maps, four φ
    whole = start("tokenizer", tmp_path / "whole", steps=6, profile=short)
    start("tokenizer", tmp_path / "cut", steps=6, profile=short, max_hours=1e-9)
    assert start("tokenizer", tmp_path / "cut", steps=6, profile=short, resume=True) == whole


def test_a_request_to_terminate_saves_first(tmp_path, monkeypatch):
    original = DistributedTrainer._step

    def step(trainer):
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(trainer)

    monkeypatch.setattr(DistributedTrainer, "_step", step)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        start("tokenizer", tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000003"]


def test_the_time_is_over(tmp_path, capsys):
    assert len(start("tokenizer", tmp_path, max_hours=1e-9)) == 1
    assert "stopped after step 1 and saved" in capsys.readouterr().err
    assert load_state(tmp_path / "state.pt")["step"] == 1


def test_rounds_add_up_to_one_batch(tmp_path):
    class Given:
        def seek(self, number):
            self.number = number

    source, data = Given(), torch.randn(2, 4, 3)
    rounds, whole = (torch.nn.Linear(3, 1) for _ in range(2))
    whole.load_state_dict(rounds.state_dict())
    run = settings("tokenizer", accumulate=2)
    loss = lambda model, x: (model(x).square().mean(), {"seen": float(len(x))})  # noqa: E731
    one = DistributedTrainer(
        rounds, lambda _: loss(rounds, data[source.number]), run, tmp_path / "a", source, Process()
    )
    two = Trainer(whole, lambda _: loss(whole, data.flatten(0, 1)), run.loop, tmp_path / "b", [])
    assert one._step()["loss"] == pytest.approx(two._step()["loss"])
    assert torch.allclose(rounds.weight, whole.weight, atol=1e-6)
    assert source.number == 1


def test_processes_share_the_batch_of_one():
    whole = PhotoSource(32, 4, COURSE, Process())
    halves = [PhotoSource(32, 4, COURSE, Process(rank, 2)) for rank in (0, 1)]
    for source in (whole, *halves):
        source.seek(7)
    expected, parts = whole.pairs(), [half.pairs() for half in halves]
    assert torch.equal(torch.cat([p.lr for p in parts]), expected.lr)
    assert torch.equal(torch.cat([p.hr[4] for p in parts]), expected.hr[4])
    whole.seek(8)
    assert not torch.equal(whole.pairs().lr, expected.lr)


def test_a_part_of_the_crops_is_the_same_crops():
    images = load_pixels("train")[:2]
    whole, part = RandomCrops(images, 32, 6, seed=3), RandomCrops(images, 32, 6, seed=3, part=slice(2, 4))
    for _ in range(2):
        assert torch.equal(part.batch(), whole.batch()[2:4])


def test_seeds_of_steps_do_not_meet():
    seeds = {mix(seed, step, stream) for seed in range(5) for step in range(200) for stream in range(5)}
    assert len(seeds) == 5000
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("what", [pytest.param("tokenizer", marks=pytest.mark.slow), "transformer"])
def test_compiled_models_give_the_same_loss(tmp_path, what):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain = start(what, tmp_path / "plain", steps=2)
    compiled = start(what, tmp_path / "compiled", steps=2, compile=True)
    assert compiled == pytest.approx(plain, abs=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert not torch._dynamo.utils.counters["graph_break"]
    names = load_state(tmp_path / "plain" / "state.pt")["averaged"].keys()
    assert load_state(tmp_path / "compiled" / "state.pt")["averaged"].keys() == names


@pytest.mark.parametrize("what", ["tokenizer", "transformer"])
def test_pictures_as_it_trains(tmp_path, what):
    start(what, tmp_path, steps=4, images_every=2)
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == [
        "step-00000002.png",
        "step-00000004.png",
    ]
    assert read_image(tmp_path / "samples" / "step-00000004.png").shape == (3, 64, 128)


def test_log_and_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    start("tokenizer", tmp_path, steps=2, tensorboard=True)
    with open(tmp_path / "log.csv") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2]


def test_a_full_disk_keeps_the_state_before(tmp_path, monkeypatch, raises_user_error):
    start("tokenizer", tmp_path, steps=1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sharded.dcp, "save", full)
    with raises_user_error("step-00000002", "No space left", "kept"):
        start("tokenizer", tmp_path, steps=2, resume=True)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000001"]
    assert len(start("tokenizer", tmp_path, steps=2, resume=True)) == 2


def test_states_of_other_models_are_refused(tmp_path, raises_user_error):
    with raises_user_error("no saved state"):
        start("tokenizer", tmp_path / "none", resume=True)
    start("tokenizer", tmp_path, steps=1)
    with raises_user_error("step-00000001", "another model"):
        start("transformer", tmp_path, resume=True)


def test_a_file_and_single_settings_over_the_profile(tmp_path):
    run = RunConfig.of("transformer", SMOKE)
    file = tmp_path / "run.yaml"
    file.write_text("batch: 8\nloop:\n  lr: 1e-4\n  steps: 7\nprofile:\n  transformer: {depth: 3}\n")
    found = read_config(run, file, ["loop.steps=9", "bf16=true", "profile.groups=[[1, 2], [4, 8], [16]]"])
    assert (found.batch, found.loop.lr, found.loop.steps, found.bf16) == (8, 1e-4, 9, True)
    assert found.profile.transformer.depth == 3
    assert found.profile.groups == ((1, 2), (4, 8), (16,))
    assert found.objective == run.objective
    assert read_config(run) == run


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("lopp.lr=1", "unknown key 'lopp'; did you mean loop?"),
        ("loop.stps=1", "unknown key 'stps'; did you mean steps?"),
        ("loop=1", "1 stands where keys are expected"),
        ("batch=many", "batch is 'many', not a whole number"),
        ("batch=1.5", "batch is 1.5, not a whole number"),
        ("bf16=1", "bf16 is 1, not true or false"),
        ("loop.lr=true", "lr is True, not a number"),
        ("strategy=3", "strategy is 3, not a word"),
        ("profile.groups=5", "groups is 5, not a list"),
        ("batch", "write KEY=VALUE"),
        ("batch=[", "not readable as YAML"),
    ],
)
def test_wrong_settings_get_one_line(word, words, raises_user_error):
    with raises_user_error("--set", words):
        read_config(RunConfig.of("tokenizer", SMOKE), None, [word])


def test_wrong_files_get_one_line(tmp_path, raises_user_error):
    run, file = RunConfig.of("tokenizer", SMOKE), tmp_path / "run.yaml"
    with raises_user_error("run.yaml", "not readable"):
        read_config(run, file)
    file.write_text("batch: [1")
    with raises_user_error("run.yaml", "not readable as YAML"):
        read_config(run, file)
    file.write_text("3")
    with raises_user_error("run.yaml", "3 stands where keys are expected"):
        read_config(run, file)


def test_settings_that_do_not_fit_each_other(raises_user_error):
    run = RunConfig.of("tokenizer", SMOKE)
    with raises_user_error("batch 4", "3 processes"):
        run.check(3)
    with raises_user_error("accumulate 8"):
        replace(run, accumulate=8).check(1)
    with raises_user_error("strategy 'zero'"):
        replace(run, strategy="zero").check(1)


def test_the_command_takes_settings(tmp_path, capsys):
    call = ["train", "tokenizer", "--profile", "smoke", "--out", str(tmp_path / "run")]
    assert main([*call, "--set", "loop.steps=2", "--set", "batch=2"]) == 0
    assert load_state(tmp_path / "run" / "state.pt")["step"] == 2
    assert "validation: ×1" in capsys.readouterr().out
    assert main([*call, "--set", "loop.steps=3"]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*call[:-1], str(tmp_path / "other"), "--set", "loop.stps=2"]) == 2
    assert "did you mean steps?" in capsys.readouterr().err


def test_the_command_resumes_a_transformer_that_was_killed(tmp_path, capsys):
    tokenizer, out = tmp_path / "tokenizer", tmp_path / "run"
    common = ["--profile", "smoke", "--set", "batch=2", "--set", "loop.steps=2"]
    assert main(["train", "tokenizer", *common, "--out", str(tokenizer)]) == 0
    call = ["train", "transformer", *common, "--out", str(out)]
    assert main([*call, "--tokenizer", str(tokenizer), "--max-hours", "1e-9"]) == 0
    (out / "state.pt").unlink()  # a killed run has none
    assert main([*call, "--resume"]) == 0
    assert load_state(out / "state.pt")["step"] == 2
    assert "1e-09 hours are over; --resume goes on" in capsys.readouterr().err


def test_a_dry_run_is_the_same_run_at_toy_size():
    told = read_config(RunConfig.of("transformer", get_profile("gpu")), None, ["strategy=fsdp", "accumulate=6"])
    dry = told.dry(2)
    dry.check(1)
    dry.check(2)
    assert dry.batch == told.dry(1).batch  # so that it can go on with another number of processes
    assert (dry.strategy, dry.accumulate, dry.objective) == ("fsdp", 2, told.objective)
    kept = ("autoencoder", "scales", "full_batch")
    assert all(getattr(dry.profile, name) == getattr(told.profile, name) for name in kept)
    assert dry.profile.transformer == replace(told.profile.transformer, width=64, depth=2, heads=2)


@pytest.mark.parametrize("name", ["tokenizer", "transformer", "preference"])
def test_the_settings_that_the_course_ships_fit_eight_processes(name):
    run = RunConfig.of(name, get_profile("gpu"))
    told = read_config(run, assets() / "configs" / f"{name}.yaml")
    told.check(8)
    assert (told.loop.lr, told.loop.steps, told.batch) == (run.loop.lr, run.loop.steps, run.batch)


def test_dry_runs_by_the_command(tmp_path, capsys):
    call = ["--profile", "gpu", "--dry-run", "--set", "loop.steps=2", "--out"]
    assert main(["train", "tokenizer", *call, str(tmp_path / "a")]) == 0
    words = ["train", "transformer", "--tokenizer", str(tmp_path / "a"), "--init", "none.pth"]
    assert main([*words, *call, str(tmp_path / "b")]) == 0  # no weights of the published size are read
    words = ["train", "preference", "--model", str(tmp_path / "b")]
    assert main([*words, *call, str(tmp_path / "c"), "--max-hours", "1e-9"]) == 0
    assert load_state(tmp_path / "c" / "state.pt")["step"] == 1
    assert main([*words, *call, str(tmp_path / "c"), "--resume"]) == 0
    state = load_state(tmp_path / "c" / "state.pt")
    assert (state["step"], state["info"]["kind"], len(state["rows"])) == (2, "preference", 2)
    assert state["info"]["run"]["data"] == ["photos"]
