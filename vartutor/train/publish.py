"""Put a trained tokenizer among the checkpoints that the course ships, with a record of where it comes from."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from vartutor.data.crops import eval_crops
from vartutor.errors import UserError
from vartutor.paths import assets, sha256_of
from vartutor.profiles import Profile
from vartutor.tokenizer.build import TokenizerConfig, build_tokenizer
from vartutor.tokenizer.pretrained import checkpoint_name
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.train.checkpoint import load_state
from vartutor.train.tokenizer import evaluate_tokenizer

WHAT = {
    "vq": "VQ tokenizer of chapter 02: one map of codes",
    "var": "plain multi-scale tokenizer of chapter 04",
    "hit": "hierarchical image tokenizer of chapter 05",
}


def trained_tokenizer(state: dict) -> MultiScaleTokenizer:
    """The averaged weights of a training state, rounded to float16 and back, ready for use."""
    model = build_tokenizer(TokenizerConfig.from_json(state["info"]["config"]))
    names = model.state_dict().keys()  # without the moving averages, which only training needs
    model.load_state_dict({name: value for name, value in state["averaged"].items() if name in names})
    return model.half().float().eval().requires_grad_(False)


@torch.no_grad()
def codes_used(model: MultiScaleTokenizer, profile: Profile, split: str = "test") -> float:
    """Share of the codebook that the crops of a split use at any scale, 0 to 1."""
    x, _ = eval_crops(split, profile.image_size, profile.eval_crops)
    indices = [idx.flatten() for part in x.split(16) for idx in model.tokenize(part)]
    return len(torch.cat(indices).unique()) / len(model.quantizer.codes)


def publish_tokenizer(run: Path, profile: Profile, folder: Path | None = None) -> dict:
    """Write ``tokenizer_LADDER.safetensors`` (float16) and its entry in ``manifest.json``.

    Args:
        run: folder of a finished training run.
        folder: of the checkpoints; the course's own if left out.

    Returns:
        the manifest's new entry; its metrics are those of the rounded weights on the test crops.

    Raises:
        UserError: no training state, or one that does not say what it trained.
    """
    folder = folder or assets() / "checkpoints"
    state = load_state(run / "state.pt")
    if "config" not in state.get("info", {}):
        raise UserError(f"{run / 'state.pt'}: does not say which tokenizer it holds; train it again")
    info, model = state["info"], trained_tokenizer(state)
    name = checkpoint_name(info["config"]["ladder"])
    temporary = folder / f"{name}.part"
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, temporary)
    os.replace(temporary, folder / name)
    scores = evaluate_tokenizer(model, profile)
    entry = {
        "sha256": sha256_of(folder / name),
        "what": WHAT[info["config"]["ladder"]] + ", averaged weights, fp16",
        "licence": "Apache-2.0",
        **{key: info[key] for key in ("command", "commit", "seed", "config", "losses") if key in info},
        "steps": state["step"],
        "seconds": round(state["seconds"]),
        "metrics": {
            "split": "test",
            "psnr_rgb": {str(s): round(values.mean().item(), 2) for s, values in scores.items()},
            "codes_used": round(codes_used(model, profile), 3),
        },
    }
    path = folder / "manifest.json"
    listed = json.loads(path.read_text(encoding="utf-8")) | {name: entry}
    path.write_text(json.dumps(dict(sorted(listed.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return entry
