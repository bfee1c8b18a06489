"""Put a trained model among the checkpoints that the course ships, with a record of where it comes from."""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from vartutor.addons.refiner import Refiner, make_writer
from vartutor.data.pairs import SCALES
from vartutor.errors import UserError, first_line
from vartutor.paths import assets, make_folder, whole
from vartutor.profiles import Profile
from vartutor.weights import Restorer, addition_of, cnn_of, kind_of, parts_of, tokenizer_of, transformer_of
from vartutor.weights.files import STATE, checkpoint_name, load_state, own_weights, packed
from vartutor.weights.state_dicts import whole_state
from vartutor.workshop.card import write_card
from vartutor.workshop.scores import (
    DECODES,
    LOOKS,
    codes_used,
    course_pairs,
    score_images,
    score_restorer,
    score_tokenizer,
)

WHAT = {
    "vq": "VQ tokenizer of chapter 02: one map of codes",
    "var": "plain multi-scale tokenizer of chapter 04",
    "hit": "hierarchical image tokenizer of chapter 05",
    "transformer": "transformer of chapter 07, which restores photos at ×1, ×2 and ×4",
    "preference": "transformer of chapter 08, fine-tuned to prefer clean photos",
    "fidelity": "fidelity module of chapter 07: the decoder looks at the degraded photo",
    "refiner": "diffusion refiner of the finest token map, as VARSR has one",
    "baseline": "convolutional super-resolver of chapter 07, which the transformer has to beat",
}
REFINED = {"plain": None, "refined, temperature 0": 0.0, "refined, temperature 1": 1.0}  # a refiner is judged at each
KEPT = ("command", "commit", "seed", "run", "config", "prefix", "patch", "added", "encoded", "prior", "restorer")
KEPT += ("losses", "perceptual", "objective", "preference", "start")


def publish(
    run: Path, profile: Profile, folder: Path | None = None, name: str = "course", licence: str = "Apache-2.0"
) -> dict:
    """Write a run's averaged weights in float16, and their entry in ``manifest.json``.

    The file is ``KIND_NAME.safetensors``, with the ladder for the name of the course's tokenizers; the name of a CNN
    without heads for all scales goes on with ``_x`` and its scales, such as ``cnn_course_x4``. What a model was trained
    over must lie in the folder already; its checksum becomes part of the entry.

    Args:
        run: folder of a finished training run.
        folder: of the checkpoints; the course's own if left out. Another one gets a model card too, ``NAME.md``.
        name: of the model.
        licence: of the weights, as SPDX names it.

    Returns:
        the manifest's new entry; its metrics are those of the rounded weights on the test photos.

    Raises:
        UserError: no training state, or one that does not say what it trained; weights that float16 cannot hold; the
            folder holds another tokenizer, or another transformer, than the run was trained over; no space.
    """
    own, folder = folder is None, folder or assets() / "checkpoints"
    make_folder(folder)
    path = run / STATE
    state = load_state(path)
    try:
        make = MAKERS[kind_of(state, path)]
        with whole_state(path):
            file, model, what, details = make(state, profile, folder, name)
            info, data = state["info"], packed(model)
            entry = {
                "sha256": hashlib.sha256(data).hexdigest(),
                "what": f"{what}, averaged weights, fp16",
                "licence": licence,
                **{key: info[key] for key in KEPT if key in info},
                "steps": state["step"],
                "seconds": round(state["seconds"]),
                **details,
            }
            card = {} if own else {(folder / file).with_suffix(".md"): write_card(file, entry)}
            listed = dict(sorted((_manifest(folder) | {file: entry}).items()))
            texts = {folder / "manifest.json": json.dumps(listed, indent=2, ensure_ascii=False) + "\n", **card}
    except UserError as error:
        raise UserError(f"{error}; nothing is published") from None
    _replace({**{at: text.encode(errors="backslashreplace") for at, text in texts.items()}, folder / file: data})
    return entry


def _tokenizer(state: dict, profile: Profile, folder: Path, name: str) -> tuple[str, nn.Module, str, dict]:
    model, ladder = tokenizer_of(parts_of(state)), state["info"]["config"]["ladder"]
    metrics = {
        "split": "test",
        "psnr_rgb": {str(s): round(v.mean().item(), 2) for s, v in score_tokenizer(model, profile).items()},
        "codes_used": round(codes_used(model, profile), 3),
    }
    return checkpoint_name("tokenizer", ladder if name == "course" else name), model, WHAT[ladder], {"metrics": metrics}


def _transformer(state: dict, profile: Profile, folder: Path, name: str) -> tuple[str, nn.Module, str, dict]:
    model, tokenizer = transformer_of(parts_of(state))
    needs = {"tokenizer": _sum_of(folder, "tokenizer", name, "hit", tokenizer)}
    if model.restorer is not None:
        needs["net"] = _sum_of(folder, "cnn", name, "course", model.restorer)
    restorer = Restorer(model, tokenizer)
    scores = {way: score_restorer(restorer, profile, **options) for way, options in DECODES.items()}
    details = needs | {"metrics": {"split": "test"} | scores}
    return checkpoint_name("transformer", name), model, WHAT[state["info"]["kind"]], details


def _addition(state: dict, profile: Profile, folder: Path, name: str) -> tuple[str, nn.Module, str, dict]:
    """What stands beside a transformer."""
    kind, objective = state["info"]["kind"], state["info"]["objective"]
    parts = parts_of(state)
    model, tokenizer = transformer_of(parts)
    needs = _same(folder, checkpoint_name("transformer", name), model)
    decode = {key: objective[key] for key in ("temperature", "expected")}
    if kind == "fidelity":
        own = addition_of(parts)
        ways = {way: options | decode for way, options in LOOKS.items()}
    else:
        own = addition_of(parts, "refiner", Refiner)
        ways = {way: {"write": make_writer(model, refine=t, refiner=own)} | decode for way, t in REFINED.items()}
    restorer = Restorer(model, tokenizer, own if kind == "fidelity" else None)
    scores = {way: score_restorer(restorer, profile, **options) for way, options in ways.items()}
    return checkpoint_name(kind, name), own, WHAT[kind], {"transformer": needs, "metrics": {"split": "test"} | scores}


def _cnn(state: dict, profile: Profile, folder: Path, name: str) -> tuple[str, nn.Module, str, dict]:
    net, pairs = cnn_of(parts_of(state)), course_pairs(profile)
    heads = net.config.heads
    own = name if set(heads) == set(SCALES) else name + "".join(f"_x{s}" for s in sorted(heads))
    metrics = {"split": "test"} | score_images(net.restore(pairs.lr), pairs)
    return checkpoint_name("cnn", own), net, WHAT["baseline"], {"metrics": metrics}


MAKERS = {
    "tokenizer": _tokenizer,
    "transformer": _transformer,
    "preference": _transformer,
    "fidelity": _addition,
    "refiner": _addition,
    "baseline": _cnn,
}


def _sum_of(folder: Path, kind: str, name: str, course: str, model: nn.Module) -> str:
    """The checksum of what a transformer was trained over: of the same name, else the course's."""
    own = checkpoint_name(kind, name)
    return _same(folder, own if own in _manifest(folder) else checkpoint_name(kind, course), model)


def _same(folder: Path, file: str, model: nn.Module) -> str:
    """The checksum of a published file that holds the weights of ``model``."""
    listed, own = _manifest(folder), own_weights(model)
    if file not in listed or not (folder / file).is_file():
        raise UserError(f"{folder / file}: not published yet; publish what the run was trained over first")
    there = load_file(folder / file)
    if there.keys() != own.keys() or not all(torch.equal(there[key].float(), own[key]) for key in own):
        raise UserError(f"{folder / file}: not what the run was trained over; publish that first, or train again")
    return listed[file]["sha256"]


def _manifest(folder: Path) -> dict:
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _replace(contents: dict[Path, bytes]) -> None:
    """All files or none: the old ones stay until every new one is complete; the last one goes first."""
    try:
        with ExitStack() as stack:
            for path, content in contents.items():
                stack.enter_context(whole(path)).write_bytes(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({first_line(error)}); the old checkpoints are kept") from None
