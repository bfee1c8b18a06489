"""Words of any kind: commands, settings, ladders and notebooks. One line where they are wrong, else what they say."""

import json
import warnings

import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from properties import attempt, command, tries

from vartutor.cli import parser
from vartutor.profiles import get_profile
from vartutor.tokenizer.hierarchical import HierarchicalQuantizer
from vartutor.train.kinds import KINDS, train
from vartutor.train.options import read_settings

# --- commands ------------------------------------------------------------------------------------------

HEAVY = [  # what would take minutes, or write into the clone; each is tested on its own
    ("vartutor.course.execute.run", lambda *_: []),
    ("vartutor.course.execute.build", lambda chapter: None),
    ("vartutor.course.check.check", lambda chapter: []),
    ("vartutor.course.book.build_book", lambda *_, **__: "book"),
    ("vartutor.course.edition.write_edition", lambda *_: []),
    ("vartutor.course.times.keep_times", lambda *_: None),
    ("vartutor.course.slides.write_slides", lambda *_: []),
    ("vartutor.course.grade._run", lambda *_: ([], "not run")),
    ("vartutor.plan.rounds.train", lambda kind, run, *_, **__: run.check(1) or type("T", (), {"timed_out": True})),
    ("vartutor.plan.measure.measure_gpu", lambda *_: []),
    ("vartutor.restore.restore", lambda *_, **__: []),
    ("vartutor.evaluate.restorers.evaluate", lambda *_: []),
    ("vartutor.workshop.speedrun.run_stage", lambda *_, **__: False),
    *((f"vartutor.workshop.{kind}_study.run_{kind}_study", lambda *_, **__: "table") for kind in
      ("tokenizer", "transformer", "preference", "scaling")),
]  # fmt: skip


def tree(sub, words=()):
    """{words of a command: its options and values of its choices}."""
    actions = {type(action).__name__: action for action in sub._actions}
    if "_SubParsersAction" in actions:
        found = {}
        for name, inner in actions["_SubParsersAction"].choices.items():
            found |= tree(inner, (*words, name))
        return found
    return {words: [option for action in sub._actions for option in action.option_strings if option.startswith("--")]}


TREE = tree(parser())
WORDS = [
    *("0", "1", "-1", "2", "07", "1e9", "nan", "inf", "-inf", "1e-400", "0.5", "9" * 20, "٣", "1,2", "4,2,2", ",", "x"),
    *("true", "null", "smoke", "cpu", "gpu", "course", "hit", "var", "dpo", "detail", "test", "photos", "auto", "fsdp"),
    *("bicubic", "model", "cnn", "HERE/in", "HERE/in/a.png", "HERE/none", "HERE/in/x.yaml", "HERE/in/text", "HERE"),
    *("/", ".", "..", "~", "HERE/in/a.png/x", "loop.steps=0", "seed=1", "losses={}", "=", "a.b.c=[", "loop=1", "--"),
]
VALUES = st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
LIGHT = [words for words in sorted(TREE) if words not in (("doctor",), ("data", "list"), ("plan",))]  # that takes long


@pytest.fixture
def quiet(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    (folder / "in").mkdir()
    from vartutor.data.images import write_image

    write_image(folder / "in" / "a.png", torch.zeros(3, 8, 8))
    (folder / "in" / "x.yaml").write_text("loop: {steps: 2}\n")
    (folder / "in" / "text").write_text("x")
    for name, instead in HEAVY:
        monkeypatch.setattr(name, instead)
    monkeypatch.chdir(folder)
    return folder


@tries(30)
@given(st.sampled_from(LIGHT), st.data())
def test_any_words_are_done_or_one_line(quiet, words, data):
    call = list(words)
    for _ in range(data.draw(st.integers(0, 5))):
        if data.draw(st.booleans()) and TREE[words]:
            call.append(data.draw(st.sampled_from(TREE[words])))
        call.append(data.draw(VALUES).replace("HERE", str(quiet)))
    call = [word for word in call if word != "--"]  # after which --out would be no option
    if "--out" in TREE[words]:  # the last one rules: nothing is written elsewhere
        call += ["--out", str(quiet / data.draw(st.sampled_from(["out", "in/text", "in/a.png/x"])))]
    before = (quiet / "in" / "a.png").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command(call)
    assert (quiet / "in" / "a.png").read_bytes() == before


# --- settings ------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 4, 7, 8, 64, 0.5, -0.5, 1e-3, 1e30, 10**30, float("nan"), float("inf")])
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5) | st.sampled_from(["hit", "vq", "var", "photos"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def keys(settings, path=""):
    for name, value in vars(settings).items():
        yield f"{path}{name}"
        if hasattr(value, "__dataclass_fields__"):
            yield from keys(value, f"{path}{name}.")


START = {kind: entry.settings.of(get_profile("smoke")) for kind, entry in KINDS.items()}
KEYS = {kind: sorted(keys(start)) for kind, start in START.items()}
TEXTS = st.one_of(
    PLAIN.map(yaml.safe_dump),
    st.text(max_size=40),
    st.sampled_from(["&a [*a]", "a: &a {b: *a}", "2020-99-99", "!!python/object:os.system x", "!!binary x", "=", "\0"]),
)
STEPS = zip("abcdefgh", "bcdefghi", strict=True)
NINES = ", ".join(f"&{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in STEPS)
BOMB = f"seed: [&a [x], {NINES}]"  # nine to the eighth words, where they are all written out


@tries(60)
@given(st.sampled_from(sorted(KINDS)), st.none() | TEXTS | st.binary(max_size=20), st.data())
@example("tokenizer", BOMB, None)
@example("tokenizer", "seed: 2020-99-99", None)
@example("tokenizer", "seed: &a [*a]", None)
def test_any_settings_are_taken_whole_or_one_line(tmp_path_factory, kind, text, data):
    file = None
    if text is not None:
        file = tmp_path_factory.getbasetemp() / "settings.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    sets = []
    for _ in range(data.draw(st.integers(0, 3)) if data else 0):
        key = data.draw(st.sampled_from(KEYS[kind]) | st.text(max_size=6))
        sets.append(f"{key}={data.draw(TEXTS)}".strip("\n"))
    run = attempt(read_settings, START[kind], file, sets)
    if run is not None:
        assert type(run).from_json(json.loads(json.dumps(run.to_json()))) == run
        attempt(run.check, 1)
        attempt(run.dry(1).check, 1)


SIZES = st.integers(-1, 9) | st.sampled_from([16, 32, 64])


@tries(8)
@given(st.sampled_from(["tokenizer", "baseline"]), st.data())
def test_any_sizes_train_or_one_line(tmp_path_factory, kind, data):
    numbers = [key for key in KEYS[kind] if key.startswith(("profile.", "losses.", "net.", "loop.", "batch"))]
    sets = []
    for key in data.draw(st.lists(st.sampled_from(numbers), max_size=3)):
        value = data.draw(SIZES | st.lists(SIZES, max_size=3) | st.lists(st.lists(SIZES, max_size=3), max_size=3))
        sets.append(f"{key}={value}")
    run = attempt(read_settings, START[kind], None, [*sets, "loop.steps=1", "loop.seconds=0"])
    if run is not None:
        folder = tmp_path_factory.mktemp("sizes")
        if attempt(train, kind, run, folder, device="cpu") is None:
            assert not (folder / "state.pt").exists()


# --- ladders -------------------------------------------------------------------------------------------


@tries(30)
@given(st.lists(st.lists(st.integers(-1, 9), max_size=3), max_size=3), st.integers(-1, 9), st.integers(-1, 9))
@example([[0, 0]], 1, 7)
def test_any_ladder_tokenizes_or_one_line(groups, codes, channels):
    quantizer = attempt(HierarchicalQuantizer, groups, codes, channels)
    if quantizer is None:
        assert not groups or not all(groups) or min(min(map(min, groups)), codes, channels) < 1
        return
    features = [torch.randn(2, channels, group[-1], group[-1]) for group in groups]
    tokens = quantizer.tokenize(features)
    assert [index.shape for index in tokens] == [(2, side * side) for group in groups for side in group]
    assert all(0 <= index.min() <= index.max() < codes for index in tokens)
    latents = quantizer.latents(tokens)
    assert all(f_hat.isfinite().all() for f_hat in latents)


# --- notebooks -----------------------------------------------------------------------------------------

SOURCES = st.sampled_from(["", "1", "x = (", "# %%", "\udc80", "from vartutor.exercises import ch04"])
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw", "x", 5]),
        "source": SOURCES | st.lists(SOURCES, max_size=2) | st.none(),
        "metadata": st.dictionaries(st.sampled_from(["tags", "x"]), PLAIN, max_size=2) | st.none(),
        "outputs": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "output_type": st.sampled_from(["stream", "display_data", "error", "x"]),
                    "data": st.dictionaries(
                        st.sampled_from(["image/png", "image/jpeg", "text/plain"]), PLAIN, max_size=2
                    ),
                    "text": SOURCES | st.integers(),
                    "name": st.sampled_from(["stderr", "stdout", 5]),
                    "metadata": PLAIN,
                },
            ),
            max_size=2,
        ),
        "execution_count": st.none() | st.integers(-1, 3) | st.text(max_size=2),
        "id": st.text(max_size=5),
    },
)
NOTEBOOKS = st.one_of(
    st.fixed_dictionaries(
        {"nbformat": st.sampled_from([4, 4, 4, 3, 5, "4"]), "nbformat_minor": st.sampled_from([5, 2, 0])},
        optional={"metadata": PLAIN, "cells": st.lists(CELLS, max_size=3), "worksheets": PLAIN},
    ).map(lambda entry: json.dumps(entry).encode()),
    PLAIN.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30),
)


@tries(15)
@given(NOTEBOOKS, st.sampled_from(["# %%\n1\n", "# %% tags=[5\n", "\udc80", "", "# %% [markdown]\n# x", "x = ("]))
@example(b'{"nbformat": 4, "nbformat_minor": 5}', "# %%\n1\n")
@example(b"{}", "\udc80")
def test_any_notebook_is_checked_graded_and_handed_out_or_one_line(tmp_path_factory, monkeypatch, content, source):
    root = tmp_path_factory.mktemp("clone")
    for folder in ("notebooks", "book"):
        (root / folder).mkdir()
    (root / "book" / "conf.py").touch()
    (root / "notebooks" / "01_x.ipynb").write_bytes(content)
    (root / "notebooks" / "01_x.py").write_bytes(source.encode("utf-8", "surrogateescape"))
    monkeypatch.chdir(root)
    monkeypatch.setattr("vartutor.course.grade._run", lambda *_: ([], "not run"))
    monkeypatch.setattr("vartutor.course.execute.papermill.execute_notebook", lambda source, target, *_, **__: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command(["check"])
        command(["edition", "--student", "--out", str(root / "edition")])
        command(["grade", str(root / "notebooks"), "--out", str(root / "grades")])
        command(["run", "--out", str(root / "run")])
    assert (root / "notebooks" / "01_x.ipynb").read_bytes() == content
