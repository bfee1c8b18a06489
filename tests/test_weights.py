"""One room for weights: every kind of model by the name of a shipped one, by a run's folder, or by a file."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vartutor.addons.refiner import Refiner
from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.cli import main
from vartutor.tokenizer.fidelity import Fidelity
from vartutor.tokenizer.hierarchical import HierarchicalTokenizer
from vartutor.weights import (
    load_addition,
    load_cnn,
    load_hierarchical,
    load_restorer,
    load_start,
    load_tokenizer,
)
from vartutor.weights.files import STATE, load_state, shipped
from vartutor.weights.official_tokenizer import load_vqvae

GOLDEN = Path(__file__).parent / "golden"


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def frozen(model):
    return not model.training and not any(p.requires_grad for p in model.parameters())


@pytest.fixture(scope="module")
def runs(tiny_runs, tmp_path_factory):
    """Those of two steps, with a CNN's and a best state beside a newest one."""
    folder = tmp_path_factory.mktemp("runs") / "all"
    shutil.copytree(tiny_runs, folder)
    call = ["--profile", "smoke", "--device", "cpu", "--no-report", "--set", "loop.steps=2"]
    assert main(["train", "baseline", *call, "--out", str(folder / "baseline")]) == 0
    best = ["--set", "loop.validate_every=1", "--set", "loop.lr=0.05", "--set", f"tokenizer={folder / 'hit'}"]
    assert main(["train", "transformer", *call, *best, "--out", str(folder / "looked")]) == 0
    return folder


@pytest.mark.parametrize("name", ["vq", "var", "hit"])
def test_shipped_tokenizers_by_name(name):
    tokenizer = load_tokenizer(name)
    assert tokenizer.config.ladder == name
    assert frozen(tokenizer)
    assert same(tokenizer, load_tokenizer(name))


def test_shipped_models_by_name():
    restorer, start, cnn = load_restorer("course"), load_start("course"), load_cnn("course")
    assert same(restorer.model, start[0])
    assert same(restorer.tokenizer, load_tokenizer("hit"))
    assert same(start[1], restorer.tokenizer)
    assert {"hard", "soft", "slip"} <= set(start[2])
    assert isinstance(restorer.fidelity, Fidelity)
    assert all(map(frozen, (*restorer, cnn)))


def test_whatever_a_run_holds_comes_out_of_its_folder(runs):
    tokenizer = load_tokenizer(runs / "hit")
    restorer = load_restorer(runs / "transformer")
    assert restorer.fidelity is None
    for name in ("transformer", "fidelity", "refiner"):
        own = load_restorer(runs / name)
        assert same(own.model, restorer.model)
        assert same(own.tokenizer, tokenizer)
        assert same(load_tokenizer(runs / name), tokenizer)
        assert same(load_hierarchical(runs / name), tokenizer)
        assert same(load_addition("fidelity", Fidelity, runs / "fidelity"), load_restorer(runs / "fidelity").fidelity)
        assert (own.fidelity is None) == (name != "fidelity")
        assert (load_addition("refiner", Refiner, runs / name) is None) == (name != "refiner")
    assert same(load_start(runs / "transformer")[0], restorer.model)
    cnn = load_cnn(runs / "baseline")
    assert isinstance(cnn, CnnSuperResolver)
    assert cnn.config == CnnConfig(8, 2)
    assert all(map(frozen, (tokenizer, restorer.model, load_restorer(runs / "fidelity").fidelity, cnn)))


def test_weights_are_the_averages_as_they_would_be_published(runs):
    state, tokenizer = load_state(runs / "hit" / STATE), load_tokenizer(runs / "hit")
    assert isinstance(tokenizer, HierarchicalTokenizer)
    for name, value in tokenizer.state_dict().items():
        assert torch.equal(value, state["averaged"][name].half().float())
    assert not torch.equal(tokenizer.quantizer.codes, state["model"]["quantizer.codes"])


def test_any_state_of_a_run_by_its_file(runs):
    folder = runs / "looked"
    newest, best = load_restorer(folder), load_restorer(folder / "best.pt")
    assert same(load_restorer(folder / STATE).model, newest.model)
    assert same(load_restorer(str(folder)).model, newest.model)
    for name, found in ((STATE, newest), ("best.pt", best)):
        averaged = load_state(folder / name)["averaged"]
        assert torch.equal(found.model.body.head.bias, averaged["body.head.bias"].half().float())
    moved = folder.parent / "elsewhere.pt"
    shutil.copy(folder / "best.pt", moved)
    assert same(load_restorer(moved).model, best.model)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_official_tokenizers_by_their_file(tmp_path, suffix):
    """Whose ladder is VAR's at 256 pixels."""
    path = GOLDEN / "tiny_vqvae_golden.safetensors"
    weights = {k.removeprefix("weights."): v.float() for k, v in load_file(path).items() if k.startswith("weights.")}
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    (torch.save if suffix == ".pth" else save_file)(weights, tmp_path / f"vae{suffix}")
    tokenizer = load_tokenizer(tmp_path / f"vae{suffix}")
    assert tokenizer.quantizer.codes.shape == (config["vocab_size"], config["z_channels"])
    assert tokenizer.quantizer.patch_nums == (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    assert same(tokenizer, load_vqvae(weights))
    assert frozen(tokenizer)


LOADERS = {"tokenizer": load_tokenizer, "transformer": load_restorer, "start": load_start, "cnn": load_cnn}


@pytest.mark.parametrize("what", LOADERS)
def test_what_is_nowhere_is_one_line(tmp_path, raises_user_error, what):
    kind = "transformer" if what == "start" else what
    with raises_user_error("huge: neither a shipped", *shipped(kind), "nor a training run"):
        LOADERS[what]("huge")
    (tmp_path / "empty").mkdir()
    with raises_user_error("empty", "no saved state"):
        LOADERS[what](tmp_path / "empty")


@pytest.mark.parametrize(
    ("what", "run", "words"),
    [
        ("transformer", "hit", "holds a tokenizer, not a transformer"),
        ("start", "hit", "holds a tokenizer, not a transformer"),
        ("transformer", "baseline", "holds a baseline, not a transformer"),
        ("tokenizer", "baseline", "holds a baseline, not a tokenizer"),
        ("cnn", "transformer", "holds a transformer, not a cnn"),
    ],
)
def test_a_run_of_something_else_is_one_line(runs, raises_user_error, what, run, words):
    with raises_user_error(str(runs / run), words):
        LOADERS[what](runs / run)


def test_a_plain_tokenizer_is_none_to_train_over(raises_user_error):
    for name in ("vq", "var"):
        with raises_user_error(f"{name}: not a hierarchical tokenizer", "ladder=hit"):
            load_hierarchical(name)


@pytest.mark.parametrize("what", LOADERS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "not a readable training state"),
        ([1, 2], "does not say which model it holds"),
        ({"step": 1}, "does not say which model it holds"),
        ({"info": 3}, "does not say which model it holds"),
        ({"info": {"kind": "poem"}}, "does not say which model it holds"),
        ({"weight": torch.zeros(1)}, "does not say which model it holds"),
        ({"info": {"kind": "tokenizer"}}, "not a whole training state"),
    ],
    ids=str,
)
def test_files_that_are_no_states_are_one_line(tmp_path, raises_user_error, what, content, words):
    path = tmp_path / STATE
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for source in (path, tmp_path):
        with raises_user_error(str(path), words):
            LOADERS[what](source)


def test_a_state_that_lacks_a_part_is_one_line(runs, tmp_path, raises_user_error):
    state = load_state(runs / "transformer" / STATE)
    whole = state["averaged"]
    for spoiled in (
        state | {"averaged": {name: value for name, value in whole.items() if "head" not in name}},
        state | {"averaged": whole | {"body.head.bias": torch.zeros(3)}},
        state | {"parts": {}},
    ):
        torch.save(spoiled, tmp_path / STATE)
        with raises_user_error(str(tmp_path), "not a whole training state"):
            load_restorer(tmp_path)


def test_official_files_that_are_none_are_one_line(tmp_path, raises_user_error):
    with raises_user_error("none.pth", "no such file"):
        load_tokenizer(tmp_path / "none.pth")
    for suffix in (".pth", ".safetensors"):
        (tmp_path / f"text{suffix}").write_text("hello")
        with raises_user_error(f"text{suffix}", "not readable as weights"):
            load_tokenizer(tmp_path / f"text{suffix}")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    with raises_user_error("no tokenizer of VAR"):
        load_tokenizer(tmp_path / "other.pth")
