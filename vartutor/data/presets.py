"""Settings of the degradation pipeline: plain bicubic, the course's mild one, VARSR's, a wide one; and unseen damage.

Nothing trains on the unseen ones. Each is the course's with one part replaced by what that never draws.
"""

from dataclasses import replace

from vartutor.data.degradation import Blur, Degradation, Noise, Resize, Stage
from vartutor.errors import pick

BICUBIC = Degradation("bicubic")

# A photo from a phone, once compressed: mild enough that 16 x 16 pixels keep their content.
COURSE = Degradation(
    "course",
    stages=(
        Stage(
            blur=Blur(
                sizes=(7, 9, 11),
                kinds=(("gaussian", True, 0.6), ("gaussian", False, 0.3), ("plateau", True, 0.1)),
                sigma=(0.2, 1.2),
            ),
            noise=Noise(gaussian=0.6, sigma=(4, 14), poisson=(0.1, 0.8)),
            jpeg=(70, 95),
        ),
    ),
)

_VARSR_KINDS = (
    ("gaussian", True, 0.45),
    ("gaussian", False, 0.25),
    ("generalized", True, 0.12),
    ("generalized", False, 0.03),
    ("plateau", True, 0.12),
    ("plateau", False, 0.03),
)

# VARSR (Qu et al., 2025), read from its released configuration; milder than stock Real-ESRGAN.
VARSR = Degradation(
    "varsr",
    stages=(
        Stage(
            blur=Blur(kinds=_VARSR_KINDS, sinc=0.1, sigma=(0.2, 3.0)),
            resize=Resize(up=0.2, down=0.7, keep=0.1, range=(0.3, 1.5)),
            noise=Noise(gaussian=0.5, sigma=(1, 15), poisson=(0.05, 2.0), gray=0.4),
            jpeg=(60, 95),
        ),
        Stage(
            blur=Blur(probability=0.5, kinds=_VARSR_KINDS, sinc=0.1, sigma=(0.2, 1.5)),
            resize=Resize(up=0.3, down=0.4, keep=0.3, range=(0.6, 1.2)),
            noise=Noise(gaussian=0.5, sigma=(1, 12), poisson=(0.05, 1.0), gray=0.4),
            jpeg=(60, 100),
        ),
    ),
    final_sinc=0.8,
)

# From the course's damage to beyond VARSR's, for a model that shall meet photos of any origin: what is nearly clean, a
# phone's noise at night, messengers that shrink and compress twice.
WIDE = Degradation(
    "wide",
    stages=(
        Stage(
            blur=Blur(probability=0.8, kinds=_VARSR_KINDS, sinc=0.05, sigma=(0.2, 2.0)),
            resize=Resize(up=0.1, down=0.4, keep=0.5, range=(0.5, 1.3)),
            noise=Noise(probability=0.8, gaussian=0.6, sigma=(1, 25), poisson=(0.05, 2.0), gray=0.2),
            jpeg=(30, 95),
        ),
        Stage(
            blur=Blur(probability=0.3, kinds=_VARSR_KINDS, sinc=0.05, sigma=(0.2, 1.0)),
            resize=Resize(up=0.2, down=0.2, keep=0.6, range=(0.7, 1.2)),
            noise=Noise(probability=0.3, gaussian=0.6, sigma=(1, 12), poisson=(0.05, 0.8), gray=0.2),
            jpeg=(50, 98),
        ),
    ),
    final_sinc=0.3,
)

PRESETS = {preset.name: preset for preset in (BICUBIC, COURSE, VARSR, WIDE)}


def _course_but(name: str, **parts) -> Degradation:
    return Degradation(name, (replace(COURSE.stages[0], **parts),))


UNSEEN = {
    preset.name: preset
    for preset in (
        _course_but("impulse", noise=Noise(kind="impulse", amount=(0.01, 0.05))),
        _course_but("speckle", noise=Noise(kind="speckle", amount=(0.08, 0.2))),
        _course_but("motion", blur=Blur(sizes=(21,), kinds=(("motion", False, 1.0),), length=(8, 20))),
        _course_but("jpeg", jpeg=(10, 30)),
    )
}


def get_preset(name: str) -> Degradation:
    """A preset by its name; ``UserError`` if there is none."""
    return pick(name, PRESETS | UNSEEN, "degradation")
