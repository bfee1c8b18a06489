"""The check that owners of a GPU run, in its toy form on a CPU: the same code, at small sizes."""

from dataclasses import replace

import pytest
import torch

from vartutor.cli import main, parser
from vartutor.plan.measure import DDP, SWITCHES, check_numbers, measure_gpu
from vartutor.plan.measured import AS_PLANNED, GpuRow, read_measured, verdict, write_measured
from vartutor.profiles import get_profile, toy
from vartutor.train.processes import Process

MEASURES = ["photos/s", "mfu", "utilisation", "memory", "photos at once"]


@pytest.fixture(scope="module")
def rows():
    """Everything, in two steps of two photos, with what would be compiled left as it is."""
    said, profile = [], replace(toy(get_profile("gpu1")), full_batch=2)
    with pytest.MonkeyPatch.context() as few, torch.compiler.set_stance("force_eager"):
        few.setattr("vartutor.plan.measure.WARM", 1)
        few.setattr("vartutor.plan.measure.TIMED", 1)
        found = measure_gpu(profile, Process(), 60, said.append)
    assert not [line for line in said if "failed" in line or "no time" in line]
    return found


def test_every_switch_is_measured_on_both_runs(rows):
    wanted = [(kind, name) for kind in SWITCHES for name in (*SWITCHES[kind], DDP)]
    for kind, name in wanted:
        found = {row.measure: row for row in rows if (row.run, row.variant) == (kind, name)}
        assert list(found) == MEASURES
        assert all(row.value > 0 for row in found.values())
        assert all(row.planned > 0 for row in found.values())
        assert found["photos at once"].value <= found["photos at once"].planned
    assert len({(row.run, row.variant) for row in rows if row.measure != "difference"}) == len(wanted)


def test_the_cpus_numbers_are_the_authors_and_its_own(rows):
    found = [row for row in rows if row.measure == "difference"]
    assert len(found) == 6
    assert all(row.value <= row.planned for row in found)
    assert sum(row.value > 0 for row in found) >= 2  # bfloat16 differs


def test_a_wrong_device_is_found_out(tmp_path, monkeypatch):
    """One whose products are a thousandth off."""
    right, cpu = torch.nn.functional.linear, list(check_numbers(torch.device("cpu"), tmp_path / "right"))
    monkeypatch.setattr("torch.nn.functional.linear", lambda x, w, b=None: right(x, w, b) * 1.001)
    wrong = list(check_numbers(torch.device("cpu"), tmp_path / "wrong"))
    assert all(far <= allowed for *_, far, allowed in cpu)
    assert [far <= allowed for *_, far, allowed in wrong][:2] == [True, False]  # tokens need no products; logits do


def test_the_table_is_read_back_and_judged(rows, tmp_path, raises_user_error):
    write_measured(tmp_path / "gpu.csv", rows)
    again = read_measured(tmp_path / "gpu.csv")
    assert [(r.run, r.variant, r.measure) for r in again] == [(r.run, r.variant, r.measure) for r in rows]
    assert {r.card for r in again} == {"CPU"}
    assert again[0].value == pytest.approx(rows[0].value, rel=1e-5)
    assert read_measured(tmp_path / "none.csv") == []
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with raises_user_error("other.csv", "not a table of measurements"):
        read_measured(tmp_path / "other.csv")
    row = GpuRow("transformer", AS_PLANNED, "mfu", 0.4, 0.2, "NVIDIA H100", "2026-11-28")
    fast = [row, replace(row, measure="photos/s", value=49.0)]
    assert verdict(fast) == [
        "transformer: mfu 0.4, goal on one H100 0.35: reached",
        "transformer: photos/s 49, goal on one H100 50: missed",
    ]
    bad = replace(row, variant="losses", measure="difference", value=float("nan"), planned=1e-4)
    assert verdict([bad]) == ["WRONG: transformer, losses: nan, allowed are 0.0001"]


def test_the_command_in_its_toy_form(tmp_path, capsys):
    """With no time for speed, the numbers are still compared, and what was left out is said."""
    out = tmp_path / "gpu_check.csv"
    assert main(["measure", "--device", "cpu", "--dry-run", "--minutes", "0", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("no time left") == sum(len(kind) + 1 for kind in SWITCHES.values())
    assert len(read_measured(out)) == 6
    assert parser().parse_args(["measure"]).minutes < 9
