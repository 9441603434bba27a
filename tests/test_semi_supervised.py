"""Model M2: few labels, a class that is summed out, and a classifier whose errors are counted."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torch.utils.data import DataLoader, TensorDataset

import exact
import tiny
from conftest import one_line
from densities import z_scores
from oracles import LinearGaussian
from vaekit import build, fit, load
from vaekit.data import Batch, Batches
from vaekit.data.chosen_rows import keep_labels
from vaekit.errors import ConfigError, DataError
from vaekit.evaluation import evaluate_run
from vaekit.objectives import M2
from vaekit.runs import lifecycle
from vaekit.runs.restore import RestoredRun
from vaekit.store import Run
from vaekit.training import validate

CLASSES = 3


class ByClass(LinearGaussian):
    """A linear Gaussian model whose mean depends on the class, with the exact posterior q(z | x, y)."""

    def __init__(self) -> None:
        super().__init__()
        self.context_size = CLASSES
        self.shift = nn.Parameter(torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(3)).double())

    def posterior(self, x: Tensor, c: Tensor | None = None) -> MultivariateNormal:
        return self.exact_posterior(x - c @ self.shift)

    def likelihood(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        return Independent(Normal(z @ self.weight.T + self.bias + c @ self.shift, self.sigma), 1)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(x, y) of each class, shape (B, C)."""
        return torch.stack([self.evidence().log_prob(x - s) for s in self.shift], -1) - math.log(CLASSES)


class Fixed(M2):
    """M2 with a classifier that is given."""

    given: Tensor

    def log_q(self, x: Tensor) -> Tensor:
        return self.given.expand(len(x), CLASSES)


def toy(given: Tensor, labels: int = -1) -> tuple[Tensor, ByClass, Tensor]:
    """Losses of 20,000 copies of one row, the model, and the row."""
    model, torch_seed = ByClass(), 5
    torch.manual_seed(torch_seed)
    x = model.evidence().sample()
    loss = Fixed(CLASSES, (5,), 100).double().eval()
    loss.given = given
    batch = Batch(x.expand(20_000, 5), labels=torch.full((20_000,), labels))
    terms = loss(model, batch, 0.0)
    return terms.loss.detach(), model, x


def test_with_the_exact_class_the_sum_over_classes_is_the_evidence() -> None:
    _, model, x = toy(torch.zeros(CLASSES))
    joint = model.log_joint(x[None])[0].detach()
    loss, *_ = toy(joint.log_softmax(-1))
    evidence = joint.logsumexp(-1)
    assert abs(z_scores(-loss, evidence.item())) < 5
    assert abs(z_scores(-loss, evidence.item() + 0.2)) > 5  # negative control


def test_with_another_classifier_the_bound_is_below_by_its_divergence() -> None:
    _, model, x = toy(torch.zeros(CLASSES))
    joint = model.log_joint(x[None])[0].detach()
    log_q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
    loss, *_ = toy(log_q)
    gap = (log_q.exp() * (log_q - joint.log_softmax(-1))).sum()
    assert gap > 0.05
    assert abs(z_scores(-loss, (joint.logsumexp(-1) - gap).item())) < 5


@pytest.mark.parametrize("label", range(CLASSES))
def test_a_row_of_known_class_has_the_bound_of_its_pair(label: int) -> None:
    log_q = torch.full((CLASSES,), -math.log(CLASSES), dtype=torch.float64)
    loss, model, x = toy(log_q, label)
    weight_of_classifier = 0.1 * 100 * math.log(CLASSES)
    expected = model.log_joint(x[None])[0, label].item() - weight_of_classifier
    assert abs(z_scores(-loss, expected)) < 5


SIZES: dict[str, Any] = {"encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
BITS = {"posterior": {"name": "bernoulli"}, "prior": {"name": "bernoulli"}}


def small(**options: Any) -> tuple[Any, M2, Any]:
    torch.manual_seed(0)
    model = build("m2", event_shape=(1, 8, 8), num_classes=3, latent_size=2, **SIZES)
    data = keep_labels(tiny.dataset(), 6)
    loss = M2(3, (1, 8, 8), 64, Batches(data.train, batch_size=64), hidden=(8,), **options)
    return model, loss, data


def test_gradients_reach_everything_and_labels_of_unknown_rows_do_not_matter() -> None:
    model, loss, data = small()
    batch = model.to_model(Batch(data.train.x[:], labels=data.train.labels))
    torch.manual_seed(1)
    terms = loss(model, batch, 0.0)
    assert terms.loss.shape == (64,) and bool(terms.loss.isfinite().all())
    terms.loss.mean().backward()
    parameters = [*model.parameters(), *loss.parameters()]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in parameters)
    loss.zero_grad()
    unknown = batch.rows(batch.labels == -1)
    loss.weight = 0.0  # the classifier learns from rows of unknown class alone, by their bound
    loss(model, unknown, 0.0).loss.mean().backward()
    assert any(bool((p.grad != 0).any()) for p in loss.parameters())


@pytest.mark.parametrize("binarize", ["threshold", "fixed", "per-epoch"])
def test_the_classifier_sees_the_binary_rows_that_the_model_sees(binarize: str) -> None:
    torch.manual_seed(0)
    labels = torch.full((64,), -1).index_fill(0, torch.arange(0, 60, 10), 1)
    batches = Batches(torch.rand(64, 1, 8, 8), labels, batch_size=64, binarize=binarize)
    loss = M2(3, (1, 8, 8), 64, batches, hidden=(8,), rows=500)
    seen: list[Tensor] = []
    loss.classifier.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model, *_ = small()
    loss._classify_known(model)
    (x,) = seen
    assert bool(((x == 0) | (x == 1)).all()) and len(x) == 6
    served = next(iter(batches)).x[labels >= 0]
    same = bool((x.flatten(1)[:, None] == served.flatten(1)).all(-1).any(-1).all())
    assert same == (binarize != "per-epoch")  # which draws them anew


def test_latents_without_a_gradient_are_refused_instead_of_trained_by_the_kl_alone() -> None:
    model = build("m2", event_shape=(1, 8, 8), num_classes=3, latent_size=2, **SIZES, **BITS)
    _, loss, data = small()
    with pytest.raises(ConfigError, match="hand no gradient to the encoder"):
        fit(model, data.train, objective=loss, epochs=1)


def test_labels_are_kept_by_class_and_always_the_same() -> None:
    data, again = keep_labels(tiny.dataset(), 7), keep_labels(tiny.dataset(), 7)
    assert torch.equal(data.train.labels, again.train.labels)
    known = data.train.labels[data.train.labels >= 0]
    assert known.bincount().tolist() == [3, 2, 2]
    same = data.train.labels >= 0
    assert torch.equal(data.train.labels[same], tiny.dataset().train.labels[same])
    assert torch.equal(data.test.labels, tiny.dataset().test.labels)
    for count, message in ((2, "at least 3"), (600, "has 22 training rows")):
        with pytest.raises(ConfigError, match=message):
            keep_labels(tiny.dataset(), count)


def test_mistakes_are_one_line(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = one_line(command("train", "standard-cvae", "--labelled", "100"))
    assert "the class of 54900 of the 55000 training rows is unknown" in said and "m2" in said
    assert "at least 10" in one_line(command("train", "m2", "--labelled", "5"))
    assert "set condition = 'class'" in one_line(command("train", "m2", "--set", "model.condition=none"))
    assert "objective.samples = 4 is for functions of a draw" in one_line(
        command("train", "m2", "--labelled", "100", "--set", "objective.samples=4")
    )
    assert not (tmp_path / "runs").exists()
    model, _, data = small()
    empty = M2(3, (1, 8, 8), 64, Batches(torch.zeros(1, 1, 8, 8), torch.tensor([-1]), batch_size=1))
    with pytest.raises(ConfigError, match=r"labelled = 100"):
        empty(model, model.to_model(Batch(data.train.x[:4], labels=data.train.labels[:4])), 0.0)


def test_a_run_resumes_and_counts_its_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Any) -> None:
    def data(**_: object) -> Any:
        return keep_labels(tiny.dataset(), 6)

    monkeypatch.chdir(tmp_path)
    sections = {"model": {"latent_size": 2}, "objective": {"hidden": [8]}, "data": {"validation": None}}
    run = exact.prove("m2", Path("runs"), monkeypatch, load=data, train={"epochs": 6}, **sections)
    records, test = run.metrics(), run.read_json("test.json")
    assert records[-1]["cross_entropy"] < records[0]["cross_entropy"]
    assert 0 <= test["error"] <= 1 and math.isfinite(test["neg_elbo"])
    assert {"validation_error", "validation_neg_elbo", "error"} <= set(records[0])
    monkeypatch.setattr(RestoredRun, "dataset", lambda *_, **__: tiny.dataset())
    result = evaluate_run(run, load(run.path), samples=2)
    error = next(value for value in result.values if value.name == "classification error")
    assert error.unit == "%" and error.standard_error is not None
    assert error.value / 100 == pytest.approx(test["error"])
    check_the_classifier_of_each_checkpoint(run)
    sampled = command("sample", "stopped", "--class", "1", "-n", "2", "-o", "a.npy")
    assert sampled.status == 0, sampled.err


def check_the_classifier_of_each_checkpoint(run: Run) -> None:
    """An evaluation measures the classifier that was saved with the weights of its model, and none for other weights."""

    def errors(model: Any, *, other: bool = False) -> list[float]:
        result = evaluate_run(run, model, samples=2, judge=False)
        assert any("classifier that was trained" in warning for warning in result.warnings) == other
        return [value.value for value in result.values if value.name == "classification error"]

    stored = run.load_checkpoint("last")
    best = {name: value + 1 if name.startswith("model.") else 0 * value for name, value in stored.tensors.items()}
    with run.lock():
        run.save_checkpoint(stored.tensors, stored.state, kind="best")
    expected = errors(load(run))
    with run.lock():
        run.save_checkpoint(best, stored.state, kind="best")
    assert errors(load(run)) != expected  # a classifier of zeros
    assert errors(load(run, weights="last")) == expected
    with torch.no_grad():
        next((changed := load(run)).parameters()).add_(1.0)
    assert errors(changed, other=True) == []


def test_the_best_weights_are_those_of_a_model_and_its_classifier_at_one_epoch(tmp_path: Path) -> None:
    def trained(epochs: int, run: Run | None = None) -> tuple[Tensor, M2]:
        scores = iter((2.0, 1.0, 3.0))
        model, loss, data = small()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vaekit.training.trainer.validate", lambda *_, **__: {"loss": next(scores)})
            resumed = None if run is None or not run.metrics() else run.load_checkpoint()
            fit(model, data, objective=loss, epochs=epochs, learning_rate=0.01, run=run, resume=resumed)
        return torch.cat([p.flatten() for p in (*model.parameters(), *loss.parameters())]), loss

    run = Run.create("run", preset="m2", config="", environment={}, root=tmp_path)
    (two, _), (three, loss) = trained(2), trained(3, run)
    assert torch.equal(two, three)  # those of the second epoch
    best, last = (run.load_checkpoint(kind).part("loss") for kind in ("best", "last"))
    assert all(torch.equal(tensor, best[name]) for name, tensor in loss.state_dict().items())
    assert not all(torch.equal(tensor, best[name]) for name, tensor in last.items())
    without = {f"model/{name}": tensor for name, tensor in run.load_checkpoint("best").part("model").items()}
    run.save_checkpoint(without, run.load_checkpoint("best").state, kind="best")  # as earlier versions wrote it
    resumed = trained(3, run)[1].state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in resumed.items())


def test_a_model_of_each_class_by_another_objective_needs_all_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaekit.runs import job

    monkeypatch.setattr(job, "load_data", lambda **_: keep_labels(tiny.dataset(), 6))
    with pytest.raises(DataError, match="needs it; choose"):
        lifecycle.train_run(exact.small("standard-cvae"), root="nowhere")


def test_fit_refuses_rows_of_unknown_class_as_a_training_of_a_run_does() -> None:
    data = keep_labels(tiny.dataset(), 6)
    model = build("standard-cvae", event_shape=data.event_shape, num_classes=data.num_classes)
    rows = (data.train.x, data.train.labels)
    with pytest.raises(DataError, match=rf"the class of {len(data.train) - 6} of the {len(data.train)} training rows"):
        fit(model, rows, epochs=1)
    with pytest.raises(DataError, match="validation rows is unknown"):
        fit(model, tiny.dataset().train, rows, epochs=1)
    with pytest.raises(DataError, match="first rows is unknown"):
        fit(model, [(data.train.x[:8] / 255, data.train.labels[:8])], epochs=1)


def test_several_ranks_are_refused_and_a_fixed_weight_takes_no_schedule(tmp_path: Path, command: Any) -> None:
    assert M2.couples_rows  # so that check_ranks refuses it: a batch of known rows serves all rows of a step
    schedule = 'objective.alpha={schedule="linear", start=0.0, end=1.0, epochs=5}'
    said = one_line(command("train", "m2", "--labelled", "100", "--set", schedule, "--runs", str(tmp_path)))
    assert "objective.alpha" in said and "number" in said


def test_a_value_that_is_not_observed_does_not_reach_the_classifier() -> None:
    torch.manual_seed(0)
    x, labels = torch.rand(8, 1, 4, 4), torch.arange(8) % CLASSES
    observed = torch.rand(x.shape) > 0.3
    small = {"encoder": {"hidden": [4]}, "decoder": {"hidden": [4]}, "latent_size": 2}
    model = build("vae", event_shape=(1, 4, 4), num_classes=CLASSES, condition="class", **small)
    loss = M2(CLASSES, (1, 4, 4), 8, None, hidden=(4,)).eval()
    losses = []
    for filler in (0.0, math.nan):
        torch.manual_seed(1)
        losses.append(loss(model, Batch(x.where(observed, filler), observed=observed, labels=labels), 0.0).loss)
    assert torch.equal(*losses)


def test_m2_says_that_a_loader_of_torch_does_not_do() -> None:
    x, labels = torch.rand(40, 1, 4, 4), torch.arange(40) % 3
    model = build("cvae", event_shape=(1, 4, 4), num_classes=3, encoder="mlp", decoder="mlp", latent_size=2)
    with pytest.raises(ConfigError, match=r"^the objective 'm2' looks at further .* a DataLoader does not give; pass"):
        fit(model, DataLoader(TensorDataset(x, labels), 20), preset="m2", epochs=1)
    fit(model, (x, labels), preset="m2", epochs=1, batch_size=20)


def test_a_validation_does_not_depend_on_how_the_known_rows_fall_into_batches() -> None:
    model, loss, data = small()
    labels = torch.arange(20) % 3
    labels[10:] = -1
    x = data.train.x[:20].float() / 255 if data.train.x.dtype == torch.uint8 else data.train.x[:20]
    whole = validate(model, [(x, labels)], loss)
    uneven = validate(model, [(x[:10], labels[:10]), (x[10:], labels[10:])], loss)
    for name in ("cross_entropy", "error"):  # the bounds have noise, which these batches draw in another order
        assert uneven[name] == pytest.approx(whole[name], rel=1e-5)
    with torch.no_grad():
        log_q = loss.log_q(x[:10])
    assert whole["error"] == pytest.approx((log_q.argmax(-1) != labels[:10]).double().mean().item())
    assert whole["cross_entropy"] == pytest.approx(nn.functional.nll_loss(log_q, labels[:10]).item(), rel=1e-5)
    no_class = validate(model, [(x[10:], labels[10:])], loss)
    assert {"cross_entropy", "error", "known"}.isdisjoint(no_class)
    assert no_class["loss"] == pytest.approx(no_class["neg_elbo"])


def test_the_loss_of_a_validation_has_the_mean_cross_entropy_of_its_known_rows() -> None:
    loss = small()[1]
    means = {"loss": 10 + loss.weight * 0.6, "neg_elbo": 10.0, "cross_entropy": 0.6, "error": 0.1, "known": 0.25}
    values = loss.from_means(means)
    expected = {"loss": 10 + loss.weight * 2.4, "neg_elbo": 10.0, "cross_entropy": 2.4, "error": 0.4}
    assert values == pytest.approx(expected)
