"""Load the transformers that the authors of VAR published."""

import math
import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vartutor.errors import UserError
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig
from vartutor.transformer.photo import PhotoTransformer
from vartutor.weights.official_tokenizer import LADDER_256
from vartutor.weights.state_dicts import Source, Start, expected_form, load_strictly, read_state_dict

# Their names on the left, ours on the right; all other names are the same.
TRANSFORMER_NAMES = (
    (r"^pos_1LC$", "pos"),
    (r"^lvl_embed\.", "level."),
    (r"^shared_ada_lin\.1\.", "shared_modulation."),
    (r"^head_nm\.ada_lin\.1\.", "head_modulation."),
    (r"\.ada_lin\.1\.", ".modulation."),
    (r"\.ada_gss$", ".offset"),
    (r"\.attn\.mat_qkv\.", ".attn.qkv."),
    (r"\.attn\.scale_mul_1H11$", ".attn.log_scale"),
    (r"\.ffn\.fc", ".fc"),
)
BUFFERS = re.compile(r"^(lvl_1L|attn_bias_for_masking|blocks\.\d+\.attn\.zero_k_bias)$")  # we make our own


def rename(state: dict) -> dict:
    """Official names to ours; their constant buffers are left out."""
    state = {name: value for name, value in state.items() if not BUFFERS.match(name)}
    for pattern, name in TRANSFORMER_NAMES:
        state = {re.sub(pattern, name, key): value for key, value in state.items()}
    return state


def read_config(state: dict, patch_nums: Sequence[int]) -> TransformerConfig:
    """Sizes of a transformer, from its tensors under our names.

    Raises:
        UserError: it lacks what every VAR transformer has.
    """
    needed = ("word_embed.weight", "class_emb.weight", "head.weight", "blocks.0.fc1.weight", "blocks.0.attn.qkv.weight")
    if missing := [name for name in needed if name not in state]:
        raise UserError(f"no transformer of VAR: the source lacks what stands for {', '.join(missing)}")
    width, channels = state["word_embed.weight"].shape
    depth = len({m.group(1) for m in (re.match(r"blocks\.(\d+)\.", name) for name in state) if m})
    l2_norm = "blocks.0.attn.log_scale" in state
    return TransformerConfig(
        patch_nums=tuple(patch_nums),
        codes=state["head.weight"].shape[0],
        channels=channels,
        width=width,
        depth=depth,
        heads=state["blocks.0.attn.log_scale"].shape[1] if l2_norm else max(1, width // 64),
        mlp_ratio=state["blocks.0.fc1.weight"].shape[0] / width,
        classes=state["class_emb.weight"].shape[0],
        shared_aln="shared_modulation.weight" in state,
        l2_norm=l2_norm,
    )


def load_var(source: Source, patch_nums: Sequence[int] = LADDER_256, heads: int | None = None) -> NextScaleTransformer:
    """VAR's transformer with its published weights.

    Depth, width, heads, classes and the kind of modulation are read from the tensors; official models without
    L2-normalised attention do not tell their heads, and have 64 channels each.

    Args:
        source: path of a .pth or .safetensors file, or a state dict with the official names.
        patch_nums: sides of the token maps that the weights were trained for.
        heads: instead of what the tensors say.

    Returns:
        the transformer in evaluation mode, without gradients.

    Raises:
        UserError: unreadable, or names and shapes that do not fit, all listed.
    """
    state = rename(read_state_dict(source))
    with expected_form("no transformer of VAR"):
        config = read_config(state, patch_nums)
        if heads:
            config = TransformerConfig(**{**vars(config), "heads": heads})
        model = NextScaleTransformer(config)
        load_strictly(model, state)
    return model.eval().requires_grad_(False)


def init_from_var(
    model: PhotoTransformer | NextScaleTransformer, source: Source, patch_nums: Sequence[int] = LADDER_256
) -> Start:
    """Start a model from official weights, as the paper does; changed in place.

    What fits by name and shape is taken. For another ladder, a scale gets position table and level embedding of the
    official scale whose side is nearest in ratio, the table resampled bicubically; for other classes, each begins as
    VAR's null class (all our choice). Prefix and prior stay new; a model with rotary positions uses no table.

    Args:
        source: as for :func:`load_var`.
        patch_nums: sides of the token maps that the weights were trained for.

    Raises:
        UserError: unreadable, or names and shapes that do not fit, all listed; the model is unchanged.
    """
    state = rename(read_state_dict(source))
    with expected_form("no transformer of VAR"):
        read_config(state, patch_nums)
    inside = "body." if isinstance(model, PhotoTransformer) else ""
    body = model.body if inside else model
    own = body.state_dict()
    unused = ["pos"] if body.config.rope and "pos" in state else []
    state = {name: value for name, value in state.items() if name not in unused}
    fitted = state | _resized(state, tuple(patch_nums), own, body.config.patch_nums)
    ours = [name for name in own if name.startswith("prior.")]
    load_strictly(body, fitted, optional=ours)
    resized = [inside + name for name in state if fitted[name] is not state[name]]
    taken = [inside + name for name in state if fitted[name] is state[name]]
    new = [name for name in model.state_dict() if name not in resized and name not in taken]
    return Start(tuple(taken), tuple(resized), tuple(new), tuple(unused))


def _resized(state: dict, theirs: tuple[int, ...], own: dict, ours: tuple[int, ...]) -> dict[str, Tensor]:
    """Tables for our ladder and classes; those of unexpected form are left out, for the loader to complain."""
    levels = [min(range(len(theirs)), key=lambda k: abs(math.log(p / theirs[k]))) for p in ours]
    found = {}
    if (table := state["class_emb.weight"]).ndim == 2 and len(table) != len(own["class_emb.weight"]):
        found["class_emb.weight"] = table[-1:].expand(len(own["class_emb.weight"]), -1)
    if theirs == ours:
        return found
    if (table := state.get("level.weight")) is not None and table.ndim == 2 and len(table) == len(theirs):
        found["level.weight"] = table[levels]
    if (table := state.get("pos")) is not None and table.ndim == 3 and table.shape[1] == sum(p * p for p in theirs):
        maps = table.split([p * p for p in theirs], dim=1)
        found["pos"] = torch.cat([_resample(maps[k], p) for k, p in zip(levels, ours, strict=True)], 1)
    if (table := state.get("pos_start")) is not None and table.ndim == 3 and table.shape[1] == theirs[0] ** 2:
        found["pos_start"] = table if ours[0] == theirs[0] else _resample(table, ours[0])
    return found


def _resample(table: Tensor, side: int) -> Tensor:
    """(1, p², D) -> (1, side², D)."""
    grid = table.float().transpose(1, 2).unflatten(2, (math.isqrt(table.shape[1]), -1))
    return F.interpolate(grid, size=(side, side), mode="bicubic").flatten(2).transpose(1, 2)
