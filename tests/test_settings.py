"""What a run can be told, by file, by key and by command; and that nothing is switched silently."""

from dataclasses import replace

import pytest

from vartutor.cli import main
from vartutor.paths import assets
from vartutor.profiles import get_profile
from vartutor.train.kinds import KINDS
from vartutor.train.options import describe_settings, differences, read_settings
from vartutor.train.settings import TokenizerSettings, TransformerSettings
from vartutor.train.tokenizer import Losses
from vartutor.weights.files import STATE, load_state

SMOKE = get_profile("smoke")


def test_a_file_and_single_settings_over_the_profile(tmp_path):
    run = TransformerSettings.of(SMOKE)
    file = tmp_path / "run.yaml"
    file.write_text("batch: 8\nloop:\n  lr: 1e-4\n  steps: 7\nprofile:\n  transformer: {depth: 3}\n")
    words = ["loop.steps=9", "bf16=true", "profile.groups=[[1, 2], [4, 8], [16]]", "compile=[transformer]"]
    found = read_settings(run, file, words)
    assert (found.batch, found.loop.lr, found.loop.steps, found.bf16) == (8, 1e-4, 9, True)
    assert found.profile.transformer.depth == 3
    assert found.profile.groups == ((1, 2), (4, 8), (16,))
    assert found.compile == ("transformer",)
    assert found.objective == run.objective
    assert read_settings(run) == run


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("lopp.lr=1", "unknown key 'lopp'; did you mean loop?"),
        ("loop.stps=1", "unknown key 'stps'; did you mean steps?"),
        ("loop=1", "1 stands where keys are expected"),
        ("batch=many", "batch is 'many', not a whole number"),
        ("batch=automatic", "batch is 'automatic', not a whole number"),
        ("batch=1.5", "batch is 1.5, not a whole number"),
        ("bf16=1", "bf16 is 1, not true or false"),
        ("loop.lr=true", "loop.lr is True, not a number"),
        ("strategy=3", "strategy is 3, not a word"),
        ("profile.groups=5", "groups is 5, not a list"),
        ("profile.study_size=[1, 2]", "study_size is [1, 2], not a list of 3"),
        ("compile=transformer", "compile is 'transformer', not a list"),
        ("batch", "write KEY=VALUE"),
        ("batch=[", "not readable as YAML"),
    ],
)
def test_wrong_settings_get_one_line(word, words, raises_user_error):
    with raises_user_error("--set", words):
        read_settings(TokenizerSettings.of(SMOKE), None, [word])


def test_words_are_laid_over_together():
    """Half of them may not fit each other: without any weight there is no objective."""
    run = TransformerSettings.of(get_profile("gpu"))
    for words in (["objective.hard=0", "objective.soft=1"], ["objective.soft=1", "objective.hard=0"]):
        objective = read_settings(run, None, words).objective
        assert (objective.hard, objective.soft) == (0.0, 1.0)
    found = read_settings(run, None, ["loop={lr: 0.5, steps: 3}", "loop.steps=4", "batch=8", "batch=24"])
    assert (found.loop.lr, found.loop.steps, found.batch) == (0.5, 4, 24)  # the last word rules


def test_wrong_files_get_one_line(tmp_path, raises_user_error):
    run, file = TokenizerSettings.of(SMOKE), tmp_path / "run.yaml"
    with raises_user_error("run.yaml", "not readable"):
        read_settings(run, file)
    file.write_text("batch: [1")
    with raises_user_error("run.yaml", "not readable as YAML"):
        read_settings(run, file)
    file.write_text("3")
    with raises_user_error("run.yaml", "3 stands where keys are expected"):
        read_settings(run, file)


def test_settings_that_do_not_fit_each_other(raises_user_error):
    run = TokenizerSettings.of(SMOKE)
    for changes, processes, words in (
        ({}, 3, ("batch 4", "3 processes")),
        ({"accumulate": 8}, 1, ("accumulate 8",)),
        ({"strategy": "zero"}, 1, ("strategy 'zero'",)),
        ({"seed": -1}, 1, ("seed -1",)),
        ({"degradation": "rain"}, 1, ("unknown degradation 'rain'",)),
        ({"strategy": "fsdp", "losses": Losses(codes="loss")}, 2, ("codes=ema",)),
        ({"loop": replace(run.loop, steps=0)}, 1, ("loop.steps 0",)),
        ({"loop": replace(run.loop, lr=0.0)}, 1, ("loop.lr 0",)),
        ({"loop": replace(run.loop, clip=0.0)}, 1, ("loop.clip 0",)),
        ({"loop": replace(run.loop, seconds=-1.0)}, 1, ("loop.seconds -1",)),
        ({"loop": replace(run.loop, warmup=1.0)}, 1, ("loop.warmup 1", "below 1")),
        ({"loop": replace(run.loop, weight_decay=-0.1)}, 1, ("loop.weight_decay -0.1",)),
    ):
        with raises_user_error(*words):
            replace(run, **changes).check(processes)


@pytest.mark.parametrize("kind", list(KINDS))
def test_settings_survive_json_and_explain_themselves(kind, raises_user_error):
    settings = KINDS[kind].settings
    run = settings.of(get_profile("gpu"), seed=3, lr=0.5, compile=("transformer",))
    assert settings.from_json(run.to_json()) == run
    assert list(differences(settings.of(get_profile("gpu")), run)) == [
        f"loop.lr: {settings.of(get_profile('gpu')).loop.lr} -> 0.5",
        "seed: 0 -> 3",
        "compile: () -> ('transformer',)",
    ]
    lines = list(describe_settings(run))
    assert "  seed=3                             0 to 9999" in lines
    assert any(line.startswith("  loop.lr=0.5 ") and line.endswith("peak") for line in lines)
    with raises_user_error("saved settings", "of another version"):
        settings.from_json(run.to_json() | {"wings": 2})


def test_help_lists_the_settings(capsys):
    with pytest.raises(SystemExit):
        main(["train", "tokenizer", "--help"])
    said = capsys.readouterr().out
    assert "losses.bypass=0.1                  share of the images that skip the quantizer" in said
    assert 'ladder="hit"' in said


def test_a_dry_run_is_the_same_run_at_toy_size():
    start = TransformerSettings.of(get_profile("gpu"), init="var.pth")
    told = read_settings(start, None, ["strategy=fsdp", "accumulate=6", "loop.seconds=60"])
    dry = told.dry(2)
    dry.check(1)
    dry.check(2)
    assert dry.batch == told.dry(1).batch  # so that it can go on with another number of processes
    assert (dry.strategy, dry.accumulate, dry.objective, dry.init) == ("fsdp", 2, told.objective, "")
    kept = ("autoencoder", "scales", "degradation")
    assert all(getattr(dry.profile, name) == getattr(told.profile, name) for name in kept)
    assert dry.profile.transformer == replace(told.profile.transformer, width=64, depth=2, heads=2)


@pytest.mark.parametrize("name", ["tokenizer", "transformer", "preference"])
def test_the_settings_that_the_course_ships_fit_eight_processes(name):
    run = KINDS[name].settings.of(get_profile("gpu"))
    told = read_settings(run, assets() / "configs" / f"{name}.yaml")
    assert told.batch == "auto"
    replace(told, batch=run.batch).check(8)
    assert (told.loop.lr, told.loop.steps) == (run.loop.lr, run.loop.steps)
    assert told.degradation == "varsr"


def trained(out, *words):
    call = ["train", "tokenizer", "--profile", "smoke", "--device", "cpu", "--no-report", "--out", str(out)]
    assert main([*call, *map(str, words)]) == 0
    return load_state(out / STATE)


def test_however_it_is_told_a_run_gives_the_same_numbers(tmp_path):
    """With and without --set, --config and --max-hours; no setting is switched by the way it was asked for."""
    file = tmp_path / "run.yaml"
    file.write_text("bf16: false\n")
    ways = [(), ("--set", "bf16=false"), ("--config", file), ("--max-hours", 1)]
    states = [trained(tmp_path / str(i), *way) for i, way in enumerate(ways)]
    for state in states[1:]:
        assert [row["loss"] for row in state["rows"]] == [row["loss"] for row in states[0]["rows"]]
        assert all((state["averaged"][name] == value).all() for name, value in states[0]["averaged"].items())
        assert state["info"]["settings"] == states[0]["info"]["settings"]
    assert states[0]["info"]["settings"]["degradation"] == "course"


def test_any_way_resumes_any_other(tmp_path, capsys):
    whole = trained(tmp_path / "whole", "--set", "loop.log_every=1")
    file = tmp_path / "run.yaml"
    file.write_text("loop: {log_every: 1}\n")
    begin = ("--set", "loop.log_every=1", "--max-hours", "1e-9")
    for i, way in enumerate([(), ("--set", "loop.log_every=1"), ("--config", file), ("--max-hours", 1)]):
        out = tmp_path / str(i)
        assert trained(out, *begin)["step"] == 1
        said = capsys.readouterr().err
        assert "1e-09 hours are over: stopped after step 1 and saved" in said
        assert f"go on with: vartutor train tokenizer --profile smoke --device cpu --no-report --out {out}" in said
        assert said.rstrip().endswith("--resume")
        state = trained(out, "--resume", *way)
        assert "from here on" not in capsys.readouterr().out
        assert all((state["averaged"][name] == value).all() for name, value in whole["averaged"].items())


def test_what_changes_on_the_way_is_said(tmp_path, capsys):
    trained(tmp_path / "run", "--max-hours", "1e-9")
    capsys.readouterr()
    state = trained(tmp_path / "run", "--resume", "--set", "loop.lr=1e-4", "--set", "degradation=bicubic")
    said = capsys.readouterr().out
    assert "from here on, loop.lr: 0.002 -> 0.0001\n" in said
    assert "from here on, degradation: course -> bicubic\n" in said
    assert state["info"]["settings"]["loop"]["lr"] == 1e-4
    assert state["info"]["command"].endswith("--max-hours 1e-9")  # the one that began it


def test_wrong_calls_are_one_line(tmp_path, capsys):
    trained(tmp_path / "run")
    run = ["train", "tokenizer", "--profile", "smoke", "--out", str(tmp_path / "run")]
    for words, line in (
        ([*run, "--set", "loop.steps=3"], "holds a run already; --resume goes on"),
        ([*run[:-1], str(tmp_path / "other"), "--set", "loop.stps=2"], "did you mean steps?"),
        (["train", "transformer", "--out", str(tmp_path / "run"), "--resume"], "go on with vartutor train tokenizer"),
        (["train", "tokenizer", "--profile", "cpu", "--out", str(tmp_path / "run"), "--resume"], "of profile smoke"),
        (["train", "tokenizer", "--out", str(tmp_path / "none"), "--resume"], "no saved state to resume from"),
        (["train", "tokenizer", "--profile", "none", "--out", str(tmp_path / "x")], "unknown profile 'none'"),
        (["train", "tokenizer", "--device", "tpu", "--out", str(tmp_path / "tpu")], "unknown device 'tpu'"),
        (["train", "tokenizer", "--set", "ladder=hitt", "--out", str(tmp_path / "hitt")], "unknown ladder 'hitt'"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert line in said
    with pytest.raises(SystemExit):
        main(["train", "tokenizer", "--prof", "smoke", "--out", str(tmp_path / "short")])
    assert "unrecognized arguments: --prof" in capsys.readouterr().err


def test_the_first_line_says_where_it_runs(tmp_path, capsys):
    trained(tmp_path / "run")
    assert capsys.readouterr().out.startswith("trains on cpu (")
