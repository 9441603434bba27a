"""`explore`: the page of a model or a run, as an object for a notebook or a file."""

import html
import os
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..data import Dataset, Split
from ..errors import ConfigError, DataError, check_count
from ..evaluation.latent_space.aggregate import STATISTICS_ROWS
from ..evaluation.model_with_data import ModelWithData
from ..model import LatentVariableModel, check_model
from ..model.modes import evaluating
from ..runs.restore import RestoredRun
from ..store import Run, files
from .page import standalone
from .page_content import page_content

IMAGES = 400  # images on a page without a server; a served page has more


@dataclass(frozen=True, repr=False)
class Page:
    """A page that needs no server: in a notebook it shows itself, and `save` writes it.

    Arguments:
        html: The whole page.
        embeds: Sentences on the embedded images and weights, which may be private.
        height: Height in a notebook, in pixels.
    """

    html: str
    embeds: list[str] = field(default_factory=list)
    height: int = 900

    def __repr__(self) -> str:
        return f"Page({len(self.html) / 1e6:.1f} MB: {'; '.join(self.embeds)})"

    def _repr_html_(self) -> str:
        """The page in a frame of its own; an export of the notebook to HTML keeps it."""
        return (
            f'<iframe srcdoc="{html.escape(self.html, quote=True)}" title="vae explore" width="100%" '
            f'height="{self.height}" sandbox="allow-scripts allow-downloads" style="border:0"></iframe>'
        )

    def save(self, path: str | Path) -> Path:
        """Write the page: all of the file, or nothing.

        Raises:
            DataError: The name does not end in .html.
            RunError: The file cannot be written.
        """
        path = check_page_path(path)
        files.write(path, self.html.encode())
        return path


def check_page_path(path: str | Path) -> Path:
    """The path of a page.

    Raises:
        DataError: The name does not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"a page is written as .html, got {path.name!r}; change the suffix")
    return path


def explore(
    model: LatentVariableModel | Run | RestoredRun | str | Path | None = None,
    data: Dataset | Split | Tensor | tuple[Tensor, Tensor] | str | Path | None = None,
    *,
    images: int = IMAGES,
    half: bool = True,
    root: str | Path = "runs",
    trust: bool = False,
) -> Page:
    """An interactive page of a latent space, for a file or a notebook: a map, sliders, and ways between latents.

    Arguments:
        model: A model, with its data; or a run, its folder or name, the newest run by default.
        data: The rows of a model on the map: a data set (its test rows are used), a split, images, or (x, labels).
        images: How many images to embed; 0 leaves out every image and its latents.
        half: Store weights as float16, which makes the page half as large.
        root: Folder of all runs.
        trust: Allow parts by import path; their code is then executed.

    Raises:
        ConfigError: `images` is negative, `model` is neither a model nor a run, a run gets data, or a model gets none.
        DataError: The data do not fit the model.
        RunError: The run is unknown.
    """
    count = max(check_count("images", images, 0), STATISTICS_ROWS)
    if isinstance(model, (Run, RestoredRun, str, os.PathLike, type(None))):
        if data is not None:
            raise ConfigError("a run is shown on its own data; for other data: explore(vaekit.load(run), data)")
        restored = RestoredRun.of(model, root=root, trust=trust)
        subject = ModelWithData.of_run(restored, restored.model(), count)
    else:
        check_model(model)
        if data is None:
            raise ConfigError("a model needs data for its map: explore(model, vaekit.data.load('mnist'))")
        subject = ModelWithData.of_model(model, data, count)
    with evaluating(subject.model):
        text, embeds = standalone(subject, page_content(subject, images=images), half=half)
    return Page(text, embeds)
