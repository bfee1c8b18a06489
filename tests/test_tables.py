"""Tables as CSV files: what was written, and what is read back."""

import pytest

from vartutor.tables import load_study, write_table

FIELDS = ("run", "seed", "measure", "item", "value")


def test_a_study_is_read_as_it_was_written(tmp_path):
    rows = [("hit", 0, "psnr 4", "a.jpg", 20.5), ("hit", 1, "psnr 4", "a.jpg", 21.0), ("var", 0, "used", "all", 7)]
    write_table(tmp_path / "study.csv", FIELDS, rows)
    assert load_study(tmp_path / "study.csv") == {
        ("hit", "psnr 4"): {0: {"a.jpg": 20.5}, 1: {"a.jpg": 21.0}},
        ("var", "used"): {0: {"all": 7.0}},
    }


@pytest.mark.parametrize("text", ["run,seed\nhit,0\n", "run,seed,measure,item,value\nhit,zero,psnr,a,1\n"])
def test_another_table_is_one_clear_line(tmp_path, raises_user_error, text):
    (tmp_path / "other.csv").write_text(text)
    with raises_user_error("other.csv", "not a table of a study"):
        load_study(tmp_path / "other.csv")


def test_an_unknown_study_is_one_clear_line(raises_user_error):
    with raises_user_error("nothing.csv", "not a table of a study"):
        load_study("nothing")
