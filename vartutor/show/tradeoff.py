"""The perception–distortion plane (Blau and Michaeli, 2018): who is close to the truth, and who looks real."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vartutor.evaluate.table import Summary
from vartutor.show.figures import WIDTH
from vartutor.show.style import COLORS, use_style

MARKERS = "osD^vPX*"


def _color(name: str) -> str:
    first = name.replace(",", " ").replace(":", " ").split()[0]
    return COLORS[first if first in ("model", "bicubic") else {"denoise": "other", "cnn": "rest"}.get(first, "token")]


def _family(name: str) -> str:
    """Restorers that differ in their temperature alone are joined by a line."""
    return name.split("temperature")[0]


def draw_tradeoff(
    summaries: Sequence[Summary],
    *,
    distortion: str = "psnr_y",
    perception: str = "perceptual",
) -> Figure:
    """One plane per scale, a point per restorer, with both 95 % intervals; better is down and to the right.

    Args:
        summaries: of :func:`vartutor.evaluate.table.summarise`.
        distortion, perception: names of measures.
    """
    use_style()
    found = {(s.restorer, s.scale, s.measure): s.interval for s in summaries}
    restorers = list(dict.fromkeys(s.restorer for s in summaries))
    scales = list(dict.fromkeys(s.scale for s in summaries if s.measure == distortion))
    figure, axes = plt.subplots(1, len(scales), figsize=(WIDTH, 3.4), squeeze=False)
    for ax, scale in zip(axes[0], scales, strict=True):
        for i, name in enumerate(restorers):
            if (name, scale, distortion) in found:
                _point(ax, found[name, scale, distortion], found[name, scale, perception], name, MARKERS[i % 8])
        for family in dict.fromkeys(_family(name) for name in restorers):
            points = [n for n in restorers if _family(n) == family and (n, scale, distortion) in found]
            means = [[found[n, scale, m].mean for n in points] for m in (distortion, perception)]
            ax.plot(*means, color=_color(family), linewidth=0.8, zorder=1)
        ax.set(title=f"×{scale}", xlabel="PSNR, dB → better")
    axes[0][0].set_ylabel("perceptual distance, better ↓")
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))
    return figure


def _point(ax: Axes, across, up, name: str, marker: str) -> None:
    ax.errorbar(
        across.mean,
        up.mean,
        xerr=[[across.mean - across.low], [across.high - across.mean]],
        yerr=[[up.mean - up.low], [up.high - up.mean]],
        color=_color(name),
        marker=marker,
        elinewidth=0.6,
        label=name,
    )
