import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.distributions import Independent, Normal

from vaekit import CVAE, VAE, LatentVariableModel, plot
from vaekit.errors import ConfigError, DataError, RunError, VAEError


class Linear(LatentVariableModel):
    """The decoder's mean and the posterior's are linear in z, x and c; the prior may depend on c."""

    def __init__(self, latent_size=3, context_size=0, event_shape=(1, 5, 4), prior_by_class=False):
        super().__init__()
        self.latent_size, self.context_size, self.event_shape = latent_size, context_size, event_shape
        self.prior_by_class = prior_by_class
        rng = torch.Generator().manual_seed(0)
        size = int(np.prod(event_shape))
        self.up = nn.Parameter(torch.randn(latent_size + context_size, size, generator=rng, dtype=torch.float64))
        self.down = nn.Parameter(torch.randn(size + context_size, latent_size, generator=rng, dtype=torch.float64))

    def posterior(self, x, c=None):
        x = x.flatten(1)
        return Independent(Normal((x if c is None else torch.cat((x, c), -1)) @ self.down, 1.0), 1)

    def prior(self, c=None):
        if self.prior_by_class:
            return Independent(Normal(10 * c.argmax(-1, keepdim=True).expand(-1, self.latent_size).to(c), 1.0), 1)
        zeros = torch.zeros(self.latent_size, dtype=torch.float64)
        return Independent(Normal(zeros, torch.ones_like(zeros)), 1)

    def likelihood(self, z, c=None):
        x = (z if c is None else torch.cat((z, c), -1)) @ self.up
        return Independent(Normal(x.unflatten(-1, self.event_shape), 1.0), 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(picture):
    """What a picture shows, shape (C, H, W)."""
    shown = torch.from_numpy(picture.pixels.copy())
    return shown[None] if shown.ndim == 2 else shown.movedim(-1, 0)


def images_like(model, n, seed=0):
    return torch.rand(n, *model.event_shape, generator=generator(seed), dtype=torch.float64)


# Grids


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("columns", "padding", "scale"), [(2, 2, 1), (3, 0, 2), (4, 3, 5)])
def test_every_tile_lands_in_its_cell_and_the_rest_is_separator(channels, columns, padding, scale):
    n, height, width = 4, 5, 3
    values = torch.arange(1, n * channels + 1).view(n, channels, 1, 1) / 100
    picture = pixels(plot.grid(values.expand(-1, -1, height, width), columns=columns, padding=padding, scale=scale))
    rows, h, w = -(-n // columns), height * scale, width * scale
    expected = torch.full((channels, rows * (h + padding) + padding, columns * (w + padding) + padding), 0.5)
    for k in range(n):
        top, left = padding + k // columns * (h + padding), padding + k % columns * (w + padding)
        expected[:, top : top + h, left : left + w] = values[k]
    assert torch.equal(picture, (255 * expected).round().byte())


def test_enlarging_repeats_pixels_and_does_not_smooth():
    images = torch.rand(2, 1, 2, 3, generator=generator())
    small = pixels(plot.grid(images, columns=2, padding=0, scale=1))
    large = pixels(plot.grid(images, columns=2, padding=0, scale=4))
    torch.testing.assert_close(large, small.repeat_interleave(4, 1).repeat_interleave(4, 2), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("n", "shape", "cells"),
    [
        (64, (28, 28), (8, 8)),
        (144, (28, 28), (12, 12)),
        (10, (28, 28), (2, 5)),
        (12, (28, 28), (3, 4)),
        (7, (28, 28), (3, 3)),
        (16, (65, 47), (4, 4)),
        (32, (56, 28), (4, 8)),
    ],
)
def test_a_picture_is_nearly_square_with_few_empty_cells(n, shape, cells):
    picture = plot.grid(torch.zeros(n, 1, *shape), padding=0, scale=1)
    assert picture.pixels.shape == (cells[0] * shape[0], cells[1] * shape[1])


@pytest.mark.parametrize("n", [4, 20, 64, 100, 144, 400])
def test_digits_are_enlarged_to_a_comfortable_size(n):
    assert 600 <= min(plot.grid(torch.zeros(n, 1, 28, 28)).pixels.shape) <= 1200


def test_a_strip_does_not_leave_the_screen_and_photographs_are_not_shrunk():
    assert max(plot.grid(torch.zeros(10, 1, 28, 28), columns=10).pixels.shape) <= 1800
    assert plot.grid(torch.zeros(4, 3, 900, 900), padding=0).pixels.shape == (1800, 1800, 3)


def test_values_outside_the_range_are_clipped_and_bytes_are_scaled():
    images = torch.tensor([-0.1, 0.25, 1.1, 1.0]).view(4, 1, 1, 1)
    assert pixels(plot.grid(images, columns=4, padding=0, scale=1)).flatten().tolist() == [0, 64, 255, 255]
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert pixels(plot.grid(images, columns=3, padding=0, scale=1)).flatten().tolist() == [0, 51, 255]


def test_grid_leaves_its_input_as_it_is():
    images = torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1)
    assert plot.grid(images).pixels is not None
    assert images.flatten().tolist() == [-1, 2]


def test_grid_refuses_what_is_no_batch_and_options_out_of_range():
    for shape in [(28, 28), (1, 28, 28), (0, 1, 28, 28)]:
        with pytest.raises(DataError, match=r"\(N, C, H, W\)"):
            plot.grid(torch.zeros(shape))
    for option in [{"columns": 0}, {"scale": 0}, {"padding": -1}]:
        with pytest.raises(ConfigError, match="must be at least"):
            plot.grid(torch.zeros(2, 1, 4, 4), **option)


# Interpolation


def test_interpolation_is_even_and_differs_by_row():
    images = plot.interpolation(Linear(), rows=3, steps=5, generator=generator()).images
    rows = images.unflatten(0, (3, 5))
    steps = rows.diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))  # a linear decoder: even in z is even in x
    assert (steps.abs().amax((1, 2, 3, 4)) > 0.01).all()
    assert not torch.allclose(rows[0], rows[1])


def test_an_end_is_the_decoding_of_a_draw_from_the_prior():
    model = Linear(latent_size=2)
    rows = 2000
    ends = plot.interpolation(model, rows=rows, steps=2, generator=generator()).images
    z = ends.flatten(1) @ torch.linalg.pinv(model.up.detach())
    torch.testing.assert_close(model.decode(z), ends)
    n = z.numel()
    assert abs(z.mean()) * n**0.5 < 5  # z-scores against N(0, 1)
    assert abs(z.square().mean() - 1) * (n / 2) ** 0.5 < 5
    start, end = z.unflatten(0, (rows, 2)).unbind(1)
    assert abs((start * end).mean()) * start.numel() ** 0.5 < 5  # the two ends are independent


@pytest.mark.parametrize("make", [lambda: Linear(), lambda: VAE(16, 3)])
def test_between_two_images_the_ends_are_their_reconstructions(make):
    torch.manual_seed(0)
    model = make()
    a, b = images_like(model, 2).to(next(model.parameters()).dtype)
    images = plot.interpolation(model, steps=7, between=(a, b)).images
    assert images.shape == (7, *model.event_shape)
    torch.testing.assert_close(images[[0, -1]], model.reconstruct(torch.stack((a, b))))
    middle = model.encode(torch.stack((a, b))).mean(0, keepdim=True)
    torch.testing.assert_close(images[3:4], model.decode(middle))


def test_between_images_of_two_classes_the_class_is_walked_too():
    model = Linear(context_size=4)
    x = images_like(model, 2)
    labels = torch.tensor([1, 3])
    images = plot.interpolation(model, steps=3, between=(x[0], x[1]), c=labels).images
    torch.testing.assert_close(images[[0, -1]], model.reconstruct(x, labels))
    torch.testing.assert_close(images[1], images[[0, -1]].mean(0))


@pytest.mark.parametrize("prior_by_class", [False, True])
def test_a_row_keeps_its_class(prior_by_class):
    model = Linear(context_size=4, prior_by_class=prior_by_class)
    labels = torch.tensor([2, 0, 2])
    images = plot.interpolation(model, rows=3, steps=4, c=labels, generator=generator()).images
    code = images.flatten(1) @ torch.linalg.pinv(model.up.detach())
    one_hot = nn.functional.one_hot(labels, 4).double().repeat_interleave(4, 0)
    torch.testing.assert_close(code[:, 3:], one_hot)
    if prior_by_class:
        z = code[:, :3].unflatten(0, (3, 4)).mean((1, 2))
        assert (z - 10 * labels).abs().max() < 3
    one_class = plot.interpolation(model, rows=3, steps=4, c=2, generator=generator()).images
    torch.testing.assert_close(one_class[:4], images[:4])
    assert not torch.allclose(one_class[4:8], images[4:8])


def test_interpolation_refuses_what_does_not_fit():
    model, x = Linear(), torch.zeros(1, 5, 4)
    for rows, steps in [(0, 3), (3, 1)]:
        with pytest.raises(ConfigError, match=r"(rows|steps) must be at least"):
            plot.interpolation(model, rows=rows, steps=steps)
    with pytest.raises(DataError, match="one shape"):
        plot.interpolation(model, between=(x, x[:, 1:]))
    with pytest.raises(DataError, match="conditional on 4 classes"):
        plot.interpolation(Linear(context_size=4))
    with pytest.raises(DataError, match="unconditional"):
        plot.interpolation(model, c=3)


# Reconstructions and classes


def test_a_reconstruction_stands_below_its_original():
    model = Linear()
    x = images_like(model, 3)
    picture = plot.reconstructions(model, x, torch.tensor([0, 1, 2]))  # labels are not needed and do no harm
    torch.testing.assert_close(picture.images[:, 0], x, rtol=0, atol=0)
    torch.testing.assert_close(picture.images[:, 1], model.reconstruct(x), rtol=0, atol=0)
    assert picture.rows == ("original", "reconstruction", "error")
    original, reconstruction, error = picture.tiles.unflatten(0, (3, 3))
    torch.testing.assert_close(original, x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(reconstruction, model.reconstruct(x).clamp(0, 1).expand(-1, 3, -1, -1))
    difference = (model.reconstruct(x) - x).squeeze(1)
    red, blue = error[:, 0] - error[:, 2], error[:, 2] - error[:, 0]
    assert (red[difference > 0.01] > 0).all() and (blue[difference < -0.01] > 0).all()
    assert error.flatten(2).amax(1)[difference.flatten(1).abs() < 1e-4].ge(0.98).all()


def test_an_exact_reconstruction_has_a_white_error_and_bands_are_whole():
    class Exact(Linear):
        def reconstruct(self, x, c=None):
            return x

    picture = plot.reconstructions(Exact(), images_like(Exact(), 20))
    assert picture.columns == 10 and len(picture.tiles) == 2 * 3 * 10 and picture.band == 3
    assert (picture.tiles.unflatten(0, (2, 3, 10))[:, 2] == 1).all()
    odd = plot.reconstructions(Exact(), images_like(Exact(), 19))
    assert odd.columns == 10 and (odd.tiles[3 * 10 + 9] == 0.5).all()  # a cell without an image is grey


def test_a_conditional_model_reconstructs_with_the_labels():
    model, labels = Linear(context_size=4), torch.tensor([3, 0])
    x = images_like(model, 2)
    torch.testing.assert_close(plot.reconstructions(model, x, labels).images[:, 1], model.reconstruct(x, labels))
    with pytest.raises(DataError, match="pass a class"):
        plot.reconstructions(model, x)


def test_a_column_is_one_latent_in_every_class():
    model = Linear(context_size=4)
    code = plot.per_class(model, per_row=6, generator=generator()).images.flatten(1) @ torch.linalg.pinv(
        model.up.detach()
    )
    z, c = code.unflatten(0, (4, 6)).split((3, 4), dim=-1)
    torch.testing.assert_close(z, z[:1].expand_as(z))
    assert (z[0, :-1] - z[0, 1:]).abs().amax(-1).min() > 0.01  # and columns differ
    torch.testing.assert_close(c, torch.eye(4, dtype=c.dtype)[:, None].expand_as(c))


def test_a_column_corresponds_where_the_prior_depends_on_the_class():
    model = Linear(context_size=4, prior_by_class=True)
    code = plot.per_class(model, per_row=6, generator=generator()).images.flatten(1) @ torch.linalg.pinv(
        model.up.detach()
    )
    z = code.unflatten(0, (4, 6))[..., :3]
    torch.testing.assert_close(z.diff(dim=0), torch.full_like(z[1:], 10.0))


def test_one_each_has_every_class_once_from_its_own_latent():
    model = Linear(context_size=4)
    code = plot.one_each(model, generator=generator()).images.flatten(1) @ torch.linalg.pinv(model.up.detach())
    torch.testing.assert_close(code[:, 3:], torch.eye(4, dtype=code.dtype))
    assert torch.pdist(code[:, :3]).min() > 0.01


def test_an_unconditional_model_has_no_classes_to_show():
    for picture in (plot.per_class, plot.one_each):
        with pytest.raises(DataError, match="unconditional"):
            picture(Linear())


@pytest.mark.parametrize(
    ("context_size", "picture"),
    [
        (0, lambda model, **k: plot.interpolation(model, rows=2, steps=3, **k)),
        (4, lambda model, **k: plot.per_class(model, per_row=2, **k)),
        (4, plot.one_each),
    ],
)
def test_a_generator_decides_everything_and_the_global_stream_is_left_alone(context_size, picture):
    model = Linear(context_size=context_size)
    state = torch.get_rng_state()
    first = picture(model, generator=generator(1)).images
    again, other = (picture(model, generator=generator(seed)).images for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    torch.manual_seed(3)
    unseeded = picture(model).images
    assert not torch.allclose(unseeded, picture(model).images)
    torch.manual_seed(3)
    assert torch.equal(unseeded, picture(model).images)
    assert not first.requires_grad


@pytest.mark.parametrize("shape", [(1, 65, 47), (3, 65, 47), (3, 8, 8)])
def test_grey_and_colour_and_odd_sizes_work_from_model_to_file(tmp_path, shape):
    model = Linear(event_shape=shape, context_size=2)
    for n, images in enumerate(
        [
            plot.interpolation(model, rows=2, steps=2, c=1),
            plot.reconstructions(model, images_like(model, 3), torch.tensor([0, 1, 1])),
            plot.per_class(model, per_row=2),
            plot.one_each(model),
        ]
    ):
        plot.save(images, tmp_path / f"{n}.png")
        with Image.open(tmp_path / f"{n}.png") as image:
            assert image.mode == ("L" if shape[0] == 1 and n != 1 else "RGB")  # errors are in colour
            assert image.size == tuple(reversed(images.pixels.shape[:2]))


# Curves and latents


def record(epoch, **other):
    return {
        "epoch": epoch,
        "loss": 100.0 - epoch,
        "neg_elbo": 100.0 - epoch,
        "rate": 20.0,
        "distortion": 80.0 - epoch,
    } | other


def drawn(figure):
    """Draw the figure, then each panel's lines: {title: {label: [(x, y), …]}}."""
    figure.canvas.draw()
    return {
        axes.get_title(): {line.get_label(): line.get_xydata().tolist() for line in axes.lines} for axes in figure.axes
    }


def test_curves_show_the_bound_and_its_two_terms_apart():
    metrics = [
        record(e, validation_neg_elbo=101.0 - e, validation_rate=19.0, validation_distortion=82.0 - e) for e in (1, 2)
    ]
    panels = drawn(plot.curves(metrics))
    assert panels == {
        "−ELBO": {"training": [[1, 99], [2, 98]], "validation": [[1, 100], [2, 99]]},
        "Rate (KL)": {"training": [[1, 20], [2, 20]], "validation": [[1, 19], [2, 19]]},
        "Distortion (reconstruction)": {"training": [[1, 79], [2, 78]], "validation": [[1, 81], [2, 80]]},
    }


def test_absent_and_null_values_are_left_out_and_the_line_goes_on():
    metrics = [record(1, validation_neg_elbo=5.0), record(2, validation_neg_elbo=None), record(3), record(4)]
    metrics[3]["validation_neg_elbo"] = 3.0
    panels = drawn(plot.curves(metrics))
    assert panels["−ELBO"]["validation"] == [[1, 5], [4, 3]]
    assert list(panels["Rate (KL)"]) == ["training"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 200])
def test_epochs_are_whole_numbers_and_units_are_named(epochs):
    figure = plot.curves([record(e) for e in range(1, epochs + 1)], row_word="image")
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [t for t in axes.get_xticks() if low <= t <= high]
        assert ticks
        assert all(t == int(t) for t in ticks)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "nats per image")


def test_curves_without_metrics_are_refused():
    with pytest.raises(DataError, match="at least one epoch"):
        plot.curves([])


def points(figure):
    """Label → scattered points, after drawing."""
    figure.canvas.draw()
    return {c.get_label(): torch.tensor(np.asarray(c.get_offsets())) for c in figure.axes[0].collections}


@pytest.mark.parametrize("context_size", [0, 4])
def test_two_latents_are_shown_as_they_are_by_class(context_size):
    model, labels = Linear(latent_size=2, context_size=context_size), torch.tensor([3, 0, 3, 1, 0])
    x = images_like(model, 5)
    z = model.encode(x, labels if context_size else None)
    shown = points(plot.latents(model, x, labels))
    assert list(shown) == ["0", "1", "3"]
    for label, xy in shown.items():
        torch.testing.assert_close(xy, z[labels == int(label)])


def test_more_latents_are_shown_on_their_principal_components():
    model = Linear(latent_size=5)
    x = images_like(model, 40)
    figure = plot.latents(model, x, torch.zeros(40, dtype=torch.long))
    xy = points(figure)["0"]
    z = model.encode(x)
    z = z - z.mean(0)
    singular = torch.linalg.svdvals(z)
    torch.testing.assert_close(xy.T @ xy, torch.diag(singular[:2] ** 2), atol=1e-8, rtol=1e-8)
    # The plane of largest variance: what it leaves out is the variance along the other axes.
    rest = z - xy @ torch.linalg.lstsq(xy, z).solution
    torch.testing.assert_close(rest.square().sum(), singular[2:].square().sum())
    share = 100 * singular[0] ** 2 / singular.square().sum()
    assert figure.axes[0].get_xlabel() == f"first principal component ({share:.0f} % of the variance)"


@pytest.mark.parametrize(("latent_size", "classes"), [(1, 3), (2, 10), (3, 47)])
def test_latents_of_any_width_and_number_of_classes_can_be_drawn(latent_size, classes):
    model = Linear(latent_size=latent_size)
    shown = points(plot.latents(model, images_like(model, 2 * classes), torch.arange(2 * classes) % classes))
    assert list(shown) == [str(c) for c in range(classes)]


def test_latents_need_a_label_for_each_image():
    with pytest.raises(DataError, match="5 images need as many labels"):
        plot.latents(Linear(), torch.zeros(5, 1, 5, 4), torch.zeros(4))


# Files


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_picture_to_the_bit(tmp_path, channels):
    picture = plot.grid(torch.rand(5, channels, 7, 4, generator=generator()))
    plot.save(picture, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.array(image), picture.pixels)


def test_bytes_survive_the_way_through_a_png(tmp_path):
    every = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    plot.save(every, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert torch.equal(torch.from_numpy(np.array(image))[None], every)


def test_a_batch_becomes_a_grid_as_png_and_stays_a_batch_as_array(tmp_path):
    images = 2 * torch.rand(6, 1, 4, 5, generator=generator()) - 0.5
    for name in ("a.png", "a.npy", "a.npz", "b.NPY"):
        plot.save(images, str(tmp_path / name), columns=6)
    plot.save(plot.grid(images, columns=6), tmp_path / "grid.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "grid.png").read_bytes()
    assert np.array_equal(np.load(tmp_path / "a.npy"), images.numpy())
    assert np.array_equal(np.load(tmp_path / "b.NPY"), images.numpy())
    with np.load(tmp_path / "a.npz") as arrays:
        assert list(arrays) == ["images"]
        assert np.array_equal(arrays["images"], images.numpy())


def test_a_figure_is_no_array_and_does_not_move(tmp_path):
    figure = plot.curves([record(1)])
    assert isinstance(figure, Figure)
    plot.save(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == tuple(figure.bbox.size.astype(int))
    for name in ("a.npy", "a.gif"):
        with pytest.raises(DataError, match=r"a figure is written as \.png, \.jpg, \.jpeg, \.svg"):
            plot.save(figure, tmp_path / name)


@pytest.mark.parametrize("name", ["a", "a.tiff", "a.png.gz"])
def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path, name):
    with pytest.raises(DataError, match=r"\.png, \.jpg, \.jpeg, \.svg, \.gif, \.npy, \.npz"):
        plot.save(torch.zeros(1, 4, 4), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (3, 2, 4, 4)])
def test_what_is_no_picture_is_no_png(tmp_path, shape):
    with pytest.raises(DataError, match="C = 1 or 3"):
        plot.save(torch.zeros(shape), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_an_unwritable_path_is_a_clear_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("absent/a.png", "file/a.png", "folder.png", f"{'x' * 300}.png"):
        with pytest.raises(RunError, match="cannot write") as error:
            plot.save(torch.zeros(1, 4, 4), tmp_path / name)
        assert isinstance(error.value, VAEError)
        assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plot.save(torch.zeros(1, 4, 4), path)
    old = path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(RunError, match="No space left"):
            plot.save(torch.ones(1, 4, 4), path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == old
    plot.save(torch.ones(1, 4, 4), path)  # negative control: it does replace
    assert path.read_bytes() != old


def test_the_assignments_models_make_every_picture(tmp_path):
    torch.manual_seed(0)
    vae, cvae = VAE(64, 4), CVAE(64, 10, 4)
    x, labels = torch.rand(12, 1, 8, 8), torch.arange(12) % 10
    pictures = [
        plot.interpolation(vae),
        plot.interpolation(cvae, c=labels),
        plot.reconstructions(vae, x),
        plot.reconstructions(cvae, x, labels),
        plot.per_class(cvae),
        plot.one_each(cvae),
        plot.latents(vae, x, labels),
        plot.latents(cvae, x, labels),
    ]
    for n, picture in enumerate(pictures):
        plot.save(picture, tmp_path / f"{n}.png")
    assert len(list(tmp_path.iterdir())) == len(pictures)


def test_importing_plot_loads_no_drawing_library_and_drawing_touches_no_global_state():
    code = """
import sys, vaekit.plot
assert not {"matplotlib", "torchvision", "PIL"} & set(sys.modules), "loaded at import"
import matplotlib
before = matplotlib.rcParams.copy()
figure = vaekit.plot.curves([{"epoch": 1, "neg_elbo": 1.0, "rate": 1.0, "distortion": 1.0}])
figure.canvas.draw()
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
