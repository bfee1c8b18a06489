"""Figures: captions, alternative texts, stable bytes; widgets that redraw."""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from vartutor.show import COLORS, figures, ink, use_style
from vartutor.show.before_after import before_after
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
    plt.close("all")  # another test's
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


def drawn(figure):
    """The pixels of a figure as the book shows it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi="figure")
    plt.close(figure)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_grid_places_photos_and_titles():
    x = torch.zeros(3, 8, 12)
    figure = image_grid([[x, x], [x]], ["a", "b"], colors=[COLORS["hr"]], labels=["row"])
    axes = figure.get_axes()
    assert [ax.get_title() for ax in axes] == ["a", "b", ""]
    assert [text.get_text() for text in figure.texts] == ["row"]
    plt.close(figure)


def test_titles_per_row():
    x = torch.zeros(3, 8, 8)
    figure = image_grid([[x, x], [x, x]], [["a", "b"], ["c", "d"]])
    assert [ax.get_title() for ax in figure.get_axes()] == ["a", "b", "c", "d"]
    plt.close(figure)


@pytest.mark.parametrize("labels", [(), ("row",)])
def test_every_pixel_of_a_photo_becomes_a_square_of_equal_size(labels):
    use_style()
    photos = [torch.linspace(-1, 1, 3 * n * n).reshape(3, n, n) for n in (64, 16)]
    picture = drawn(image_grid([[photos[0]] * 3, [photos[1]]], ["large", "and", "larger"], labels=labels))
    left, cell = 21 * bool(labels), 192  # three columns of 64 pixels in 720
    assert picture.shape == (21 + 2 * cell + 4, left + 3 * cell + 8, 3)
    for image, top in zip(photos, (21, 21 + cell + 4), strict=True):
        times = cell // image.shape[-1]
        want = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        assert (picture[top : top + cell, left : left + cell] == want.repeat(times, 0).repeat(times, 1)).all()


def test_photos_too_large_are_shrunk_to_the_width():
    picture = drawn(image_grid([[torch.zeros(3, 300, 500)] * 2]))
    assert picture.shape[1] == 720
    assert abs(picture.shape[0] - 358 * 300 / 500) < 2


def test_long_titles_are_wrapped():
    figure = image_grid([[torch.zeros(3, 64, 64)] * 4], ["a title that is far too long for its column", "b", "c", "d"])
    title = figure.get_axes()[0].title
    assert "\n" in title.get_text()
    box = title.get_window_extent()
    assert box.y1 <= figure.bbox.height
    assert box.width < 128
    plt.close(figure)


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(color)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_ink_can_be_read_on_white():
    for color in (*COLORS.values(), "yellow", "white"):
        assert 1.05 / (luminance(ink(color)) + 0.05) >= 4.5
    assert ink("#000000") == "#000000"
    assert ink(COLORS["model"]) == COLORS["model"].lower()


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


def test_before_after_is_two_pictures_and_a_slider():
    page = before_after(torch.zeros(3, 64, 96), torch.ones(3, 64, 96), ("a < b", "after"), ALT).data
    assert page.count("data:image/jpeg;base64,") == 2
    assert 'type="range"' in page
    assert f'alt="{ALT}"' in page
    assert "<span>a &lt; b</span><span>after</span>" in page
    assert "width: 672px" in page  # seven times


def test_before_after_wants_equal_sizes_and_a_text(raises_user_error):
    with raises_user_error("only equal sizes"):
        before_after(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9), ("a", "b"), ALT)
    with raises_user_error("30 characters"):
        before_after(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), ("a", "b"), "short")
