"""Which tokenizers the course has, and how one is put together from a few plain settings."""

import json
from dataclasses import asdict, dataclass, replace

import torch

from vartutor.data.pairs import SCALES
from vartutor.errors import UserError
from vartutor.profiles import Profile
from vartutor.tokenizer.autoencoder import SmallDecoder, SmallEncoder
from vartutor.tokenizer.hierarchical import HierarchicalQuantizer, HierarchicalTokenizer
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer

LADDERS = ("vq", "var", "hit")
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TokenizerConfig:
    """All that the shapes of a tokenizer's weights depend on, in words that JSON can hold.

    ``ladder`` is ``vq``: one token map, no φ; ``var``: many scales, one image; or ``hit``: many scales in groups,
    one image per group, of which the first ``kept`` are used, or all.
    """

    ladder: str
    groups: Groups
    codes: int
    channels: int
    width: int
    autoencoder: str = "small"
    scales: tuple[int, ...] = SCALES
    overlap: bool = True
    bridge: int = 0
    kept: int | None = None
    factor: int = 4  # pixels along a position, and residual blocks, of the small autoencoder; VAR's has 16, and its own
    blocks: int = 2
    start: str = ""  # file of the official weights that training began at, and with them the meaning of the codes

    @classmethod
    def of(cls, profile: Profile, ladder: str = "hit", overlap: bool = True) -> "TokenizerConfig":
        """The profile's sizes, all ladders with the token maps of its ``groups``.

        Raises:
            UserError: unknown ladder.
        """
        if ladder not in LADDERS:
            raise UserError(f"unknown ladder {ladder!r}: choose one of {', '.join(LADDERS)}")
        groups = ((profile.groups[-1][-1],),) if ladder == "vq" else profile.groups
        sizes = profile.codes, profile.channels, profile.width, profile.autoencoder, profile.scales
        bridge = profile.bridge if ladder == "hit" and overlap else 0
        return cls(ladder, groups, *sizes, overlap, bridge, factor=profile.factor, blocks=profile.blocks)

    @classmethod
    def from_json(cls, entry: dict):
        """Back from :meth:`to_json`, where tuples became lists."""
        groups = tuple(map(tuple, entry["groups"]))
        return cls(**{**entry, "groups": groups, "scales": tuple(entry["scales"])})

    def to_json(self) -> dict:
        """A dictionary of numbers, words and lists."""
        return json.loads(json.dumps(asdict(self)))


def build_tokenizer(config: TokenizerConfig) -> MultiScaleTokenizer:
    """An untrained tokenizer; its ``config`` says what it was built from."""
    if config.autoencoder == "small":
        sizes = config.width, config.channels, config.blocks, config.factor
        encoder, decoder = SmallEncoder(*sizes), SmallDecoder(*sizes)
    else:
        from vartutor.tokenizer.var_autoencoder import Decoder, Encoder  # what the course trains does without

        encoder, decoder = (part(config.width, config.channels) for part in (Encoder, Decoder))
    if config.ladder == "hit":
        options = {"overlap": config.overlap, "bridge": config.bridge}
        quantizer = HierarchicalQuantizer(config.groups, config.codes, config.channels, **options)
        model = HierarchicalTokenizer(quantizer, encoder, decoder, scales=config.scales)
    else:
        patch_nums = [p for group in config.groups for p in group]
        phi_ratio = 0.0 if config.ladder == "vq" else 0.5
        quantizer = MultiScaleQuantizer(patch_nums, config.codes, config.channels, phi_ratio=phi_ratio)
        model = MultiScaleTokenizer(quantizer, encoder, decoder)
    model = model.to(memory_format=torch.channels_last)  # as the small one's norm and a GPU's convolutions want it
    model.config = replace(config, kept=None)
    return first_groups(model, config.kept) if config.kept else model


def first_groups(model: HierarchicalTokenizer, groups: int) -> HierarchicalTokenizer:
    """:meth:`HierarchicalTokenizer.first`, with a ``config`` that says so."""
    cut = model.first(groups)
    cut.config = replace(model.config, kept=groups)
    return cut


def one_group(model: MultiScaleTokenizer, scale: int) -> HierarchicalTokenizer:
    """A plain tokenizer as a hierarchical one with a single group, for one scale: the same weights and tokens."""
    config = replace(model.config, ladder="hit", groups=(model.quantizer.patch_nums,), scales=(scale,))
    hit = build_tokenizer(config)
    hit.load_state_dict(model.state_dict())
    return hit.train(model.training).requires_grad_(False)
