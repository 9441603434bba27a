"""What `fit` takes: the most natural calls work as they are meant, and data that a likelihood cannot have are refused."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.utils import data as torch_data
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import tiny
from vaekit import Composed, build, fit, likelihoods, one_hot
from vaekit.data import Batch, Batches, Split
from vaekit.data import Dataset as Data
from vaekit.data.given_data import RowFormat
from vaekit.data.loader_factory import LoaderFactory
from vaekit.errors import ConfigError, DataError
from vaekit.model import LatentVariableModel
from vaekit.training import validate

SHAPE = (3, 4, 4)
X = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
Y = torch.arange(20) % 2
SMALL: dict[str, Any] = {"encoder": {"hidden": [6]}, "decoder": {"hidden": [6]}, "latent_size": 2}


def small(preset: str = "vae", shape: tuple[int, ...] = SHAPE, **sections: Any) -> LatentVariableModel:
    torch.manual_seed(0)
    return build(preset, event_shape=shape, num_classes=2, **SMALL, **sections)


class Mapped(Dataset[Any]):
    def __init__(self, item: Callable[[int], Any]) -> None:
        self.item = item

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        if i >= 20:
            raise IndexError
        return self.item(i)


@pytest.mark.parametrize(("batch_size", "sizes"), [(19, [20]), (8, [8, 8, 4]), (1, [1] * 20), (30, [20])])
@pytest.mark.parametrize("validates", [False, True])
def test_a_single_last_row_of_a_data_set_of_torch_joins_the_batch_before(
    batch_size: int, sizes: list[int], validates: bool
) -> None:
    rows = Mapped(lambda i: X[i])
    factory = LoaderFactory(RowFormat(SHAPE, "real"), batch_size, torch.device("cpu"))
    loader = factory.loaders(rows, rows)[validates]
    torch.manual_seed(1)
    batches = list(loader or ())
    assert [len(x) for x in batches] == sizes
    torch.manual_seed(1)
    plain = DataLoader(rows, batch_size=batch_size, shuffle=not validates)
    assert torch.equal(torch.cat(batches), torch.cat(list(plain)))  # bit for bit the order of torch's own loader


def test_batch_norm_trains_on_a_data_set_of_torch_with_one_row_too_many() -> None:
    model = build("vae", event_shape=SHAPE, latent_size=2, encoder={"hidden": [6], "norm": "batch"})
    fit(model, Mapped(lambda i: X[i]), batch_size=19, epochs=1)


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(X)


def three(x: Any = X) -> Data:
    """A data set of 12, 4 and 4 rows."""
    parts = [Split(x[a:b], Y[a:b]) for a, b in ((0, 12), (12, 16), (16, 20))]
    return Data("own", *parts, classes=("a", "b"), checksum="")


WHOLE: dict[str, Any] = {
    "a tensor": X,
    "an array": X.numpy(),
    "float64": X.double(),
    "bytes": (X * 255).byte(),
    "x and labels": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "a list of labels": (X, Y.tolist()),
    "a split": Split(X, Y),
    "rows": [(x, 0) for x in X],
    "bare rows": list(X),
    "TensorDataset of x": TensorDataset(X),
    "TensorDataset": TensorDataset(X, Y),
    "a data set": Mapped(lambda i: (X[i], int(Y[i]))),
    "dicts": Mapped(lambda i: {"pixel_values": X[i], "label": int(Y[i])}),
    "arrays of a data set": Mapped(lambda i: (X[i].numpy(), int(Y[i]))),
    "a stream": Streamed(),
    "no labels": (X, None),
    "a batch": Batch(X, labels=Y),
}
LOADERS: dict[str, Any] = {
    "Batches": Batches(X, batch_size=8),
    "Batches of arrays": Batches(X.numpy(), Y.tolist(), batch_size=8),
    "DataLoader": DataLoader(TensorDataset(X), batch_size=8),
    "DataLoader of a stream": DataLoader(Streamed(), batch_size=8),
    "a list": list(X.split(8)),
    "two batches": (X[:10], X[10:]),
    "a tensor of batches": X.view(2, 10, *SHAPE),
    "dicts": [{"image": X, "label": Y}],
    "arrays": [X.numpy()],
    "float64": [X.double()],
    "bytes": [(X * 255).byte()],
}


@pytest.mark.parametrize("kind", WHOLE)
def test_rows_of_any_kind_become_batches(kind: str) -> None:
    seen: list[int] = []

    def objective(draw: Any) -> Tensor:
        seen.append(len(draw.x))
        assert draw.x.dtype == torch.float32
        return draw.log_likelihood.mean(0) - draw.rate()

    (record,) = fit(small(), WHOLE[kind], WHOLE[kind], objective=objective, epochs=1, batch_size=8)
    assert record["rows"] == 20
    assert seen[:3] == [8, 8, 4]
    assert record["validation_neg_elbo"] > 0


@pytest.mark.parametrize("kind", LOADERS)
def test_loaders_are_taken_as_they_are(kind: str) -> None:
    (record,) = fit(small(), LOADERS[kind], LOADERS[kind], epochs=1)
    assert record["rows"] == 20
    with pytest.raises(ConfigError, match="is a loader and makes its own batches"):
        fit(small(), Batches(X, batch_size=8), batch_size=3, epochs=1)


@pytest.mark.parametrize("kind", ["x and labels", "arrays", "a split", "TensorDataset", "dicts", "a data set"])
def test_labels_arrive_too(kind: str) -> None:
    (record,) = fit(small("cvae"), WHOLE[kind], epochs=1)
    assert record["rows"] == 20


def test_a_data_set_brings_its_validation() -> None:
    (record,) = fit(small(), three(), epochs=1)
    assert record["rows"] == 12
    assert record["validation_neg_elbo"] == pytest.approx(validate(small(), [X[12:16]])["neg_elbo"], rel=0.2)
    (record,) = fit(small(), three(), [X], epochs=1)
    assert "validation_loss" in record


def test_a_data_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaekit.data.loader_factory.load", tiny.dataset)
    (record,) = fit(small(shape=(1, 8, 8)), "mnist", epochs=1)
    assert record["rows"] == 64


def test_signals_are_read_by_path_as_the_model_takes_them(tmp_path: Path) -> None:
    x = torch.rand(40, 2, 16).numpy()
    np.save(tmp_path / "x.npy", x)
    model = small(shape=(2, 16))
    (record,) = fit(model, tmp_path / "x.npy", epochs=1)
    assert record["rows"] == 34  # of 40, 4 are for tests and 2 for the validation
    with pytest.raises(DataError, match=r"x must have shape \(B, 3, 4, 4\)"):
        fit(small(), tmp_path / "x.npy", epochs=1)


def test_grey_images_need_no_channel_and_vectors_no_images() -> None:
    (record,) = fit(small(shape=(1, 4, 4)), X[:, 0], epochs=1)
    assert record["rows"] == 20
    (record,) = fit(small("sigma-vae", shape=(10,)), torch.randn(200, 10), epochs=1)
    assert record["rows"] == 200


def test_vectors_with_targets_or_context_are_rows_and_not_two_batches() -> None:
    x = torch.randn(20, 10)
    seen: list[int] = []

    def objective(draw: Any) -> Tensor:
        seen.append(len(draw.x))
        return draw.log_likelihood.mean(0) - draw.rate()

    fit(small("sigma-vae", shape=(10,)), TensorDataset(x, x), objective=objective, epochs=1, batch_size=8)
    assert sorted(set(seen)) == [4, 8]
    model = small("standard-cvae", shape=(10,), likelihood="normal")
    context = torch.rand(20, model.context_size)
    (record,) = fit(model, (x, context), epochs=1, batch_size=8)
    assert record["rows"] == 20
    (record,) = fit(small("sigma-vae", shape=(10,)), (x[:8], x[8:16]), epochs=1)  # without a context: two batches
    assert record["rows"] == 16


def test_the_order_follows_the_seed() -> None:
    found = []
    for data in (X, X.numpy()):
        model = small()
        torch.manual_seed(3)
        found.append(fit(model, data, epochs=2, batch_size=8)[-1]["loss"])
    assert found[0] == found[1]


NORMALIZED = X * 2 - 1
BAD: dict[str, tuple[Any, str]] = {
    "another shape": (torch.rand(20, 10), r"must have shape \(N, 3, 4, 4\), one row for each of N, got \(20, 10\)"),
    "channels last": (torch.rand(20, 4, 4, 3), r"must have shape \(N, 3, 4, 4\)"),
    "one row": (X[0], r"must have shape \(N, 3, 4, 4\)"),
    "rows without batches": (
        iter(X),
        r"x must have shape \(B, 3, 4, 4\), got .3, 4, 4.; these are the values of one row",
    ),
    "a loader of rows": (DataLoader(TensorDataset(X), batch_size=None), "these are the values of one row"),
    "other rows": (Mapped(lambda i: (X[i, :2], 0)), r"x of shape \(2, 4, 4\), but a row of this model is \(3, 4, 4\)"),
    "text": (Mapped(lambda i: ("text", 0)), "the data set gives str, but x must be a tensor"),
    "no data": (3, "the data must be a tensor or array .* got int"),
    "a dict": ({"x": X}, "the data must be .* got dict"),
    "nothing": (None, "the data must be .* got NoneType"),
    "words": (np.array(["a", "b"]), "must be numbers"),
    "a class": (dict, "the data must be .* got type"),
    "few labels": ((X, Y[:5]), r"labels must be \(20,\), one per row, got \(5,\)"),
    "names of classes": ((X, ["a", "b"] * 10), "labels must be numbers.*; number the classes: np.unique"),
    "an empty data set": (torch_data.Subset(TensorDataset(X), []), "the data set has 0 rows"),
    "float labels": (
        (X, Y / 2),
        r"labels must be whole numbers.* got \d?\.5; numbers to condition on must be \(N, C\)",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_makes_no_batches_is_refused_in_one_line(kind: str) -> None:
    data, message = BAD[kind]
    with pytest.raises(DataError, match=message) as error:
        fit(small(), data, epochs=1)
    assert "\n" not in str(error.value)


def test_pictures_without_a_transform_are_named() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    with pytest.raises(DataError, match=r"gives Image, but x must be a tensor.*ToTensor"):
        fit(small(), Mapped(lambda i: (image, 0)), epochs=1)


@pytest.mark.parametrize("data", [X, list(X.split(8)), [(X, Y.float() / 2)]])
def test_a_conditional_model_needs_labels(data: Any) -> None:
    with pytest.raises(DataError, match=r"no labels|labels must be whole"):
        fit(small("cvae"), data, epochs=1)


@pytest.mark.parametrize("data", [(X, Y + 7), Batches(X, Y + 7, batch_size=8), [(X, Y + 7)]])
def test_a_conditional_model_needs_labels_of_its_classes(data: Any) -> None:
    with pytest.raises(DataError, match="labels must be from 0 to 1, or −1 if unknown, got 7 to 8"):
        fit(small("cvae"), data, epochs=1)


OUTSIDE: dict[str, Any] = {
    "a tensor": NORMALIZED,
    "a loader": [NORMALIZED],
    "batches": Batches(NORMALIZED, batch_size=4),
    "the last row": torch.cat((X, 2 * X[:1] + 1)),
    "bytes as floats": X * 255,
    "a data set": three(torch.cat((NORMALIZED[:12], X[12:]))),
    "its validation": three(torch.cat((X[:12], NORMALIZED[12:]))),
    "not a number": X.masked_fill(X > 0.9, torch.nan),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_values_without_a_density_are_refused_before_a_step(kind: str) -> None:
    model = small()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(DataError, match=r"Bernoulli takes values in \[0, 1\], got "):
        fit(model, OUTSIDE[kind], epochs=1)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_the_message_says_what_to_do() -> None:
    for data, hint in ((NORMALIZED, r"\(x \+ 1\) / 2"), (X * 255, "divide 8-bit images by 255"), (X * 999, "'normal'")):
        with pytest.raises(DataError, match=hint):
            fit(small(), data, epochs=1)


@pytest.mark.parametrize("loader", [[NORMALIZED], [X, NORMALIZED]])
def test_validation_is_looked_at_as_well(loader: list[Tensor]) -> None:
    with pytest.raises(DataError, match="takes values in"):
        fit(small(), X, loader if loader[0] is NORMALIZED else Batches(torch.cat(loader), batch_size=20), epochs=1)


def test_what_is_not_finite_is_refused_by_every_likelihood() -> None:
    bad = X.clone()
    bad[7, 0, 0, 0] = float("inf")
    for data in (bad, [bad]):
        with pytest.raises(DataError, match="takes finite numbers, got"):
            fit(small("sigma-vae"), data, epochs=1)


def test_what_is_missing_may_be_anything() -> None:
    observed = X < 0.9
    (record,) = fit(small(), Split(X.masked_fill(~observed, torch.nan), Y, observed=observed), epochs=1)
    assert record["rows"] == 20


def test_a_listener_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"must be a vaekit\.training\.Listener"):
        fit(small(), X, epochs=1, listener=print)  # type: ignore[arg-type]


def test_a_model_is_made_and_called_in_the_natural_way() -> None:
    model = build("vae", likelihood="normal", latent_size=2, event_shape=10)
    x = torch.randn(5, 10)
    assert type(model.parts["likelihood"]).__name__ == "Normal"  # type: ignore[index,union-attr]
    assert model.encode(x.numpy()).shape == (5, 2)  # type: ignore[arg-type]
    assert model(x).log_w.shape == (1, 5)
    assert small("cvae")(X, Y).log_likelihood.shape == (1, 20)
    with pytest.raises(ConfigError, match="give a table"):
        build("vae", train=3)
    with pytest.raises(ConfigError, match=r"did you mean latent_size=3\?"):
        build("vae", latent_sise=3)


class Meanless(Normal):
    @property
    def mean(self) -> Tensor:
        raise NotImplementedError  # without a word, as torch's own do


def test_parts_without_a_mean_train_and_what_takes_one_says_so() -> None:
    class Latent(nn.Module):
        def __init__(self, net: nn.Module, features: int, latent_size: int) -> None:
            super().__init__()
            self.net = net
            self.mu = nn.Linear(features, latent_size)

        def forward(self, x: Tensor, c: Tensor | None = None) -> Independent[Any]:
            return Independent(Meanless(self.mu(self.net(x, c)), 0.5), 1)

    model = small("standard-vae", likelihood="normal")
    parts: Any = model.parts
    parts["posterior"] = Latent(parts["posterior"].net, 6, 2)
    records = fit(model, X, X, epochs=2)
    assert np.isfinite(records[-1]["validation_neg_elbo"])
    for use in (model.encode, model.reconstruct):
        with pytest.raises(ConfigError, match="Meanless has no mean, which encode, decode and pictures take"):
            use(X)
    assert model.draw(X).z.shape == (1, 20, 2)

    parts["likelihood"].family = Meanless
    with pytest.raises(ConfigError, match="Meanless has no mean"):
        model.sample(2)
    assert model.sample(2, noise=True).shape == (2, *SHAPE)


@pytest.mark.parametrize("epochs", [0, -1, 1_000_001, 10**30])
def test_epochs_are_bounded(epochs: int) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        fit(small(), X, epochs=epochs)


def test_complex_numbers_are_refused_wherever_rows_come_in() -> None:
    """torch would take the real part with a warning, at most."""
    model = small()
    for x in (X.to(torch.complex64), X.numpy().astype("c8")):
        for use in (lambda x: fit(model, x, epochs=1), model.encode, lambda x: fit(model, [x], epochs=1)):
            with pytest.raises(DataError, match=r"must be real numbers, got torch\.complex64"):
                use(x)


def test_arrays_in_any_order_are_read_as_they_are() -> None:
    model = small()
    mirrored = X.numpy()[::-1, :, :, ::-1]
    assert torch.equal(model.encode(mirrored), model.encode(torch.from_numpy(mirrored.copy())))
    assert torch.equal(model.decode(np.ones((2, 2), "f4")), model.decode(torch.ones(2, 2)))


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda model: model.sample("a"), "n, the number of samples, must be a whole number, at least 1, got 'a'"),
        (lambda model: model.sample(2.5), "at least 1, got 2.5"),
        (lambda model: model.sample(0), "at least 1, got 0"),
        (lambda model: model.sample(2, "3"), "c, classes or rows of context, must be numbers, .* got '3'"),
        (lambda model: model.log_prob(X, k=0), "k must be at least 1, got 0"),
        (lambda model: model.log_prob(X, k=2.5), "k must be a whole number, at least 1, got 2.5"),
        (lambda model: model.draw(X, k=0), "k must be at least 1, got 0"),
        (lambda model: model.draw(X, k=torch.zeros(20).long()), "k must be a whole number, at least 1, got tensor"),
        (lambda model: model.draw(X, k=np.zeros(20, int)), "k must be a whole number, at least 1, got array"),
        (lambda model: model.draw(X, k=[0] * 20), "k must be a whole number, at least 1, got \\[0"),
        (lambda model: Batches(X, batch_size=2.5), "batch_size must be a whole number, at least 1, got 2.5"),
        (lambda model: Batches(X, batch_size="8"), "batch_size must be a whole number, at least 1, got '8'"),
        (lambda model: one_hot([10], 10), "classes go from 0 to 9, got 10 to 10"),
        (lambda model: one_hot(torch.tensor([1.7]), 10), "labels must be whole numbers, got 1.7"),
        (lambda model: one_hot("3", 10), "labels must be numbers"),
        (lambda model: model.decode("z"), "z must be numbers"),
        (lambda model: build("vae", event_shape=(1, -1, 6)), r"at least 1, got \(1, -1, 6\)"),
        (lambda model: build("vae", event_shape=0), r"at least 1, got \(0,\)"),
        (lambda model: build("vae", event_shape=()), r"at least 1, got \(\)"),
        (lambda model: fit(model, (X, np.array(["a\n"] * 20))), "labels must be numbers"),
    ],
)
def test_counts_and_shapes_that_cannot_be_are_named_in_one_line(use: Any, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as error:
        use(small("cvae"))
    assert "\n" not in str(error.value)


def test_one_hot_takes_numbers_of_any_kind() -> None:
    expected = torch.eye(4)[[2, 0]]
    for labels in ([2, 0], np.array([2, 0]), torch.tensor([2.0, 0.0]), torch.tensor([2, 0])):
        assert torch.equal(one_hot(labels, 4), expected)
    assert one_hot(1, 3).tolist() == [0.0, 1.0, 0.0] and one_hot([], 3).shape == (0, 3)


def test_whole_floats_are_labels_in_every_way() -> None:
    batches = [
        LoaderFactory(RowFormat((3, 4, 4), "pixels"), 8, torch.device("cpu")).loaders(rows, rows)[1]
        for rows in ((X, Y), (X, Y.float()), Split(X, Y.float()), TensorDataset(X, Y.float()))
    ]
    for loader in batches:
        for batch, expected in zip(loader, batches[0], strict=True):
            assert batch.labels.dtype == torch.int64 and torch.equal(batch.labels, expected.labels)


def test_one_hot_rows_of_whole_numbers_are_a_context_in_every_form() -> None:
    model = build("cvae", event_shape=(1, 8, 8), num_classes=3, latent_size=2)
    x, one_hot = torch.rand(20, 1, 8, 8), torch.nn.functional.one_hot(torch.arange(20) % 3)
    for rows in ((x, one_hot), [(x, one_hot)], (x, one_hot.float())):
        assert len(fit(model, rows, epochs=1)) == 1
    with pytest.raises(DataError, match=r"the context must have shape \(1, 3\), got \(1, 2\)"):
        fit(model, (x, one_hot[:, :2]), epochs=1)


class Ratings(likelihoods.Normal):
    """A likelihood of numbers from 1 to 5."""

    value_range = (1.0, 5.0)


def ratings(missing: str) -> LatentVariableModel:
    model = build("vae", event_shape=(4,), latent_size=2, likelihood="normal")
    likelihood = model.parts["likelihood"]
    likelihood.__class__ = Ratings
    posterior = model.parts["posterior"]
    posterior.sees_missing = missing == "NaN"
    return Composed(posterior, model.parts["prior"], likelihood, latent_size=2, event_shape=(4,))


@pytest.mark.parametrize("missing", ["mask", "NaN"])
def test_only_known_values_are_checked(missing: str) -> None:
    x = 1 + 4 * torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    observed = torch.ones(20, 4, dtype=torch.bool)
    observed[0, 0] = False
    model = ratings(missing)
    filled = x.masked_fill(~observed, math.nan if missing == "NaN" else 0)
    given = {} if missing == "NaN" else {"observed": observed}
    model.check_values(filled, **given)
    if missing == "mask":
        assert math.isfinite(fit(model, Split(filled, observed=observed), epochs=1)[0]["neg_elbo"])
        assert model.log_prob(filled, observed=observed).isfinite().all()
        with pytest.raises(DataError, match=r"Ratings takes values in \[1, 5\], got \[0"):
            model.log_prob(filled)
    wrong = filled.clone()
    wrong[1, 1] = 9
    with pytest.raises(DataError, match=r"Ratings takes values in \[1, 5\], got \[1.*, 9\]"):
        model.check_values(wrong, **given)


def test_nested_lists_are_rows() -> None:
    x, labels = torch.rand(6, 4), [0, 1, 2, 0, 1, 2]
    for conditional in (False, True):
        found = []
        for rows in (x, x.tolist()):
            torch.manual_seed(0)
            model = build("cvae" if conditional else "vae", event_shape=4, num_classes=3, likelihood="normal")
            (record,) = fit(model, (rows, labels) if conditional else rows, epochs=1)
            found.append(record["neg_elbo"])
        assert found[0] == found[1]
