"""Pictures: images from a model, laid out with titles and labels, and figures of its latents and its training.

Every function returns its picture and writes nothing. A picture shows itself in a notebook, and `save` writes it:

    picture = plot.interpolation(model)
    picture                                     # shown, as the last line of a notebook's cell
    plot.save(picture, "interpolation.png")     # also .jpg, .svg and .gif
    plot.save(picture, "interpolation.npy")     # the 144 images
    plot.save(picture.styled(cmap="magma"), "interpolation.svg")

Figures are matplotlib's, drawn with its own defaults. The user's settings change nothing.

| file | what |
|---|---|
| `decoding` | images that a model draws |
| `ways` | lines, great circles and dense paths between two latents |
| `space` | single latents: how much each carries, a map, traversals |
| `figures` | curves of a training, latents in the plane, the KL of each latent |
| `picture`, `film` | tiles with titles and names; pictures that move |
| `line_plots` | signals as curves |
| `text`, `canvas` | words on a picture; matplotlib by its own defaults |
| `saving` | files of pictures |

Not for: scores of a model, or the place of a picture in a run folder.
"""

from .decoding import interpolation, one_each, per_class, reconstructions, samples
from .figures import curves, kl_per_latent, latents
from .film import Film, epochs, walk
from .line_plots import signals
from .picture import Picture, grid
from .saving import save
from .space import Carried, carried, manifold, traversals

__all__ = [
    "Carried",
    "Film",
    "Picture",
    "carried",
    "curves",
    "epochs",
    "grid",
    "interpolation",
    "kl_per_latent",
    "latents",
    "manifold",
    "one_each",
    "per_class",
    "reconstructions",
    "samples",
    "save",
    "signals",
    "traversals",
    "walk",
]
