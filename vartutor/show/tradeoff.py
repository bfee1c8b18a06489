"""The perception–distortion plane (Blau and Michaeli, 2018): who is close to the truth, and who looks real."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vartutor.evaluate.table import Summary
from vartutor.metrics import Interval
from vartutor.show import COLORS, use_style
from vartutor.show.figures import TEXT_WIDTH

MARKERS = "os^vDPX*"
DISTORTION, PERCEPTION = "psnr_y", "perceptual"  # the measures of the two axes
CONCEPTS = {"bicubic": "bicubic", "denoise": "other", "cnn": "rest", "model": "model"}  # restorer -> colour


def _color(name: str) -> str:
    if "fidelity" in name:
        return COLORS["lr"]  # it looks at the degraded photo
    first = name.replace(",", " ").replace(":", " ").split()[0]
    return COLORS[CONCEPTS.get(first, "token")]


def _looks(name: str) -> tuple[str, bool]:
    """The colour, and whether the mark is hollow."""
    return _color(name), "expected" in name


def _family(name: str) -> str:
    """Restorers that differ in their temperature alone are joined by a line."""
    return name.split("temperature")[0]


def draw_tradeoff(differences: Sequence[Summary], reference: str) -> Figure:
    """One plane per scale: what every restorer gains and loses against the reference, which is the origin.

    Differences on the same photos have intervals that tell restorers apart; those of the means would all overlap.

    Args:
        differences: from the reference, by :func:`vartutor.evaluate.table.compare`.
    """
    use_style()
    found = {(s.restorer, s.scale, s.measure): s.interval for s in differences}
    restorers = list(dict.fromkeys(s.restorer for s in differences))
    scales = list(dict.fromkeys(s.scale for s in differences if s.measure == DISTORTION))
    alike = {name: [n for n in (reference, *restorers) if _looks(n) == _looks(name)] for name in restorers}
    figure, axes = plt.subplots(1, max(1, len(scales)), figsize=(TEXT_WIDTH, 3.6), squeeze=False)
    for ax, scale in zip(axes[0], scales, strict=False):
        ax.plot(0, 0, MARKERS[0], color=_color(reference), label=_short(reference))
        for family in dict.fromkeys(map(_family, restorers)):
            names = [n for n in restorers if _family(n) == family and (n, scale, DISTORTION) in found]
            means = [[found[n, scale, measure].mean for n in names] for measure in (DISTORTION, PERCEPTION)]
            ax.plot(*means, color=_color(family), linewidth=0.8)
            for name in names:
                marker = MARKERS[alike[name].index(name) % len(MARKERS)]
                _point(ax, found[name, scale, DISTORTION], found[name, scale, PERCEPTION], name, marker)
        ax.set(title=f"×{scale}", xlabel="PSNR gained, dB")
    axes[0][0].set_ylabel("perceptual distance added\n(down is better)")
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _short(name: str) -> str:
    """Three names stand side by side in the legend."""
    return name.replace("temperature", "τ =")


def _point(ax: Axes, across: Interval, up: Interval, name: str, marker: str) -> None:
    reach = [[[i.mean - i.low], [i.high - i.mean]] for i in (across, up)]
    style = {"color": _color(name), "fmt": marker, "elinewidth": 0.7, "label": _short(name)}
    if _looks(name)[1]:
        style["markerfacecolor"] = "white"
    ax.errorbar(across.mean, up.mean, xerr=reach[0], yerr=reach[1], **style)
