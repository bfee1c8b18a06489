"""Figures: captions, alternative texts, stable bytes; widgets that redraw."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.show import COLORS, figures
from vartutor.show.figures import contact_sheet, image_grid, render, show, smooth
from vartutor.show.widgets import explorer, slider

ALT = "A line that rises from the lower left to the upper right."


def plot():
    figure, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, 1])
    return figure


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(figures, "display", lambda data, raw, metadata: outputs.append((data, metadata)))
    return outputs


@pytest.mark.parametrize(("photo", "kind"), [(False, "image/png"), (True, "image/jpeg")])
def test_show_carries_caption_and_alt_text(shown, photo, kind):
    show(plot(), "It rises.", ALT, photo=photo)
    (data, metadata), (caption, role) = shown
    assert metadata == {kind: {"alt": ALT}, "vartutor": {"caption": "It rises."}}
    assert Image.open(io.BytesIO(data[kind])).get_format_mimetype() == kind
    assert caption["text/markdown"] == "*It rises.*"
    assert role == {"vartutor": {"role": "caption"}}
    assert not plt.get_fignums()


def test_short_alt_text_is_refused(raises_user_error):
    with raises_user_error("30 characters"):
        show(plot(), "It rises.", "a line")
    plt.close("all")


def test_equal_figures_are_equal_bytes():
    assert render(plot()) == render(plot())
    assert render(plot(), photo=True) == render(plot(), photo=True)


def test_grid_places_photos_and_titles():
    x = torch.zeros(3, 8, 12)
    figure = image_grid([[x, x], [x]], ["a", "b"], colors=[COLORS["hr"]], labels=["row"])
    axes = figure.get_axes()
    assert [ax.get_title() for ax in axes] == ["a", "b", "", ""]
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 0]
    plt.close(figure)


def test_titles_per_row():
    x = torch.zeros(3, 8, 8)
    figure = image_grid([[x, x], [x, x]], [["a", "b"], ["c", "d"]])
    assert [ax.get_title() for ax in figure.get_axes()] == ["a", "b", "c", "d"]
    plt.close(figure)


def test_contact_sheet_is_a_grid():
    sheet = contact_sheet([torch.ones(3, 10, 30), -torch.ones(3, 30, 10), torch.zeros(3, 5, 5)], columns=2, size=16)
    assert sheet.shape == (32, 32, 3)
    assert (sheet[:14, :14] == 255).all()
    assert (sheet[:14, 16:30] == 0).all()


def test_smooth_is_a_running_mean():
    assert np.allclose(smooth([2, 4, 6, 8], 2), [2, 3, 5, 7])
    assert np.allclose(smooth([2, 4, 6], 10), [2, 3, 4])


def test_explorer_redraws_when_a_control_moves():
    calls = []

    def draw(strength):
        calls.append(strength)
        return plot()

    box = explorer(draw, strength=slider("strength", 1, 0, 5, 1))
    box.children[0].value = 4
    assert calls == [1, 4]
    assert bytes(box.children[-1].value)[:2] == b"\xff\xd8"


def test_concepts_have_different_colours():
    assert len(set(COLORS.values())) == len(COLORS)
