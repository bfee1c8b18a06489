"""A plain convolutional super-resolver in the style of EDSR (Lim et al., 2017): one trunk, a head per scale.

Residual blocks without norms work on the degraded photo's own grid; pixel shuffle enlarges (section 3). The paper's
MDSR has separate tails for its scales; here the ×4 tail goes on from the ×2 one, so a net with head 4 alone is EDSR.
Every head adds to the bicubic enlargement, and starts with nothing to add.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from vartutor.data.images import check_image
from vartutor.data.pairs import SCALES, upscale_bicubic
from vartutor.errors import UserError
from vartutor.tiling import regions


@dataclass(frozen=True)
class CnnConfig:
    """All that the shapes of the net's weights depend on, in words that JSON can hold.

    Raises:
        UserError: heads other than some of 1, 2 and 4; no channels or no blocks.
    """

    width: int = 128  # channels
    blocks: int = 12
    heads: tuple[int, ...] = SCALES
    residual_scale: float = 1.0  # of a block's branch; EDSR takes 0.1 from 256 channels on
    block: str = "edsr"  # what the trunk is made of; man: multi-scale attention, see `man`

    def __post_init__(self):
        if not self.heads or set(self.heads) - set(SCALES):
            raise UserError(f"heads {self.heads}: choose from {', '.join(map(str, SCALES))}")
        if min(self.width, self.blocks) < 1:
            raise UserError(f"{self.blocks} blocks of {self.width} channels: give whole numbers from 1 on")
        if self.block not in ("edsr", "man"):
            raise UserError(f"block {self.block!r}: choose one of edsr, man")
        if self.block == "man" and self.width % 3:
            raise UserError(f"{self.width} channels: blocks of multi-scale attention need a multiple of 3")

    @classmethod
    def from_json(cls, entry: dict):
        """Back from :meth:`to_json`, where tuples became lists."""
        return cls(**{**entry, "heads": tuple(entry["heads"])})

    def to_json(self) -> dict:
        """A dictionary of numbers and lists."""
        return json.loads(json.dumps(asdict(self)))


def _conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1)


class ResidualBlock(nn.Module):
    """x + scale · conv(relu(conv(x))): (B, C, h, w) -> the same."""

    def __init__(self, width: int, scale: float):
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.layers(x)


def _trunk(config: CnnConfig) -> tuple[nn.Module, nn.Module, int]:
    """Blocks, the layer after them, and how many pixels away a pixel still matters to the whole net, at most."""
    width, count = config.width, range(config.blocks)
    if config.block == "man":
        from vartutor.baselines.man import AttentionBlock, AttentionTail  # no chapter before the last needs it

        reach = AttentionBlock.reach * config.blocks + AttentionTail.reach + 8
        return nn.Sequential(*(AttentionBlock(width) for _ in count)), AttentionTail(width), reach
    blocks = nn.Sequential(*(ResidualBlock(width, config.residual_scale) for _ in count))
    return blocks, _conv(width, width), 2 * config.blocks + 8


class CnnSuperResolver(nn.Module):
    """Degraded photo in, the photo at every scale that has a head out."""

    def __init__(self, config: CnnConfig = CnnConfig()):
        super().__init__()
        self.config, width = config, config.width
        self.first = _conv(3, width)
        self.blocks, self.last, self.reach = _trunk(config)
        doublings = [s for s in SCALES if 1 < s <= max(config.heads)]
        self.enlarge = nn.ModuleDict(
            {str(s): nn.Sequential(_conv(width, 4 * width), nn.PixelShuffle(2)) for s in doublings}
        )
        self.heads = nn.ModuleDict({str(s): _conv(width, 3) for s in config.heads})
        for head in self.heads.values():
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.to(memory_format=torch.channels_last)  # a fifth faster on a CPU, twice as fast with bfloat16

    def forward(self, lr: Tensor) -> dict[int, Tensor]:
        """(B, 3, h, w) in [-1, 1] -> {s: (B, 3, s h, s w)}, not clamped, for every head."""
        images, h = upscale_bicubic(lr, tuple(self.config.heads)), self.first(lr)
        h = h + self.last(self.blocks(h))
        for s in SCALES:
            if str(s) in self.enlarge:
                h = self.enlarge[str(s)](h)
            if s in images:
                images[s] = images[s] + self.heads[str(s)](h)
        return images

    @torch.no_grad()
    def restore(self, lr: Tensor, block: int = 128) -> dict[int, Tensor]:
        """As :meth:`forward`, clamped to [-1, 1]; large photos block by block, with the same result.

        Args:
            lr: (B, 3, h, w).
            block: pixels of the degraded photo a side that are done at once; bounds the memory.
        """
        height, width = check_image(lr).shape[-2:]
        images = {s: lr.new_empty(len(lr), 3, height * s, width * s) for s in self.config.heads}
        for part in regions(height, width, block):
            around = part.grown(self.reach, height, width)
            done = self(lr[:, :, around.top : around.bottom, around.left : around.right])
            for s, image in images.items():
                rows = slice((part.top - around.top) * s, (part.bottom - around.top) * s)
                columns = slice((part.left - around.left) * s, (part.right - around.left) * s)
                image[:, :, part.top * s : part.bottom * s, part.left * s : part.right * s] = done[s][
                    ..., rows, columns
                ]
        return {s: image.clamp(-1, 1) for s, image in images.items()}


def separate(nets: Sequence[CnnSuperResolver]) -> Callable[[Tensor], dict[int, Tensor]]:
    """Several nets as one restorer, such as three with one head each: (B, 3, h, w) -> {s: (B, 3, s h, s w)}.

    Raises:
        UserError: two of them have a head for the same scale.
    """
    scales = [s for net in nets for s in net.config.heads]
    if len(set(scales)) != len(scales):
        raise UserError(f"nets with the heads {', '.join(map(str, scales))}: give each scale to one net")
    return lambda lr: {s: image for net in nets for s, image in net.restore(lr).items()}
