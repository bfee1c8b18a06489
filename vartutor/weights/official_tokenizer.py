"""The tokenizer that the authors of VAR published, and any of the same form: loaded, or trained on."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vartutor.errors import UserError, first_line
from vartutor.paths import make_folder, sha256_of
from vartutor.tokenizer.multiscale import MultiScaleQuantizer
from vartutor.tokenizer.tokenizer import MultiScaleTokenizer
from vartutor.tokenizer.var_autoencoder import Decoder, Encoder
from vartutor.weights.state_dicts import Source, Start, expected_form, load_strictly, read_state_dict

# The file's name, and the sha256 that the model hub's large-file pointer gives. 436 MB, MIT licence.
URL = "https://huggingface.co/FoundationVision/var/resolve/main/vae_ch160v4096z32.pth"
SHA256 = "7c3ec27ae28a3f87055e83211ea8cc8558bd1985d7b51742d074fb4c2fcf186c"

LADDER_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
STATISTICS = ("quantizer.hits", "quantizer.sums", "quantizer.weights")  # of how codes are used

# Their names on the left, ours on the right; all other names are the same.
TOKENIZER_NAMES = (
    (r"^quantize\.embedding\.weight$", "quantizer.codes"),
    (r"^quantize\.ema_vocab_hit_SV$", "quantizer.hits"),
    (r"^quantize\.quant_resi\.qresi_ls\.(\d+)\.", r"quantizer.phi.convs.\1."),
    (r"^quantize\.quant_resi\.qresi\.", "quantizer.phi.convs.0."),
    (r"^quantize\.quant_resi\.(\d+)\.", r"quantizer.phi.convs.\1."),
)


def download_official(folder: str | Path, url: str = URL, sha256: str = SHA256) -> Path:
    """Fetch the tokenizer that the authors of VAR published, unless ``folder`` holds it already.

    A file appears only when it is complete and has the right checksum.

    Returns:
        its path, for :func:`load_vqvae`.

    Raises:
        UserError: no connection, no space, or another file than the published one.
    """
    path = Path(folder) / url.rsplit("/", 1)[1]
    make_folder(path.parent)
    if path.is_file() and sha256_of(path) == sha256:
        return path
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:  # torch reports a wrong checksum as RuntimeError
        raise UserError(f"{url}: not downloaded ({first_line(error)}); try again, or fetch it to {path}") from None
    return path


def _read(source: Source) -> dict[str, Tensor]:
    """Official tensors by our names."""
    state = read_state_dict(source)
    for pattern, name in TOKENIZER_NAMES:
        state = {re.sub(pattern, name, key): value for key, value in state.items()}
    needed = ("quantizer.codes", "encoder.conv_in.weight")
    if missing := [name for name in needed if name not in state]:
        raise UserError(f"no tokenizer of VAR: the source lacks what stands for {', '.join(missing)}")
    return state


def load_vqvae(source: Source, patch_nums: Sequence[int] = LADDER_256) -> MultiScaleTokenizer:
    """VAR's multi-scale tokenizer with its published weights.

    Width, code length, codebook size and the number of φ convolutions are read from the tensors. The ladder is
    not in the file: one tokenizer serves several, and its usage statistics are dropped where they are of another.

    Args:
        source: path of a .pth or .safetensors file, or a state dict with the official names.
        patch_nums: sides of the token maps.

    Returns:
        the tokenizer in evaluation mode, without gradients.

    Raises:
        UserError: unreadable, or names and shapes that do not fit, all listed.
    """
    state = _read(source)
    with expected_form("no tokenizer of VAR"):
        codes, channels = state["quantizer.codes"].shape
        phis = len([name for name in state if re.fullmatch(r"quantizer\.phi\.convs\.\d+\.weight", name)])
        quantizer = MultiScaleQuantizer(patch_nums, codes, channels, shared_phi=phis, phi_ratio=0.5 if phis else 0.0)
        ch = state["encoder.conv_in.weight"].shape[0]
        model = MultiScaleTokenizer(quantizer, Encoder(ch, channels), Decoder(ch, channels))
        load_strictly(model, state, optional=("quantizer.hits",))
    return model.eval().requires_grad_(False)


def init_from_vqvae(model: MultiScaleTokenizer, source: Source) -> Start:
    """Start a tokenizer from official weights, as the paper starts from one of this family; changed in place.

    Encoder, decoder, codes and φ are taken, whatever the ladder. The bridge between groups is new, and so is what
    counts how codes are used, for it belongs to the official ladder.

    Args:
        source: as for :func:`load_vqvae`.

    Raises:
        UserError: unreadable, or names and shapes that do not fit, all listed; the model is unchanged.
    """
    state, quantizer = _read(source), model.quantizer
    unused = [name for name in state if name in STATISTICS]
    taken = {name: value for name, value in state.items() if name not in unused}
    new = [name for name in model.state_dict() if name in STATISTICS or name.startswith("quantizer.bridge.")]
    load_strictly(model, taken, optional=new)
    if quantizer.decay is not None:  # averages begin at the codes
        quantizer.use_moving_averages(quantizer.decay, quantizer.votes)
    return Start(tuple(taken), (), tuple(new), tuple(unused))
