"""One colour per concept through the whole course (Okabe–Ito palette, readable for colour-blind people)."""

import matplotlib as mpl

COLORS = {
    "hr": "#009E73",  # clean photo
    "lr": "#D55E00",  # degraded photo
    "bicubic": "#767676",  # the line to beat
    "model": "#0072B2",  # what we trained
    "token": "#8B5FBF",  # codes and tokens
    "rest": "#E69F00",  # residuals, noise
    "other": "#56B4E9",
}


def use_style() -> None:
    """Set matplotlib's defaults; the white background keeps figures readable in dark mode."""
    mpl.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 9.5,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E4E4E4",
            "grid.linewidth": 0.7,
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "axes.prop_cycle": mpl.cycler(color=list(COLORS.values())),
            "image.interpolation": "nearest",
        }
    )
