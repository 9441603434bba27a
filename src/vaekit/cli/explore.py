"""`vae explore`: an interactive page of a run's latent space."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .common import FILE, is_default, json_option, print_files, say, wants_json
from .printing import out, out_json
from .run_options import ChosenRun, unseeded_run_options

if TYPE_CHECKING:
    from ..evaluation.model_with_data import ModelWithData
    from ..explorer.page_content import PageContent

SERVED_IMAGES = 2000  # images on the map of a served page


@click.command(short_help="Explore the latent space in a browser.")
@click.option("-o", "--output", type=FILE, help="Write one .html with everything in it, and serve nothing.")
@click.option(
    "--images", type=click.IntRange(0), help=f"Test images on the map.  [default: {SERVED_IMAGES}; 400 with -o]"
)
@click.option("--float32", is_flag=True, help="With -o: weights as float32 instead of float16; twice the size.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="any free one", help="Port to listen on."
)
@click.option("--no-browser", is_flag=True, help="Open no browser; the address is printed.")
@unseeded_run_options
@json_option
def explore(
    chosen: ChosenRun, output: Path | None, images: int | None, float32: bool, port: int, no_browser: bool
) -> None:
    """Try `vae explore`: show a page with a map, sliders and your own images, of RUN, the newest by default.

    The page is served on this machine only, until Ctrl-C. With -o it is one file to send to anyone: it works
    offline, in any browser. --images 0 leaves out every image.
    """
    if float32 and output is None:
        raise click.UsageError("--float32 goes with -o")
    if output is not None and (no_browser or not is_default("port")):
        raise click.UsageError("--port and --no-browser are for a page that is served; leave out -o")
    from ..evaluation.latent_space.aggregate import STATISTICS_ROWS
    from ..evaluation.model_with_data import ModelWithData
    from ..explorer import show
    from ..explorer.page_content import page_content

    if output is not None:
        show.check_page_path(output)
        page = show.explore(chosen.restored, images=show.IMAGES if images is None else images, half=not float32)
        page.save(output)
        say(f"{len(page.html) / 1e6:.1f} MB; it embeds {'; '.join(page.embeds)}")
        print_files(output, run=str(chosen.run.path))
        return
    model, _ = chosen.model()
    count = SERVED_IMAGES if images is None else images
    subject = ModelWithData.of_run(chosen.restored, model, max(count, STATISTICS_ROWS))
    _serve(subject, page_content(subject, images=count), port, not no_browser)


def _serve(subject: "ModelWithData", content: "PageContent", port: int, browser: bool) -> None:
    """Serve a page until Ctrl-C."""
    from ..explorer.server import Server

    try:
        server = Server(subject, content, port=port)
    except OSError as error:
        raise ConfigError(f"--port {port}: {error.strerror or error}; choose another, or leave it out") from None
    try:
        if wants_json():
            out_json({"address": server.address})
        else:
            out(server.address)
        say("this page is for this machine only; Ctrl-C ends it")
        if browser:
            import webbrowser

            webbrowser.open(server.address)
        server.wait()
    except KeyboardInterrupt:
        say("ended")
    finally:
        server.close()
