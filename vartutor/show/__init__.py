"""One colour per concept through the whole course (Okabe–Ito palette, readable for colour-blind people)."""

import matplotlib as mpl
import numpy as np

COLORS = {
    "hr": "#009E73",  # clean photo
    "lr": "#D55E00",  # degraded photo
    "bicubic": "#767676",  # the line to beat
    "model": "#0072B2",  # what we trained
    "token": "#8B5FBF",  # codes and tokens
    "rest": "#E69F00",  # residuals, noise
    "other": "#56B4E9",
}


def ink(color: str) -> str:
    """The same hue, dark enough to be read on white: a contrast of 4.5 : 1 (WCAG 2.2, relative luminance)."""
    rgb = np.array(mpl.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    dark = linear * min(1.0, (1.05 / 4.55 - 0.05) / max(1e-9, float(linear @ [0.2126, 0.7152, 0.0722])))
    return mpl.colors.to_hex(np.where(dark <= 0.0031308, dark * 12.92, 1.055 * dark ** (1 / 2.4) - 0.055))


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
