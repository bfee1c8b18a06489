"""Load the transformers that the authors of VAR published."""

import re
from collections.abc import Sequence

from vartutor.errors import UserError
from vartutor.tokenizer.official import LADDER_256, Source, load_strictly, read_state_dict
from vartutor.transformer.model import NextScaleTransformer, TransformerConfig

# Their names on the left, ours on the right; all other names are the same.
RENAMES = (
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
    for pattern, name in RENAMES:
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
    depth = 1 + max(int(m.group(1)) for m in (re.match(r"blocks\.(\d+)\.", name) for name in state) if m)
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
    config = read_config(state, patch_nums)
    if heads:
        config = TransformerConfig(**{**vars(config), "heads": heads})
    model = NextScaleTransformer(config)
    load_strictly(model, state)
    return model.eval().requires_grad_(False)
