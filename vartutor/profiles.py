"""Every size and step count of the course, in one place.

``smoke``, ``cpu`` and ``gpu`` run the chapters; ``gpu1`` is the published size for one GPU; ``overnight`` and
``speedrun`` are models that are trained as a whole, by the recipes of the same names.
"""

from dataclasses import dataclass, replace

from vartutor.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """The transformer of a profile: its size, how long it trains, and what it is asked for."""

    width: int = 192
    depth: int = 6
    heads: int = 6
    patch: int = 2  # side of the pixels of the degraded photo that become one token of the prefix
    rope: bool = True  # rotary positions; False: learned tables, as in VAR
    prior: bool = True  # the photo's own latents pull the tokens; False: the prefix alone tells the photo
    encoded: bool = False  # the prefix is made of the enlarged photo's latents, as in the paper; False: of its pixels
    checkpointing: bool = False
    batch: int = 8  # photos per step on one machine; more steps teach more than larger ones
    steps: int = 3600
    lr: float = 1e-3
    hard: float = 0.0  # this and the next five: see vartutor.train.transformer.Objective
    soft: float = 1.0
    tau: float = 0.2
    expected: float = 0.0
    balance: float = 0.5
    slip: float = 0.7
    fidelity_steps: int = 1300  # of the fidelity module, afterwards
    refiner_steps: int = 2000  # of the diffusion refiner, likewise
    refiner_width: int = 128
    refiner_blocks: int = 3
    preference_steps: int = 300  # of fine-tuning with a preference, chapter 08
    preference_lr: float = 2e-4


@dataclass(frozen=True)
class Profile:
    """Sizes of one way to run the course.

    Images are square crops of ``image_size`` pixels; ``scales`` are the factors by which the model
    enlarges the degraded photo, whose side is ``image_size / max(scales)``.
    """

    name: str
    image_size: int = 64
    scales: tuple[int, ...] = (1, 2, 4)
    batch_size: int = 16
    eval_crops: int = 3  # test crops per photo
    first_steps: int = 500  # chapter 00: two layers
    cnn_steps: int = 1000  # chapter 01: a small convolutional network
    autoencoder: str = "small"  # small: f = 4; var: VAR's, f = 16
    width: int = 128  # of the autoencoder
    factor: int = 4  # pixels along a position of the small autoencoder; VAR's has 16
    blocks: int = 2  # residual blocks of its halves
    codes: int = 1024
    channels: int = 16  # of a code
    groups: tuple[tuple[int, ...], ...] = ((1, 2, 4, 4, 4), (8, 8), (16,))
    bridge: int = 128  # hidden channels between the groups
    tokenizer_steps: int = 20000
    tokenizer_lr: float = 2e-3
    vq_steps: int = 250  # chapter 02: a small VQ-VAE, once per cure
    rvq_steps: int = 600  # chapter 03: codebooks of a residual quantizer
    lesson_steps: int = 250  # chapters 04 and 05: a tokenizer from nothing, while you wait
    draw_steps: int = 1000  # chapter 06: a transformer that draws
    study_steps: int = 300  # chapter 07: transformers that are compared
    study_size: tuple[int, int, int] = (128, 4, 4)  # their width, depth and heads
    cnn_width: int = 128  # the convolutional baseline of chapter 07
    cnn_blocks: int = 12
    baseline_steps: int = 20000
    transformer: Recipe = Recipe()
    degradation: str = "course"  # how photos are damaged in training; see vartutor.data.presets
    full_batch: int | None = None  # images per step of a run on several GPUs, over all of them; None: batch_size

    @property
    def lr_size(self) -> int:
        """Side of the degraded photo in pixels."""
        return self.image_size // max(self.scales)

    def batch_of(self, run: str) -> int:
        """Photos per step of a ``tokenizer``, ``transformer`` or ``preference``, over all processes."""
        return self.full_batch or (self.batch_size if run == "tokenizer" else self.transformer.batch)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke",
            batch_size=4,
            eval_crops=1,
            first_steps=5,
            cnn_steps=5,
            width=32,
            codes=64,
            tokenizer_steps=5,
            vq_steps=3,
            rvq_steps=5,
            lesson_steps=3,
            draw_steps=3,
            study_steps=2,
            study_size=(32, 2, 2),
            cnn_width=8,
            cnn_blocks=2,
            baseline_steps=3,
            transformer=Recipe(
                width=32,
                depth=2,
                heads=2,
                batch=2,
                steps=5,
                fidelity_steps=5,
                refiner_steps=5,
                refiner_width=32,
                preference_steps=5,
            ),
        ),
        Profile("cpu"),
        Profile(
            "overnight",  # tiles of four times the area, for as many tokens
            image_size=128,
            factor=8,
            width=192,
            codes=2048,
            cnn_width=96,
            transformer=Recipe(width=224, heads=7, patch=4, batch=16),
            degradation="wide",
        ),
        Profile(
            "speedrun",
            image_size=128,
            batch_size=256,
            factor=8,
            width=256,
            blocks=3,
            codes=4096,
            tokenizer_lr=1e-3,
            cnn_blocks=16,
            transformer=Recipe(width=384, depth=8, heads=6, batch=256),
            degradation="wide",
        ),
        Profile(
            "gpu",
            image_size=512,
            batch_size=32,
            first_steps=2000,
            cnn_steps=20000,
            autoencoder="var",
            width=160,
            codes=4096,
            channels=32,
            groups=((1, 2, 3, 4, 6, 8), (12, 16), (24, 32)),
            tokenizer_steps=25_000,
            tokenizer_lr=2.5e-4,
            degradation="varsr",
            full_batch=384,  # this, both step counts (the transformer's are 200 epochs) and both rates are the paper's
            lesson_steps=2000,
            draw_steps=2000,
            cnn_width=256,
            cnn_blocks=32,
            baseline_steps=300000,
            transformer=Recipe(  # VAR's d16, to start from its weights, with the paper's loss
                width=1024,
                depth=16,
                heads=16,
                patch=4,
                rope=False,
                prior=False,
                batch=32,
                steps=13_000,
                lr=1e-3,
                hard=1.0,
                soft=0.0,
                balance=0.0,
                slip=0.0,
                refiner_width=1024,  # VARSR's
                refiner_blocks=6,
                preference_steps=1500,
            ),
        ),
    )
}

PROFILES["gpu1"] = replace(  # the published size in two days on one card of 80 GB, from official weights: our choices
    PROFILES["gpu"],
    name="gpu1",
    full_batch=60,
    tokenizer_steps=20_000,
    tokenizer_lr=1e-4,
    transformer=replace(PROFILES["gpu"].transformer, steps=40_000, lr=1e-4, preference_steps=1500, preference_lr=2e-5),
)


def get_profile(name: str) -> Profile:
    """Look a profile up by its name.

    Raises:
        UserError: no profile has this name.
    """
    if name not in PROFILES:
        raise UserError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def toy(profile: Profile) -> Profile:
    """The profile with all its parts, at sizes that train in seconds: for dry runs."""
    side = 64 // (16 if profile.autoencoder == "var" else profile.factor)
    groups = (side // 4,), (side // 2,), (side,)
    recipe = replace(profile.transformer, width=64, depth=2, heads=2)
    sizes = {"image_size": 64, "full_batch": 8, "eval_crops": 1, "width": 32, "codes": 64, "channels": 8, "bridge": 8}
    return replace(profile, **sizes, groups=groups, transformer=recipe)
