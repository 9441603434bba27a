"""Judging samples: distances in closed form, precision and recall on constructed sets, the classifier and its cache."""

import math
import os

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from vaekit import LatentVariableModel, data
from vaekit.data import Dataset, Split
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import Options
from vaekit.evaluation.measure_contract import MeasureInput
from vaekit.evaluation.samples import classifier as eyes
from vaekit.evaluation.samples.classifier import classifier_for
from vaekit.evaluation.samples.quality import (
    _balance,
    frechet,
    measure_samples,
    moments,
    neighbours,
    neighbours_picture,
    precision_recall,
    quality,
    squared_frechet,
)

CORNERS = torch.tensor([[0, 0], [0, 4], [4, 0], [4, 4]])


def corner_images(labels: Tensor, seed: int) -> Tensor:
    """8 × 8 images, dim noise with one bright corner of four."""
    images = torch.randint(60, (len(labels), 1, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    for image, (top, left) in zip(images, CORNERS[labels].tolist(), strict=True):
        image[0, top : top + 4, left : left + 4] += 180
    return images


def corner_split(n: int, seed: int) -> Split:
    labels = torch.randint(4, (n,), generator=torch.Generator().manual_seed(seed))
    return Split(corner_images(labels, seed), labels)


@pytest.fixture(scope="module")
def corners() -> Dataset:
    empty = Split(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    return Dataset("corners", corner_split(1500, 0), empty, corner_split(200, 1), ("a", "b", "c", "d"), "0" * 64)


@pytest.fixture(scope="module")
def judge(corners: Dataset, tmp_path_factory) -> eyes.Classifier:
    return classifier_for(corners, folder=tmp_path_factory.mktemp("cache"))


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def named(values) -> dict[str, float]:
    return {value.name: value.value for value in values}


# -- Fréchet distance -------------------------------------------------------------------------------------------------


def test_frechet_distance_of_normal_distributions_in_closed_form() -> None:
    mean, s, t = randn(5), randn(5, seed=1).abs(), randn(5, seed=2).abs()
    diagonal = squared_frechet(mean, s.square().diag(), 2 * mean, t.square().diag())
    assert diagonal == pytest.approx((mean.square().sum() + (s - t).square().sum()).item())
    # Covariances with common axes: rotate the diagonal ones.
    axes = torch.linalg.qr(randn(5, 5, seed=3))[0]
    a, b = axes @ s.square().diag() @ axes.T, axes @ t.square().diag() @ axes.T
    assert squared_frechet(mean, a, 2 * mean, b) == pytest.approx(diagonal)
    assert squared_frechet(mean, a, mean, a) == pytest.approx(0, abs=1e-10)
    # Any two: against the general matrix square root by the eigenvalues of Σ₁ Σ₂.
    c = moments(randn(50, 5, seed=4))[1]
    cross = torch.linalg.eigvals(a @ c).real.sqrt().sum()
    assert squared_frechet(mean, a, mean, c) == pytest.approx((a.trace() + c.trace() - 2 * cross).item())


def test_frechet_distance_of_samples_approaches_that_of_the_distributions() -> None:
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    value = frechet("d", randn(20_000, 3), 1 + scale * randn(20_000, 3, seed=1))
    truth = 3 + (scale - 1).square().sum().item()
    assert abs(value.value - truth) < 4 * value.standard_error
    assert value.standard_error < 0.1


def test_the_error_of_a_frechet_distance_is_that_of_new_samples() -> None:
    values = [frechet("d", randn(300, 2, seed=2 * i), 1 + randn(300, 2, seed=2 * i + 1)) for i in range(40)]
    spread = torch.tensor([value.value for value in values]).std().item()
    claimed = sum(value.standard_error for value in values) / 40
    assert claimed == pytest.approx(spread, rel=0.5)


# -- precision and recall, density and coverage -----------------------------------------------------------------------


def mixture(n: int, modes: int, seed: int) -> Tensor:
    """n points about the first of four well separated modes."""
    centres = 100 * torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    return centres[torch.arange(n) % modes] + randn(n, 2, seed=seed)


def test_the_same_distribution_has_everything() -> None:
    found = named(precision_recall(mixture(800, 4, 0), mixture(800, 4, 1)))
    assert found["precision"] > 85 and found["recall"] > 85 and found["coverage"] > 85
    assert 0.9 < found["density"] < 1.1
    same = named(precision_recall(mixture(800, 4, 0), mixture(800, 4, 0)))
    assert same["precision"] == same["recall"] == same["coverage"] == 100


def test_the_errors_of_precision_recall_density_and_coverage_are_those_of_new_sets() -> None:
    values = [precision_recall(randn(300, 4, seed=2 * i), 0.3 + 0.9 * randn(300, 4, seed=2 * i + 1)) for i in range(60)]
    for column in zip(*values, strict=True):
        spread = torch.tensor([value.value for value in column]).std().item()
        claimed = torch.tensor([value.standard_error for value in column]).square().mean().sqrt().item()
        assert 0.9 * spread < claimed < 1.6 * spread, column[0].name
    assert all(value.standard_error is None for value in precision_recall(randn(19, 2), randn(19, 2, seed=1)))


def test_dropped_modes_cost_recall_and_invented_modes_cost_precision() -> None:
    some, all_modes = mixture(800, 2, 0), mixture(800, 4, 1)
    dropped, invented = named(precision_recall(all_modes, some)), named(precision_recall(some, all_modes))
    assert dropped["precision"] > 85 and dropped["recall"] == pytest.approx(50, abs=6)
    assert dropped["coverage"] == pytest.approx(50, abs=6)
    assert invented["recall"] > 85 and invented["precision"] == pytest.approx(50, abs=6)
    assert invented["density"] == pytest.approx(0.5, abs=0.1)


def test_samples_far_away_have_nothing() -> None:
    assert set(named(precision_recall(mixture(100, 4, 0), 1e4 + mixture(100, 4, 1))).values()) == {0.0}


def test_one_real_outlier_fools_precision_but_not_density() -> None:
    real = torch.cat((randn(200, 2), torch.full((1, 2), 50.0)))
    fake = 25 + randn(200, 2, seed=1)  # between the crowd and the outlier, whose ball reaches the crowd
    found = named(precision_recall(real, fake))
    assert found["precision"] == 100
    assert found["density"] < 0.25
    assert found["coverage"] < 1


def test_points_on_a_line_by_hand() -> None:
    real = torch.arange(8.0)[:, None]  # radii for k = 3: 3, 2, 2, 2 … from the ends
    fake = torch.tensor([[-2.5], [0.0], [3.0], [7.0], [9.5], [30.0]])
    found = named(precision_recall(real, fake))
    assert found["precision"] == pytest.approx(100 * 5 / 6)
    # Radii for k = 5 are 5 4 3 3 3 3 4 5: real points whose ball holds a sample.
    assert found["coverage"] == 100
    inside = sum(abs(i - x) <= r for x in fake.flatten().tolist() for i, r in enumerate((5, 4, 3, 3, 3, 3, 4, 5)))
    assert found["density"] == pytest.approx(inside / 5 / 6)


# -- classes ----------------------------------------------------------------------------------------------------------


def test_class_entropy_of_balanced_and_of_collapsed_samples() -> None:
    balanced = _balance(20.0 * torch.eye(4).repeat(25, 1))
    assert balanced[0].value == pytest.approx(math.log(4))
    assert balanced[0].shown_unit == "nats, at most 1.386"
    assert balanced[1].value < 1e-6
    collapsed = _balance(torch.tensor([[20.0, 0, 0, 0]]).repeat(100, 1))
    assert collapsed[0].value == 0
    unsure = _balance(torch.zeros(100, 4))
    assert unsure[1].value == pytest.approx(math.log(4))


def test_the_error_of_the_class_entropy_is_that_of_new_samples() -> None:
    p = torch.tensor([0.7, 0.2, 0.1])
    values = []
    for seed in range(200):
        drawn = p.multinomial(300, replacement=True, generator=torch.Generator().manual_seed(seed))
        values.append(_balance(torch.nn.functional.one_hot(drawn, 3).float())[0])
    spread = torch.tensor([value.value for value in values]).std().item()
    assert values[0].standard_error == pytest.approx(spread, rel=0.25)


class Painter(LatentVariableModel):
    """Paints the corner that it is asked for, or any where it does not listen."""

    latent_size, event_shape = 64, (1, 8, 8)

    def __init__(self, *, conditional: bool, listens: bool = True) -> None:
        super().__init__()
        self.context_size, self.listens = 4 if conditional else 0, listens
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def posterior(self, x, c=None):
        return Independent(Normal(x.flatten(1), 1.0), 1)

    def prior(self, c=None):
        return Independent(Normal(torch.zeros(64), torch.ones(64)), 1)

    def likelihood(self, z, c=None):
        labels = c.argmax(1) if c is not None and self.listens else (1e4 * z[:, 0]).long() % 4
        noise = (z.reshape(-1, 1, 8, 8).abs() / 20).clamp_max(0.2)
        clean = corner_images(labels, 0) / 255 * 0 + 0.0
        for image, (top, left) in zip(clean, CORNERS[labels].tolist(), strict=True):
            image[0, top : top + 4, left : left + 4] = 0.75
        return Independent(Bernoulli(probs=clean + noise), 3)


def test_training_images_are_compared_with_test_images_not_with_themselves(corners, judge, monkeypatch) -> None:
    monkeypatch.setattr("vaekit.evaluation.samples.quality.classifier_for", lambda *_, **__: judge)
    distances = {}
    for split in ("test", "train"):
        rows = corners.split(split).thinned(200)
        findings = measure_samples(MeasureInput(Painter(conditional=True), corners, rows, Options(split=split)))
        other = {"test": "training", "train": "test"}[split]
        distances[split] = named(findings.values)[f"squared Fréchet distance of {other} images"]
    assert distances["train"] == pytest.approx(distances["test"], rel=0.5)


def test_a_model_that_paints_well_is_judged_well(corners: Dataset, judge: eyes.Classifier) -> None:
    good = quality(Painter(conditional=True), corners, judge)
    found = named(good.values)
    assert found["recognised as the class asked for"] == 100
    assert found["class entropy"] == pytest.approx(math.log(4), abs=1e-3)
    assert good.classes["b"] == {"share of samples": 25.0, "recognised": 100.0}
    assert good.details["samples"] == 200
    assert good.details["classifier"]["accuracy"] > 99
    assert good.neighbours.shape == (60, 1, 8, 8)
    assert not any("FID" in value.name for value in good.values)
    deaf = named(quality(Painter(conditional=True, listens=False), corners, judge).values)
    assert deaf["recognised as the class asked for"] == pytest.approx(25, abs=10)


def test_rows_sorted_by_class_are_judged_as_shuffled_ones(corners: Dataset, judge: eyes.Classifier) -> None:
    def in_order(split: Split) -> Split:
        return split.rows(split.required_labels().argsort(stable=True))

    model = Painter(conditional=True)
    sorted_train = Dataset(
        "corners", in_order(corners.train), corners.validation, corners.test, corners.classes, "0" * 64
    )
    shuffled, in_classes = (named(quality(model, data, judge, n=200).values) for data in (corners, sorted_train))
    baseline = "squared Fréchet distance of training images"
    assert in_classes[baseline] < 3 * shuffled[baseline]
    train_as_real = {"split": sorted_train.train, "others": sorted_train.test, "n": 200}
    judged = named(quality(model, sorted_train, judge, **train_as_real).values)
    distance = "squared Fréchet distance (classifier features)"
    assert judged[distance] < 3 * shuffled[distance]
    one_class = Split(corners.train.x[corners.train.labels == 0])  # control: the first rows of the sorted split
    assert (
        named(quality(model, corners, judge, others=one_class, n=200).values)["squared Fréchet distance of test images"]
        > 10 * shuffled[baseline]
    )


def test_an_unconditional_model_has_no_class_to_recognise(corners: Dataset, judge: eyes.Classifier) -> None:
    found = quality(Painter(conditional=False), corners, judge)
    assert "recognised as the class asked for" not in named(found.values)
    assert "recognised" not in found.classes["a"]
    assert sum(entry["share of samples"] for entry in found.classes.values()) == pytest.approx(100)


def test_judging_is_determined_by_its_seed(corners: Dataset, judge: eyes.Classifier) -> None:
    model = Painter(conditional=False)
    torch.manual_seed(1)
    first = quality(model, corners, judge, seed=3)
    assert quality(model, corners, judge, seed=3).values == first.values
    assert quality(model, corners, judge, seed=4).values != first.values


def test_what_cannot_be_judged_is_refused(corners: Dataset, judge: eyes.Classifier) -> None:
    with pytest.raises(DataError, match="at least 10"):
        quality(Painter(conditional=False), corners, judge, n=5)
    other = Painter(conditional=True)
    other.context_size = 3
    with pytest.raises(DataError, match="knows 3 classes, 'corners' has 4"):
        quality(other, corners, judge)
    with pytest.raises(DataError, match="at least 6 features"):
        precision_recall(randn(5, 2), randn(50, 2))
    with pytest.raises(ConfigError, match="neighbours must be from 1 to 3"):
        neighbours(torch.zeros(2, 1, 4, 4), torch.zeros(3, 1, 4, 4), k=4)


def test_a_memorised_image_is_shown_beside_its_original() -> None:
    train = torch.randint(256, (2500, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    samples = torch.stack((train[2100] / 255, train[7] / 255 + 0.01))
    found = neighbours(samples, train, k=2).unflatten(0, (2, 3))
    torch.testing.assert_close(found[:, 0], samples)
    torch.testing.assert_close(found[0, 1], train[2100] / 255)
    torch.testing.assert_close(found[1, 1], train[7] / 255)
    assert neighbours_picture(found.flatten(0, 1), k=2).columns == 3


# -- the classifier and its cache ---------------------------------------------------------------------------------------


def test_a_classifier_is_trained_once_and_its_accuracy_recorded(corners: Dataset, tmp_path, monkeypatch) -> None:
    stages: list[tuple[str, int, int]] = []
    first = classifier_for(corners, folder=tmp_path, listener=lambda *stage: stages.append(stage))
    assert stages[-1] == ("classifier", 36, 36)
    assert first.details["accuracy"] > 99
    assert first.details["data"] == "corners" and first.details["version"] == eyes.VERSION
    monkeypatch.setattr(eyes, "_train", lambda *arguments: pytest.fail("trained again"))
    again = classifier_for(corners, folder=tmp_path)
    assert again.details == first.details
    for a, b in zip(again(corners.test.x), first(corners.test.x), strict=True):
        assert torch.equal(a, b)
    assert os.listdir(tmp_path) == ["corners-0000000000000000-v1.safetensors"]
    features, logits = again(corners.test.x)
    assert features.shape == (200, 128) and logits.shape == (200, 4)


@pytest.mark.parametrize("damage", [b"x" * 100, "cut", "other weights"])
def test_a_damaged_cache_is_trained_anew(corners: Dataset, tmp_path, damage) -> None:
    path = tmp_path / "corners-0000000000000000-v1.safetensors"
    first = classifier_for(corners, folder=tmp_path)
    content = path.read_bytes()
    changed = content[:-50] if damage == "cut" else content[:-4] + b"\0\0\x80?"  # the last weight, or average, is 1
    path.write_bytes(damage if isinstance(damage, bytes) else changed)
    again = classifier_for(corners, folder=tmp_path)
    assert again.details == first.details
    assert again(corners.test.x)[1].equal(first(corners.test.x)[1])
    assert path.stat().st_size > 10_000


def test_a_cache_that_cannot_be_written_costs_only_time(corners: Dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(eyes, "EPOCHS", 1)
    file = tmp_path / "file"
    file.write_text("")
    assert classifier_for(corners, folder=file / "folder").details["data"] == "corners"
    monkeypatch.setattr(eyes, "cache_folder", lambda: None)
    assert classifier_for(corners).details["data"] == "corners"


def test_other_data_get_another_classifier(corners: Dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(eyes, "EPOCHS", 1)
    other = Dataset("corners", corners.train, corners.validation, corners.test, corners.classes, "1" * 64)
    classifier_for(corners, folder=tmp_path)
    classifier_for(other, folder=tmp_path)
    assert len(os.listdir(tmp_path)) == 2


def test_training_a_classifier_leaves_the_callers_stream_alone(corners: Dataset, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(eyes, "EPOCHS", 1)
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    classifier_for(corners, folder=tmp_path)
    assert torch.rand(()) == expected


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 4, 4), (1, 1, 50)])
def test_the_network_fits_any_image(shape: tuple[int, int, int]) -> None:
    network = eyes._network(shape, 7).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 7)
    assert network[:-1](torch.rand(2, *shape)).shape == (2, 128)


def test_one_class_needs_no_classifier(corners: Dataset) -> None:
    splits = [Split(split.x, torch.zeros(len(split))) for split in corners.splits.values()]
    single = Dataset("one", *splits, ("a",), "2" * 64)
    with pytest.raises(DataError, match="at least 2 classes, 'one' has 1"):
        classifier_for(single)


@pytest.mark.slow
def test_digits_are_recognised_to_99_percent(tmp_path) -> None:
    assert classifier_for(data.load("mnist"), folder=tmp_path).details["accuracy"] > 99
