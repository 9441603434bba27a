"""The assignment on one sheet: its sections, and the parts of each, one point a part.

Not for: the check of a part (the module `Point.module`).
"""

from typing import NamedTuple


class Point(NamedTuple):
    """One point.

    Arguments:
        section: Section in which the point counts.
        module: Module of this folder with the check.
        function: Name of the check in that module.
    """

    section: str
    module: str
    function: str


POINTS = (
    Point("VAE encoder", "networks", "vae_encoder"),
    Point("VAE decoder", "networks", "vae_decoder"),
    Point("reparametrize", "draws", "distribution"),
    Point("reparametrize", "draws", "gradient"),
    Point("VAE forward", "forward", "vae_outputs"),
    Point("VAE forward", "forward", "vae_noise"),
    Point("loss_function", "loss", "reconstruction"),
    Point("loss_function", "loss", "divergence"),
    Point("CVAE encoder", "networks", "cvae_encoder"),
    Point("CVAE decoder", "networks", "cvae_decoder"),
    Point("CVAE forward", "forward", "cvae_encodes_the_class"),
    Point("CVAE forward", "forward", "cvae_decodes_the_class"),
)
SECTION_NAMES = tuple(dict.fromkeys(part.section for part in POINTS))
MAXIMUM = len(POINTS)


class Mistake(Exception):  # noqa: N818 (a student's, not an error of ours)
    """A mistake in a solution, in words for the student; the part gets no point."""
