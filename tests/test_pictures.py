"""Pictures with words, colours and motion, pictures of latents, and figures that no setting of the user's changes."""

import base64
import io
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.distributions import Independent, LowRankMultivariateNormal, MultivariateNormal, Normal, kl_divergence

from vaekit import LatentVariableModel, plot
from vaekit.errors import ConfigError, DataError
from vaekit.plot.text import fitting, latent_name, number, shortened, text_width, wrapped


class Known(LatentVariableModel):
    """Latents that are pixels: z_j = x_j with a spread of its own, and x = z again, so that every tile shows its z."""

    def __init__(self, scales=(0.1, 0.5, 0.02), context_size=0, prior="normal", posterior="normal"):
        super().__init__()
        self.scales = nn.Parameter(torch.tensor(scales, dtype=torch.float64))
        self.latent_size = len(scales)
        self.context_size = context_size
        self.event_shape = (1, 1, self.latent_size)
        self.kind = prior, posterior

    def posterior(self, x, c=None):
        mean = x.flatten(1)
        if self.kind[1] == "full":
            return MultivariateNormal(mean, torch.diag(self.scales**2))
        return Independent(Normal(mean, self.scales.expand_as(mean)), 1)

    def prior(self, c=None):
        zero = torch.zeros(self.latent_size, dtype=torch.float64)
        if self.kind[0] == "full":
            return LowRankMultivariateNormal(zero, zero[:, None], zero + 1)
        return Independent(Normal(zero, 1.0), 1)

    def likelihood(self, z, c=None):
        x = z if c is None else z + 100 * c.argmax(-1, keepdim=True)
        return Independent(Normal(x.unflatten(-1, self.event_shape), 1.0), 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images_of(model, n=40, seed=0):
    return torch.randn(n, *model.event_shape, generator=generator(seed), dtype=torch.float64)


# Words


def test_rows_and_columns_and_titles_lie_around_the_images_and_do_not_touch_them():
    images = torch.full((6, 1, 28, 28), 0.25)
    plain = plot.grid(images, columns=3, scale=4)
    named = plot.grid(images, columns=3, scale=4, title="A title", rows=("first", "second"), heads=("a", "b", "c"))
    body, page = plain.pixels, named.pixels
    height, width = body.shape
    places = np.argwhere(page == 64)  # the only pixels of this grey, but for a few at the edge of a letter
    inside = [(y, x) for y, x in places if (page[y : y + 5, x : x + 5] == 64).all()]
    top, left = min(y for y, _ in inside) - 2, min(x for _, x in inside) - 2
    assert np.array_equal(page[top : top + height, left : left + width], body)
    margins = page.copy()
    margins[top : top + height, left : left + width] = 255
    assert margins[:top].min() < 100 and margins[:, :left].min() < 100  # words above, and at the left
    assert margins[top + height :].min() == 255 and margins[:, left + width :].min() == 255
    assert (page[0] == 255).all() and (page[:, 0] == 255).all()  # nothing is cut off


def test_each_name_stands_beside_its_row_and_above_its_column():
    picture = plot.grid(torch.zeros(4, 1, 20, 20), columns=2, scale=5, rows=("up", "down"), heads=("left", "right"))
    root = ElementTree.fromstring(picture.svg())
    texts = {e.text: (float(e.get("x")), float(e.get("y"))) for e in root.iter("{http://www.w3.org/2000/svg}text")}
    assert set(texts) == {"up", "down", "left", "right"}
    assert texts["down"][1] - texts["up"][1] == texts["right"][0] - texts["left"][0] == 102  # 20 · 5 + 2
    assert texts["up"][0] == texts["down"][0] < texts["left"][0]
    assert texts["left"][1] == texts["right"][1] < texts["up"][1]


def test_words_fit():
    assert fitting(("short",), 20, 500) == 20
    small = fitting(("a rather long name",), 20, 100)
    assert 9 <= small < 20 and text_width("a rather long name", small) <= 100
    assert fitting(("x" * 100,), 20, 50) == 9
    cut = shortened("x" * 100, 9, 50)
    assert cut.endswith("…") and text_width(cut, 9) <= 50
    assert shortened("fits", 9, 50) == "fits"
    lines = wrapped("some words in a narrow picture", 20, 120)
    assert len(lines) > 1 and " ".join(lines) == "some words in a narrow picture"
    assert all(text_width(line, 20) <= 120 for line in lines)
    assert (latent_name(0), latent_name(11), number(-1.25), number(-0.01)) == ("z₁", "z₁₂", "−1.2", "0.0")


def test_every_letter_that_the_pictures_use_has_a_shape():
    from vaekit.plot.text import font

    missing = font(20).getmask("\uffff")
    for letter in "z₀₁₂₃₄₅₆₇₈₉−σ…;()":
        assert bytes(font(20).getmask(letter)) != bytes(missing), letter


# Colours


def test_inverted_and_coloured():
    images = torch.tensor([0.0, 0.2, 1.0]).view(3, 1, 1, 1)
    plain = plot.grid(images, columns=3, padding=0, scale=1)
    assert plain.styled(invert=True).pixels.tolist() == [[255, 204, 0]]
    from matplotlib import colormaps

    shown = plain.styled(cmap="magma").pixels
    expected = (255 * colormaps["magma"](images.flatten().numpy())[:, :3]).round()
    assert np.abs(shown[0] - expected).max() <= 1
    assert np.array_equal(plain.styled(cmap="magma", invert=True).pixels[0, 0], shown[0, 2])
    assert plain.pixels.tolist() == [[0, 51, 255]]  # itself unchanged
    colour = plot.grid(torch.rand(2, 3, 4, 4), padding=0, scale=1)
    assert np.array_equal(colour.styled(invert=True).pixels, 255 - colour.pixels)
    with pytest.raises(ConfigError, match="for grey images"):
        colour.styled(cmap="magma")
    with pytest.raises(ConfigError, match="no colour map 'magna'; try 'magma'"):
        plain.styled(cmap="magna")


# Files


@pytest.mark.parametrize(
    ("suffix", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("gif", "GIF"), ("PNG", "PNG")]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_is_what_its_name_says(tmp_path, suffix, kind, channels):
    picture = plot.grid(torch.rand(4, channels, 8, 8, generator=generator()), title="Noise")
    path = tmp_path / f"a.{suffix}"
    plot.save(picture, path)
    with Image.open(path) as image:
        assert image.format == kind
        assert image.size == picture.pixels.shape[1::-1]
        near = np.asarray(image.convert("RGB"), dtype=int) - np.asarray(Image.fromarray(picture.pixels).convert("RGB"))
    assert np.abs(near).mean() < 12  # a palette or JPEG is near, the others are exact
    assert kind != "PNG" or not near.any()


def test_an_svg_holds_the_images_to_the_bit_and_the_words_as_words(tmp_path):
    picture = plot.grid(torch.rand(4, 1, 8, 8, generator=generator()), rows=("a < b", "c"))
    plot.save(picture, tmp_path / "a.svg")
    root = ElementTree.fromstring((tmp_path / "a.svg").read_bytes())
    space = "{http://www.w3.org/2000/svg}"
    data = next(root.iter(f"{space}image")).get("href").removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        pixels = np.asarray(image)
    body = pixels == picture.pixels
    assert pixels.shape == picture.pixels.shape and body[:, pixels.shape[1] // 3 :].all()
    assert [e.text for e in root.iter(f"{space}text")] == ["a < b", "c"]


def test_a_figure_is_written_as_each_kind(tmp_path):
    figure = plot.curves([{"epoch": 1, "neg_elbo": 1.0, "rate": 1.0, "distortion": 0.0}])
    for suffix, start in (("png", b"\x89PNG"), ("jpg", b"\xff\xd8"), ("svg", b"<?xml")):
        plot.save(figure, tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(start)
    assert b"<dc:date>" not in (tmp_path / "a.svg").read_bytes()


def test_pictures_show_themselves_in_a_notebook():
    model = Known()
    x = images_of(model)
    for picture in (plot.grid(torch.rand(2, 1, 4, 4)), plot.kl_per_latent(model, x), plot.latents(model, x)):
        with Image.open(io.BytesIO(picture._repr_png_())) as image:
            assert image.format == "PNG"
    film = plot.walk(model, rows=2, steps=3)
    data = re.search(r"data:image/gif;base64,([^\"]+)", film._repr_html_())[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.is_animated
    assert repr(film).startswith("Film of ")
    assert plot.Picture(torch.zeros(3, 5))._repr_png_() is None  # vectors: nothing to see, and no failure


# Films


def test_a_walk_goes_there_and_back(tmp_path):
    model = Known((0.1,) * 9)
    model.event_shape = (1, 3, 3)
    film = plot.walk(model, rows=4, steps=6, generator=generator())
    still = plot.interpolation(model, rows=4, steps=6, generator=generator())
    steps = still.images.unflatten(0, (4, 6))
    plot.save(film, tmp_path / "walk.gif")
    with Image.open(tmp_path / "walk.gif") as image:
        frames = []
        for index in range(image.n_frames):
            image.seek(index)
            frames.append(np.asarray(image.convert("L"), dtype=int))
        assert image.info["loop"] == 0
    scale = (frames[0].shape[1] - 2) // 2 // 3
    for index in range(6):
        expected = plot.grid(steps[:, index], scale=scale).pixels
        assert np.abs(frames[index] - expected).max() <= 5  # 52 grey levels
    assert np.array_equal(frames[6], frames[4]) and np.array_equal(frames[9], frames[1])
    assert not np.array_equal(frames[0], frames[5])
    with pytest.raises(DataError, match=r"a film is written as \.gif"):
        plot.save(film, tmp_path / "walk.png")


def test_the_film_of_epochs_has_every_epoch(tmp_path):
    class Folder:
        name, path = "some", tmp_path

    with pytest.raises(ConfigError, match="no pictures of its epochs"):
        plot.epochs(Folder)
    (tmp_path / "samples").mkdir()
    for epoch in range(1, 5):
        plot.save(torch.full((1, 1, 30, 30), epoch / 5), tmp_path / "samples" / f"epoch-{epoch:03d}.png")
    film = plot.epochs(Folder)
    assert [frame.pixels[9, 9] for frame in film.frames] == [51, 102, 153, 204]
    assert max(film.frames[0].pixels.shape) <= 600 and film.rest > film.milliseconds
    for epoch in range(5, 200):
        plot.save(torch.full((1, 30, 30), epoch / 200), tmp_path / "samples" / f"epoch-{epoch:03d}.png")
    assert len(plot.epochs(Folder).frames) <= 60


def test_the_film_of_epochs_is_in_order_beyond_999_epochs(tmp_path):
    class Folder:
        name, path = "some", tmp_path

    (tmp_path / "samples").mkdir()
    for epoch, grey in ((998, 0.2), (999, 0.4), (1000, 0.6)):
        plot.save(torch.full((1, 1, 30, 30), grey), tmp_path / "samples" / f"epoch-{epoch:03d}.png")
    assert [frame.pixels[9, 9] for frame in plot.epochs(Folder).frames] == [51, 102, 153]


# Latents


def test_the_kl_of_each_latent_is_exact_where_it_has_one():
    model = Known()
    x = images_of(model)
    found = plot.carried(model, x)
    expected = kl_divergence(model.posterior(x).base_dist, Normal(0.0, 1.0)).mean(0).detach()
    torch.testing.assert_close(found.values, expected)
    assert (found.what, found.unit) == ("KL", "nats")
    assert found.order == sorted(range(3), key=lambda j: -expected[j])


def test_without_a_kl_it_is_the_information_of_the_latent():
    model = Known((0.1, 0.5, 3.0), prior="full")
    found = plot.carried(model, images_of(model, 2000))
    assert found.what == "information I(x; z)"
    exact = [0.5 * math.log(1 + 1 / scale**2) for scale in (0.1, 0.5, 3.0)]  # of z = x + noise, x ~ N(0, 1)
    np.testing.assert_allclose(found.values, exact, atol=0.08)
    assert found.order == [0, 1, 2]
    assert plot.carried(Known(prior="full", posterior="full"), images_of(Known())).what.startswith("variance")


def test_the_posterior_mean_of_one_image_does_not_vary():
    found = plot.carried(Known(prior="full", posterior="full"), images_of(Known(), 1))
    assert found.what.startswith("variance")
    assert found.values.tolist() == [0, 0, 0]


def test_latents_takes_images_and_labels_as_lists():
    model = Known()
    x = images_of(model, 3)
    figure, as_lists = plot.latents(model, x, torch.arange(3)), plot.latents(model, x.tolist(), [0, 1, 2])
    points, same = (f.axes[0].collections[1].get_offsets() for f in (figure, as_lists))
    np.testing.assert_allclose(points, same, rtol=1e-6)


def test_a_traversal_changes_one_latent_a_row_in_the_order_of_their_kl():
    model = Known((0.3, 0.01, 2.0, 0.1))
    x = images_of(model)
    picture = plot.traversals(model, x, image=7, steps=5)
    z = picture.images.flatten(1).unflatten(0, (4, 5)).detach()
    order = plot.carried(model, x).order
    assert order[0] == 1
    t = torch.linspace(-2.5, 2.5, 5, dtype=torch.float64)
    for row, latent in enumerate(order):
        expected = x[7].flatten().repeat(5, 1)
        column = x[:, 0, 0, latent]
        expected[:, latent] = column.mean() + t * column.std()
        torch.testing.assert_close(z[row], expected)
    assert [name.split()[0] for name in picture.rows] == [latent_name(j) for j in order]
    values = plot.carried(model, x).values[order].tolist()
    assert [name.split()[1:] for name in picture.rows] == [[number(v), "nats"] for v in values]
    assert picture.heads[0] == "−2.5 σ" and picture.heads[-1] == "+2.5 σ"
    assert len(plot.traversals(model, x, latents=2).rows) == 2
    picture = plot.traversals(model, x, latents=2)
    assert "2 of 4" in picture.title
    other = picture.titled("Four strokes")
    assert other.title == "Four strokes" and torch.equal(other.images, picture.images)


@pytest.mark.parametrize(("size", "latents"), [(2, None), (2, (1, 0)), (4, None), (4, (3, 0)), (1, None)])
def test_a_map_has_every_pair_of_values_where_its_names_say(size, latents):
    model = Known((0.5, 0.1, 0.2, 0.01)[:size])
    x = images_of(model, 60)
    picture = plot.manifold(model, x, latents=latents, image=3, side=6)
    z = picture.images.flatten(1).detach()
    if size == 1:
        assert z.shape == (6, 1) and (z.diff(dim=0) > 0).all() and picture.rows == []
        return
    first, second = latents or ((0, 1) if size == 2 else (1, 3))  # the two with the largest KL
    z = z.unflatten(0, (6, 6))
    torch.testing.assert_close(z[:, :, first], z[:1, :, first].expand(6, -1))  # the same in a column
    torch.testing.assert_close(z[:, :, second], z[:, :1, second].expand(-1, 6))  # the same in a row
    assert (z[0, :, first].diff() > 0).all() and (z[:, 0, second].diff() < 0).all()  # to the right, and up
    low, high = (x.flatten(1)[:, first].quantile(torch.tensor(q, dtype=x.dtype)) for q in (0.01, 0.99))
    torch.testing.assert_close(z[0, [0, -1], first], torch.stack((low, high)), atol=1e-6, rtol=1e-6)
    for other in set(range(size)) - {first, second}:
        torch.testing.assert_close(z[:, :, other], x[3, 0, 0, other].expand(6, 6))
    assert picture.heads[0] == f"{latent_name(first)} = {number(low.item())}"
    assert picture.rows[-1] == number(z[-1, 0, second].item())
    assert latent_name(first) in picture.title and ("as in one image" in picture.title) == (size > 2)


def test_a_map_of_a_conditional_model_keeps_the_class_of_the_image_or_takes_another():
    model = Known((0.1, 0.2), context_size=3)
    x, labels = images_of(model, 9), torch.arange(9) % 3
    z = plot.manifold(model, x, labels, image=5, side=3).images
    assert ((z - 200).abs() < 50).all()
    assert (plot.manifold(model, x, labels, image=5, drawn_c=0, side=3).images.abs() < 50).all()
    assert ((plot.traversals(model, x, labels, image=4).images - 100).abs() < 50).all()


def test_pictures_of_latents_refuse_what_does_not_fit():
    model = Known()
    x = images_of(model, 5)
    for latents in ((0, 0), (0, 3), (-1, 1)):
        with pytest.raises(ConfigError, match="two different latents of 0 to 2"):
            plot.manifold(model, x, latents=latents)
    with pytest.raises(ConfigError, match="side must be at least 2"):
        plot.manifold(model, x, side=1)
    with pytest.raises(ConfigError, match="steps must be at least 2"):
        plot.traversals(model, x, steps=1)
    for picture in (plot.manifold, plot.traversals):
        with pytest.raises(DataError, match="numbered 0 to 4"):
            picture(model, x, image=5)
        with pytest.raises(DataError, match="at least 2 images"):
            picture(model, x[:1])


def test_bars_are_the_values_in_order_and_idle_latents_are_grey():
    model = Known((0.1, 1.0, 0.5))
    x = images_of(model)
    x[:, 0, 0, 1] = 0  # whose posterior is the prior
    figure = plot.kl_per_latent(model, x)
    axes = figure.axes[0]
    found = plot.carried(model, x)
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], found.values[found.order], atol=1e-12)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["z₁", "z₃", "z₂"]
    assert axes.get_ylabel() == "KL, nats" and "2 of 3" in axes.get_title("left")
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == colours[1] != colours[2] and len(set(colours[2][:3])) == 1
    wide = plot.kl_per_latent(Known((0.5,) * 128), images_of(Known((0.5,) * 128)))
    assert wide.axes[0].get_xlabel() == "the 128 latents"


def test_classes_have_their_names_and_samples_their_columns():
    model = Known(context_size=3)
    names = ("cat", "dog", "owl")
    assert plot.per_class(model, names=names).rows == names
    assert plot.per_class(model, names=("too", "few")).rows == ("0", "1", "2")
    samples = plot.samples(model, names=names)
    assert (samples.heads, samples.columns, len(samples.images)) == (names, 3, 63)
    shown = samples.images.flatten(1).mean(1).div(100).round().int().unflatten(0, (-1, 3))
    assert (shown == torch.arange(3)).all()
    assert plot.samples(model, 5, c=1).heads == () and len(plot.samples(Known()).images) == 64
    figure = plot.latents(
        model, images_of(model, 4), torch.tensor([0, 2, -1, 2]), c=torch.tensor([0, 2, 1, 2]), names=names
    )
    assert [c.get_label() for c in figure.axes[0].collections] == ["unknown", "cat", "owl"]
    assert figure.axes[0].get_title("left").startswith("Where 4 images lie")


# Figures and the user's settings

DRAW = """
import sys, torch, vaekit
from vaekit import plot
figure = plot.curves([{"epoch": e, "neg_elbo": 9.0 - e, "rate": 1.0, "distortion": 8.0 - e} for e in (1, 2)])
plot.save(figure, sys.argv[1])
"""


def test_no_setting_of_the_users_changes_a_figure(tmp_path):
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc" / "matplotlibrc").write_text(
        "text.usetex: True\naxes.facecolor: pink\nsavefig.dpi: 33\nfont.size: 40\nsavefig.bbox: tight\nbackend: TkAgg\n"
        "savefig.transparent: True\nxtick.labelsize: 3\naxes.grid: False\naxes.unicode_minus: False\n"
    )
    for name, settings in (
        ("plain", {}),
        ("file", {"MATPLOTLIBRC": str(tmp_path / "rc")}),
        ("backend", {"MPLBACKEND": "QtAgg"}),
        ("nowhere", {"MPLBACKEND": "no-such-backend"}),
        ("notebook", {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    ):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "MATPLOTLIB"))}
        done = subprocess.run(
            [sys.executable, "-c", DRAW, tmp_path / f"{name}.png"],
            env=environment | settings,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / "plain.png").read_bytes(), name


def test_the_users_settings_stay_theirs():
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "pink"}):
        before = matplotlib.rcParams.copy()
        figure = plot.curves([{"epoch": 1, "neg_elbo": 1.0}])
        figure._repr_png_()
        figure.canvas.draw()
        figure.canvas.print_figure(io.BytesIO())
        assert figure.axes[0].get_facecolor() == (1, 1, 1, 1)
        assert matplotlib.rcParams.copy() == before
