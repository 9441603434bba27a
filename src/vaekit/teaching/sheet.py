"""The assignment on one sheet: its sections, and the parts of each, one point a part.

Not for: the check of a part (the module `Part.module`).
"""

from typing import NamedTuple


class Part(NamedTuple):
    """One point.

    Arguments:
        section: Section in which the point counts.
        module: Module of this folder with the check.
        function: Name of the check in that module.
    """

    section: str
    module: str
    function: str


PARTS = (
    Part("VAE encoder", "networks", "vae_encoder"),
    Part("VAE decoder", "networks", "vae_decoder"),
    Part("reparametrize", "draws", "distribution"),
    Part("reparametrize", "draws", "gradient"),
    Part("VAE forward", "forward", "vae_outputs"),
    Part("VAE forward", "forward", "vae_noise"),
    Part("loss_function", "loss", "reconstruction"),
    Part("loss_function", "loss", "divergence"),
    Part("CVAE encoder", "networks", "cvae_encoder"),
    Part("CVAE decoder", "networks", "cvae_decoder"),
    Part("CVAE forward", "forward", "cvae_encodes_the_class"),
    Part("CVAE forward", "forward", "cvae_decodes_the_class"),
)
SECTIONS = tuple(dict.fromkeys(part.section for part in PARTS))
MAXIMUM = len(PARTS)


class Mistake(Exception):  # noqa: N818 (a student's, not an error of ours)
    """A mistake in a solution, in words for the student; the part gets no point."""
