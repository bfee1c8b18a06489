"""The convolutional super-resolvers that the course ships."""

from vartutor.baselines.cnn import CnnConfig, CnnSuperResolver
from vartutor.checkpoints import checkpoint_name, load_checkpoint, manifest, shipped
from vartutor.errors import UserError


def load_pretrained_cnn(name: str = "course") -> CnnSuperResolver:
    """A trained net in evaluation mode, without gradients.

    Raises:
        UserError: unknown name; a checkpoint that is missing or changed.
    """
    if name not in (names := shipped("cnn")):
        raise UserError(f"no CNN {name!r}: choose one of {', '.join(names) or 'none, for none is shipped'}")
    file = checkpoint_name("cnn", name)
    net = CnnSuperResolver(CnnConfig.from_json(manifest()[file]["config"]))
    net.load_state_dict(load_checkpoint(file))
    return net.eval().requires_grad_(False)
