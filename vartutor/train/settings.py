"""What a run can be told, for each kind of run; the comments beside the fields are the command's help."""

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from vartutor.baselines.cnn import CnnConfig
from vartutor.data.presets import get_preset
from vartutor.errors import UserError
from vartutor.profiles import Profile, toy
from vartutor.train.loop import LoopConfig
from vartutor.train.options import from_plain
from vartutor.train.pairs import FidelityObjective
from vartutor.train.preference import Preference
from vartutor.train.refiner import RefinerObjective
from vartutor.train.tokenizer import FROZEN, Losses
from vartutor.train.transformer import Objective

STRATEGIES = ("ddp", "fsdp")
DRY_STEPS = 6


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every run can be told; keys of the inner parts are written with a dot, such as ``loop.lr``.

    Each kind of run adds its own. The comments beside the fields are what ``vartutor train KIND --help`` prints.
    """

    profile: Profile  # every size
    loop: LoopConfig  # how long and how fast
    seed: int = 0  # 0 to 9999
    batch: int | Literal["auto"] = 16  # photos per step, over all processes; auto: the profile's, in rounds that fit
    accumulate: int = 1  # rounds of forward and backward per step, with the same result
    strategy: str = "ddp"  # ddp: every process holds all weights; fsdp: each a share
    bf16: bool = False  # the networks in bfloat16
    compile: tuple[str, ...] = ()  # parts that torch.compile makes faster, such as [transformer]
    cuda_graphs: bool = False  # compiled parts as CUDA graphs: for small models
    data: str = "photos"  # the course's; a folder of photos; or what `vartutor data prepare` made
    augment: bool = False  # turned and recoloured crops: more out of few photos
    degradation: str = "course"  # how the photos are damaged: course, varsr, bicubic
    tensorboard: bool = False  # beside log.csv
    images_every: int = 0  # steps between sample images; 0: never

    @classmethod
    def of(cls, profile: Profile, **changes: Any) -> "Settings":
        """A profile's; ``changes`` are keys such as ``seed``, and ``steps`` and others of the loop."""
        own = {"profile": profile, "degradation": profile.degradation, **cls._own(profile)}
        return with_changes(cls(**own), changes)

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        """What a kind of run takes from a profile for itself, ``loop`` and ``batch`` at least."""
        raise NotImplementedError

    def dry(self, processes: int) -> "Settings":
        """The same run at toy size, on the course's photos: a few steps that pass through everything.

        Official weights do not fit it, so it starts from none.

        The batch is the same for 1, 2 and 4 processes, so that such a run can go on with another number of them.
        """
        rounds = 2 if self.batch == "auto" else min(self.accumulate, 2)
        loop = replace(self.loop, steps=DRY_STEPS, seconds=0.0, save_every=2, log_every=1, validate_every=DRY_STEPS)
        sizes = {"profile": toy(self.profile), "loop": loop, "accumulate": rounds, "images_every": DRY_STEPS // 2}
        sizes |= {"init": ""} if hasattr(self, "init") else {}
        batch = rounds * (4 if 4 % processes == 0 else processes)
        return replace(self, **sizes, batch=batch, data="photos", compile=(), tensorboard=False)

    def check(self, processes: int) -> None:
        """Whether the settings fit each other and the number of processes.

        Raises:
            UserError: they do not.
        """
        least = {"steps": 1, "seconds": 0, "log_every": 1, "save_every": 1, "validate_every": 0}
        for name, value in vars(self.loop).items():
            if value < least.get(name, 0) or (name in ("lr", "clip") and not value):
                raise UserError(f"loop.{name} {value:g}: give a larger number")
        if self.loop.warmup >= 1:
            raise UserError(f"loop.warmup {self.loop.warmup:g}: give a share below 1")
        if not 0 <= self.seed <= 9999:
            raise UserError(f"seed {self.seed}: give a whole number from 0 to 9999")
        if self.strategy not in STRATEGIES:
            raise UserError(f"strategy {self.strategy!r}: choose one of {', '.join(STRATEGIES)}")
        if self.batch == "auto":
            raise UserError("batch=auto is for the command: give a number")
        if self.accumulate < 1 or self.batch < 1 or self.batch % (processes * self.accumulate):
            raise UserError(
                f"batch {self.batch}: must be a multiple of {processes} processes × accumulate {self.accumulate}"
            )
        get_preset(self.degradation)

    def to_json(self) -> dict:
        """A dictionary of numbers, words and lists."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, entry: dict) -> "Settings":
        """Back from :meth:`to_json`.

        Raises:
            UserError: of another version of the program.
        """
        return from_plain(cls, entry, "the saved settings")


def with_changes(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Settings with some values replaced, those of the loop without its name before them."""
    inner = {f.name for f in fields(LoopConfig)}
    loop = {name: value for name, value in changes.items() if name in inner}
    rest = {name: value for name, value in changes.items() if name not in inner}
    return replace(settings, loop=replace(settings.loop, **loop), **rest)


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings(Settings):
    """Of a tokenizer's run."""

    ladder: str = "hit"  # hit: hierarchical; var: plain, with the same token maps; vq: one map
    overlap: bool = True  # hit: a group starts from the groups before it; false: it quantizes its image alone
    init: str = ""  # official weights of VAR's tokenizer to start from, .pth or .safetensors
    train: str = "all"  # what learns: all; codes+decoder; or codes, with φ and bridge, under frozen halves
    losses: Losses

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        loop = LoopConfig(profile.tokenizer_steps, lr=profile.tokenizer_lr)
        return {"loop": loop, "batch": profile.batch_of("tokenizer"), "losses": Losses()}

    def check(self, processes: int) -> None:
        """As for all settings; and whether the losses can be sharded, the weights be had, and anything learns."""
        super().check(processes)
        if self.train not in FROZEN:
            raise UserError(f"train {self.train!r}: choose one of {', '.join(FROZEN)}")
        if self.train == "codes" and self.ladder == "vq":
            raise UserError("train=codes: the codes of one map learn without a gradient: take train=codes+decoder")
        if self.init and self.profile.autoencoder != "var":
            raise UserError(f"init {self.init}: fits VAR's autoencoder, which profile {self.profile.name} has not")
        if processes > 1 and self.strategy == "fsdp" and (self.losses.adversarial or self.losses.codes != "ema"):
            raise UserError("fsdp trains a tokenizer with losses.codes=ema and losses.adversarial=0 only: take ddp")


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(Settings):
    """Of a transformer's run."""

    tokenizer: str = "hit"  # the shipped one, or a run
    init: str = ""  # a transformer to start from: a shipped one, a run, or official weights of VAR, .pth
    restorer: str = ""  # a net whose picture the tokens begin at, a shipped one or a run; if left out, bicubic
    prefix: bool = True  # the photo stands before the first map as tokens
    added: bool = False  # these are added to the inputs of every map instead
    encoded: bool = False  # they are the enlarged photo's latents, as in the paper, and not made of its pixels
    prior: bool = True  # the photo's own latents pull the tokens
    objective: Objective

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        recipe, batch = profile.transformer, profile.batch_of("transformer")
        loop = LoopConfig(recipe.steps, lr=recipe.lr, weight_decay=0.05)
        return {
            "loop": loop,
            "batch": batch,
            "prior": recipe.prior,
            "encoded": recipe.encoded,
            "objective": Objective.of(recipe),
        }


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings(Settings):
    """Of a run that fine-tunes a transformer."""

    model: str = "course"  # the transformer to fine-tune: a shipped one, or a run
    preference: Preference

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        recipe, often = profile.transformer, {"log_every": 10, "validate_every": 100}  # more of it is not better
        loop = LoopConfig(recipe.preference_steps, lr=recipe.preference_lr, weight_decay=0.05, **often)
        return {"loop": loop, "batch": profile.batch_of("preference"), "preference": Preference()}


@dataclass(frozen=True, kw_only=True)
class FidelitySettings(Settings):
    """Of a fidelity module's run."""

    model: str = "course"  # the transformer whose tokens are decoded: a shipped one, or a run
    init: str = ""  # a model whose fidelity module is trained on: a shipped one, or a run
    objective: FidelityObjective

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        loop = LoopConfig(profile.transformer.fidelity_steps)
        return {"loop": loop, "batch": profile.batch_size, "objective": FidelityObjective()}


@dataclass(frozen=True, kw_only=True)
class BaselineSettings(Settings):
    """Of a convolutional net's run."""

    net: CnnConfig
    perceptual: float = 0.0  # weight of the perceptual distance beside the mean absolute error
    adversarial: float = 0.0  # of the critic's opinion
    adversarial_start: float = 0.3  # share of the run before the critic begins

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        loop = LoopConfig(profile.baseline_steps, weight_decay=0.0)
        return {"loop": loop, "batch": profile.batch_size, "net": CnnConfig(profile.cnn_width, profile.cnn_blocks)}


@dataclass(frozen=True, kw_only=True)
class RefinerSettings(Settings):
    """Of a refiner's run."""

    model: str = "course"  # the transformer whose tokens are refined: a shipped one, or a run
    objective: RefinerObjective

    @classmethod
    def _own(cls, profile: Profile) -> dict[str, Any]:
        loop = LoopConfig(profile.transformer.refiner_steps)
        return {"loop": loop, "batch": profile.batch_size, "objective": RefinerObjective()}
