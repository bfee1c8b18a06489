"""VAR's schedules, against values of the authors' code."""

import json
from pathlib import Path

import pytest

from vartutor.train.schedule import var_schedule, weight_decay

CASES = json.loads((Path(__file__).parent / "golden" / "lr_wd_schedule_golden.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['sche']}-{case['wpe']}")
def test_schedules(case):
    for step, (lr, decayed, bare) in zip(case["its"], case["lr_wd_decayed_wd_nodecay"], strict=True):
        factor = var_schedule(step, case["max_it"], case["wp_it"], case["sche"], case["wp0"], case["wpe"])
        assert case["peak_lr"] * factor == pytest.approx(lr, rel=1e-9)
        assert weight_decay(step, case["max_it"], case["wd"], case["wd_end"]) == pytest.approx(decayed, rel=1e-9)
        assert bare == 0


def test_unknown_kinds(raises_user_error):
    for kind in ("line", "cosine", ""):
        with raises_user_error(repr(kind), "lin0"):
            var_schedule(50, 100, 10, kind)
