"""The checks of the exercises, measured: a mutant of a solution that changes results must be rejected."""

import signal
from pathlib import Path

import pytest
from mutants import TimeUpError, limited, mutants, trials

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that stops an endless mutant")

# Every accepted mutant, below the reason why it is as right as the solution.
LISTED = {
    line
    for line in (Path(__file__).parent / "accepted_mutants.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


# All take minutes. The sample is every twelfth, through all chapters.
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_mutants_that_change_results_are_rejected(every):
    tried = list(trials(every))
    noticed = [ok for _, _, matters, ok in tried if matters]
    assert noticed.count(False) >= 0.98 * len(noticed)
    assert [f"{title} | {change}" for title, change, matters, ok in tried if not matters and not ok] == []
    accepted = {f"{title} | {change}" for title, change, _, ok in tried if ok}
    assert accepted - LISTED == set()
    assert every > 1 or LISTED - accepted == set()


def double_sum(x):
    return [2 * n for n in x if n > 0]


def test_mutants_are_small_changes():
    found = mutants(double_sum)
    assert "2: 2 * n -> 2 + n" in found
    assert "2: n > 0 -> n >= 0" in found
    assert found["2: 2 -> 3"] == "def double_sum(x):\n    return [3 * n for n in x if n > 0]"
    assert len(set(found.values())) == len(found)


def test_what_never_ends_is_stopped():
    def endless():
        while True:
            pass

    with pytest.raises(TimeUpError), limited(0.1):
        endless()
