"""The three parameters of a chapter, the profiles, and how mistakes look."""

from functools import partial

import nbformat
import papermill
import pytest
import torch
from IPython.testing.globalipapp import start_ipython

from vartutor.chapter import check_seed, find_device, setup
from vartutor.errors import UserError
from vartutor.profiles import PROFILES, get_profile

PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def test_setup_seeds_everything():
    first = setup("smoke", 3, "cpu")
    a = torch.rand(2), torch.rand(2, generator=first.generator)
    b = torch.rand(2), torch.rand(2, generator=first.generator)
    again = setup("smoke", 3, "cpu")
    assert torch.equal(a[0], torch.rand(2))
    assert torch.equal(a[1], torch.rand(2, generator=again.generator))
    assert not torch.equal(a[0], b[0])
    assert str(again) == "profile smoke, seed 3, device cpu"


@pytest.mark.parametrize("seed", [-1, 10_000, 1.5, "0", True, None])
def test_bad_seeds(seed, raises_user_error):
    with raises_user_error("0 to 9999"):
        check_seed(seed)


def test_unknown_profile_and_device(raises_user_error):
    with raises_user_error("'cpuu'", "smoke, cpu, overnight, speedrun, gpu"):
        get_profile("cpuu")
    with raises_user_error("'tpu'", "cpu, cuda, mps, auto"):
        find_device("tpu")


def test_a_device_that_is_not_there(raises_user_error, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with raises_user_error("'cuda'", "not on this machine"):
        find_device("cuda")


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto").type == "cuda"


@pytest.mark.parametrize(
    ("parameters", "fault"), [({"SEED": 3}, ""), ({"SEED": 3, "SEEED": 4, "steps": 5}, "SEEED, steps")]
)
def test_plain_papermill_may_set_three_parameters_and_no_other(tmp_path, parameters, fault):
    given = nbformat.v4.new_code_cell("SEED = 0", metadata={"tags": ["parameters"]})
    first = nbformat.v4.new_code_cell("from vartutor.chapter import setup\nprint(setup('smoke', SEED))")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[given, first], metadata={"kernelspec": PYTHON}), tmp_path / "chapter.ipynb"
    )
    run = partial(papermill.execute_notebook, tmp_path / "chapter.ipynb", tmp_path / "out.ipynb", parameters)
    if not fault:
        assert (
            run(kernel_name="python3", progress_bar=False).cells[-1].outputs[0].text
            == "profile smoke, seed 3, device cpu\n"
        )
        return
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        run(kernel_name="python3", progress_bar=False)
    assert caught.value.evalue == f"unknown parameter {fault}: a chapter takes PROFILE, SEED, DEVICE"


def test_profiles_are_consistent():
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert profile.image_size == profile.lr_size * max(profile.scales)
    with pytest.raises(AttributeError):
        PROFILES["cpu"].image_size = 1


def test_a_notebook_shows_one_line_and_no_traceback(capsys):
    shell = start_ipython() or __import__("IPython").get_ipython()
    shell.run_cell("from vartutor.profiles import get_profile; get_profile('cpuu')")
    printed = capsys.readouterr().out
    assert "UserError: unknown profile 'cpuu'" in printed
    assert "Traceback" not in printed
    assert UserError("x")._render_traceback_() == ["UserError: x"]
