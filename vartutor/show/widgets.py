"""Turn a knob, see a figure change. Every widget has a static figure beside it in its chapter."""

from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from vartutor.show.figures import render


def explorer(draw: Callable[..., Figure], **controls: ipywidgets.Widget) -> ipywidgets.Widget:
    """Controls above a figure that is drawn anew when one of them changes.

    Args:
        draw: called with the values of the controls by name; returns a figure.
        controls: ipywidgets with a ``value``; their descriptions are the labels.
    """
    picture = ipywidgets.Image(format="jpeg", layout=ipywidgets.Layout(max_width="100%", align_self="flex-start"))

    def redraw(_=None) -> None:
        picture.value = render(draw(**{name: control.value for name, control in controls.items()}), photo=True)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), picture])


def slider(label: str, value: float, low: float, high: float, step: float) -> ipywidgets.Widget:
    """A slider that reports when it is let go, so that slow figures do not queue up."""
    whole = all(isinstance(number, int) for number in (value, low, high, step))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        continuous_update=False,
        style={"description_width": "9em"},
        layout=ipywidgets.Layout(width="28em"),
    )
