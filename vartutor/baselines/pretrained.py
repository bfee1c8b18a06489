"""The convolutional super-resolvers that the course ships."""

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.checkpoints import load_checkpoint, manifest
from vartutor.errors import UserError

PREFIX, SUFFIX = "cnn_", ".safetensors"


def checkpoint_name(name: str) -> str:
    """File name of a shipped net in ``assets/checkpoints``."""
    return f"{PREFIX}{name}{SUFFIX}"


def shipped_cnns() -> list[str]:
    """Names that :func:`load_pretrained_cnn` knows."""
    return sorted(file.removeprefix(PREFIX).removesuffix(SUFFIX) for file in manifest() if file.startswith(PREFIX))


def load_pretrained_cnn(name: str = "course") -> CnnSuperResolver:
    """A trained net in evaluation mode, without gradients.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed.
    """
    if name not in (names := shipped_cnns()):
        raise UserError(f"no CNN {name!r}: choose one of {', '.join(names) or 'none, for none is shipped'}")
    net = CnnSuperResolver(CnnConfig.from_json(manifest()[checkpoint_name(name)]["config"]))
    net.load_state_dict(load_checkpoint(checkpoint_name(name)))
    return net.eval().requires_grad_(False)
